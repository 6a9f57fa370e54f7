"""Checking: everything that is wrong with an augmented manifest, line by line, and what is in it. No I/O.

A label that a line does not have is no problem, unless a job asks for it: Ground Truth writes a line for each image
from the beginning, and its label later. Source: SageMaker developer guide, "Labeling job output data".

Classic manifests: lists of objects without labels, checked, and joined with labels to augmented ones. No I/O.

What they list is read by `tritonforge.records.manifest`, as batch transform reads them. Source: botocore's model of
SageMaker, `S3DataSource.S3Uri`.
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
    "LabelCount",
    "ManifestCheck",
    "Problem",
    "build_augmented_lines",
    "check_classic_manifest",
    "check_line",
    "describe_error_as_problem",
    "read_classic_uris",
]

_COLOUR: Final = re.compile(r"#[0-9a-fA-F]{6}")

#: Classes of which a name is remembered, so that a manifest of any length is checked in bounded memory.
_MOST_CLASSES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: on which line, counted from 1, in which attribute, "" for the line itself, and what."""

    line: int | None
    attribute: str
    what: str

    def __str__(self) -> str:
        where = [] if self.line is None else [f"line {self.line}"]
        return ": ".join([*where, *([self.attribute] if self.attribute else []), self.what])


@dataclass(slots=True)
class LabelCount:
    """What was seen of one label: how many lines have it, and how often each class is there."""

    kind: Kind
    lines: int = 0
    classes: Counter[int] = field(default_factory=Counter)
    names: dict[int, tuple[str, int]] = field(default_factory=dict)


class ManifestCheck:
    """The check of one manifest: goes through its chunks once and gives every problem; then it knows what is in it.

    ``names`` are attributes that a job asks for, which every line must have. With ``local``, references may be paths of
    this machine, which SageMaker cannot read.
    """

    def __init__(
        self, chunks: Iterable[Buffer], *, names: Sequence[str] = (), local: bool = False, longest: int = MAX_LINE_BYTES
    ) -> None:
        self._chunks = chunks
        self._names = tuple(names)
        self._local = local
        self._longest = longest
        self.lines = 0
        self.problems = 0
        self.labels: dict[str, LabelCount] = {}

    def __iter__(self) -> Iterator[Problem]:
        for problem in self._all():
            self.problems += 1
            yield problem

    def _all(self) -> Iterator[Problem]:
        try:
            for number, text in split_lines(self._chunks, longest=self._longest):
                self.lines = number
                try:
                    line = parse_line(text, number)
                except ManifestError as error:
                    yield describe_error_as_problem(error)
                    continue
                yield from check_line(line, names=self._names, local=self._local)
                yield from self._count(line)
        except ManifestError as error:  # a line that is too long, after which nothing can be read
            yield describe_error_as_problem(error)
        if not self.lines:
            yield Problem(None, "", "the manifest is empty")

    def _count(self, line: Line) -> Iterator[Problem]:
        for name in find_labels(line):
            found = classify_label(line, name)
            assert found is not None
            count = self.labels.setdefault(name, LabelCount(found))
            count.lines += 1
            if len(count.classes) < _MOST_CLASSES:
                count.classes.update(list_classes(line, name))
            for number, called in read_class_names(line, name).items():
                if len(count.names) < _MOST_CLASSES:
                    before, where = count.names.setdefault(number, (called, line.number))
                    if before != called:
                        what = f"class {number} is called {called!r} here, and {before!r} on line {where}"
                        yield Problem(line.number, name + METADATA_SUFFIX, what)


def describe_error_as_problem(error: ManifestError) -> Problem:
    """The problem that an error of reading tells."""
    return Problem(error.line, error.attribute, error.what)


