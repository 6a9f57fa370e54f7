"""Repositories in directories, and archives made byte by byte, for tests of packages."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

LEAF = """\
name: "leaf"
backend: "python"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: 2 }
output { name: "y" data_type: TYPE_FP32 dims: 2 }
"""
ENSEMBLE = """\
name: "all"
platform: "ensemble"
max_batch_size: 4
input { name: "I" data_type: TYPE_FP32 dims: 2 }
output { name: "O" data_type: TYPE_FP32 dims: 2 }
ensemble_scheduling {
  step {
    model_name: "leaf"
    model_version: -1
    input_map { key: "x" value: "I" }
    output_map { key: "y" value: "O" }
  }
}
"""
FILES: dict[str, str | bytes] = {
    "all/1/.gitkeep": "",
    "all/config.pbtxt": ENSEMBLE,
    "leaf/1/model.py": "class TritonPythonModel:\n    def execute(self, requests): ...\n",
    "leaf/config.pbtxt": LEAF,
}

Make = Callable[..., Path]


def lay(folder: Path, files: dict[str, str | bytes]) -> Path:
    """These files in a folder; a name with ``/`` at its end is a directory."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            (folder / path).mkdir(exist_ok=True)
        else:
            (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def member(name: str, content: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member as `tarfile` describes it; attributes are those of TarInfo."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """The bytes of a tar archive with exactly these members."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def pack_members(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> io.BytesIO:
    """A tar archive in gzip, as a stream that is not seekable is read: from its beginning."""
    return io.BytesIO(gzip.compress(tar(*members, form=form), 1))


def read_files(folder: Path) -> dict[str, bytes | None]:
    """What lies in a folder by path: contents of files, None for directories."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
