"""Checks of manifests: everything that is wrong with an augmented or a classic manifest, and its statistics. No I/O.

A missing label is a problem only if a job requires it: Ground Truth writes a line for each image at the start, and its
label later. Source: SageMaker developer guide, "Labeling job output data".

Classic manifests list objects without labels; `tritonforge.records.manifest` reads them for batch transform too.
Source: botocore's model of SageMaker, `S3DataSource.S3Uri`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tritonforge.errors import ManifestError
from tritonforge.records import Buffer
from tritonforge.records.manifest import describe_value, read_manifest_elements, read_manifest_uris
from tritonforge.training.manifest.labels import (
    METADATA_SUFFIX,
    SOURCE_ATTRIBUTE,
    Fault,
    Kind,
    classify_label,
    find_labels,
    get_metadata,
    is_count,
    is_number,
    list_classes,
    parse_class_number,
    read_boxes,
    read_class_names,
)
from tritonforge.training.manifest.lines import (
    MAX_LINE_BYTES,
    Json,
    Line,
    check_reference,
    parse_line,
    select_attributes,
    split_lines,
)

__all__ = [
    "LabelCount", "ManifestCheck", "Problem", "build_augmented_lines", "check_classic_manifest", "check_line",
    "read_classic_uris",
]  # fmt: skip

_COLOUR: Final = re.compile(r"#[0-9a-fA-F]{6}")

#: Characters of an object's whole address. Source: botocore's model of SageMaker, `S3Uri`.
_MAX_URI: Final = 1024

_END: Final = object()


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: its line, counted from 1, its attribute, "" for the line itself, and what is wrong."""

    line: int | None
    attribute: str
    what: str

    @classmethod
    def from_error(cls, error: ManifestError) -> Problem:
        """Return the problem that an error reports."""
        return cls(error.line, error.attribute, error.what)

    def __str__(self) -> str:
        where = [] if self.line is None else [f"line {self.line}"]
        return ": ".join([*where, *([self.attribute] if self.attribute else []), self.what])


@dataclass(slots=True)
class LabelCount:
    """Statistics of one label: its lines, how often each class occurs, and the names of classes with their lines."""

    kind: Kind
    lines: int = 0
    classes: Counter[int] = field(default_factory=Counter)
    names: dict[int, tuple[str, int]] = field(default_factory=dict)


class ManifestCheck:
    """Checks one augmented manifest: iteration reads its chunks once and yields every problem.

    Afterwards ``lines``, ``problems`` and ``labels`` have its statistics.

    Args:
        chunks: the manifest's bytes.
        names: attributes that a job requires, so that every line must have them.
        local: accept paths of this machine as references, which SageMaker cannot read.
        longest: bytes of the longest line.
        max_classes: classes whose names are stored, so that a manifest of any length is checked in bounded memory.
    """

    def __init__(
        self,
        chunks: Iterable[Buffer],
        *,
        names: Sequence[str] = (),
        local: bool = False,
        longest: int = MAX_LINE_BYTES,
        max_classes: int = 100_000,
    ) -> None:
        self._chunks = chunks
        self._names = tuple(names)
        self._local = local
        self._longest = longest
        self._max_classes = max_classes
        self.lines = 0
        self.problems = 0
        self.labels: dict[str, LabelCount] = {}

    def __iter__(self) -> Iterator[Problem]:
        for problem in self._check_lines():
            self.problems += 1
            yield problem

    def _check_lines(self) -> Iterator[Problem]:
        try:
            for number, text in split_lines(self._chunks, longest=self._longest):
                self.lines = number
                try:
                    line = parse_line(text, number)
                except ManifestError as error:
                    yield Problem.from_error(error)
                    continue
                yield from check_line(line, names=self._names, local=self._local)
                yield from self._count(line)
        except ManifestError as error:  # a line that is too long, after which nothing can be read
            yield Problem.from_error(error)
        if not self.lines:
            yield Problem(None, "", "the manifest is empty")

    def _count(self, line: Line) -> Iterator[Problem]:
        """Add a line to the statistics; yield the classes that have another name on an earlier line."""
        for name in find_labels(line):
            kind = classify_label(line, name)
            assert kind is not None
            count = self.labels.setdefault(name, LabelCount(kind))
            count.lines += 1
            if len(count.classes) < self._max_classes:
                count.classes.update(list_classes(line, name))
            for number, class_name in read_class_names(line, name).items():
                if len(count.names) < self._max_classes:
                    before, where = count.names.setdefault(number, (class_name, line.number))
                    if before != class_name:
                        what = f"class {number} is called {class_name!r} here, and {before!r} on line {where}"
                        yield Problem(line.number, name + METADATA_SUFFIX, what)