def check_line(line: Line, *, names: Sequence[str] = (), local: bool = False) -> Iterator[Problem]:
    """Everything that is wrong with a line on its own."""
    for name in names:
        if name not in line.attributes:
            try:
                select_attributes(line, (name,))
            except ManifestError as error:
                yield describe_error_as_problem(error)
    for name, value in line.attributes.items():
        if name.endswith("-ref"):
            fault = check_reference(value, local=local)
            if fault:
                yield Problem(line.number, name, fault)
        found = classify_label(line, name)
        if found is None:
            continue
        for path, what in _RULES[found](value, get_metadata(line, name)):
            yield Problem(line.number, name, f"{path}: {what}" if path else what)
        metadata = line.attributes.get(name + METADATA_SUFFIX)
        for path, what in _metadata(metadata, found, value):
            yield Problem(line.number, name + METADATA_SUFFIX, f"{path}: {what}" if path else what)


def _classification(value: Json, _: Mapping[str, Json]) -> Iterator[Fault]:
    if not (isinstance(value, str) and value) and not is_count(value):
        yield Fault("", "must be one class: a text, or a whole number of at least 0")


def _multi_label(value: Json, metadata: Mapping[str, Json]) -> Iterator[Fault]:
    if not isinstance(value, list):
        yield Fault("", "must be a list of classes")
        return
    for index, each in enumerate(value):
        if not is_count(each):
            yield Fault(f"[{index}]", "must be a class, a whole number of at least 0")
    counted = Counter(each for each in value if is_count(each))
    for number, count in counted.items():
        if count > 1:
            yield Fault("", f"class {number} is there {count} times")


def _boxes(value: Json, _: Mapping[str, Json]) -> Iterator[Fault]:
    yield from read_boxes(value)[1]


def _segmentation(_: Json, metadata: Mapping[str, Json]) -> Iterator[Fault]:
    colours = metadata.get("internal-color-map")
    if not isinstance(colours, dict):
        yield Fault("", "its metadata must have an internal-color-map, which tells the class of each colour")
        return
    for key, entry in colours.items():
        path = f"internal-color-map.{key}"
        if not isinstance(entry, dict) or not isinstance(entry.get("class-name"), str):
            yield Fault(path, 'must have a "class-name"')
        elif not isinstance(entry.get("hex-color"), str) or not _COLOUR.fullmatch(entry["hex-color"]):
            yield Fault(path, '"hex-color" must be a colour like #2acf59')
        elif "confidence" in entry and not _is_confidence(entry["confidence"]):
            yield Fault(path, '"confidence" must be a number from 0 to 1')


_RULES: Final = {
    "classification": _classification,
    "multi-label": _multi_label,
    "boxes": _boxes,
    "segmentation": _segmentation,
}


def _metadata(metadata: Json, found: Kind, value: Json) -> Iterator[Fault]:
    """What is wrong with the metadata of a label; that there is none is not."""
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
    if found in ("boxes", "multi-label"):
        yield from _class_map(metadata.get("class-map"), value)
    if found == "boxes":
        yield from _objects(metadata.get("objects"), value)
    if found == "multi-label":
        yield from _confidences(metadata.get("confidence-map"), value)


def _class_map(class_map: Json, value: Json) -> Iterator[Fault]:
    if class_map is None:
        return
    if not isinstance(class_map, dict):
        yield Fault("class-map", 'must be an object like {"0": "car"}')
        return
    for key, name in class_map.items():
        if parse_class_number(key) is None:
            yield Fault("class-map", f"{key!r} is no class; expected the text of a whole number")
        elif not isinstance(name, str) or not name:
            yield Fault(f"class-map.{key}", "must be the name of a class")
    known = {parse_class_number(key) for key in class_map}
    for each in _distinct(value):
        if each not in known:
            yield Fault("class-map", f"class {each} is not in it (it has {', '.join(list(class_map)[:20]) or 'none'})")


def _distinct(value: Json) -> list[int]:
    """The classes of a label, a list of them or boxes, each once."""
    given: Any = value
    if isinstance(value, dict):
        boxes = value.get("annotations")
        given = [each.get("class_id") for each in boxes if isinstance(each, dict)] if isinstance(boxes, list) else []
    listed: list[Any] = given if isinstance(given, list) else []
    return list(dict.fromkeys(each for each in listed if is_count(each)))


