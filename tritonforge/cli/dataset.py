"""Labelled data sets as the command line names them: found, recognised, read with progress, and written whole."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias, TypeVar, get_args

import click

from tritonforge.cli.terminal import Steps
from tritonforge.errors import ManifestError
from tritonforge.records import Buffer
from tritonforge.training.manifest import (
    Json,
    Line,
    Problem,
    build_augmented_lines,
    build_line,
    read_annotations,
    read_classic_uris,
    read_detector_document,
    read_lines,
    split_lines,
)
from tritonforge.training.manifest.labels import DEFAULT_LABEL, SOURCE_ATTRIBUTE, LabelledImage
from tritonforge.training.manifest.lines import read_json
from tritonforge.transform.object_store import LocalStore, ObjectStore, StoreError

__all__ = [
    "FORMS",
    "Dataset",
    "Form",
    "LocatedError",
    "Places",
    "class_names_of",
    "data_set",
    "form_flag",
    "joined",
    "located",
    "place_for",
    "plural",
    "report_flag",
    "where",
    "within",
]

Form: TypeAlias = Literal["augmented", "classic", "annotations", "detector"]

#: What each form is called in a sentence.
FORMS: Final[Mapping[Form, str]] = {
    "augmented": "an augmented manifest",
    "classic": "a classic manifest",
    "annotations": "annotations.json",
    "detector": "documents of the built-in detector",
}

#: The file of a data set in a folder, and the folder of its images.
#: Source: SageMaker developer guide, "How to use the SageMaker AI Object Detection - TensorFlow algorithm".
_ANNOTATIONS: Final = "annotations.json"
_IMAGES: Final = "images"

#: Bytes of a file by which it is recognised, and between two moves of the bar.
_HEAD: Final = 1 << 20
_MOVE: Final = 1 << 20

_T = TypeVar("_T")


#: The flags that every subcommand has.
form_flag = click.option(
    "--from", "form", type=click.Choice(get_args(Form)), help="What the file is; default: what it looks like."
)
report_flag = click.option(
    "--format", "report", type=click.Choice(["text", "json"]), default="text", help="How to report."
)


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun, as people read it."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def place_for(uri: str, flags: Mapping[str, Any]) -> ObjectStore:
    """Where an address is: this machine, or S3, whose client is loaded then only."""
    if not uri.startswith("s3://"):
        return LocalStore()
    from tritonforge.cli import fleet

    return fleet.objects(flags)


def where(path: str, problem: Problem) -> str:
    """A problem as one line: ``path:line: attribute: what``."""
    line = "" if problem.line is None else f":{problem.line}"
    return f"{path}{line}: " + (f"{problem.attribute}: " if problem.attribute else "") + problem.what


class LocatedError(ManifestError):
    """An error that names its file already: ``path:line: attribute: what``."""


def located(path: str, error: ManifestError, hint: str = "") -> LocatedError:
    """The error with the file that it is about, which it may name already."""
    if isinstance(error, LocatedError):
        return error
    told = LocatedError(where(path, Problem(error.line, error.attribute, error.what)) + hint)
    told.line, told.attribute = error.line, error.attribute
    return told


def within(path: str, items: Iterable[_T]) -> Iterator[_T]:
    """The items, with errors that name the file."""
    try:
        yield from items
    except ManifestError as error:
        raise located(path, error) from error


@dataclass(frozen=True, slots=True)
class Dataset:
    """A labelled data set: where it is, its form, and its size in bytes where it is one file."""

    path: str
    form: Form
    place: ObjectStore
    size: int | None = None

    def chunks(self, progress: Steps | None = None) -> Iterator[Buffer]:
        """The bytes of the file, with a bar of how far they are."""
        done = told = 0
        try:
            for chunk in self.place.open(self.path):
                yield chunk
                done += len(chunk)
                if progress is not None and done - told >= _MOVE:
                    progress.moved(done, self.size)
                    told = done
        except StoreError as error:
            raise LocatedError(str(error)) from error

    def whole(self) -> bytes:
        """The bytes of a document, which is held whole."""
        return b"".join(self.chunks())

    def pictures(self) -> str:
        """Where the images lie when nobody says it: images/ beside annotations.json, where there is such a folder.

        For a file of this machine this is relative to it; empty where names are addresses, or images lie beside.
        """
        if self.form != "annotations":
            return ""
        if self.path.startswith("s3://"):
            return f"{self.path.rpartition('/')[0]}/{_IMAGES}"
        return _IMAGES if Path(self.path).with_name(_IMAGES).is_dir() else ""

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """The built-in detector's documents: the address of each, and its bytes."""
        try:
            for found in self.place.list(self.path):
                if found.uri.endswith(".json"):
                    yield found.uri, b"".join(self.place.open(found.uri))
        except StoreError as error:
            raise LocatedError(str(error)) from error

    def images(self, folder: str, names: Mapping[int, str]) -> Iterator[LabelledImage]:
        """The labelled images of annotations.json or of documents, below a folder; names of classes fill gaps."""
        if self.form == "annotations":
            yield from within(self.path, read_annotations(self.whole(), folder=folder, names=names))
            return
        count = 0
        for path, document in self.documents():
            for image in within(path, (read_detector_document(each, folder=folder) for each in (document,))):
                yield LabelledImage(image.source, image.boxes, {**names, **image.names})
                count += 1
        if not count:
            raise LocatedError(f"{self.path}: there is no .json document in it")

    def lines(
        self, progress: Steps | None = None, *, folder: str = "", names: Mapping[int, str], label: str = DEFAULT_LABEL
    ) -> Iterator[Line]:
        """What the data set says as lines of an augmented manifest, whatever its form."""
        if self.form == "augmented":
            yield from within(self.path, read_lines(self.chunks(progress)))
        elif self.form == "classic":
            uris = within(self.path, read_classic_uris(self.chunks(progress)))
            yield from (Line(number, {SOURCE_ATTRIBUTE: uri}) for number, uri in enumerate(uris, 1))
        else:
            for number, image in enumerate(self.images(folder, names), 1):
                yield build_line(image, number, label=label)

    def texts(self, folder: str, names: Mapping[int, str]) -> Iterator[tuple[int, bytes]]:
        """The number and the text of each line, not parsed; what has another form is written as lines."""
        if self.form == "augmented":
            yield from within(self.path, split_lines(self.chunks()))
            return
        for line in self.lines(folder=folder if self.form != "classic" else "", names=names):
            yield line.number, line.to_bytes()


