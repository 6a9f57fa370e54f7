"""Checking: all of what is wrong, each with its line and attribute, and nothing where all is well."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.manifest_samples import ADJUSTED, CAR_LABEL, CARS, OTHERS, SEGMENTS, SPECIES, THINGS, text, values
from tritonforge.training.manifest import (
    ManifestCheck,
    Problem,
    check_line,
    classify_label,
    find_labels,
    parse_line,
)

ALL = [CARS, SPECIES, THINGS, SEGMENTS, ADJUSTED, *OTHERS]
METADATA = f"{CAR_LABEL}-metadata"


def problems(line: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    """The attribute and the sentence of each problem of a line."""
    return [(problem.attribute, problem.what) for problem in check_line(parse_line(text(line)[:-1], 1), **options)]


@pytest.mark.parametrize("line", ALL)
def test_what_ground_truth_writes_is_right(line: dict[str, Any]) -> None:
    """And what no rule is known for is left in peace."""
    assert problems(line) == []


def test_labels_are_known_by_their_type_and_boxes_by_their_shape() -> None:
    found = {
        name: classify_label(parse_line(text(line)), name)
        for line in ALL[:5]
        for name in find_labels(parse_line(text(line)))
    }
    assert found == {
        CAR_LABEL: "boxes",
        "species": "classification",
        "things": "multi-label",
        "city-streets-ref": "segmentation",
        "boxes": "boxes",
        "adjusted-boxes": "boxes",
    }
    bare = parse_line(text({"source-ref": "s3://b/x", "label": "0", "b": CARS[CAR_LABEL], "c": {"annotations": []}}))
    assert list(find_labels(bare)) == ["b"]
    boxes = CARS[CAR_LABEL]
    none = parse_line(text({"source": boxes, "source-ref": boxes, "x-metadata": boxes, "y-metadata": CARS[METADATA]}))
    assert [classify_label(none, name) for name in ("source", "source-ref", "x-metadata", "y")] == [None] * 4
    assert list(find_labels(parse_line(text({**SPECIES, **THINGS})), "multi-label")) == ["things"]


def cars(change: Callable[[Any, Any], object]) -> dict[str, Any]:
    """Seed 4's line with its label and its metadata changed."""
    line = copy.deepcopy(CARS)
    change(line[CAR_LABEL], line[METADATA])
    return line


@pytest.mark.parametrize(
    ("change", "attribute", "what"),
    [
        (lambda b, m: b["annotations"][1].update(width=679), CAR_LABEL,
         "annotations[1]: the box reaches to x=1281, outside the image, which is 1280 pixels wide"),
        (lambda b, m: b["annotations"][0].update(height=503), CAR_LABEL,
         "annotations[0]: the box reaches to y=961, outside the image, which is 960 pixels high"),
        (lambda b, m: b["annotations"][0].update(left=1280, width=1), CAR_LABEL,
         "annotations[0]: the box reaches to x=1281, outside the image, which is 1280 pixels wide"),
        (lambda b, m: b["annotations"][0].update(top=960, height=1), CAR_LABEL,
         "annotations[0]: the box reaches to y=961, outside the image, which is 960 pixels high"),
        (lambda b, m: b["annotations"][0].update(left=2000, width=0), CAR_LABEL,
         "annotations[0]: the box is empty: 0 x 89 pixels"),
        (lambda b, m: b["annotations"][0].update(top=-1), CAR_LABEL,
         "annotations[0]: the box begins outside the image, at (378, -1)"),
        (lambda b, m: b["annotations"][0].update(left=-1), CAR_LABEL,
         "annotations[0]: the box begins outside the image, at (-1, 458)"),
        (lambda b, m: b["annotations"][3].update(width=0), CAR_LABEL,
         "annotations[3]: the box is empty: 0 x 47 pixels"),
        (lambda b, m: b["annotations"][3].update(height=-2), CAR_LABEL,
         "annotations[3]: the box is empty: 66 x -2 pixels"),
        (lambda b, m: b["annotations"][2].update(class_id="0"), CAR_LABEL,
         "annotations[2].class_id: must be a whole number of at least 0"),
        (lambda b, m: b["annotations"][2].update(top=True), CAR_LABEL,
         "annotations[2].top: must be a number of pixels"),
        (lambda b, m: b["annotations"][2].update(top=2**60), CAR_LABEL,
         "annotations[2].top: must be a number of pixels"),
        (lambda b, m: b["annotations"].__setitem__(1, 5), CAR_LABEL,
         "annotations[1]: must be an object with class_id, left, top, width and height"),
        (lambda b, m: b.update(annotations=None), CAR_LABEL, "annotations: must be a list of boxes"),
        (lambda b, m: b.pop("image_size"), CAR_LABEL, "image_size: the size of the image is missing"),
        (lambda b, m: b.update(image_size=[]), CAR_LABEL,
         'image_size: must be a list of one {"width": ..., "height": ..., "depth": ...}'),
        (lambda b, m: b["image_size"][0].update(width=0), CAR_LABEL,
         "image_size[0].width: must be a whole number of at least 1"),
        (lambda b, m: b["image_size"][0].update(depth="3"), CAR_LABEL,
         "image_size[0].depth: must be a whole number of at least 1"),
        (lambda b, m: m["objects"].pop(), METADATA, "objects: has 3 entries for 4 boxes"),
        (lambda b, m: m.update(objects=7), METADATA, "objects: must be a list, with one entry for each box"),
        (lambda b, m: m["objects"].__setitem__(0, 1), METADATA, "objects[0]: must be an object"),
        (lambda b, m: m["objects"][2].update(confidence=1.5), METADATA,
         "objects[2].confidence: must be a number from 0 to 1"),
        (lambda b, m: b["annotations"][0].update(class_id=3), METADATA,
         "class-map: class 3 is not in it (it has 0)"),
        (lambda b, m: m["class-map"].update(dog="1"), METADATA,
         "class-map: 'dog' is not a class; expected the text of a whole number"),
        (lambda b, m: m["class-map"].update({"1": 2}), METADATA, "class-map.1: must be the name of a class"),
        (lambda b, m: m.update({"class-map": []}), METADATA, 'class-map: must be an object like {"0": "car"}'),
        (lambda b, m: m.update({"human-annotated": "maybe"}), METADATA, "human-annotated: must be yes or no"),
        (lambda b, m: m.update({"adjustment-status": "x"}), METADATA,
         "adjustment-status: must be adjusted or unadjusted"),
    ],
)  # fmt: skip
def test_boxes_that_are_wrong(change: Callable[[Any, Any], object], attribute: str, what: str) -> None:
    """Each of these is one problem, and names its box."""
    assert problems(cars(change)) == [(attribute, what)]


