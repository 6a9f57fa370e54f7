"""What has exactly one correct value, and the files that state it. No I/O.

An ensemble without a version directory gets an empty one (git and tar drop it, and Triton loads no ensemble without);
a ``name`` that is not the directory's becomes the directory's; a step without ``model_version``, which means version 0,
asks for the latest one where version 0 is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from tritonforge.pbtxt import Document, Node, parse
from tritonforge.validation.tree import GITKEEP, GITKEEP_TEXT, Entry, Tree

__all__ = ["find_fixes", "with_files"]

_STRING: Final = r"(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
_STRINGS: Final = re.compile(rf"{_STRING}(?:\s*{_STRING})*")


def find_fixes(tree: Tree, models: Iterable[str] | None = None) -> Mapping[str, bytes]:
    """Return the files that the repository should have, by path; none where nothing has exactly one correct value.

    ``models`` are the directories that are looked at, by default all.
    """
    files: dict[str, bytes] = {}
    for model in tree.subdirectories() if models is None else models:
        path = f"{model}/config.pbtxt"
        entry = tree.entry(path)
        if entry is None or entry.content is None or not _is_utf8(entry.content):
            continue
        document = parse(entry.content)
        if document.problems:
            continue
        text = _apply_edits(document.source, [*_fix_name(document, model), *_fix_versions(document, tree)])
        if text != document.source:
            files[path] = text.encode()
        if document.text("platform") == "ensemble" and not any(
            name.isascii() and name.isdigit() for name in tree.subdirectories(model)
        ):
            files[f"{model}/1/{GITKEEP}"] = GITKEEP_TEXT
    return files


def with_files(tree: Tree, files: Mapping[str, bytes]) -> Tree:
    """Return the tree with these files written into it."""
    entries = dict(tree.entries)
    entries.update({path: Entry("file", len(content), content=content) for path, content in files.items()})
    return Tree(entries, truncated=tree.truncated, external=tree.external)


def _fix_name(document: Document, model: str) -> Iterator[tuple[int, int, str]]:
    node = document.one("name")
    if node is not None and node.value not in ("", model):
        yield (*_find_literal(document, node), '"' + model.replace("\\", "\\\\").replace('"', '\\"') + '"')


def _fix_versions(document: Document, tree: Tree) -> Iterator[tuple[int, int, str]]:
    scheduling = document.message("ensemble_scheduling")
    for step in scheduling.messages("step") if scheduling is not None else ():
        node = step.one("model_name")
        if step.has("model_version") or node is None or not tree.is_dir(str(node.value)):
            continue
        if "0" not in tree.subdirectories(str(node.value)):
            _, end = _find_literal(document, node)
            start = document.source.rfind("\n", 0, node.offset) + 1
            before = document.source[start : node.offset]
            # On a line of its own where the name has one, else after the name on its line.
            own = re.fullmatch(r"(\s*)model_name\s*:\s*", before)
            yield end, end, f"\n{own[1]}model_version: -1" if own else " model_version: -1"


def _find_literal(document: Document, node: Node) -> tuple[int, int]:
    match = _STRINGS.match(document.source, node.offset)
    return (node.offset, match.end()) if match else (node.offset, node.offset)


def _apply_edits(text: str, edits: list[tuple[int, int, str]]) -> str:
    for start, end, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement + text[end:]
    return text


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
