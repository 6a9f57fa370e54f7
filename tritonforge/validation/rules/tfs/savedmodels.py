"""The SavedModels of a package: what the container finds, and what TensorFlow Serving makes of it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tritonforge.triton.tfs_layout import SAVED_MODEL, ServedModel, find_models
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.tfs import definitions as rules
from tritonforge.validation.tree import Tree

__all__ = ["check", "models", "paths"]

_SHARD: Final = re.compile(r"variables\.data-(\d{5})-of-(\d{5})")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")

#: Links to directories that are followed; a package has one a version at most.
_FOLLOWED: Final = 100

#: Where Triton's repositories keep a SavedModel.
_TRITON_FOLDER: Final = "model.savedmodel"


def paths(tree: Tree) -> Iterator[str]:
    """The paths of a tree as `tritonforge.triton.tfs_layout` takes them.

    A link is what it leads to; behind one to a directory no further links are followed.
    """
    followed = 0
    for path, entry in tree.entries.items():
        kind = tree.kind(path)
        if kind == "file":
            yield path
        elif kind == "directory":
            yield f"{path}/"
            real = tree.real(path) if entry.kind == "link" else None
            if real is not None and not path.startswith(f"{real}/") and followed < _FOLLOWED:
                followed += 1
                yield from (path + each[len(real) :] for each in tree.entries if each.startswith(f"{real}/"))


def models(tree: Tree) -> tuple[ServedModel, ...]:
    """The models of a package."""
    return find_models(paths(tree))


def check(tree: Tree) -> Iterator[Finding]:
    """What is to be said of a package's models."""
    found = models(tree)
    if not found:
        yield rules.E701.finding(rules.E701.summary, path="", help=_way_out(tree))
        return
    by_name: dict[str, ServedModel] = {}
    for model in found:
        if model.name in by_name:
            yield rules.E711.finding(
                f"Illegal to list model {model.name} multiple times in config list",
                path=model.folder,
                help=f"give it another name than {by_name[model.name].folder}, or a version's number there",
            )
        by_name.setdefault(model.name, model)
        yield from _check_model(tree, model)
    if len(by_name) > 1:
        yield rules.W706.finding(
            f"the package has the models {', '.join(by_name)}, and which one requests are for is chance",
            path="",
            help=f"set SAGEMAKER_TFS_DEFAULT_MODEL_NAME={found[0].name} in the container's environment",
        )


def _check_model(tree: Tree, model: ServedModel) -> Iterator[Finding]:
    for directory in model.unloadable:
        helped = f"put the SavedModel into it, or give the folder a name that is no number: {SAVED_MODEL} is missing"
        yield rules.E702.finding(rules.E702.summary, path=directory, help=helped)
    for directory in model.repeated:
        yield rules.W707.finding(
            f"{directory} and {model.versions[int(directory.rpartition('/')[2])]} have the same number: "
            "one of them is served",
            path=directory,
            help="give it a number of its own, or remove it",
        )
    for directory in model.versions.values():
        if directory not in model.unloadable:
            yield from _check_variables(tree, f"{directory}/variables")
    if not _NAME.fullmatch(model.name):
        yield rules.W708.finding(rules.W708.summary, path=model.folder, help="rename the folder")


def _check_variables(tree: Tree, folder: str) -> Iterator[Finding]:
    """An index without its data, or data without all of its parts."""
    names = tree.children(folder)
    parts = [found for name in names if (found := _SHARD.fullmatch(name))]
    has_index = "variables.index" in names
    if not parts and not has_index:
        return  # a SavedModel whose weights are constants of its graph has none
    missing = [] if has_index else ["variables.index"]
    total = int(parts[0][2]) if parts else 1
    present = {int(part[1]) for part in parts}
    missing += [f"variables.data-{number:05d}-of-{total:05d}" for number in range(total) if number not in present]
    if missing:
        yield rules.E703.finding(
            f"the SavedModel's variables are not whole: {', '.join(missing[:10])} is missing",
            path=folder,
            help="copy the whole folder that TensorFlow saved",
        )


def _way_out(tree: Tree) -> str:
    """What to do with a package whose SavedModels lie where the container does not look."""
    if tree.is_file("definition.py"):
        return "this is the folder of a definition: build it, and validate what is built"
    for path in tree.entries:
        folder, _, name = path.rpartition("/")
        if name != SAVED_MODEL:
            continue
        if folder.rpartition("/")[2] == _TRITON_FOLDER:
            return (
                f"{path} lies as Triton wants it: for TensorFlow Serving {SAVED_MODEL} lies in the version's folder "
                "itself"
            )
        return f"{path}: move its folder into one with a number for its name, <model>/1/{SAVED_MODEL}"
    return f"put the SavedModel into a folder with a number for its name: <model>/1/{SAVED_MODEL}"
