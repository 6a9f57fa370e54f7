"""The repository that a definition's directory becomes: its config.pbtxt files, and what a build adds. No I/O.

`tritonforge build --write-configs` writes configurations beside a definition.py. Versions, model files and labels come
with the build, so that without them nothing is wrong there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from tritonforge.pbtxt import Document, parse
from tritonforge.triton.backends import find_model_filename
from tritonforge.validation.model_views import infer_backend
from tritonforge.validation.tree import GITKEEP, UNKNOWN, Entry, Tree

__all__ = ["DEFINITION", "complete_definition_tree", "is_definition_directory"]

DEFINITION: Final = "definition.py"
_BUILT: Final = Entry("file", UNKNOWN)


def is_definition_directory(tree: Tree) -> bool:
    """Return True if a directory has a definition.py, and no model in it has a version."""
    return tree.is_file(DEFINITION) and not any(
        name.isdigit() for model in _list_models(tree) for name in tree.subdirectories(model)
    )


def complete_definition_tree(tree: Tree) -> Tree:
    """Return the tree of the models that have a config.pbtxt, each with one version and the files that it names."""
    models = set(_list_models(tree))
    entries = {path: entry for path, entry in tree.entries.items() if path.partition("/")[0] in models}
    for model in models:
        config = tree.entry(f"{model}/config.pbtxt")
        if config is not None and config.content is not None:
            for path in _list_built_files(model, config.content):
                entries.setdefault(f"{model}/{path}", _BUILT)
    return Tree(entries, truncated=tree.truncated, external=tree.external)


def _list_models(tree: Tree) -> Iterator[str]:
    return (name for name in tree.subdirectories() if tree.is_file(f"{name}/config.pbtxt"))


@lru_cache(maxsize=512)
def _list_built_files(model: str, config: bytes) -> tuple[str, ...]:
    """Return the files that a build adds to a model, as `tritonforge.repository.resolve.Repository.tree` has them."""
    document = parse(config)
    inferred = infer_backend(model, document, Tree({}))
    if inferred.platform == "ensemble":
        return (f"1/{GITKEEP}", *_list_named_files(document))
    filename = find_model_filename(inferred.backend, inferred.platform, inferred.default_model_filename)
    inner = "/saved_model.pb" if filename == "model.savedmodel" else ""
    return (f"1/{filename or 'model'}{inner}", *_list_named_files(document))


def _list_named_files(document: Document) -> Iterator[str]:
    for output in document.messages("output"):
        if name := output.text("label_filename"):
            yield name
    for sample in document.messages("model_warmup"):
        for entry in sample.messages("inputs"):
            value = entry.message("value")
            if value is not None and (name := value.text("input_data_file")):
                yield f"warmup/{name}"
