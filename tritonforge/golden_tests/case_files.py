"""The files of golden tests: cases, the inputs beside them, recordings, and which cases failed last.

A directory of cases has ``NAME.json`` for each case and ``recorded/NAME.json`` for its recording. Paths in a case stay
below the directory; files are read up to a size.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge.errors import CaseError, EncodeError
from tritonforge.files import cache_directory, describe_error, write_file
from tritonforge.golden_tests.cases import Case, Source, parse_case, parse_json
from tritonforge.golden_tests.recordings import Recording, parse_recording, render_recording
from tritonforge.inference.model_inputs import convert_array, convert_bytes, convert_json, convert_text
from tritonforge.inference.transports import TensorMetadata
from tritonforge.inference.wire.requests import encode_images

__all__ = ["CaseDirectory", "convert_file"]

Array = npt.NDArray[Any]

_RECORDED: Final = "recorded"

#: Bytes of a case, of a recording and of an input, and cases of a directory.
_LARGEST_CASE: Final = 2**20
_LARGEST_RECORDING: Final = 64 * 2**20
_LARGEST_INPUT: Final = 256 * 2**20
_MOST_CASES: Final = 10_000


class CaseDirectory:
    """A directory of cases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def list_names(self) -> list[str]:
        """Return the names of the cases, sorted. Raises CaseError for a directory that does not exist."""
        try:
            names = sorted(path.stem for path in self.folder.iterdir() if path.suffix == ".json" and path.is_file())
        except OSError as error:
            raise CaseError(
                f"{self.folder}: cannot read the directory of cases: {describe_error(error)}. Write a case there, "
                "NAME.json, or name another directory with --cases"
            ) from error
        if len(names) > _MOST_CASES:
            raise CaseError(f"{self.folder}: {len(names)} cases (expected at most {_MOST_CASES})")
        return names

    def read_case(self, name: str) -> Case:
        """Return a case. Raises CaseError."""
        path = self.folder / f"{name}.json"
        return parse_case(name, _decode(path, self._read(path, _LARGEST_CASE)), where=str(path))

    def find_recording(self, name: str) -> Path:
        """Return the path of a recording, whether it exists or not."""
        return self.folder / _RECORDED / f"{name}.json"

    def read_recording(self, name: str) -> Recording | None:
        """Return the recording of a case, None if it does not exist. Raises CaseError."""
        path = self.find_recording(name)
        if not path.is_file():
            return None
        return parse_recording(_decode(path, self._read(path, _LARGEST_RECORDING)), where=str(path))

    def write_recording(self, name: str, recording: Recording) -> Path:
        """Write the recording of a case and return its path. Raises CaseError."""
        path = self.find_recording(name)
        try:
            path.parent.mkdir(exist_ok=True)
            write_file(path, render_recording(recording).encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise CaseError(f"{path}: cannot write: {describe_error(error)}") from error
        return path

    def read_tensor(self, source: Source, tensor: TensorMetadata) -> Array:
        """Return the value of an input or of an expected output, in the tensor's datatype and shape.

        ``.npy`` files are arrays, ``.json`` files are JSON, ``.txt`` files are text, others are their bytes, as images
        are. Several files are the rows of a batch.

        Raises:
            CaseError: a file cannot be read.
            EncodeError: the value does not fit the tensor.
        """
        if not source.files:
            return convert_json(source.value, tensor)
        paths = [self.folder / name for name in source.files]
        contents = [self._read(path, _LARGEST_INPUT) for path in paths]
        if len(paths) == 1:
            return convert_file(paths[0], contents[0], tensor)
        if not any(path.suffix.lower() in (".npy", ".json", ".txt") for path in paths):
            return encode_images(contents, tensor.name, tensor.datatype, rank=len(tensor.shape))
        row = TensorMetadata(tensor.name, tensor.datatype, (1, *tensor.shape[1:]))
        arrays = [convert_file(path, content, row) for path, content in zip(paths, contents, strict=True)]
        if len({array.shape for array in arrays}) != 1:
            raise EncodeError(f"input {tensor.name!r}: the files have different shapes; a batch has rows of one shape")
        return np.concatenate(arrays)

    def read_failures(self) -> list[str]:
        """Return the names of the cases that failed in the last run; empty without one."""
        try:
            names = parse_json(self._state.read_text(encoding="utf-8"), str(self._state))["failed"]
        except (OSError, ValueError, KeyError, TypeError, CaseError):
            return []
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    def write_failures(self, names: Sequence[str]) -> None:
        """Store the names of the cases that failed; nothing is raised if the cache cannot be written."""
        try:
            self._state.parent.mkdir(parents=True, exist_ok=True)
            write_file(self._state, json.dumps({"failed": list(names)}).encode(), sync=False)
        except OSError:
            return

    @property
    def _state(self) -> Path:
        key = hashlib.sha256(str(self.folder.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return cache_directory() / "golden_tests" / f"{key}.json"

    def _read(self, path: Path, limit: int) -> bytes:
        """Return the content of a file below the directory. Raises CaseError."""
        try:
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise CaseError(f"{path}: the link leads out of the directory of the cases. Copy the file")
            if not path.is_file():
                raise CaseError(f"{path}: file not found")
            with path.open("rb") as file:
                content = file.read(limit + 1)
        except OSError as error:
            raise CaseError(f"{path}: cannot read: {describe_error(error)}") from error
        if len(content) > limit:
            raise CaseError(f"{path}: the file is too large (expected at most {limit // 2**20} MiB)")
        return content


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CaseError(f"{path}: expected UTF-8: {error.reason} at byte {error.start}") from error


def convert_file(path: Path, content: bytes, tensor: TensorMetadata) -> Array:
    """Return the content of a file as the value of a tensor; the end of its name decides what it is.

    Raises:
        CaseError: the content is damaged.
        EncodeError: the value does not fit the tensor.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return convert_array(_load_array(path, content), tensor)
    if suffix == ".json":
        return convert_json(parse_json(_decode(path, content), str(path)), tensor)
    if suffix == ".txt" and tensor.datatype != "BYTES":
        return convert_text(_decode(path, content), tensor)
    return convert_bytes(content, tensor)


def _load_array(path: Path, content: bytes) -> Array:
    """Return the array of a ``.npy`` file. Nothing in it is unpickled. Raises CaseError."""
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        reason = "it contains Python objects" if "allow_pickle" in str(error) else "it is damaged or in another format"
        raise CaseError(
            f"{path}: expected an array in numpy's format, but {reason}; write it with numpy.save"
        ) from error
    if not isinstance(array, np.ndarray):
        raise CaseError(f"{path}: expected one array in numpy's format, got an archive of several")
    return array
