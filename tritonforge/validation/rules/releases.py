"""What later releases refuse and the local server does not: names, paths and sizes. No I/O.

Each check reads its row of `tritonforge.triton.changes`; where the row does not apply nothing is said. ``poll`` and
``load`` give the findings in the server's order, as the other rooms do.
"""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import normpath
from typing import Final

from tritonforge.pbtxt import Message, Node
from tritonforge.triton import CATALOGUE, changes
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule, advice, refused
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.sizes import INVALID, LARGEST, OVERFLOW, bounded_byte_size, bounded_count

__all__ = ["RULES", "check", "library_escapes", "load"]

_SHELL: Final = ";|&$`<>()[]{}\\\"'*?~#!"
#: Backends that call `ValidateStringBuffer` (backend_common.cc) on what they are fed, r24.10.
_READ_TEXTS: Final = ("onnxruntime", "python", "tensorflow")
_STRATEGY: Final = "TRITON_BATCH_STRATEGY_PATH"
_SAGEMAKER: Final = "/opt/ml/model"

STUB_NAME: Final = refused(
    "E606",
    "Invalid stub name: contains invalid characters",
    source=changes.STUB_NAMES.source,
    why="From 25.08 on the python backend starts no process for a model or an instance group whose name has one of "
    f"the characters {_SHELL}",
    bad='instance_group [{ name: "a&b" }]   --image 25.08',
    good='instance_group [{ name: "a_b" }]   --image 25.08',
)
LABEL_FILE: Final = refused(
    "E607",
    "label file path '<p>' for output '<o>' in model '<m>' is outside model directory",
    source=changes.LABEL_FILE_INSIDE.source,
    why="From 26.02 on label files are read from the model's directory only, links followed.",
    bad='label_filename: "../labels.txt"   --image 26.02',
    good='label_filename: "labels.txt"   --image 26.02',
)
ELEMENTS: Final = refused(
    "E608",
    f"element count for tensor '<t>' exceeds maximum size of {LARGEST}",
    source=changes.ELEMENT_COUNTS.source,
    why="From 26.03 on the number of elements of an input, and of dims and reshape where there is a reshape, has to "
    "fit into 64 bits; older servers let it wrap around.",
    bad="dims: [4294967296, 4294967296]   --image 26.03",
    good="dims: [4294967296, 1024]   --image 26.03",
)
BATCHING_LIBRARY: Final = refused(
    "E609",
    "Batching library path escapes model repository.",
    source=changes.BATCHING_LIBRARY_INSIDE.source,
    why="From 26.06 on the library has to lie in the model's directory.",
    bad='parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "/lib/batch.so" } }   --image 26.06',
    good="m/batchstrategy.so, which is found without the parameter",
)
BYTES: Final = refused(
    "E611",
    f"byte size for tensor '<t>' exceeds maximum size of {LARGEST}",
    source=changes.ELEMENT_COUNTS.source,
    why="From 26.03 on the bytes of a warmup input and of an initial state have to fit into 64 bits, and their "
    "dimensions to be sizes.",
    bad="model_warmup [{ inputs { value { dims: [4294967296, 4294967296] zero_data: true } } }]   --image 26.03",
    good="model_warmup [{ inputs { value { dims: [4] zero_data: true } } }]   --image 26.03",
)
CONFIG_NAME: Final = refused(
    "E612",
    "tritonserver: unrecognized option '--model-config-name=<name>'",
    source=changes.CONFIG_NAME.source,
    why="The flag came with 24.05; an older server prints its usage and ends.",
    bad="--model-config-name=fast   --image 24.04",
    good="--model-config-name=fast   --image 24.05",
)
LOADED_NAME: Final = advice(
    "W346",
    "the load API of the image's server refuses the model's name",
    source=f"{changes.MODEL_NAMES.source}; {changes.MODEL_NAMES_WITH_DOTS.source}",
    why="A model with this name loads at the start and cannot be loaded again later: POST "
    "/v2/repository/models/<m>/load answers 400.",
    bad="a..b/config.pbtxt   --image 26.03",
    good="a.b/config.pbtxt   --image 26.03",
)
PROVISIONAL: Final = advice(
    "W347",
    "the image's release is provisional here",
    source="release notes; tritonforge.triton.releases PROVISIONAL",
    why="No release branch was read: what the image holds is as its release notes say, and its server is taken to "
    "behave as the release before.",
    bad="--image 26.09",
    good="--image 26.08",
)

CORRELATION_TEXT: Final = advice(
    "W137",
    "requests with a correlation ID are refused: its control input is a text",
    source=changes.CORRELATION_TEXTS.source,
    why="Up to 24.12 the control tensor is padded to 132 bytes, which the Python, ONNX Runtime and TensorFlow backends "
    "read as a second element: 'unexpected number of string elements 2 for inference input, expecting 1'.",
    bad="control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING }   --image 24.12",
    good="control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING }   --image 25.01",
)

