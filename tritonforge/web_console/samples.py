"""What can be sent without a file at hand: golden test cases, photographs beside the repository, generated inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from tritonforge.datatypes import BY_WIRE
from tritonforge.errors import CaseError, EncodeError, TritonForgeError
from tritonforge.golden_tests.case_files import CaseDirectory, convert_file
from tritonforge.golden_tests.cases import Case, parse_json
from tritonforge.inference.model_inputs import convert_json
from tritonforge.inference.transports import ModelMetadata, TensorMetadata
from tritonforge.web_console.png_image import encode_png

__all__ = ["Sample", "SampleLibrary", "convert_upload", "find_image_input"]

Array = npt.NDArray[Any]
Origin = Literal["golden test", "file", "generated"]

_IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_MOST_SAMPLES: Final = 24
_LARGEST_IMAGE: Final = 32 * 2**20
#: Entries of an axis of any length, in a generated input.
_FREE_AXIS: Final = 1
_CARD: Final = (240, 320)
#: The start of a JPEG file and nothing after it: what an interrupted upload leaves.
_CORRUPT_IMAGE: Final = bytes.fromhex("ffd8ffe000104a46494600010100000100010000") + b"interrupted upload"


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of a model; ``number`` is its place in the list, ``has_picture`` whether it is an encoded image."""

    number: int
    name: str
    origin: Origin
    description: str = ""
    has_picture: bool = False


class SampleLibrary:
    """The samples of a repository's models.

    ``folder`` has golden test cases and images; None searches ``tests`` beside the repository and the directory around
    it.
    """

    def __init__(self, repository: Path, folder: Path | None = None) -> None:
        parent = repository.absolute().parent
        self._cases = [CaseDirectory(folder)] if folder is not None else [CaseDirectory(parent / "tests")]
        self._image_folders = [folder] if folder is not None else [parent / "tests", parent, parent / "images"]

    def list_samples(self, metadata: ModelMetadata, *, is_only: bool) -> list[Sample]:
        """Return the samples of a model; ``is_only``: cases without a model are of this one."""
        return [sample for sample, _ in self._collect(metadata, is_only=is_only)]

    def read_inputs(self, number: int, metadata: ModelMetadata, *, is_only: bool) -> dict[str, Array]:
        """Return the inputs of a sample. Raises CaseError and EncodeError."""
        _, content = self._find(number, metadata, is_only=is_only)
        if isinstance(content, tuple):
            folder, case = content
            known = {tensor.name: tensor for tensor in metadata.inputs}
            return {name: folder.read_tensor(source, known[name]) for name, source in case.inputs.items()}
        if isinstance(content, Path):
            return convert_upload(content.name, _read(content), metadata)
        if isinstance(content, bytes):
            return convert_upload("generated", content, metadata)
        assert isinstance(content, dict)
        return content

    def read_picture(self, number: int, metadata: ModelMetadata, *, is_only: bool) -> bytes:
        """Return the encoded image of a sample that has one. Raises CaseError."""
        _, content = self._find(number, metadata, is_only=is_only)
        if isinstance(content, tuple):
            folder, case = content
            return _read(folder.folder / _find_picture(case))
        if isinstance(content, Path):
            return _read(content)
        return content if isinstance(content, bytes) else b""

    def _find(self, number: int, metadata: ModelMetadata, *, is_only: bool) -> tuple[Sample, Any]:
        for sample, content in self._collect(metadata, is_only=is_only):
            if sample.number == number:
                return sample, content
        raise CaseError(f"sample {number}: not found. Load the page again")

    def _collect(self, metadata: ModelMetadata, *, is_only: bool) -> Iterator[tuple[Sample, Any]]:
        """Yield samples with what they consist of: a case, a path, the bytes of an image, or inputs."""
        number = 0
        used: set[str] = set()
        for folder in self._cases:
            for case in _list_cases(folder, metadata, is_only=is_only):
                used |= {Path(name).name for source in case.inputs.values() for name in source.files}
                picture = bool(_find_picture(case))
                yield Sample(number, case.name, "golden test", case.description, picture), (folder, case)
                number += 1
        if image_input := find_image_input(metadata):
            for path in self._list_images():
                if path.name not in used and number < _MOST_SAMPLES:
                    yield Sample(number, path.name, "file", "", True), path
                    number += 1
            yield Sample(number, "test card", "generated", "shapes and colours", True), _draw_card()
            corrupt = f"the start of a JPEG file, for the error of {image_input.name}"
            yield Sample(number + 1, "corrupt image", "generated", corrupt), _CORRUPT_IMAGE
        else:
            yield (
                Sample(number, "generated inputs", "generated", "values by datatype and shape"),
                {tensor.name: _generate(tensor) for tensor in metadata.inputs},
            )

    def _list_images(self) -> Iterator[Path]:
        for folder in self._image_folders:
            try:
                paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES)
            except OSError:
                continue
            yield from (path for path in paths if path.is_file() and path.stat().st_size <= _LARGEST_IMAGE)


