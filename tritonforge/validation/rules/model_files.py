"""Model files that no release of their backend loads: damaged, of another format, or incomplete. No I/O.

What depends on the image is in `tritonforge.validation.rules.model_file_versions`. The sentences are tritonforge's own
where a framework's differ by its version; the reason is the reader's.
"""

from __future__ import annotations

from collections.abc import Iterator

from tritonforge.model_files.header import DamagedFile, PointerFile
from tritonforge.model_files.onnx_model import OnnxModel
from tritonforge.model_files.torch_archive import TorchArchive
from tritonforge.model_files.tree_model import TreeModel
from tritonforge.triton.backends import BACKENDS
from tritonforge.triton.model_formats import FIL_FORMATS, TORCHSCRIPT_VERSIONS
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.model_headers import ModelFile, find_fil_format, list_headers
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check
from tritonforge.validation.tree import Tree, leaves_directory

# fmt: off
E801 = define_error("E801", "<path> is not a model that the <b> backend loads: <reason>",
    source="the frameworks' own parsers: onnxruntime model.cc, openvino ir_deserializer.cpp, pytorch "
           "inline_container.cc, tensorflow saved_model loader.cc, TensorRT (magic tag)",
    why="The file is empty, cut off, or of another format than its backend reads.",
    bad="m/1/model.onnx of 0 bytes", good="m/1/model.onnx as the framework wrote it")
E804 = define_error("E804", "<path> is <what>, which the PyTorch backend cannot load (expected <what>)",
    source="pytorch_backend libtorch.cc, pt/model_state.cc (`torch::jit::load`), pt2/model_state.cc "
           "(`AOTIModelPackageLoader`); pytorch caffe2/serialize/versions.h",
    why="The platform pytorch_libtorch loads TorchScript, torch_aoti an archive of AOTInductor. A checkpoint has "
        "weights without code, an exported program has not been compiled.",
    bad='torch.save(model, "model.pt")', good='torch.jit.script(model).save("model.pt")')
E806 = define_error("E806", "<path> has the format <format>, but the parameter model_type is <type>",
    source="fil_backend tl_utils.h `load_tl_base_model`, serialization.h; treelite's loaders, run on all formats",
    why="FIL does not look at the file: model_type chooses the parser, and without it the parser of XGBoost's old "
        "binary format. XGBoost since 2.1 writes UBJSON into files with other names than .json.",
    bad='m/1/xgboost.model of XGBoost 3 without parameters',
    good='parameters { key: "model_type" value { string_value: "xgboost_ubj" } }')
E810 = define_error("E810", "Fatal error: <domain>:<operator> is not a registered function/op",
    source="onnxruntime core/graph/graph.cc `Graph::VerifyNodeAndOpMatch`; asked of the wheels of 1.16 to 1.28",
    why="The model has operators of a domain that ONNX Runtime does not have. They come with a library, which "
        "model_operations names, or as functions in the model.",
    bad='node { op_type: "Tokenize" domain: "my.ops" } in m/1/model.onnx',
    good='model_operations { op_library_filename: ["/opt/ops/libmy_ops.so"] }')
W801 = define_advice("W801", "<path> is a pointer of Git LFS, not the model",
    source="git-lfs docs/spec.md; git-annex internals",
    why="The repository was cloned without the large files. The file may be fetched later, but the model does not load "
        "without it.",
    bad="version https://git-lfs.github.com/spec/v1 in m/1/model.onnx", good="git lfs pull")
W802 = define_advice("W802", "<path> has weights in the file '<file>', which is missing",
    source="onnxruntime core/framework/tensorprotoutils.cc `GetExtDataFromTensorProto`",
    why="An ONNX model of more than 2 GB keeps its weights in files beside it; their names are in the model.",
    bad="m/1/model.onnx without m/1/model.onnx.data", good="m/1/model.onnx and m/1/model.onnx.data")
# fmt: on

_AOTI = BACKENDS["pytorch"].platforms[1].name
#: Beginnings of domains whose operators ONNX Runtime or one of its execution providers may bring.
_RUNTIME_DOMAINS = (
    "com.ms",
    "org.pytorch",
    "trt",
    "com.nvidia",
    "nvidia",
    "com.intel",
    "com.qti",
    "com.xilinx",
    "com.amd",
)
#: What a kind of PyTorch archive is called.
_KINDS = {
    "torchscript": "TorchScript",
    "pt2": "an exported program (.pt2)",
    "checkpoint": "a checkpoint of weights without code",
}


