"""Archives of a folder as the tools of SageMaker's users make them, made with `tarfile` alone.

The forms were read in, and compared with what they write: sagemaker 2.257.7 (``sagemaker.utils``: `repack_model`,
`create_tar_file`), sagemaker 3.27.0 (``sagemaker.core.common_utils``, the same two; ``mlops.workflow._utils``), the
guide's ``tar czf``, `shutil.make_archive`, and macOS's bsdtar.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

__all__ = ["BLOCK", "END", "FORMS", "header", "pax"]

BLOCK = tarfile.BLOCKSIZE
#: The end of an archive.
END = bytes(2 * BLOCK)


def header(name: str, content: bytes = b"", *, form: int = tarfile.GNU_FORMAT, **attributes: object) -> bytes:
    """A member with its content; attributes are those of TarInfo."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info.tobuf(form, "utf-8", "surrogateescape") + content + bytes(-len(content) % BLOCK)


def pax(records: bytes) -> bytes:
    """A pax header of these records, as they are."""
    return header("PaxHeaders/x", records, type=tarfile.XHDTYPE)


def _repack(folder: Path) -> bytes:
    """`repack_model` of both SDKs: the folder itself is a member, and its name is empty."""
    return _add_members([(folder, os.path.sep)])


def _create_tar_file(folder: Path) -> bytes:
    """`create_tar_file` of both SDKs, given what lies in the folder; links become what they lead to."""
    return _add_members([(path, path.name) for path in sorted(folder.iterdir())], dereference=True)


def _pack_dot(folder: Path) -> bytes:
    """``tar czf model.tar.gz -C FOLDER .``."""
    return _add_members([(folder, ".")])


def _pack_star(folder: Path) -> bytes:
    """``cd FOLDER; tar czf ../model.tar.gz *``."""
    return _add_members([(path, path.name) for path in sorted(folder.iterdir())])


def _with_dots(folder: Path, form: int = tarfile.GNU_FORMAT) -> bytes:
    """GNU tar's ``./`` before each name, in its format, pax or ustar."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=form) as tar:
        tar.add(folder, arcname="./")
    return stream.getvalue()


def _make_archive(folder: Path) -> bytes:
    """`shutil.make_archive` of Python."""
    written = shutil.make_archive(str(folder.parent / "archived"), "gztar", folder)
    return Path(written).read_bytes()


def _of_macos(folder: Path) -> bytes:
    """Tar of macOS, which is bsdtar: a ``._`` file before each file, and attributes in pax headers."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for path in (folder, *sorted(folder.rglob("*"))):
            name = f"./{path.relative_to(folder)}"
            if path.is_file() and not path.is_symlink():
                double = tarfile.TarInfo(f"{os.path.dirname(name)}/._{path.name}")  # noqa: PTH120 - keeps the ./
                double.size = 4
                tar.addfile(double, io.BytesIO(b"\0\5\x16\7"))
            info = tar.gettarinfo(path, name)
            info.pax_headers = {"LIBARCHIVE.xattr.com.apple.provenance": "AQIA=", "SCHILY.xattr.user": "a\n9 path=b\n"}
            if info.isreg():
                with path.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
    return stream.getvalue()


def _double_directories(folder: Path) -> bytes:
    """Directories twice, as ``tar czf model.tar.gz m m/1`` or a script that adds one model after the other has them."""
    below = [path for path in sorted(folder.rglob("*")) if path.is_dir() and not path.is_symlink()]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for path in below:
            tar.add(path, arcname=path.relative_to(folder), recursive=False)
        tar.add(folder, arcname="/")
    return stream.getvalue()


def _of_v7(folder: Path) -> bytes:
    """Of the oldest tar: directories are files whose names end in ``/``."""
    parts = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            parts.append(header(name, type=tarfile.SYMTYPE, linkname=str(path.readlink())))
        elif path.is_dir():
            parts.append(header(f"{name}/", type=tarfile.AREGTYPE))
        else:
            parts.append(header(name, path.read_bytes(), type=tarfile.AREGTYPE, mode=path.stat().st_mode))
    return gzip.compress(b"".join(parts) + END)


def _add_members(paths: Iterable[tuple[Path, str]], *, dereference: bool = False) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", dereference=dereference) as tar:
        for path, name in paths:
            tar.add(path, arcname=name)
    return stream.getvalue()


#: The archive of a folder, by who makes it.
FORMS: Mapping[str, Callable[[Path], bytes]] = {
    "SDK, repack_model": _repack,
    "SDK, create_tar_file": _create_tar_file,
    "tar -C FOLDER .": _pack_dot,
    "tar *": _pack_star,
    "GNU tar": _with_dots,
    "pax": lambda folder: _with_dots(folder, tarfile.PAX_FORMAT),
    "ustar": lambda folder: _with_dots(folder, tarfile.USTAR_FORMAT),
    "v7": _of_v7,
    "shutil.make_archive": _make_archive,
    "macOS": _of_macos,
    "directories twice": _double_directories,
}
