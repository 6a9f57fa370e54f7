"""Read the names in the archives of Python environments; `tritonforge.validation.tree_reader` reads everything else.

Reading is bounded for one archive and for all of them, and follows no link. Nothing is extracted.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from tritonforge.files import open_descriptor
from tritonforge.validation.tree import Entry, Tree

__all__ = ["add_environments"]

#: Bytes of all archives that are read; a few seconds.
MAXIMAL_ARCHIVES: Final = 512 * 1024 * 1024
_BLOCK: Final = 1024 * 1024
_KEY: Final = b"EXECUTION_ENV_PATH"
#: A path in the model's directory, without escapes.
_PATH: Final = re.compile(rb"""(["'])\$\$TRITON_MODEL_DIRECTORY(/[^"'\\\n]{1,4096})\1""")


def add_environments(entries: Mapping[str, Entry], file_of: Callable[[str], str]) -> Mapping[str, Entry]:
    """Return the entries with what is in the archives that configurations name as Python environments.

    ``file_of`` returns the file on disk of a path. What is beyond `MAXIMAL_ARCHIVES` bytes in all is not read.
    """
    configs = {
        path: entry.content
        for path, entry in entries.items()
        if path.endswith(".pbtxt") and entry.content is not None and _KEY in entry.content
    }
    if not configs:
        return entries
    from tritonforge.model_files.python_environment import read_environment  # few repositories have one

    tree, paths = Tree(entries), dict[str, None]()
    for path, content in configs.items():
        for match in _PATH.finditer(content):
            named = tree.real(f"{path.partition('/')[0]}{match.group(2).decode('utf-8', 'surrogateescape')}")
            if named and entries[named].kind == "file":
                paths[named] = None
    result, left = dict(entries), MAXIMAL_ARCHIVES
    for path in paths:
        size = entries[path].size
        try:
            environment = read_environment(_read_blocks(file_of(path), min(size, left)), is_whole=size <= left)
        except OSError:
            continue
        left = max(0, left - size)
        result[path] = replace(entries[path], environment=environment)
    return result


def _read_blocks(path: str, size: int) -> Iterator[bytes]:
    """Yield the first ``size`` bytes of a regular file; raise OSError where it cannot be read."""
    descriptor = open_descriptor(path, follow_links=False)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        while size > 0 and (block := file.read(min(size, _BLOCK))):
            size -= len(block)
            yield block