@register_check(Stage.FILES, E801, E804, E806, E810, W801, W802)
def check_files(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the files that the backend opens in each version, as far as their headers show."""
    for file in list_headers(context.tree, model):
        header = file.header
        if isinstance(header, DamagedFile):
            if header.format == file.format:
                message = f"{file.path} is not a model that the {model.backend} backend loads: {header.reason}"
                yield E801.report(message, path=file.path, help="export or copy it again")
        elif isinstance(header, PointerFile):
            command = "git lfs pull" if header.tool == "Git LFS" else "git annex get"
            message = f"{file.path} is a pointer of {header.tool}, not the model"
            yield W801.report(message, path=file.path, help=f"run {command} before the server starts")
        elif isinstance(header, OnnxModel):
            yield from _check_external_files(context.tree, file, header)
            yield from _check_domains(model, file, header)
        elif isinstance(header, TorchArchive) and file.format == "torch":
            yield from _check_torch(model, file, header)
        elif isinstance(header, TreeModel) and file.format == "trees":
            yield from _check_tree_format(model, file, header)


def _check_external_files(tree: Tree, file: ModelFile, header: OnnxModel) -> Iterator[Finding]:
    """Check that the files with weights lie beside the model; what leads elsewhere is not checked."""
    directory = file.path.rpartition("/")[0]
    for name in header.external_files:
        path = f"{directory}/{name}"
        is_inside = bool(name) and not name.startswith("/") and not leaves_directory(name) and "\\" not in name
        if is_inside and tree.kind(path) == "missing" and not tree.leaves(path):
            message = f"{file.path} has weights in the file '{name}', which is missing"
            yield W802.report(message, path=file.path, help=f"put {path} there before the server starts")


def _check_domains(model: ModelView, file: ModelFile, header: OnnxModel) -> Iterator[Finding]:
    """Check that operators of other domains than the runtimes' own come with a library."""
    operations = model.document.message("model_operations")
    if file.format != "onnx" or (operations is not None and operations.has("op_library_filename")):
        return
    unknown = sorted(domain for domain in header.custom_domains if not domain.startswith(_RUNTIME_DOMAINS))
    if unknown:
        message = f"Fatal error: {unknown[0]}:<operator> is not a registered function/op"
        if len(unknown) > 1:
            message = f"{message}, nor are those of {', '.join(unknown[1:])}"
        yield E810.report(message, path=file.path, help="name the library in model_operations { op_library_filename }")


def _check_torch(model: ModelView, file: ModelFile, header: TorchArchive) -> Iterator[Finding]:
    oldest, newest = TORCHSCRIPT_VERSIONS
    if model.platform == _AOTI:
        if header.kind != "pt2" or not header.is_compiled:
            kind = _KINDS[header.kind] + (" without a library" if header.kind == "pt2" else "")
            message = (
                f"{file.path} is {kind}, which the PyTorch backend cannot load (expected an archive of AOTInductor)"
            )
            help_text = 'torch._inductor.aoti_compile_and_package(program, package_path="model.pt2")'
            yield E804.report(message, path=file.path, help=f"write it with {help_text}")
    elif header.kind != "torchscript":
        message = (
            f"{file.path} is {_KINDS[header.kind]}, which the PyTorch backend cannot load with platform "
            f'"{model.platform}" (expected TorchScript)'
        )
        yield E804.report(message, path=file.path, help='write it with torch.jit.script(model).save("model.pt")')
    elif header.version is not None and not oldest <= header.version <= newest:
        message = (
            f"{file.path} is TorchScript of version {header.version} of the file format, which the PyTorch backend "
            f"cannot load (expected {oldest} to {newest})"
        )
        yield E804.report(message, path=file.path, help="export it with a PyTorch of the image's age")


def _check_tree_format(model: ModelView, file: ModelFile, header: TreeModel) -> Iterator[Finding]:
    stated = find_fil_format(model)
    if stated in FIL_FORMATS and stated != header.format:
        place = model.document.entries("parameters").get("model_type")
        message = f"{file.path} has the format {header.format}, but the parameter model_type is {stated}"
        if place is None:
            message = f"{message}, its default"
        yield E806.report_in(model, message, place, f'set model_type to "{header.format}"')
