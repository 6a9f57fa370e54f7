"""Labelled data sets of the command line: location, recognition of their form, reading with progress."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias, TypeVar, get_args

import click

from tritonforge.cli.options import AwsOptions, option
from tritonforge.cli.terminal import Steps
from tritonforge.errors import ManifestError
from tritonforge.files import describe_error
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
    "DataSet",
    "Form",
    "ImageStore",
    "LocatedError",
    "create_store",
    "describe_problem",
    "form_option",
    "join_labels",
    "locate",
    "open_data_set",
    "read_class_names",
    "with_path",
]

Form: TypeAlias = Literal["augmented", "classic", "annotations", "detector"]

#: The name of each form in a sentence.
FORMS: Final[Mapping[Form, str]] = {
    "augmented": "an augmented manifest",
    "classic": "a classic manifest",
    "annotations": "annotations.json",
    "detector": "documents of the built-in detector",
}

#: The file of a data set in a directory, and the directory of its images.
#: Source: SageMaker developer guide, "How to use the SageMaker AI Object Detection - TensorFlow algorithm".
_ANNOTATIONS: Final = "annotations.json"
_IMAGES: Final = "images"

#: Bytes of a file that are read to recognise its form, and bytes between two updates of the progress bar.
_HEAD: Final = 1 << 20
_MOVE: Final = 1 << 20

_T = TypeVar("_T")

form_option: Final[Callable[[Callable[..., int]], Callable[..., int]]] = option(
    "--from", "form", type=click.Choice(get_args(Form)), help="The form of the data set. Default: recognise it."
)


def create_store(uri: str, aws: AwsOptions) -> ObjectStore:
    """Return the store of an address: this machine, or S3, whose client is imported only then."""
    if not uri.startswith("s3://"):
        return LocalStore()
    from tritonforge.sagemaker.client import Session, Store
    from tritonforge.sagemaker.jobs.job_data import S3ObjectStore

    return S3ObjectStore(Store(Session(**aws.session_arguments)))


def describe_problem(path: str, problem: Problem) -> str:
    """Return a problem as one line: ``path:line: attribute: what``."""
    line = "" if problem.line is None else f":{problem.line}"
    return f"{path}{line}: " + (f"{problem.attribute}: " if problem.attribute else "") + problem.what


class LocatedError(ManifestError):
    """An error whose message names its file: ``path:line: attribute: what``."""


def locate(path: str, error: ManifestError, hint: str = "") -> LocatedError:
    """Return the error with its file in the message; one that has it stays as it is."""
    if isinstance(error, LocatedError):
        return error
    located = LocatedError(describe_problem(path, Problem(error.line, error.attribute, error.what)) + hint)
    located.line, located.attribute = error.line, error.attribute
    return located


def with_path(path: str, items: Iterable[_T]) -> Iterator[_T]:
    """Yield the items; an error names the file."""
    try:
        yield from items
    except ManifestError as error:
        raise locate(path, error) from error


@dataclass(frozen=True, slots=True)
class DataSet:
    """A labelled data set: its address, its form, its store, and its size in bytes if it is one file."""

    path: str
    form: Form
    store: ObjectStore
    size: int | None = None

    def chunks(self, progress: Steps | None = None) -> Iterator[Buffer]:
        """Yield the bytes of the file and show progress."""
        done = reported = 0
        try:
            for chunk in self.store.open(self.path):
                yield chunk
                done += len(chunk)
                if progress is not None and done - reported >= _MOVE:
                    progress.show_bytes(done, self.size)
                    reported = done
        except StoreError as error:
            raise LocatedError(str(error)) from error

    def read(self) -> bytes:
        """Return the bytes of the file."""
        return b"".join(self.chunks())

    @property
    def image_directory(self) -> str:
        """The default directory of the images: images/ beside annotations.json, if it exists; otherwise empty.

        For a file of this machine it is relative to the file.
        """
        if self.form != "annotations":
            return ""
        if self.path.startswith("s3://"):
            return f"{self.path.rpartition('/')[0]}/{_IMAGES}"
        return _IMAGES if Path(self.path).with_name(_IMAGES).is_dir() else ""

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """Yield the address and the bytes of each document of the built-in detector."""
        try:
            for item in self.store.list(self.path):
                if item.uri.endswith(".json"):
                    yield item.uri, b"".join(self.store.open(item.uri))
        except StoreError as error:
            raise LocatedError(str(error)) from error

    def images(self, folder: str, names: Mapping[int, str]) -> Iterator[LabelledImage]:
        """Yield the labelled images of annotations.json or of documents; ``names`` are defaults for class names."""
        if self.form == "annotations":
            yield from with_path(self.path, read_annotations(self.read(), folder=folder, names=names))
            return
        count = 0
        for path, document in self.documents():
            for image in with_path(path, (read_detector_document(content, folder=folder) for content in (document,))):
                yield LabelledImage(image.source, image.boxes, {**names, **image.names})
                count += 1
        if not count:
            raise LocatedError(f"{self.path}: no .json document in it")

    def lines(
        self, progress: Steps | None = None, *, folder: str = "", names: Mapping[int, str], label: str = DEFAULT_LABEL
    ) -> Iterator[Line]:
        """Yield the data set as lines of an augmented manifest, whatever its form."""
        if self.form == "augmented":
            yield from with_path(self.path, read_lines(self.chunks(progress)))
        elif self.form == "classic":
            uris = with_path(self.path, read_classic_uris(self.chunks(progress)))
            yield from (Line(number, {SOURCE_ATTRIBUTE: uri}) for number, uri in enumerate(uris, 1))
        else:
            for number, image in enumerate(self.images(folder, names), 1):
                yield build_line(image, number, label=label)

    def texts(self, folder: str, names: Mapping[int, str]) -> Iterator[tuple[int, bytes]]:
        """Yield the number and the text of each line, not parsed; another form is converted to lines."""
        if self.form == "augmented":
            yield from with_path(self.path, split_lines(self.chunks()))
            return
        for line in self.lines(folder=folder if self.form != "classic" else "", names=names):
            yield line.number, line.to_bytes()


def open_data_set(path: str, form: Form | None, aws: AwsOptions) -> DataSet:
    """Return the data set at a path or address; if ``form`` is None it is recognised from the content.

    A directory with an annotations.json is the data set of that file. Raises ManifestError if it does not exist.
    """
    if not path:
        raise click.UsageError("DATASET is empty (expected a file, a directory or an s3:// address)")
    store = create_store(path, aws)
    if path.endswith("/") or (not path.startswith("s3://") and Path(path).is_dir()):
        inside = f"{path.rstrip('/')}/{_ANNOTATIONS}"
        size = _get_size(inside, store) if form in (None, "annotations") else None
        if size is not None and (form or _recognize(inside, store)) == "annotations":
            return DataSet(inside, "annotations", store, size)
        if form not in (None, "detector"):
            raise click.UsageError(f"{path}: expected a file for {FORMS[form]}, got a directory")
        return DataSet(path, "detector", store)
    size = _get_size(path, store)
    if size is None:
        raise LocatedError(f"{path}: file not found")
    return DataSet(path, form or _recognize(path, store), store, size)


class ImageStore:
    """The images of a data set: copies in a directory, files of this machine, or objects of S3."""

    def __init__(self, path: str, copies: str, aws: AwsOptions) -> None:
        self._parent = "" if path.startswith("s3://") else str(Path(path).parent)
        if copies and not copies.startswith("s3://") and not Path(copies).is_dir():
            raise click.UsageError(f"--images {copies}: directory not found")
        self._copies = copies
        self._local = create_store("", aws)
        self._aws = aws
        self._s3: ObjectStore | None = None

    def open(self, uri: str) -> tuple[ObjectStore, str]:
        """Return the store of an image and its address there."""
        if self._copies and not self._copies.startswith("s3://"):
            parts = uri.partition("://")[2].split("/") if "://" in uri else uri.split("/")
            for start in range(len(parts)):
                copy = Path(self._copies, *parts[start:])
                if copy.is_file():
                    return self._local, str(copy)
            raise StoreError(f"{self._copies} has no copy of {uri}")
        if not uri.startswith("s3://"):
            beside = Path(self._parent, uri)  # as a training job of this machine resolves it
            return self._local, str(beside) if beside.is_file() or not Path(uri).is_file() else uri
        self._s3 = self._s3 or create_store(uri, self._aws)
        return self._s3, uri


def read_class_names(path: Path | None) -> dict[int, str]:
    """Return the class names of a file: a JSON object by number, a JSON array, or one name per line from class 0."""
    if path is None:
        return {}
    try:
        text = path.read_bytes()
    except OSError as error:
        raise LocatedError(f"{path}: cannot read: {describe_error(error)}") from error
    if text.lstrip()[:1] not in (b"{", b"["):
        try:
            return dict(enumerate(line.strip() for line in text.decode().splitlines() if line.strip()))
        except UnicodeDecodeError as error:
            raise LocatedError(f"{path}: not UTF-8 at byte {error.start}") from error
    for value in with_path(str(path), (read_json(text, what="the file") for _ in "1")):
        pairs = (
            list(value.items())
            if isinstance(value, dict)
            else list(enumerate(value if isinstance(value, list) else ()))
        )
        if all(str(key).isdecimal() and isinstance(name, str) for key, name in pairs):
            return {int(key): name for key, name in pairs}
    raise LocatedError(f'{path}: expected names of classes, like {{"0": "car"}}, ["car"], or one name per line')


def join_labels(uris: Iterator[str], labels: Path, label: str) -> Iterator[Line]:
    """Yield the objects with the labels of a file, in its order or by their keys."""
    if labels.suffix != ".csv":
        with labels.open("rb") as file:
            yield from build_augmented_lines(uris, with_path(str(labels), _parse_lines(file)), label=label)
        return
    with labels.open(newline="", encoding="utf-8-sig") as text:
        try:
            rows = [row for row in csv.reader(text) if row]
        except (csv.Error, UnicodeDecodeError) as error:
            raise LocatedError(f"{labels}: invalid CSV: {error}") from error
    if all(len(row) == 1 for row in rows):
        yield from build_augmented_lines(uris, [row[0] for row in rows], label=label)
        return
    if not all(len(row) == 2 for row in rows):
        number = next(number for number, row in enumerate(rows, 1) if len(row) != 2)
        raise LocatedError(
            f"{labels}: row {number} has {len(rows[number - 1])} fields; expected key,label, or one label"
        )
    by_key = dict(rows)

    def find_label(uri: str) -> Json:
        parts = uri.split("/")
        for start in range(len(parts)):
            key = "/".join(parts[start:])
            if key in by_key:
                return by_key[key]
        raise LocatedError(f"{labels}: no label for {uri}")

    yield from build_augmented_lines(uris, find_label, label=label)


def _parse_lines(file: BinaryIO) -> Iterator[Json]:
    for number, line in enumerate(file, 1):
        yield read_json(line, number=number)


def _get_size(path: str, store: ObjectStore) -> int | None:
    """Return the size of a file, None if it does not exist."""
    try:
        item = store.find(path)
    except StoreError as error:
        raise LocatedError(str(error)) from error
    return None if item is None else item.size


def _recognize(path: str, store: ObjectStore) -> Form:
    """Return the form of a file by its first bytes, and by its name if these do not decide."""
    head = b""
    try:
        for chunk in store.open(path):
            head += chunk
            if len(head) >= _HEAD:
                break
    except StoreError as error:
        raise LocatedError(str(error)) from error
    if b"\0" in head:
        raise LocatedError(f"{path}: expected text in UTF-8, got binary data (an image, an archive or UTF-16?)")
    start = head.lstrip()
    if start.startswith(b"["):
        return "classic"
    first = _parse_object(start.partition(b"\n")[0])
    if first is None and path.endswith(".json"):
        first = _parse_object(start) or {"images": [], "annotations": []}  # longer than the bytes that were read
    if first is None:
        return "augmented"
    if {"file", "image_size", "annotations"} <= set(first):
        return "detector"
    return "annotations" if {"images", "annotations"} <= set(first) else "augmented"


def _parse_object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