def data_set(path: str, form: Form | None, flags: Mapping[str, Any]) -> Dataset:
    """The data set at a path or address; its form follows from what it holds, where nothing is said.

    A folder with an annotations.json is the data set of that file. Raises ManifestError where there is none.
    """
    if not path:
        raise click.UsageError("DATASET is empty; name a file, a folder or an s3:// address")
    place = place_for(path, flags)
    if path.endswith("/") or (not path.startswith("s3://") and Path(path).is_dir()):
        inside = f"{path.rstrip('/')}/{_ANNOTATIONS}"
        size = _size(inside, place) if form in (None, "annotations") else None
        if size is not None and (form or _form(inside, place)) == "annotations":
            return Dataset(inside, "annotations", place, size)
        if form not in (None, "detector"):
            raise click.UsageError(f"{path} is a folder, and {FORMS[form]} is a file")
        return Dataset(path, "detector", place)
    size = _size(path, place)
    if size is None:
        raise LocatedError(f"{path}: there is no such file")
    return Dataset(path, form or _form(path, place), place, size)


class Places:
    """Where pictures are: a folder here with copies of them, this machine, or S3."""

    def __init__(self, path: str, copies: str, flags: Mapping[str, Any]) -> None:
        self._beside = "" if path.startswith("s3://") else str(Path(path).parent)
        if copies and not copies.startswith("s3://") and not Path(copies).is_dir():
            raise click.UsageError(f"--images {copies}: there is no such folder")
        self._copies = copies
        self._local = place_for("", flags)
        self._flags = flags
        self._s3: ObjectStore | None = None

    def open(self, uri: str) -> tuple[ObjectStore, str]:
        """The place of a picture, and its address there."""
        if self._copies and not self._copies.startswith("s3://"):
            parts = uri.partition("://")[2].split("/") if "://" in uri else uri.split("/")
            for start in range(len(parts)):
                copy = Path(self._copies, *parts[start:])
                if copy.is_file():
                    return self._local, str(copy)
            raise StoreError(f"{self._copies} has no copy of {uri}")
        if not uri.startswith("s3://"):
            beside = Path(self._beside, uri)  # as a training job of this machine finds it
            return self._local, str(beside) if beside.is_file() or not Path(uri).is_file() else uri
        self._s3 = self._s3 or place_for(uri, self._flags)
        return self._s3, uri


