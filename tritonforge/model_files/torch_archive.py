"""What a file of PyTorch states about itself: TorchScript, an exported program (``.pt2``), or a checkpoint.

All three are ZIP archives of stored members below one directory. Source: caffe2/serialize/versions.h and
inline_container.cc (``version``, ``byteorder``), torch/csrc/jit/serialization (``code/``, ``constants.pkl``),
torch/export/pt2_archive (``archive_format``, ``data/aotinductor``). Nothing is unpickled.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from tritonforge.model_files.source import HeaderTooLargeError, ModelFileError, Source, name_format

if TYPE_CHECKING:
    from zipfile import ZipFile

__all__ = ["TorchArchive", "TorchKind", "read_torch_archive"]

TorchKind: TypeAlias = Literal["torchscript", "pt2", "checkpoint"]

#: Bytes of the ZIP directory that are read: some 40,000 members.
_MAXIMAL_DIRECTORY = 4 * 1024 * 1024
#: Bytes 4 to 7 of TorchScript for mobile devices, which `torch::jit::load` reads too (jit/mobile/file_format.h).
_FLATBUFFER = b"PTMF"
#: `zipfile.ZIP_STORED`.
_STORED = 0
_END_OF_DIRECTORY = b"PK\x05\x06"


@dataclass(frozen=True, slots=True)
class TorchArchive:
    """A PyTorch archive's header.

    ``kind`` is ``torchscript`` for what ``torch.jit.save`` wrote, ``pt2`` for an exported program, ``checkpoint`` for
    what ``torch.save`` wrote: weights without code, which Triton cannot load. ``version`` is the number of the file
    format (of ``pt2`` the archive version), None where the archive states none. ``is_compiled`` says that an exported
    program holds a library of AOTInductor.
    """

    kind: TorchKind
    version: int | None
    byte_order: str = ""
    is_compiled: bool = False


class _File(io.RawIOBase):
    """A source as the file that `zipfile` reads."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size}[whence]
        if start + offset < 0:
            raise ValueError("a member lies before the file")
        self._position = start + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        rest = max(self._source.size - self._position, 0)
        size = rest if size < 0 else min(size, rest)
        data = self._source.read_at(self._position, size) if size else b""
        self._position += size
        return data


def read_torch_archive(source: Source) -> TorchArchive:
    """Read the directory of a PyTorch archive, and the few small members that state versions.

    Raises:
        ModelFileError: the file is not an archive of PyTorch.
        HeaderTooLargeError: its directory has more than 4 MiB.
    """
    import zipfile  # takes 10 ms, and most repositories have no PyTorch model

    if source.size > 8 and source.read_at(4, 4) == _FLATBUFFER:
        return TorchArchive("torchscript", None)
    with name_format("a PyTorch archive"):
        if source.size < 22 or source.read_at(0, 2) != b"PK":
            raise ModelFileError("it is not a ZIP file")
        _check_directory(source)
        try:
            with zipfile.ZipFile(_File(source)) as archive:
                return _read_members(archive)
        except (zipfile.BadZipFile, struct.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
            raise ModelFileError(str(error)) from error


def _check_directory(source: Source) -> None:
    """Refuse a directory that is too large before `zipfile` reads it whole."""
    tail_size = min(source.size, 22 + 65_535)
    tail = source.read_at(source.size - tail_size, tail_size)
    place = tail.rfind(_END_OF_DIRECTORY)
    if place < 0 or len(tail) - place < 22:
        raise ModelFileError("the end of its ZIP directory is missing")
    (size,) = struct.unpack_from("<I", tail, place + 12)
    if size == 0xFFFF_FFFF:  # ZIP64: the size is in the record that the locator before this one points to
        locator = place - 20
        if locator < 0 or tail[locator : locator + 4] != b"PK\x06\x07":
            raise ModelFileError("its ZIP64 directory is missing")
        (offset,) = struct.unpack_from("<Q", tail, locator + 8)
        (size,) = source.unpack("<Q", offset + 40)
    if size > _MAXIMAL_DIRECTORY:
        raise HeaderTooLargeError(f"its ZIP directory has more than {_MAXIMAL_DIRECTORY >> 20} MiB")


def _read_members(archive: ZipFile) -> TorchArchive:
    names = {info.filename.partition("/")[2]: info for info in archive.infolist() if "/" in info.filename}
    names |= {info.filename: info for info in archive.infolist() if "/" not in info.filename}

    def read_text(name: str) -> str:
        info = names.get(name)
        if info is None or info.file_size > 256 or info.compress_type != _STORED:
            return ""
        return archive.read(info).decode("ascii", "replace").strip()

    def read_number(name: str) -> int | None:
        text = read_text(name)
        return int(text) if text.isdecimal() and len(text) < 10 else None

    has_code = any(name.startswith("code/") for name in names)
    if read_text("archive_format") == "pt2" or any(name.startswith("data/aotinductor/") for name in names):
        version = read_number("archive_version")
        return TorchArchive(
            "pt2",
            read_number("version") if version is None else version,
            read_text("byteorder"),
            any(name.startswith("data/aotinductor/") for name in names),
        )
    if "model.json" in names:  # before PyTorch 1.4 (jit/serialization/import_legacy.cpp)
        return TorchArchive("torchscript", read_number("version"))
    if "data.pkl" not in names:
        raise ModelFileError("it has no data.pkl")
    kind: TorchKind = "torchscript" if has_code or "constants.pkl" in names else "checkpoint"
    return TorchArchive(kind, read_number("version"), read_text("byteorder"))
