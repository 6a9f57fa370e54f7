"""Model files and the runtimes of the image that loads them: versions beyond the borders. No I/O.

Nothing is reported without an image, about a runtime of the user's own, and where no source states the runtime's
version or what it reads. The borders are in `tritonforge.triton.model_formats`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tritonforge.model_files.onnx_model import OnnxModel
from tritonforge.model_files.openvino_ir import OpenVinoModel
from tritonforge.model_files.tensorflow_graph import SavedModel, TensorFlowGraph
from tritonforge.model_files.tensorrt_plan import TensorRTPlan
from tritonforge.model_files.tree_model import TreeModel
from tritonforge.triton import CATALOGUE, Image, changes, model_formats
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.model_headers import ModelFile, find_fil_format, find_parameter, list_headers
from tritonforge.validation.registry import Stage, define_error, register_check

# fmt: off
E802 = define_error("E802", "Unsupported model IR version: <n>, max supported IR version: <n>",
    source="onnxruntime core/graph/model.cc, core/graph/model_load_utils.h `ValidateOpsetForDomain`; asked of the "
           "wheels of 1.16 to 1.28",
    why="A model from a newer exporter has a newer IR version, or newer operator sets, than the ONNX Runtime of the "
        "image has. ONNX Runtime refuses both when it loads the model.",
    bad="a model of IR version 10   --image 24.01", good="the same model with ir_version = 9   --image 24.01")
E803 = define_error("E803", "<path> was built by TensorRT <version>, the image has TensorRT <version>",
    source="NVIDIA/TensorRT issue 3073 (position of the version); TensorRT developer guide, version compatibility; "
           "server issues 317, 7613",
    why="A plan is read by the TensorRT that built it; a version-compatible plan by later ones of the same major "
        "version. No plan is read by another major version.",
    bad="a plan of TensorRT 10.4   --image 24.01",
    good="a plan that was built in nvcr.io/nvidia/tensorrt:24.01-py3   --image 24.01")
E805 = define_error("E805", "Cannot create a layer from unsupported opset: <opset>",
    source="openvino src/frontends/ir/src/frontend.cpp, ir_deserializer.cpp; asked of the wheels of 2023.0 to 2026.3",
    why="The IR has operations of a set that is newer than the OpenVINO of the image, or an IR version that OpenVINO "
        "no longer reads.",
    bad='<layer type="..." version="opset16">   --image 24.09',
    good='<layer type="..." version="opset14">   --image 24.09')
E807 = define_error("E807", "<path> was written by <library> <version>, which treelite <version> of the image cannot "
                            "read",
    source="treelite src/serializer.cc, src/model_loader/xgboost_json.cc; fil_backend CMakeLists.txt "
           "`find_and_configure_treelite`; asked of the wheels",
    why="FIL reads all its formats with treelite. XGBoost 3.1 changed its JSON and UBJSON (base_score is a list, and "
        "there is a key cats); treelite 3 reads no checkpoints of treelite 4.",
    bad="xgboost.json of XGBoost 3.1   --image 25.04", good="xgboost.json of XGBoost 3.1   --image 26.01")
E808 = define_error("E808", "GraphDef min consumer version <n> above current version <n> for TensorFlow",
    source="tensorflow core/framework/versions.cc `CheckVersions`; asked of the wheels of 2.16 and 2.18",
    why="The graph states the oldest TensorFlow that may load it, and it is newer than the last TensorFlow in an "
        "image.",
    bad="versions { min_consumer: 3000 }   --image 24.09", good="versions { min_consumer: 12 }   --image 24.09")
E809 = define_error("E809", "xgboost_ubj not recognized as a valid serialization format.",
    source=changes.XGBOOST_UBJ.source,
    why="FIL reads XGBoost's UBJSON from 24.10 on.",
    bad='model_type "xgboost_ubj"   --image 24.09', good='model_type "xgboost_json"   --image 24.09')
# fmt: on

_OPSET: Final = re.compile(r"opset([0-9]{1,4})")


@register_check(Stage.FILES, E802, E803, E805, E807, E808)
def check_versions(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check that the runtime of the image reads the files that the backend opens in each version."""
    image = context.image
    if image is None or model.backend not in image.backends or model.backend in image.added:
        return
    for file in list_headers(context.tree, model):
        header = file.header
        if isinstance(header, OnnxModel) and file.format == "onnx":
            yield from _check_onnx(image, file, header)
        elif isinstance(header, TensorRTPlan):
            yield from _check_plan(image, file, header)
        elif isinstance(header, OpenVinoModel) and file.format == "openvino":
            yield from _check_openvino(image, file, header)
        elif isinstance(header, TreeModel) and file.format == "trees" and find_fil_format(model) == header.format:
            yield from _check_trees(image, model, file, header)
        elif isinstance(header, SavedModel | TensorFlowGraph):
            yield from _check_tensorflow(image, file, header)


