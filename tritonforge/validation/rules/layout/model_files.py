"""The file or directory that a backend opens in a version directory: whether it is there and of the right kind. No I/O.

Source: tensorflow.cc, onnxruntime.cc, libtorch.cc, openvino.cc, instance_state.cc of the TensorRT backend, pb_stub.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.context import Context, ModelView
from tritonforge.validation.rules.inference import file_sought
from tritonforge.validation.rules.layout import definitions as rules
from tritonforge.validation.rules.layout.reading import unread
from tritonforge.validation.rules.python_model import GRAMMAR, MAXIMAL_SOURCE, SourceError, source_error
from tritonforge.validation.tree import UNKNOWN, Tree

__all__ = ["check"]

#: Backends that are known to open `file_sought`; DALI's files have a room of their own.
_OPENING: Final = frozenset(("tensorflow", "tensorrt", "onnxruntime", "pytorch", "openvino", "python"))
_SAVED_MODEL: Final = "tensorflow_savedmodel"
#: The newest Python of an image.
_NEWEST: Final = (3, 12)
#: What a SavedModel has one of (tensorflow/cc/saved_model/loader.cc).
_GRAPHS: Final = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")


def check(context: Context, view: ModelView, version: int) -> Iterator[Finding]:
    """What is wrong with the model's file of a version."""
    tree, directory = context.tree, view.version_directories[version]
    sought = file_sought(view.backend, view.platform, view.default_model_filename)
    own_runtime = view.document.text("runtime") not in ("", f"libtriton_{view.backend}.so")
    if not sought or view.backend not in _OPENING or own_runtime or tree.leaves(directory):
        return
    if view.document.has("cc_model_filenames"):
        return
    path = f"{directory}/{sought}"
    if view.backend == "onnxruntime" and tree.is_dir(path) and not tree.leaves(path):
        path = f"{path}/model.onnx"  # a model with data outside of its file may be a directory
    kind = tree.kind(path)
    if kind == "missing":
        if not tree.leaves(path) or path in tree.entries:
            yield _absent(view, tree, path, directory)
    elif kind == "other":
        yield rules.E125.finding(f"{path} is not a regular file", path=path, help="put the model's file there")
    elif view.platform == _SAVED_MODEL:
        yield from _saved_model(view, tree, path)
    elif kind == "directory":
        words = f"{path} is a directory, which the {view.backend} backend opens as a file"
        if view.backend == "python":
            words = f"ModuleNotFoundError: No module named '{version}.{sought.removesuffix('.py')}'"
        yield rules.E125.finding(words, path=path, help="put the model's file there")
    elif view.backend == "python":
        yield from _source(context, view, path)


def _absent(view: ModelView, tree: Tree, path: str, directory: str) -> Finding:
    """The finding that nothing is at the path; of a link that leads to nothing, where it leads to."""
    sought = path.removeprefix(f"{directory}/")
    entry = tree.entries.get(path)
    help_ = f"put {sought} there before the server starts"
    if entry is not None and entry.kind == "link":
        help_ = f"it is a link to {entry.target}, which is missing"
    if view.backend == "python":
        return rules.E122.finding(f"Python model file not found in '<repo>/{path}'", path=directory, help=help_)
    words = f"unable to find '<repo>/{path}' for model instance '{view.name}'"
    return rules.W105.finding(words, path=directory, help=help_)


def _saved_model(view: ModelView, tree: Tree, path: str) -> Iterator[Finding]:
    if tree.is_file(path):
        words = f"{path} is a file, where the tensorflow backend expects the directory of a SavedModel"
        yield rules.E125.finding(words, path=path, help='a frozen graph is platform: "tensorflow_graphdef"')
    elif not tree.leaves(path) and not any(tree.kind(f"{path}/{each}") != "missing" for each in _GRAPHS):
        words = f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: <repo>/{path}"
        yield rules.W105.finding(words, path=path, help="put saved_model.pb there before the server starts")


def _source(context: Context, view: ModelView, path: str) -> Iterator[Finding]:
    """Whether Python takes the code."""
    entry = context.tree.entry(path)
    if entry is None or (entry.content is None and entry.size == UNKNOWN):
        return
    if entry.content is None or entry.size > MAXIMAL_SOURCE:
        yield unread(context.tree, path, MAXIMAL_SOURCE)
        return
    here = source_error(entry.content)
    image = context.image
    python = _version(image.python) if image is not None and image.python else None
    unknown = ""
    if view.document.entries("parameters").get("EXECUTION_ENV_PATH") is not None or (
        context.tree.kind(f"{view.name}/triton_python_backend_stub") != "missing"
    ):
        unknown = "its own Python"
    elif image is not None and (python or _NEWEST) > GRAMMAR:
        unknown = f"the Python of the image {image.tag}"
    if here is not None and unknown:
        yield _at(rules.W110.finding(f"{_sentence(here, path)}; {unknown} may take it", path=path), here)
    elif here is not None:
        yield _at(rules.E123.finding(_sentence(here, path), path=path), here)
    elif python is not None and not unknown and (older := source_error(entry.content, version=python)) is not None:
        help_ = "the image has Python {}.{}".format(*python)
        yield _at(rules.E123.finding(_sentence(older, path), path=path, help=help_), older)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _sentence(error: SourceError, path: str) -> str:
    return f"{error.name}: {error.message} ({path.rpartition('/')[2]}, line {error.line})"


def _at(finding: Finding, error: SourceError) -> Finding:
    return replace(finding, line=error.line, column=error.column)