@pytest.mark.parametrize(
    ("line", "attribute", "what"),
    [
        ({**SPECIES, "species": ""}, "species", "must be one class: a text, or a whole number of at least 0"),
        ({**SPECIES, "species": -1}, "species", "must be one class: a text, or a whole number of at least 0"),
        ({**SPECIES, "species-metadata": {**SPECIES["species-metadata"], "confidence": 2}}, "species-metadata",
         "confidence: must be a number from 0 to 1"),
        ({**SPECIES, "species-metadata": {**SPECIES["species-metadata"], "class-name": 2}}, "species-metadata",
         "class-name: must be a text"),
        ({**CARS, METADATA: "x"}, METADATA, "must be an object"),
        ({**THINGS, "things": 1}, "things", "must be a list of classes"),
        ({**THINGS, "things": [1, "0"]}, "things", "[1]: must be a class, a whole number of at least 0"),
        ({**THINGS, "things": [1, 1]}, "things", "class 1 is there 2 times"),
        ({**SEGMENTS, "city-streets-ref": "mask.png"}, "city-streets-ref",
         "mask.png is not on S3, from where SageMaker reads; expected s3://bucket/key (--local takes paths)"),
        ({**SEGMENTS, "city-streets-ref-metadata": {"type": "groundtruth/semantic-segmentation"}}, "city-streets-ref",
         "its metadata must have an internal-color-map, with the class of each colour"),
        ({"source-ref": "s3://bucket"}, "source-ref", "s3://bucket is not the address of an object; expected s3://bucket/key"),
        ({"source-ref": 5}, "source-ref", "must be the address of an object, s3://bucket/key"),
        ({"source-ref": "https://x/y"}, "source-ref",
         "https://x/y is not on S3, from where SageMaker reads; expected s3://bucket/key (--local takes paths)"),
        ({"x-ref": "s3://b/" + "k" * 1020}, "x-ref", "the address has 1027 characters, more than 1024"),
    ],
)  # fmt: skip
def test_other_labels_that_are_wrong(line: dict[str, Any], attribute: str, what: str) -> None:
    """Classes, lists of classes, masks and references."""
    assert problems(line) == [(attribute, what)]


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({"hex-color": "#ffffff"}, 'must have a "class-name"'),
        ({"class-name": "x", "hex-color": "white"}, '"hex-color" must be a colour like #2acf59'),
        ({"class-name": "x", "hex-color": "#ffffff", "confidence": "1"}, '"confidence" must be a number from 0 to 1'),
    ],
)
def test_colours_that_are_wrong(entry: dict[str, Any], what: str) -> None:
    line = copy.deepcopy(SEGMENTS)
    line["city-streets-ref-metadata"]["internal-color-map"]["1"] = entry
    assert problems(line) == [("city-streets-ref", f"internal-color-map.1: {what}")]