def class_names_of(path: Path | None) -> dict[int, str]:
    """The names of classes in a file: a JSON object by number, a JSON array, or one name a line from class 0 on."""
    if path is None:
        return {}
    try:
        text = path.read_bytes()
    except OSError as error:
        raise LocatedError(f"{path}: it cannot be read: {error.strerror or error}") from error
    if text.lstrip()[:1] not in (b"{", b"["):
        try:
            return dict(enumerate(line.strip() for line in text.decode().splitlines() if line.strip()))
        except UnicodeDecodeError as error:
            raise LocatedError(f"{path}: it is not UTF-8 at byte {error.start}") from error
    for value in within(str(path), (read_json(text, what="the file") for _ in "1")):
        pairs = (
            list(value.items())
            if isinstance(value, dict)
            else list(enumerate(value if isinstance(value, list) else ()))
        )
        if all(str(key).isdecimal() and isinstance(name, str) for key, name in pairs):
            return {int(key): name for key, name in pairs}
    raise LocatedError(f'{path}: expected names of classes, like {{"0": "car"}}, ["car"], or one name a line')


def joined(uris: Iterator[str], labels: Path, label: str) -> Iterator[Line]:
    """The objects with the labels of a file, by its order or by their names."""
    if labels.suffix != ".csv":
        with labels.open("rb") as file:
            yield from build_augmented_lines(uris, within(str(labels), _values(file)), label=label)
        return
    with labels.open(newline="", encoding="utf-8-sig") as text:
        try:
            rows = [row for row in csv.reader(text) if row]
        except (csv.Error, UnicodeDecodeError) as error:
            raise LocatedError(f"{labels} is no CSV: {error}") from error
    if all(len(row) == 1 for row in rows):
        yield from build_augmented_lines(uris, [row[0] for row in rows], label=label)
        return
    if not all(len(row) == 2 for row in rows):
        number = next(number for number, row in enumerate(rows, 1) if len(row) != 2)
        raise LocatedError(
            f"{labels}: row {number} has {len(rows[number - 1])} fields; expected key,label, or one label"
        )
    by_key = dict(rows)

    def named(uri: str) -> Json:
        parts = uri.split("/")
        for start in range(len(parts)):
            key = "/".join(parts[start:])
            if key in by_key:
                return by_key[key]
        raise LocatedError(f"{labels} has no label for {uri}")

    yield from build_augmented_lines(uris, named, label=label)


def _values(file: BinaryIO) -> Iterator[Json]:
    for number, line in enumerate(file, 1):
        yield read_json(line, number=number)


def _size(path: str, place: ObjectStore) -> int | None:
    """The bytes of a file, None where there is none."""
    try:
        found = place.find(path)
    except StoreError as error:
        raise LocatedError(str(error)) from error
    return None if found is None else found.size


def _form(path: str, place: ObjectStore) -> Form:
    """What a file holds, by how it begins, and by its name where that is not enough."""
    head = b""
    try:
        for chunk in place.open(path):
            head += chunk
            if len(head) >= _HEAD:
                break
    except StoreError as error:
        raise LocatedError(str(error)) from error
    if b"\0" in head:
        raise LocatedError(
            f"{path}: it is no text in UTF-8, as manifests and annotations are (a picture? an archive? UTF-16?)"
        )
    start = head.lstrip()
    if start.startswith(b"["):
        return "classic"
    first = _object(start.partition(b"\n")[0])
    if first is None and path.endswith(".json"):
        first = _object(start) or {"images": [], "annotations": []}  # one that is longer than what was looked at
    if first is None:
        return "augmented"
    if {"file", "image_size", "annotations"} <= set(first):
        return "detector"
    return "annotations" if {"images", "annotations"} <= set(first) else "augmented"


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