def check_line(line: Line, *, names: Sequence[str] = (), local: bool = False) -> Iterator[Problem]:
    """Yield everything that is wrong with a line on its own."""
    for name in names:
        if name not in line.attributes:
            try:
                select_attributes(line, (name,))
            except ManifestError as error:
                yield Problem.from_error(error)
    for name, value in line.attributes.items():
        if name.endswith("-ref") and (fault := check_reference(value, local=local)):
            yield Problem(line.number, name, fault)
        kind = classify_label(line, name)
        if kind is None:
            continue
        for path, what in _CHECKS[kind](value, get_metadata(line, name)):
            yield Problem(line.number, name, f"{path}: {what}" if path else what)
        metadata = line.attributes.get(name + METADATA_SUFFIX)
        for path, what in _check_metadata(metadata, kind, value):
            yield Problem(line.number, name + METADATA_SUFFIX, f"{path}: {what}" if path else what)


def _check_classification(value: Json, _: Mapping[str, Json]) -> Iterator[Fault]:
    if not (isinstance(value, str) and value) and not is_count(value):
        yield Fault("", "must be one class: a text, or a whole number of at least 0")


def _check_multi_label(value: Json, metadata: Mapping[str, Json]) -> Iterator[Fault]:
    if not isinstance(value, list):
        yield Fault("", "must be a list of classes")
        return
    for index, item in enumerate(value):
        if not is_count(item):
            yield Fault(f"[{index}]", "must be a class, a whole number of at least 0")
    for number, count in Counter(item for item in value if is_count(item)).items():
        if count > 1:
            yield Fault("", f"class {number} is there {count} times")


def _check_boxes(value: Json, _: Mapping[str, Json]) -> Iterator[Fault]:
    yield from read_boxes(value)[1]


def _check_segmentation(_: Json, metadata: Mapping[str, Json]) -> Iterator[Fault]:
    colours = metadata.get("internal-color-map")
    if not isinstance(colours, dict):
        yield Fault("", "its metadata must have an internal-color-map, with the class of each colour")
        return
    for key, entry in colours.items():
        path = f"internal-color-map.{key}"
        if not isinstance(entry, dict) or not isinstance(entry.get("class-name"), str):
            yield Fault(path, 'must have a "class-name"')
        elif not isinstance(entry.get("hex-color"), str) or not _COLOUR.fullmatch(entry["hex-color"]):
            yield Fault(path, '"hex-color" must be a colour like #2acf59')
        elif "confidence" in entry and not _is_confidence(entry["confidence"]):
            yield Fault(path, '"confidence" must be a number from 0 to 1')


_CHECKS: Final = {
    "classification": _check_classification,
    "multi-label": _check_multi_label,
    "boxes": _check_boxes,
    "segmentation": _check_segmentation,
}


def _check_metadata(metadata: Json, kind: Kind, value: Json) -> Iterator[Fault]:
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        yield Fault("", "must be an object")
        return
    if "confidence" in metadata and not _is_confidence(metadata["confidence"]):
        yield Fault("confidence", "must be a number from 0 to 1")
    for name, values in (("human-annotated", ("yes", "no")), ("adjustment-status", ("adjusted", "unadjusted"))):
        if name in metadata and metadata[name] not in values:
            yield Fault(name, f"must be {' or '.join(values)}")
    if "class-name" in metadata and not isinstance(metadata["class-name"], str):
        yield Fault("class-name", "must be a text")
    if kind in ("boxes", "multi-label"):
        yield from _check_class_map(metadata.get("class-map"), value)
    if kind == "boxes":
        yield from _check_objects(metadata.get("objects"), value)
    if kind == "multi-label":
        yield from _check_confidences(metadata.get("confidence-map"), value)


def _check_class_map(class_map: Json, value: Json) -> Iterator[Fault]:
    if class_map is None:
        return
    if not isinstance(class_map, dict):
        yield Fault("class-map", 'must be an object like {"0": "car"}')
        return
    for key, name in class_map.items():
        if parse_class_number(key) is None:
            yield Fault("class-map", f"{key!r} is not a class; expected the text of a whole number")
        elif not isinstance(name, str) or not name:
            yield Fault(f"class-map.{key}", "must be the name of a class")
    mapped = {parse_class_number(key) for key in class_map}
    for number in _distinct_classes(value):
        if number not in mapped:
            has = ", ".join(list(class_map)[:20]) or "none"
            yield Fault("class-map", f"class {number} is not in it (it has {has})")


