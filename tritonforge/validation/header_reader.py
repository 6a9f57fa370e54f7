"""Read the headers of the model files of a directory; `tritonforge.validation.tree_reader` reads everything else.

Reading is bounded for one file and for all of them, and follows no link.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from tritonforge.model_files.file_formats import find_format
from tritonforge.validation.tree import Entry

__all__ = ["add_headers"]

#: Bytes of the headers of all model files that are read, and fields of their messages: a few seconds.
MAXIMAL_HEADERS: Final = 256 * 1024 * 1024
MAXIMAL_FIELDS: Final = 4_000_000
#: A model's own name of its file, without escapes.
_FILENAME: Final = re.compile(rb"""default_model_filename\s*:\s*(["'])([^"'\\/\n]{1,255})\1""")


def add_headers(entries: Mapping[str, Entry], file_of: Callable[[str], str]) -> Mapping[str, Entry]:
    """Return the entries with the headers of the model files in version directories.

    ``file_of`` returns the file on disk of a path. A file is read if its name, or the name that its model's
    configuration states, is that of a model file; weights are not read. Beyond `MAXIMAL_HEADERS` bytes and
    `MAXIMAL_FIELDS` fields in all, files have no header.
    """
    paths = [path for path, entry in entries.items() if entry.kind == "file" and _may_be_model_file(path, entries)]
    if not paths:
        return entries
    from tritonforge.model_files.header import read_header  # the readers take 20 ms, and not every repository has files
    from tritonforge.model_files.introspection import open_source
    from tritonforge.model_files.source import BUDGET, FIELDS

    result, bytes_left, fields_left = dict(entries), MAXIMAL_HEADERS, MAXIMAL_FIELDS
    for path in paths:
        budget, fields = min(BUDGET, bytes_left), min(FIELDS, fields_left)
        if budget <= 0 or fields <= 0:
            break
        try:
            with open_source(file_of(path), budget=budget, fields=fields, follow_links=False) as source:
                header = read_header(source, path.rpartition("/")[2])
        except OSError:
            continue
        bytes_left -= budget - source.bytes_left
        fields_left -= fields - source.fields_left
        if header is not None:
            result[path] = replace(entries[path], header=header)
    return result


def _may_be_model_file(path: str, entries: Mapping[str, Entry]) -> bool:
    """Return True for a file in a version directory, or in a directory there, that a backend may open."""
    model, _, rest = path.partition("/")
    version, _, name = rest.partition("/")
    if not name or not version.isdecimal() or name.count("/") > 1:
        return False
    directory, _, name = name.rpartition("/")
    if directory:  # a SavedModel, or an ONNX model with its data in further files
        return name in ("saved_model.pb", "model.onnx")
    if find_format(name) is not None:
        return True
    config = entries.get(f"{model}/config.pbtxt")
    if config is None or config.content is None or b"default_model_filename" not in config.content:
        return False
    match = _FILENAME.search(config.content)
    return match is not None and match.group(2).decode("utf-8", "surrogateescape") == name