def find_image_input(metadata: ModelMetadata) -> TensorMetadata | None:
    """Return the only input of a model if it takes the bytes of a file: UINT8 of any length, or one text or file."""
    if len(metadata.inputs) != 1:
        return None
    (tensor,) = metadata.inputs
    is_bytes = tensor.datatype == "UINT8" and tensor.shape[-1:] == (-1,) and len(tensor.shape) <= 2
    is_named = tensor.datatype == "BYTES" and any(word in tensor.name.lower() for word in ("image", "jpeg", "encoded"))
    return tensor if is_bytes or is_named else None


def convert_upload(name: str, content: bytes, metadata: ModelMetadata) -> dict[str, Array]:
    """Return the inputs of a model from a file: its only input, or all of them from a JSON object by name.

    Raises:
        CaseError: the content is damaged, or the model has several inputs and the file has not all of them.
        EncodeError: a value does not fit.
    """
    if not content:
        raise CaseError(f"{name}: the file is empty")
    if len(metadata.inputs) == 1:
        (tensor,) = metadata.inputs
        return {tensor.name: convert_file(Path(name), content, tensor)}
    known = {tensor.name: tensor for tensor in metadata.inputs}
    expected = f"a JSON object with the inputs {', '.join(known)}"
    try:
        document = parse_json(content.decode(), name)
    except UnicodeDecodeError as error:
        raise CaseError(f"{name}: {metadata.name} has {len(known)} inputs (expected {expected})") from error
    if not isinstance(document, dict) or not document.keys() <= known.keys():
        raise CaseError(f"{name}: {metadata.name} has {len(known)} inputs (expected {expected})")
    return {input_name: convert_json(value, known[input_name]) for input_name, value in document.items()}


def _list_cases(folder: CaseDirectory, metadata: ModelMetadata, *, is_only: bool) -> Iterator[Case]:
    names = {tensor.name for tensor in metadata.inputs}
    try:
        listed = folder.list_names()[:_MOST_SAMPLES]
    except CaseError:
        return
    for name in listed:
        try:
            case = folder.read_case(name)
        except TritonForgeError:  # `tritonforge test` reports what is wrong with it
            continue
        is_own = case.model == metadata.name or (case.model is None and is_only)
        if is_own and case.inputs and case.inputs.keys() <= names:
            yield case


def _find_picture(case: Case) -> str:
    """Return the file of the first image of a case; "" without one."""
    files: Mapping[str, None] = {file: None for source in case.inputs.values() for file in source.files}
    return next((file for file in files if Path(file).suffix.lower() in _IMAGE_SUFFIXES), "")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CaseError(f"{path}: cannot read: {error.strerror}") from error


def _generate(tensor: TensorMetadata) -> Array:
    """Return an input of a datatype and shape: random numbers from 0 to 1, numbers from 1 on, or a word."""
    shape = tuple(_FREE_AXIS if length < 0 else length for length in tensor.shape)
    if tensor.datatype == "BYTES":
        return np.full(shape, b"tritonforge", dtype=object)
    if tensor.datatype not in BY_WIRE:
        raise EncodeError(f"input {tensor.name!r}: {tensor.datatype!r} is not a KServe datatype")
    row = BY_WIRE[tensor.datatype]
    if row.kind == "float":
        return np.random.default_rng(0).random(shape).astype(row.dtype)
    return (np.arange(1, math.prod(shape) + 1) % (2 if row.kind == "boolean" else 10)).astype(row.dtype).reshape(shape)


def _draw_card() -> bytes:
    """Return a test card as PNG: colour fields that change from left to right, with a circle and stripes in them."""
    height, width = _CARD
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    card = np.stack([x / width * 255, y / height * 255, 255 - (x + y) / (width + height) * 255], axis=2)
    radius = np.hypot(x - width * 0.36, y - height / 2)
    card[radius < height * 0.34] = (250, 204, 21)
    card[(radius < height * 0.34) & (radius > height * 0.28)] = (30, 41, 59)
    stripes = (x > width * 0.68) & (x < width * 0.92) & (y > height * 0.2) & (y < height * 0.8)
    card[stripes] = np.where(((x + y) // 12 % 2)[stripes][:, None] > 0, (248, 250, 252), (15, 118, 110))
    return encode_png(card.astype(np.uint8))