def _distinct_classes(value: Json) -> list[int]:
    """Return the classes of a label, which is a list of them or boxes, without repetitions."""
    items: Any = value
    if isinstance(value, dict):
        boxes = value.get("annotations")
        items = [box.get("class_id") for box in boxes if isinstance(box, dict)] if isinstance(boxes, list) else []
    listed: list[Any] = items if isinstance(items, list) else []
    return list(dict.fromkeys(item for item in listed if is_count(item)))


def _check_objects(objects: Json, value: Json) -> Iterator[Fault]:
    annotations = value.get("annotations") if isinstance(value, dict) else None
    if objects is None or not isinstance(annotations, list):
        return
    if not isinstance(objects, list):
        yield Fault("objects", "must be a list, with one entry for each box")
        return
    if len(objects) != len(annotations):
        yield Fault("objects", f"has {len(objects)} entries for {len(annotations)} boxes")
    for index, item in enumerate(objects):
        if not isinstance(item, dict):
            yield Fault(f"objects[{index}]", "must be an object")
        elif "confidence" in item and not _is_confidence(item["confidence"]):
            yield Fault(f"objects[{index}].confidence", "must be a number from 0 to 1")


def _check_confidences(confidences: Json, value: Json) -> Iterator[Fault]:
    if confidences is None:
        return
    if not isinstance(confidences, dict):
        yield Fault("confidence-map", 'must be an object like {"0": 0.95}')
        return
    for key, confidence in confidences.items():
        if not _is_confidence(confidence):
            yield Fault(f"confidence-map.{key}", "must be a number from 0 to 1")
    for number in _distinct_classes(value):
        if str(number) not in confidences:
            yield Fault("confidence-map", f"class {number} is not in it")


def _is_confidence(value: Json) -> bool:
    return is_number(value) and isinstance(value, (int, float)) and 0 <= value <= 1


def read_classic_uris(chunks: Iterable[Buffer]) -> Iterator[str]:
    """Yield the addresses that a classic manifest lists, as its text arrives. Raises ManifestError if it is invalid."""
    for uri, _ in read_manifest_uris(chunks):
        yield uri


def check_classic_manifest(chunks: Iterable[Buffer], *, local: bool = False) -> Iterator[Problem]:
    """Yield everything that is wrong with a classic manifest, with its line.

    SageMaker requires one prefix, with a bucket, as the first element: all objects of a manifest are in one bucket.
    """
    prefix: str | None = None
    count = 0
    try:
        for line, value in read_manifest_elements(chunks):
            count += 1
            if isinstance(value, dict):
                given = value.get("prefix")
                if set(value) != {"prefix"} or not isinstance(given, str):
                    what = f'{describe_value(value)} is neither a key nor {{"prefix": "s3://bucket/folder/"}}'
                    yield Problem(line, "", what)
                elif count > 1:
                    yield Problem(line, "prefix", "SageMaker reads one prefix, which is the first element")
                elif check_reference(f"{given}x" if given else given, local=local):
                    yield Problem(line, "prefix", f"{given!r:.200} is not a prefix on S3; expected s3://bucket/folder/")
                prefix = given if isinstance(given, str) else ""
            elif not isinstance(value, str) or not value:
                yield Problem(line, "", f"{describe_value(value)} is not a key; expected the rest of an address")
            else:
                if count == 1:
                    yield Problem(line, "prefix", 'the manifest must begin with {"prefix": "s3://bucket/folder/"}')
                if len(prefix or "") + len(value) > _MAX_URI:
                    yield Problem(line, "", f"the address has more than {_MAX_URI} characters")
    except ManifestError as error:
        yield Problem.from_error(error)
        return
    if not count:
        yield Problem(None, "", "the manifest is empty")
    elif count == 1 and prefix is not None:
        yield Problem(None, "", "the manifest lists no object")


def build_augmented_lines(
    uris: Iterable[str], labels: Iterable[Json] | Callable[[str], Json], *, label: str = "label"
) -> Iterator[Line]:
    """Yield lines of an augmented manifest: each address with its label, from an iterable or a function of the address.

    Raises ManifestError if there are more or fewer labels than addresses, after yielding the lines that have both.
    """
    if label == SOURCE_ATTRIBUTE:
        raise ManifestError("the label needs a name of its own", attribute=label)
    values = None if callable(labels) else iter(labels)
    number = 0
    for number, uri in enumerate(uris, 1):
        value: Any = labels(uri) if callable(labels) else next(values, _END) if values is not None else _END
        if value is _END:
            raise ManifestError(f"there are {number - 1} labels, and more objects; {uri} has none", attribute=label)
        yield Line(number, {SOURCE_ATTRIBUTE: uri, label: value})
    if values is not None and next(values, _END) is not _END:
        raise ManifestError(f"there are more labels than objects, of which there are {number}", attribute=label)