def _check_onnx(image: Image, file: ModelFile, header: OnnxModel) -> Iterator[Finding]:
    limits = model_formats.find_onnx_limits(image.onnxruntime)
    if limits is None:
        return
    runtime = f"ONNX Runtime {image.onnxruntime} of {image.tag}"
    if header.ir_version > limits.ir_version:
        message = (
            f"Unsupported model IR version: {header.ir_version}, max supported IR version: {limits.ir_version} "
            f"({runtime})"
        )
        yield E802.report(message, path=file.path, help=_suggest_onnx(limits.ir_version, image, header))
    for domain, newest in limits.opsets.items():
        version = header.opsets.get(domain, 0)
        if version > newest:
            message = (
                f"Opset {version} of domain {domain or 'ai.onnx'} is newer than what {runtime} supports (expected at "
                f"most {newest})"
            )
            advice = f"export it with opset {newest}" if domain == "" else "export it with an older onnxmltools"
            yield E802.report(message, path=file.path, help=f"{advice}, or use {_find_image(image, domain, version)}")


def _suggest_onnx(newest: int, image: Image, header: OnnxModel) -> str:
    later = _find_image(image, None, header.ir_version)
    return f"save it with ir_version = {newest} if its opsets allow it (onnx.save after setting it), or use {later}"


def _find_image(image: Image, domain: str | None, version: int) -> str:
    """Return the first later release whose ONNX Runtime reads an IR version (domain None), or an opset."""
    releases = list(CATALOGUE)
    for release in releases[releases.index(image.release) + 1 :]:
        limits = model_formats.find_onnx_limits(CATALOGUE[release].onnxruntime)
        if limits is not None:
            newest = limits.ir_version if domain is None else limits.opsets[domain]
            if version <= newest:
                return f"image {release} or later"
    return "a later image"


def _check_plan(image: Image, file: ModelFile, header: TensorRTPlan) -> Iterator[Finding]:
    majors = model_formats.find_tensorrt_majors(image.tensorrt)
    major = header.version[0]
    if majors is None or not 5 <= major < 100:
        return
    oldest, newest = majors
    if major < oldest or (newest is not None and major > newest):
        present = str(oldest) if newest == oldest else f"{oldest} or later"
        message = f"{file.path} was built by TensorRT {header.version_text}, {image.tag} has TensorRT {present}"
        advice = f"build it in nvcr.io/nvidia/tensorrt:{image.release}-py3"
        yield E803.report(message, path=file.path, help=advice)


def _check_openvino(image: Image, file: ModelFile, header: OpenVinoModel) -> Iterator[Finding]:
    newest = model_formats.find_openvino_opset(image.openvino)
    if newest is None:
        return
    runtime = f"OpenVINO {image.openvino} of {image.tag}"
    oldest_ir, newest_ir = model_formats.OPENVINO_IR
    if not oldest_ir <= header.version <= newest_ir:
        message = f"{file.path} has the IR version {header.version}, {runtime} reads {oldest_ir} and {newest_ir}"
        yield E805.report(message, path=file.path, help=f"convert the model with OpenVINO {image.openvino}")
    opsets = [int(match[1]) for opset in header.opsets if (match := _OPSET.fullmatch(opset))]
    if opsets and max(opsets) > newest:
        message = (
            f"Cannot create a layer from unsupported opset: opset{max(opsets)} ({runtime} has opset1 to opset{newest})"
        )
        yield E805.report(message, path=file.path, help=f"convert the model with OpenVINO {image.openvino}")


def _check_trees(image: Image, model: ModelView, file: ModelFile, header: TreeModel) -> Iterator[Finding]:
    limits = model_formats.find_treelite_limits(image.treelite)
    if limits is None or not header.version:
        return
    version = model_formats.parse_version(header.version)
    writer = ""
    if header.format == "treelite_checkpoint" and version[0] > limits.checkpoint:
        writer = f"treelite {header.version}"
        advice = f"write it with treelite {image.treelite}"
    elif limits.xgboost is None or version < limits.xgboost:
        return
    elif header.format in ("xgboost_json", "xgboost_ubj") and not (limits.may_skip_fields and _skips_fields(model)):
        writer = f"XGBoost {header.version}"
        border = ".".join(map(str, limits.xgboost))
        advice = f"write it with an XGBoost before {border}, or as a checkpoint of treelite {image.treelite}"
    if writer:
        message = f"{file.path} was written by {writer}, which treelite {image.treelite} of {image.tag} cannot read"
        yield E807.report(message, path=file.path, help=advice)


def _skips_fields(model: ModelView) -> bool:
    """Return True if the configuration may let FIL skip fields of XGBoost's files that treelite does not have."""
    return find_parameter(model, "xgboost_allow_unknown_field").lower() not in ("", "false", "0")


def _check_tensorflow(image: Image, file: ModelFile, header: SavedModel | TensorFlowGraph) -> Iterator[Finding]:
    graphs = [header] if isinstance(header, TensorFlowGraph) else [graph.graph for graph in header.graphs]
    newest = model_formats.NEWEST_TENSORFLOW_GRAPH
    needed = min((graph.min_consumer for graph in graphs if graph is not None), default=0)
    if needed > newest:
        message = f"GraphDef min consumer version {needed} above current version {newest} for TensorFlow"
        yield E808.report(message, path=file.path, help=f"save it with the TensorFlow of {image.tag}")


@register_check(Stage.FILES, E809)
def check_fil_format(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check that the FIL backend of the image reads the format that the configuration names."""
    ubj = "xgboost_ubj"
    if context.image is None or model.backend != "fil" or find_fil_format(model) != ubj:
        return
    if not context.has(changes.XGBOOST_UBJ):
        place = model.document.entries("parameters").get("model_type")
        message = f"{ubj} not recognized as a valid serialization format."
        yield E809.report_in(model, message, place, 'save the model as .json and write "xgboost_json"')
