"""The archive of a Python environment, as conda-pack makes it: its Python and its packages. No I/O.

The python backend extracts tar archives, plain or compressed by gzip, and nothing else (python_backend pb_env.cc
ExtractTarFile). Only headers are kept; the reading is bounded by the caller's blocks and by `MAXIMAL_UNPACKED`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["MAXIMAL_UNPACKED", "PythonEnvironment", "describe_environment", "read_environment"]

#: Bytes after decompression that are read of one archive; a few seconds.
MAXIMAL_UNPACKED: Final = 1024 * 1024 * 1024
_HEADER: Final = 512
_GZIP: Final = b"\x1f\x8b"
#: The first bytes of formats that the backend does not read: bzip2, xz, Zstandard, zip, 7z.
_OTHER_FORMATS: Final = (b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"7z\xbc\xaf\x27\x1c")
_CHUNK: Final = 1024 * 1024
_LONGEST_NAME: Final = 64 * 1024
_MAXIMAL_PACKAGES: Final = 20_000
_LIBRARY: Final = re.compile(r"lib/python(\d)\.(\d{1,2})(?:$|/(?:site-packages/([^/]+))?)")
_PAX_PATH: Final = re.compile(rb"(?:^|\n)\d+ path=([^\n]*)\n")


@dataclass(frozen=True, slots=True)
class PythonEnvironment:
    """What the names in an environment state.

    ``versions`` are those of the Pythons with a library directory, ``packages`` the top-level modules of their
    site-packages. ``is_complete`` is False where not all names were read, ``has_other_paths`` True where a ``.pth``
    file may add directories. ``problem`` is why the backend cannot extract the archive, "" where it can.
    """

    has_activate: bool = False
    versions: frozenset[tuple[int, int]] = frozenset()
    packages: frozenset[str] = frozenset()
    has_other_paths: bool = False
    is_complete: bool = True
    problem: str = ""


class _ArchiveError(Exception):
    """The archive is damaged, or of another format."""


class _LimitError(Exception):
    """More of the archive is not read."""


def describe_environment(names: Iterable[str], *, is_complete: bool = True, problem: str = "") -> PythonEnvironment:
    """Return what the names in an environment state; paths are relative to it."""
    has_activate = has_other_paths = False
    versions, packages = set[tuple[int, int]](), set[str]()
    for name in names:
        path = name.removeprefix("./").rstrip("/")
        has_activate |= path == "bin/activate"
        match = _LIBRARY.match(path)
        if match is None:
            continue
        versions.add((int(match[1]), int(match[2])))
        package = match[3]
        if package is not None and len(packages) < _MAXIMAL_PACKAGES:
            packages.add(package.partition(".")[0])
            has_other_paths |= package.endswith(".pth") and package != "distutils-precedence.pth"
    return PythonEnvironment(
        has_activate,
        frozenset(versions),
        frozenset(packages),
        has_other_paths,
        is_complete and len(packages) < _MAXIMAL_PACKAGES,
        problem,
    )


def read_environment(blocks: Iterable[bytes], *, is_whole: bool = True) -> PythonEnvironment:
    """Return what an archive states; ``blocks`` are its bytes, ``is_whole`` is False where they end before the file."""
    names: list[str] = []
    try:
        for name in _list_names(_unpack(iter(blocks), is_whole=is_whole)):
            if _LIBRARY.match(name.removeprefix("./")) or name.removeprefix("./") == "bin/activate":
                names.append(_shorten(name.removeprefix("./")))
            if len(names) > 10 * _MAXIMAL_PACKAGES:
                names = list(dict.fromkeys(names))
                if len(names) > 5 * _MAXIMAL_PACKAGES:
                    raise _LimitError
    except _LimitError:
        return describe_environment(names, is_complete=False)
    except _ArchiveError as error:
        if not is_whole:
            return describe_environment(names, is_complete=False)
        return describe_environment(names, is_complete=False, problem=str(error))
    return describe_environment(names)


def _shorten(name: str) -> str:
    """Return a name up to the package that it is in: packages have many files."""
    match = _LIBRARY.match(name)
    return match[0] if match is not None else name


def _unpack(blocks: Iterator[bytes], *, is_whole: bool) -> Iterator[bytes]:
    """Yield the bytes of the tar archive."""
    first = next(blocks, b"")
    if first.startswith(_OTHER_FORMATS):
        raise _ArchiveError("it is not a tar archive, plain or compressed by gzip")
    if not first.startswith(_GZIP):
        yield first
        yield from blocks
        return
    stream = zlib.decompressobj(wbits=31)
    pending, total = first, 0
    while True:
        try:
            data = stream.decompress(pending, _CHUNK)
        except zlib.error as error:
            raise _ArchiveError("its gzip stream is damaged") from error
        pending = stream.unconsumed_tail
        total += len(data)
        if data:
            yield data
        if total > MAXIMAL_UNPACKED:
            raise _LimitError
        if stream.eof:
            return
        if not pending:
            pending = next(blocks, b"")
            if not pending and not data:
                if is_whole:
                    raise _ArchiveError("its gzip stream ends too early")
                raise _LimitError


def _list_names(data: Iterator[bytes]) -> Iterator[str]:
    """Yield the names of a tar archive's members."""
    buffer = bytearray()

    def read(size: int) -> bytes:
        while len(buffer) < size:
            block = next(data, b"")
            if not block:
                return b""
            buffer.extend(block)
        taken = bytes(buffer[:size])
        del buffer[:size]
        return taken

    def skip(size: int) -> None:
        while size > len(buffer):
            size -= len(buffer)
            buffer.clear()
            block = next(data, b"")
            if not block:
                raise _ArchiveError("the archive ends within a member")
            buffer.extend(block)
        del buffer[:size]

    long_name = ""
    is_first = True
    while True:
        header = read(_HEADER)
        if not header or not header.strip(b"\0"):
            return
        if not _is_header(header):
            raise _ArchiveError("it is not a tar archive" if is_first else "a header of the archive is damaged")
        is_first = False
        size = _read_size(header)
        padded = -(-size // _HEADER) * _HEADER
        kind = header[156:157]
        if kind in (b"L", b"x") and size <= _LONGEST_NAME:
            content = read(padded)[:size]
            path = _PAX_PATH.search(content) if kind == b"x" else None
            text = content.rstrip(b"\0") if kind == b"L" else path[1] if path is not None else b""
            long_name = text.decode("utf-8", "replace") or long_name
            continue
        if kind not in (b"L", b"x", b"g", b"K"):
            yield long_name or _read_name(header)
            long_name = ""
        skip(padded if kind not in (b"1", b"2", b"3", b"4", b"5", b"6") else 0)


def _is_header(header: bytes) -> bool:
    """Return True if the sum in a header is that of its bytes."""
    digits = header[148:156].strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        return False
    return int(digits, 8) == sum(header[:148]) + sum(header[156:]) + 8 * 0x20


def _read_size(header: bytes) -> int:
    field = header[124:136]
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise _ArchiveError("a header of the archive is damaged")
    return int(digits, 8) if digits else 0


def _read_name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "replace")
