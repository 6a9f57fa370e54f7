"""The files of a backend: its library, and the model's file in each version. No I/O.

Source: core backend_model.cc; tensorflow.cc, onnxruntime.cc, libtorch.cc, openvino.cc, instance_state.cc of the
TensorRT backend, pb_stub.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.triton import changes
from tritonforge.triton.backends import BACKENDS, SAVED_MODEL_FILES, find_model_filename
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.python_source import GRAMMAR, MAXIMAL_SOURCE, SourceError, find_source_error
from tritonforge.validation.registry import Rule, Stage, define_advice, define_error, register_check
from tritonforge.validation.rules.layout import E127, report_unread
from tritonforge.validation.tree import UNKNOWN, Tree, leaves_directory

# fmt: off
E113 = define_error("E113", "unable to find backend library for backend '<b>', try specifying runtime on the model "
                            "configuration.",
    source="backend_model.cc ResolveBackendPaths",
    why="A backend is libtriton_<backend>.so in the version's, the model's or the server's backend directory.",
    bad='backend: "onnx"', good='backend: "onnxruntime"')
E114 = define_error("E114", "unable to find backend library '<runtime>' for model '<m>', searched: <directories>",
    source="backend_model.cc ResolveBackendPaths",
    why="runtime names the file of the backend's library; it is searched where backends lie.",
    bad='backend: "onnxruntime" runtime: "onnx.so"', good='backend: "onnxruntime" runtime: "libtriton_onnxruntime.so"')
E115 = define_error("E115", "backend library name '<runtime>' escapes backend directory '<d>', for model '<m>', "
                            "check model config runtime field",
    source="backend_model.cc ResolveBackendPaths",
    why="The library has to lie below the backend's directory.",
    bad='runtime: "../identity/libtriton_identity.so"', good='runtime: "libtriton_onnxruntime.so"')
E122 = define_error("E122", "Python model file not found in '<path>'",
    source="python_backend pb_stub.cc ModelContext::Init",
    why="The python backend's process ends before it starts, and the server waits for it.",
    bad='backend: "python" with m/1/ empty', good="m/1/model.py")
E123 = define_error("E123", "SyntaxError: <what> (model.py, line <n>)",
    source="python_backend pb_stub.cc ModelContext::StubSetup (Python's own words, which differ by its version)",
    why="The python backend imports the file when it loads the model.",
    bad="def execute(self, requests", good="def execute(self, requests):")
E125 = define_error("E125", "<path> is a directory, which the <b> backend opens as a file",
    source="tensorflow.cc, libtorch.cc, openvino.cc, the TensorRT backend's instance_state.cc, pb_stub.cc",
    why="A SavedModel is a directory, and an ONNX model may be one that holds model.onnx; all other models are files.",
    bad="m/1/model.plan/", good="m/1/model.plan")
W105 = define_advice("W105", "unable to find '<path>' for model instance '<m>'",
    source="onnxruntime.cc, tensorflow.cc, pb_stub.cc: what each backend opens in the version's directory",
    why="The file may be added later (weights are seldom committed), but the model does not load without it.",
    bad='platform: "onnxruntime_onnx" with m/1/ empty', good="m/1/model.onnx")
W110 = define_advice("W110", "SyntaxError: <what> (model.py, line <n>); Python <version> of the image may take it",
    source="tritonforge: only the grammar of the Python that runs it is known",
    why="The model runs on another Python than tritonforge, which may know newer syntax.",
    bad="m/1/model.py with syntax of Python 3.12, judged on Python 3.10 for an image with 3.12",
    good="run tritonforge on a Python that is as new as the image's")
# fmt: on

#: The codes, or their first characters, of rules of backends that open a model's files and environment, which Triton's
#: core does not have. E295 is the environment's rule (`tritonforge.validation.rules.named_files`), E296 that of ONNX
#: Runtime's execution accelerators (`instance_groups`), E8 are the rules of model files.
CODES_OF_BACKENDS: Final = (E122.code, E123.code, E125.code, "E295", "E296", "E8")

#: The newest Python of an image.
_NEWEST: Final = (3, 12)


def explain_missing_backend(context: Context, model: ModelView) -> str:
    """Return the server's sentence on a missing backend, which changed four times."""
    backend, version = model.backend, model.versions[-1] if model.versions else 1
    library, directory = f"libtriton_{backend}.so", f"<backends>/{backend}"
    if context.has(changes.LOOKUP_OF_LIBRARIES):
        return (
            f"unable to find '{library}' for model '{model.name}', searched: <repo>/{model.name}/{version}, "
            f"<repo>/{model.name}, {directory}"
        )
    if context.has(changes.LOOKUP_OF_PYTHON):
        return f"unable to find '{backend}/model.py' for model '{model.name}', in {directory}"
    if context.has(changes.LOOKUP_OF_BOTH):
        return f"unable to find '{library}' or '{backend}/model.py' for model '{model.name}', in {directory}"
    return f"unable to find backend library for backend '{backend}', try specifying runtime on the model configuration."


