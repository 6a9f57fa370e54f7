"""Mend what has one certain answer: texts and files that a repository should have instead. This module does no I/O.

An ensemble without a version directory gets an empty one (git and tar drop it, and Triton loads no ensemble without);
a ``name`` that is not the directory's becomes the directory's; a step without ``model_version``, which means version 0,
asks for the latest one where there is no version 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from tritonforge.pbtxt import Document, Node, parse
from tritonforge.validation.tree import Entry, Tree

__all__ = ["find_fixes", "with_files"]

#: The file that keeps an ensemble's empty version directory in git and in tar archives. Triton loads an ensemble only
#: where a version directory is (model_lifecycle.cc `VersionsToLoad`), and never looks into it.
GITKEEP: Final = ".gitkeep"
_STRING: Final = r"(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
_STRINGS: Final = re.compile(rf"{_STRING}(?:\s*{_STRING})*")


def find_fixes(tree: Tree) -> Mapping[str, bytes]:
    """The files that should be there, by path; none where nothing has a certain answer."""
    files: dict[str, bytes] = {}
    for model in tree.subdirectories():
        path = f"{model}/config.pbtxt"
        entry = tree.entry(path)
        if entry is None or entry.content is None or not _is_utf8(entry.content):
            continue
        document = parse(entry.content)
        if document.problems:
            continue
        text = _applied(document.source, [*_name(document, model), *_versions(document, tree)])
        if text != document.source:
            files[path] = text.encode()
        if document.text("platform") == "ensemble" and not any(map(_is_version, tree.subdirectories(model))):
            files[f"{model}/1/{GITKEEP}"] = b""
    return files


def with_files(tree: Tree, files: Mapping[str, bytes]) -> Tree:
    """The tree with these files written into it."""
    entries = dict(tree.entries)
    entries.update({path: Entry("file", len(content), content=content) for path, content in files.items()})
    return Tree(entries, truncated=tree.truncated, external=tree.external)


def _name(document: Document, model: str) -> Iterator[tuple[int, int, str]]:
    node = document.one("name")
    if node is not None and node.value not in ("", model):
        yield (*_literal(document, node), '"' + model.replace("\\", "\\\\").replace('"', '\\"') + '"')


def _versions(document: Document, tree: Tree) -> Iterator[tuple[int, int, str]]:
    scheduling = document.message("ensemble_scheduling")
    for step in scheduling.messages("step") if scheduling is not None else ():
        node = step.one("model_name")
        if step.has("model_version") or node is None or not tree.is_dir(str(node.value)):
            continue
        if "0" not in tree.subdirectories(str(node.value)):
            _, end = _literal(document, node)
            start = document.source.rfind("\n", 0, node.offset) + 1
            before = document.source[start : node.offset]
            # On a line of its own where the name has one, else behind the name on its line.
            own = re.fullmatch(r"(\s*)model_name\s*:\s*", before)
            yield end, end, f"\n{own[1]}model_version: -1" if own else " model_version: -1"


def _literal(document: Document, node: Node) -> tuple[int, int]:
    found = _STRINGS.match(document.source, node.offset)
    return (node.offset, found.end()) if found else (node.offset, node.offset)


def _applied(text: str, edits: list[tuple[int, int, str]]) -> str:
    for start, end, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement + text[end:]
    return text


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