RULES: Final[tuple[Rule, ...]] = (
    CORRELATION_TEXT, STUB_NAME, LABEL_FILE, ELEMENTS, BATCHING_LIBRARY, BYTES, CONFIG_NAME, LOADED_NAME, PROVISIONAL,
)  # fmt: skip


def check(context: Context) -> Iterator[Finding]:
    """What concerns the server as a whole, and names that are loaded later."""
    image = context.image
    if image is not None and image.provisional:
        before = max(release for release, each in CATALOGUE.items() if not each.provisional)
        yield PROVISIONAL.finding(
            f"Triton {image.triton} ({image.release}) is provisional here: no release branch was read, so the verdict "
            f"is that of {before}",
            path="",
        )
    if context.config_name and not context.has(changes.CONFIG_NAME):
        yield CONFIG_NAME.finding(
            f"tritonserver: unrecognized option '--model-config-name={context.config_name}'",
            path="",
            help=f"the flag came with {changes.CONFIG_NAME.first}",
        )
    if context.has(changes.CORRELATION_TEXTS):
        for view in context.models.values():
            yield from _correlation_texts(context, view)
    for name in context.models:
        dots = context.has(changes.MODEL_NAMES_WITH_DOTS) and ".." in name
        blank = not name.strip(" \t\n\v\f\r") and (
            context.has(changes.MODEL_NAMES) or context.has(changes.MODEL_NAMES_WITH_DOTS)
        )
        if dots or blank:
            yield LOADED_NAME.finding(
                f"the model '{name}' loads at the start, but the load API of Triton {context.release} refuses its name",
                path=name,
                help="rename it" if blank else "rename it, or use a later image",
            )


def _correlation_texts(context: Context, view: ModelView) -> Iterator[Finding]:
    concerned = view.parsed and view.backend in _READ_TEXTS
    sequence = view.document.message("sequence_batching") if concerned else None
    for tensor in sequence.messages("control_input") if sequence is not None else ():
        for control in tensor.messages("control"):
            if control.text("kind") == "CONTROL_SEQUENCE_CORRID" and control.text("data_type") == "TYPE_STRING":
                yield CORRELATION_TEXT.finding(
                    f"requests to {view.name} are refused unless their correlation ID is 128 bytes long: Triton "
                    f"{context.release} pads the control input '{tensor.text('name')}'",
                    path=view.config_path,
                    node=control.one("data_type"),
                    help="use TYPE_UINT64 and numbers for IDs, or an image from 25.01 on",
                )


def load(context: Context, view: ModelView) -> Iterator[Finding]:
    """What fails a model of an image's server when it is loaded."""
    if not view.versions:
        return
    counted = context.has(changes.ELEMENT_COUNTS)
    if counted:
        yield from _reshapes(view)
    if context.has(changes.LABEL_FILE_INSIDE):
        yield from _labels(context, view)
    if view.is_ensemble:
        return
    if context.has(changes.BATCHING_LIBRARY_INSIDE):
        yield from _batching_library(context, view)
    if context.has(changes.STUB_NAMES) and _runs_python(context, view):
        yield from _stub_names(context, view)
    if counted:
        yield from _warmup(view)
        yield from _inputs(view)
        yield from _states(view)


def _reshapes(view: ModelView) -> Iterator[Finding]:
    for tensor in (*view.inputs, *view.outputs):
        reshape = tensor.node.message("reshape")
        if tensor.reshape is not None and reshape is not None:
            yield from _count(view, f"{tensor.name} dims", tensor.dims, tensor.node, "dims")
            yield from _count(view, f"{tensor.name} reshape", tensor.reshape, reshape, "shape")


def _inputs(view: ModelView) -> Iterator[Finding]:
    """The inputs, which the scheduler counts; those with a reshape have been counted before."""
    for tensor in view.inputs:
        if tensor.reshape is None and not tensor.node.flag("is_shape_tensor"):
            yield from _count(view, tensor.name, tensor.dims, tensor.node, "dims")


def _count(view: ModelView, name: str, dims: tuple[int, ...], message: Message, field: str) -> Iterator[Finding]:
    """The count of a tensor; dimensions that are no sizes are refused before by E244 and E245."""
    if bounded_count(dims) == OVERFLOW:
        words = f"element count for tensor '{name}' exceeds maximum size of {LARGEST}"
        yield ELEMENTS.finding(words, path=view.config_path, node=view.place(*message.get(field)[:1]))