def _objects(objects: Json, value: Json) -> Iterator[Fault]:
    annotations = value.get("annotations") if isinstance(value, dict) else None
    if objects is None or not isinstance(annotations, list):
        return
    if not isinstance(objects, list):
        yield Fault("objects", "must be a list, with one entry for each box")
        return
    if len(objects) != len(annotations):
        yield Fault("objects", f"has {len(objects)} entries for {len(annotations)} boxes")
    for index, each in enumerate(objects):
        if not isinstance(each, dict):
            yield Fault(f"objects[{index}]", "must be an object")
        elif "confidence" in each and not _is_confidence(each["confidence"]):
            yield Fault(f"objects[{index}].confidence", "must be a number from 0 to 1")


def _confidences(confidences: Json, value: Json) -> Iterator[Fault]:
    if confidences is None:
        return
    if not isinstance(confidences, dict):
        yield Fault("confidence-map", 'must be an object like {"0": 0.95}')
        return
    for key, each in confidences.items():
        if not _is_confidence(each):
            yield Fault(f"confidence-map.{key}", "must be a number from 0 to 1")
    for each in _distinct(value):
        if str(each) not in confidences:
            yield Fault("confidence-map", f"class {each} is not in it")


def _is_confidence(value: Json) -> bool:
    return is_number(value) and isinstance(value, (int, float)) and 0 <= value <= 1


_END: Final = object()


def read_classic_uris(chunks: Iterable[Buffer]) -> Iterator[str]:
    """The addresses that a classic manifest lists, as its text arrives. Raises ManifestError where it is none."""
    for uri, _ in read_manifest_uris(chunks):
        yield uri


def check_classic_manifest(chunks: Iterable[Buffer], *, local: bool = False) -> Iterator[Problem]:
    """Everything that is wrong with a classic manifest, each with its line.

    SageMaker wants one prefix, with a bucket, at the beginning: all objects of a manifest lie in one bucket.
    """
    prefix: str | None = None
    count = 0
    try:
        for line, value in read_manifest_elements(chunks):
            count += 1
            if isinstance(value, dict):
                told = value.get("prefix")
                if set(value) != {"prefix"} or not isinstance(told, str):
                    yield Problem(
                        line, "", f'{describe_value(value)} is neither a key nor {{"prefix": "s3://bucket/folder/"}}'
                    )
                elif count > 1:
                    yield Problem(line, "prefix", "SageMaker reads one prefix, which is the first element")
                else:
                    fault = check_reference(f"{told}x" if told else told, local=local)
                    if fault:
                        yield Problem(line, "prefix", f"{told!r:.200} is no prefix on S3; expected s3://bucket/folder/")
                prefix = told if isinstance(told, str) else ""
            elif not isinstance(value, str) or not value:
                yield Problem(
                    line, "", f"{describe_value(value)} is no key; expected the rest of an address, as a text"
                )
            else:
                if count == 1:
                    yield Problem(line, "prefix", 'the manifest must begin with {"prefix": "s3://bucket/folder/"}')
                if len(prefix or "") + len(value) > 1024:
                    yield Problem(line, "", "the address has more than 1024 characters")
    except ManifestError as error:
        yield describe_error_as_problem(error)
        return
    if not count:
        yield Problem(None, "", "the manifest is empty")
    elif count == 1 and prefix is not None:
        yield Problem(None, "", "the manifest lists no object")


def build_augmented_lines(
    uris: Iterable[str], labels: Iterable[Json] | Callable[[str], Json], *, label: str = "label"
) -> Iterator[Line]:
    """The lines of an augmented manifest: each address with its label, from a list beside it, or from a function of it.

    Raises ManifestError where the two lists are of different lengths, after what they have together.
    """
    if label == SOURCE_ATTRIBUTE:
        raise ManifestError("the label needs a name of its own", attribute=label)
    given = None if callable(labels) else iter(labels)
    number = 0
    for number, uri in enumerate(uris, 1):
        value: Any = labels(uri) if callable(labels) else next(given, _END) if given is not None else _END
        if value is _END:
            raise ManifestError(f"there are {number - 1} labels, and more objects; {uri} has none", attribute=label)
        yield Line(number, {SOURCE_ATTRIBUTE: uri, label: value})
    if given is not None and next(given, _END) is not _END:
        raise ManifestError(f"there are more labels than objects, of which there are {number}", attribute=label)