@register_check(Stage.FILES, E113, E114, E115)
def check_libraries(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check that the server finds the backend's library (backend_model.cc GetBackendLibraryProperties)."""
    backend, runtime = model.backend, model.document.text("runtime")
    if model.is_ensemble or not backend or not model.versions:
        return
    if runtime == "model.py":
        if backend in BACKENDS and BACKENDS[backend].is_compiled:
            message = (
                f"unable to find Python backend based backend library '{runtime}' for model '{model.name}', "
                f"searched: '<backends>/{backend}/model.py'"
            )
            yield E114.report(
                message,
                path=model.config_path,
                node=model.document.one("runtime"),
                help=f'leave it out, or write "libtriton_{backend}.so"',
            )
        return
    findings = (_check_library(context, model, runtime, f"{model.name}/{version}") for version in model.versions)
    yield from dict.fromkeys(finding for finding in findings if finding is not None)


def _check_library(context: Context, model: ModelView, runtime: str, version: str) -> Finding | None:
    """Check the library of one version; ``version`` is the version's directory."""
    backend, tree = model.backend, context.tree
    own = f"libtriton_{backend}.so"
    advice, node = f'leave it out, or write "{own}"', model.document.one("runtime")
    directory = ""
    for place in (version, model.name):
        path = f"{place}/{(runtime or own).lstrip('/')}"
        if tree.kind(path) == "missing":
            continue
        # The server compares the beginnings of the paths, without their links.
        real, above = tree.real(path), tree.real(place)
        is_below = real is not None and above is not None and real.startswith(above)
        if not runtime or tree.leaves(place) or is_below:
            return None
        directory = f"<repo>/{place}"
        break
    if directory or (runtime and leaves_directory(runtime) and _is_other_library(runtime)):
        message = (
            f"backend library name '{runtime}' escapes backend directory '{directory or f'<backends>/{backend}'}', for "
            f"model '{model.name}', check model config runtime field"
        )
        return E115.report(message, path=model.config_path, node=node, help=advice)
    if runtime not in ("", own):
        searched = f"'<repo>/{version}' '<repo>/{model.name}' '<backends>/{backend}'"
        message = f"unable to find backend library '{runtime}' for model '{model.name}', searched: {searched} "
        return E114.report(message, path=model.config_path, node=node, help=advice)
    if not runtime and backend not in BACKENDS and (context.image is None or backend not in context.image.backends):
        advice = f"if the backend is your own, put {own} into the model's directory or the server's backend directory"
        if context.image is not None:
            advice = f"the image has: {', '.join(sorted(context.image.backends))}; {advice}"
        return E113.report(
            explain_missing_backend(context, model),
            path=model.config_or_directory,
            node=model.place(model.document.one("backend")),
            help=advice,
        )
    return None


def _is_other_library(runtime: str) -> bool:
    """Return True if the path leads from a backend's directory to the library of another backend."""
    parts = [part for part in runtime.split("/") if part not in ("", ".")]
    return len(parts) == 3 and parts[1] in BACKENDS and parts[2] == f"libtriton_{parts[1]}.so"


@register_check(Stage.FILES, E122, E123, E125, E127, W105, W110)
def check_model_files(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the file that the backend opens in each version."""
    backend = BACKENDS.get(model.backend)
    own_runtime = model.document.text("runtime") not in ("", f"libtriton_{model.backend}.so")
    if backend is None or not backend.opens_file or own_runtime or model.document.has("cc_model_filenames"):
        return
    filename = find_model_filename(model.backend, model.platform, model.default_model_filename)
    for version in model.versions if filename and not model.is_ensemble else ():
        yield from _check_model_file(context, model, version, filename)


def _check_model_file(context: Context, model: ModelView, version: int, filename: str) -> Iterator[Finding]:
    tree, directory = context.tree, model.version_directories[version]
    if tree.leaves(directory):
        return
    path = f"{directory}/{filename}"
    if model.backend == "onnxruntime" and tree.is_dir(path) and not tree.leaves(path):
        path = f"{path}/model.onnx"  # a model with data outside of its file may be a directory
    kind = tree.kind(path)
    if kind == "missing":
        if not tree.leaves(path) or path in tree.entries:
            yield _report_missing_file(model, tree, path, directory)
    elif kind == "other":
        yield E125.report(f"{path} is not a regular file", path=path, help="put the model's file there")
    elif model.platform == BACKENDS["tensorflow"].platform:
        yield from _check_saved_model(model, tree, path)
    elif kind == "directory":
        message = f"{path} is a directory, which the {model.backend} backend opens as a file"
        if model.backend == "python":
            message = f"ModuleNotFoundError: No module named '{version}.{filename.removesuffix('.py')}'"
        yield E125.report(message, path=path, help="put the model's file there")
    elif model.backend == "python":
        yield from _check_source(context, model, path)


def _report_missing_file(model: ModelView, tree: Tree, path: str, directory: str) -> Finding:
    """Report that nothing is at the path; the help names the target of a broken link."""
    filename = path.removeprefix(f"{directory}/")
    entry = tree.entries.get(path)
    advice = f"put {filename} there before the server starts"
    if entry is not None and entry.kind == "link":
        advice = f"it is a link to {entry.target}, which is missing"
    if model.backend == "python":
        return E122.report(f"Python model file not found in '<repo>/{path}'", path=directory, help=advice)
    message = f"unable to find '<repo>/{path}' for model instance '{model.name}'"
    return W105.report(message, path=directory, help=advice)


def _check_saved_model(model: ModelView, tree: Tree, path: str) -> Iterator[Finding]:
    if tree.is_file(path):
        message = f"{path} is a file, where the tensorflow backend expects the directory of a SavedModel"
        yield E125.report(message, path=path, help='a frozen graph is platform: "tensorflow_graphdef"')
    elif not tree.leaves(path) and not any(tree.kind(f"{path}/{file}") != "missing" for file in SAVED_MODEL_FILES):
        message = f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: <repo>/{path}"
        yield W105.report(message, path=path, help="put saved_model.pb there before the server starts")


def _check_source(context: Context, model: ModelView, path: str) -> Iterator[Finding]:
    """Check that Python accepts the code."""
    entry = context.tree.entry(path)
    if entry is None or (entry.content is None and entry.size == UNKNOWN):
        return
    if entry.content is None or entry.size > MAXIMAL_SOURCE:
        yield report_unread(context.tree, path, MAXIMAL_SOURCE)
        return
    error = find_source_error(entry.content)
    image = context.image
    python = _parse_version(image.python) if image is not None and image.python else None
    unknown = ""
    if model.document.entries("parameters").get("EXECUTION_ENV_PATH") is not None or (
        context.tree.kind(f"{model.name}/triton_python_backend_stub") != "missing"
    ):
        unknown = "its own Python"
    elif image is not None and (python or _NEWEST) > GRAMMAR:
        unknown = f"the Python of the image {image.tag}"
    if error is not None and unknown:
        yield _report_error(W110, error, path, suffix=f"; {unknown} may take it")
    elif error is not None:
        yield _report_error(E123, error, path)
    elif (
        python is not None
        and not unknown
        and (older_error := find_source_error(entry.content, version=python)) is not None
    ):
        yield _report_error(E123, older_error, path, help="the image has Python {}.{}".format(*python))


def _parse_version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _report_error(rule: Rule, error: SourceError, path: str, *, suffix: str = "", help: str = "") -> Finding:  # noqa: A002
    message = f"{error.name}: {error.message} ({path.rpartition('/')[2]}, line {error.line}){suffix}"
    return rule.report(message, path=path, line=error.line, column=error.column, help=help)