def _warmup(view: ModelView) -> Iterator[Finding]:
    for sample in view.document.messages("model_warmup"):
        if sample.integer("batch_size"):
            for name, entry in sample.entries("inputs").items():
                yield from _bytes(view, name, entry.message("value"))


def _states(view: ModelView) -> Iterator[Finding]:
    sequence = view.document.message("sequence_batching")
    for state in sequence.messages("state") if sequence is not None else ():
        for initial in state.messages("initial_state")[:1]:
            yield from _bytes(view, state.text("input_name"), initial)


def _bytes(view: ModelView, name: str, value: Message | None) -> Iterator[Finding]:
    dims = value.integers("dims") if value is not None else ()
    if value is None or -1 in dims:
        return
    data_type = value.text("data_type")
    size = bounded_byte_size(data_type, dims)
    shape = f"[{','.join(map(str, dims))}]"
    if size == INVALID:
        of_strings = " in shape" if data_type == "TYPE_STRING" else ""
        words = f"tensor '{name}' contains an invalid dimension{of_strings} {shape}"
    elif size == OVERFLOW:
        what = "element count" if data_type == "TYPE_STRING" and bounded_count(dims) == OVERFLOW else "byte size"
        words = f"{what} for tensor '{name}' exceeds maximum size of {LARGEST}"
    else:
        return
    yield BYTES.finding(words, path=view.config_path, node=value.get("dims")[0])


def _labels(context: Context, view: ModelView) -> Iterator[Finding]:
    for output in view.outputs:
        filename = output.node.text("label_filename")
        if filename and _is_outside(context, view, filename):
            yield LABEL_FILE.finding(
                f"label file path '<repo>/{view.name}/{filename}' for output '{output.name}' in model '{view.name}' "
                "is outside model directory",
                path=view.config_path,
                node=output.node.one("label_filename"),
                help=f"put the file into {view.name}/",
            )


def _is_outside(context: Context, view: ModelView, filename: str) -> bool:
    """Whether a path leads out of the model's directory, links included as far as the tree knows them."""
    path = f"{view.name}/{filename}"
    if context.tree.leaves(path) and not context.tree.leaves(view.name):
        return True
    place, directory = context.tree.real(path) or normpath(path), context.tree.real(view.name) or view.name
    if context.has(changes.WHOLE_PATHS):
        return place != directory and not place.startswith(f"{directory}/")
    return not place.startswith(directory)  # the server compares the texts, so a sibling `<m>2` counts as inside


def _runs_python(context: Context, view: ModelView) -> bool:
    """Whether the python backend runs the model: its own, or one that is written in Python."""
    added = context.image.added if context.image is not None else frozenset()
    runtime = view.document.text("runtime")
    return view.backend in ("python", "vllm") or runtime == "model.py" or view.backend in added & {"tensorflow"}


def _stub_names(context: Context, view: ModelView) -> Iterator[Finding]:
    words = "Invalid stub name: contains invalid characters"
    if any(character in _SHELL for character in view.name):
        place: Node | None = view.place() if view.has_config else None
        yield STUB_NAME.finding(
            words,
            path=view.config_path if view.has_config else view.name,
            node=place,
            help=f"rename the model: {_SHELL} are not allowed",
        )
        return
    for group in view.document.messages("instance_group"):
        if any(character in _SHELL for character in group.text("name")):
            yield STUB_NAME.finding(
                words, path=view.config_path, node=group.one("name"), help=f"{_SHELL} are not allowed in the name"
            )


def _batching_library(context: Context, view: ModelView) -> Iterator[Finding]:
    entry = view.document.entries("parameters").get(_STRATEGY)
    if entry is None or view.document.has("sequence_batching"):
        return
    value = entry.message("value")
    path = value.text("string_value") if value is not None else ""
    node = (value.one("string_value") if value is not None else None) or entry
    if not library_escapes(context, view, path):
        return
    words = "Batching library path escapes model repository."
    if not path:
        words = "Parent path and child path must be non-empty"
    yield BATCHING_LIBRARY.finding(
        words, path=view.config_path, node=node, help=f"call it batchstrategy.so and put it into {view.name}/"
    )


def library_escapes(context: Context, view: ModelView, path: str) -> bool:
    """Whether the server refuses the path of a batching library for leading out of the model's directory.

    Where the repository lies is known on SageMaker only; elsewhere a path through a directory of the model's name may
    be right.
    """
    if not context.has(changes.BATCHING_LIBRARY_INSIDE):
        return False
    place = normpath(path) if path else ""
    if not place.startswith("/"):
        return True  # taken from the server's working directory
    if context.target == "sagemaker":
        return not place.startswith(f"{_SAGEMAKER}/{view.name}/")
    return f"/{view.name}/" not in place