def test_confidences_that_are_wrong() -> None:
    """Every class of a list has one, from 0 to 1."""
    line = copy.deepcopy(THINGS)
    line["things-metadata"]["confidence-map"] = {"1": 2, "0": 0.77}
    assert problems(line) == [
        ("things-metadata", "confidence-map.1: must be a number from 0 to 1"),
        ("things-metadata", "confidence-map: class 8 is not in it"),
    ]
    line["things-metadata"]["confidence-map"] = []
    assert problems(line) == [("things-metadata", 'confidence-map: must be an object like {"0": 0.95}')]


def test_paths_are_references_where_they_are_allowed() -> None:
    """For a training job of this machine; another scheme never is."""
    assert problems({"source-ref": "images/1.jpg"}, local=True) == []
    assert len(problems({"source-ref": "images/1.jpg"})) == 1
    assert len(problems({"source-ref": "https://x/y"}, local=True)) == 1


def test_all_problems_are_found_and_what_is_in_it_is_counted() -> None:
    bus = cars(lambda b, m: m.update({"class-map": {"0": "bus"}}))
    outside = cars(lambda b, m: (b["annotations"][0].update(left=-1), b["annotations"][1].update(width=0)))
    data = [text(CARS), b"{\n", text(outside, {"source-ref": "s3://b/unlabelled"}), text(bus)]
    check = ManifestCheck(data, names=("source-ref", CAR_LABEL))
    assert list(map(str, check)) == [
        "line 2: the line is not JSON: Expecting property name enclosed in double quotes at character 2",
        f"line 3: {CAR_LABEL}: annotations[0]: the box begins outside the image, at (-1, 458)",
        f"line 3: {CAR_LABEL}: annotations[1]: the box is empty: 0 x 96 pixels",
        f"line 4: {CAR_LABEL}: the line does not have it (it has source-ref)",
        f"line 5: {METADATA}: class 0 is called 'bus' here, and 'car' on line 1",
    ]
    assert (check.lines, check.problems) == (5, 5)
    count = check.labels[CAR_LABEL]
    assert (count.kind, count.lines, count.classes) == ("boxes", 3, Counter({0: 12}))
    assert list(ManifestCheck(data[:1] + data[2:3])) == list(ManifestCheck(data[:1] + data[2:3], names=("source-ref",)))


def test_an_empty_manifest_is_a_problem() -> None:
    assert list(ManifestCheck([])) == [Problem(None, "", "the manifest is empty")]


def test_a_check_holds_no_more_than_a_line() -> None:
    """The problem of a line is there before the line after the next was asked for."""
    asked = 0

    def chunks() -> Iterator[bytes]:
        nonlocal asked
        for _ in range(2_000):
            asked += 1
            yield text({"source-ref": "nowhere"})

    for number, problem in enumerate(ManifestCheck(chunks()), 1):
        assert problem.line == number
        assert asked - number <= 1
    assert asked == 2_000


def test_classes_without_end_are_not_all_remembered() -> None:
    """A manifest in which each line has a class of its own is checked in bounded memory, too."""
    lines = [
        {**SPECIES, "species": str(number), "species-metadata": {**SPECIES["species-metadata"], "class-name": "x"}}
        for number in range(10)
    ]
    check = ManifestCheck([text(*lines)], max_classes=3)
    assert list(check) == []
    assert (check.lines, check.labels["species"].lines) == (10, 10)
    assert len(check.labels["species"].names) == len(check.labels["species"].classes) == 3


def test_a_line_that_is_too_long_ends_the_check() -> None:
    found = list(ManifestCheck([b"{\n", b"x" * 300, b"\n", text(CARS)], longest=200))
    assert [problem.line for problem in found] == [1, 2]
    assert found[1].what == "the line is longer than 200 bytes; nothing after it was read"


TYPES = [SPECIES["species-metadata"]["type"], THINGS["things-metadata"]["type"]]
TYPES += [CARS[METADATA]["type"], SEGMENTS["city-streets-ref-metadata"]["type"]]
report = st.builds(
    lambda kind, rest: {"type": kind, **rest},
    st.sampled_from(TYPES),
    st.dictionaries(
        st.sampled_from(["class-map", "objects", "confidence-map", "confidence", "internal-color-map"]), values
    ),
)
shaped = st.dictionaries(st.sampled_from(["image_size", "annotations"]), values)
names = st.sampled_from(["b", "b-metadata", "c", "c-metadata", "x-ref", "x-ref-metadata"])


@pytest.mark.slow
@given(st.dictionaries(names, values | report | shaped))
def test_any_line_is_checked_without_an_error(attributes: dict[str, Any]) -> None:
    for problem in ManifestCheck([text(attributes)]):
        assert problem.line == 1
        assert problem.what
