"""Conversion: there and back again is where one was, and what is wrong is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.manifest_samples import CAR_LABEL, CARS, SPECIES, text
from tritonforge.errors import ManifestError
from tritonforge.training.manifest import (
    Box,
    Boxes,
    ImageSize,
    LabelledImage,
    ManifestCheck,
    build_annotations,
    build_detector_document,
    build_line,
    check_annotations,
    check_detector_document,
    parse_line,
    read_annotations,
    read_detector_document,
    read_labelled_image,
)
from tritonforge.training.manifest.detection_formats import find_class_gaps, name_detector_document
from tritonforge.training.manifest.labels import relative_name

FOLDER = "s3://bucket/train/images"


@st.composite
def pictures(draw: st.DrawFn, depth: int | None = None) -> list[LabelledImage]:
    """Some images of a folder, with whole-numbered boxes inside of them."""
    stems = draw(st.lists(st.text("abü-1 ", min_size=1), max_size=4, unique=True))
    names = draw(st.dictionaries(st.integers(0, 5), st.text(min_size=1), max_size=3))
    made = []
    for stem in stems:
        width, height = draw(st.integers(1, 5000)), draw(st.integers(1, 5000))
        boxes = []
        for _ in range(draw(st.integers(0, 3))):
            left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
            wide, high = draw(st.integers(1, width - left)), draw(st.integers(1, height - top))
            boxes.append(Box(draw(st.integers(0, 90)), left, top, wide, high))
        size = ImageSize(width, height, depth or draw(st.integers(1, 4)))
        made.append(LabelledImage(f"{FOLDER}/{stem}.jpg", Boxes(size, tuple(boxes)), names))
    return made


@pytest.mark.slow
@given(pictures())
def test_lines_hold_all_of_a_labelled_image(images: list[LabelledImage]) -> None:
    """A line of it reads as the same image again; names of classes that are not on it are carried, too."""
    for number, image in enumerate(images, 1):
        line = build_line(image, number)
        assert read_labelled_image(parse_line(line.to_bytes(), number), "bounding-box") == image
        used = {box.class_id for box in image.boxes.boxes}
        if not image.names or used <= set(image.names):
            assert list(ManifestCheck([line.to_bytes()])) == []


@pytest.mark.slow
@given(pictures(depth=3))
def test_annotations_json_and_back(images: list[LabelledImage]) -> None:
    """All but the names of classes, which are handed in again, and the channels, of which there are three."""
    document = json.dumps(build_annotations(images, folder=FOLDER))
    assert list(check_annotations(document)) == []
    names = images[0].names if images else None
    assert list(read_annotations(document, folder=FOLDER, names=names)) == images


@pytest.mark.slow
@given(pictures())
def test_the_built_in_detectors_documents_and_back(images: list[LabelledImage]) -> None:
    """All of it."""
    for image in images:
        name, document = build_detector_document(image, folder=FOLDER)
        assert name.endswith(".json")
        assert list(check_detector_document(document)) == []
        assert read_detector_document(document, folder=FOLDER) == image


@pytest.mark.slow
@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["images", "annotations", "file_name", "height", "width", "id", "image_id", "bbox", "category_id",
         "file", "image_size", "categories", "class_id", "name", "left", "top"]), inner, max_size=6),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes_are_a_document_or_problems(data: bytes) -> None:
    """And where there are problems, reading raises the first of them."""
    for problems, reader in ((check_annotations, read_annotations), (check_detector_document, read_detector_document)):
        found = list(problems(data))
        if found:
            with pytest.raises(ManifestError) as error:
                list(reader(data))  # type: ignore[arg-type, operator]
            assert error.value.what.startswith(found[0].what)
        else:
            assert reader(data) is not None


def test_corners_become_sides_and_sides_corners() -> None:
    """Seed 4's first car in annotations.json, in the shape that the facts of JumpStart's detectors state."""
    image = read_labelled_image(parse_line(text(CARS)), CAR_LABEL)
    assert image is not None
    document = build_annotations([image])
    assert document["images"] == [{"file_name": "SSDB00004.JPG", "height": 960, "width": 1280, "id": 0}]
    assert document["annotations"][0] == {"image_id": 0, "bbox": [378, 458, 540, 547], "category_id": 0}
    assert set(document) == {"images", "annotations"}
    assert image.names == {0: "car"}


def test_the_developer_guides_document_is_read() -> None:
    """The page on training with the image format shows these boxes, and where the document belongs."""
    document = {
        "file": "your_image_directory/sample_image1.jpg",
        "image_size": [{"width": 500, "height": 400, "depth": 3}],
        "annotations": [
            {"class_id": 0, "left": 111, "top": 134, "width": 61, "height": 128},
            {"class_id": 1, "left": 101, "top": 185, "width": 42, "height": 130},
        ],
        "categories": [{"class_id": 0, "name": "dog"}, {"class_id": 1, "name": "cat"}],
    }
    image = read_detector_document(json.dumps(document), folder="s3://your_bucket/train/")
    assert image.source == "s3://your_bucket/train/your_image_directory/sample_image1.jpg"
    assert image.names == {0: "dog", 1: "cat"}
    assert image.boxes.boxes[1] == Box(1, 101, 185, 42, 130)
    name, written = build_detector_document(image, folder="s3://your_bucket/train")
    assert name == "your_image_directory/sample_image1.json"
    assert json.loads(written) == document
    assert image == read_detector_document(json.dumps({**document}), folder="s3://your_bucket/train")
    del document["categories"]
    assert read_detector_document(json.dumps(document)).names == {}


def test_a_line_without_the_label_is_no_labelled_image() -> None:
    """It passes through; one that has it and names no image does not."""
    assert read_labelled_image(parse_line(text(SPECIES)), CAR_LABEL) is None
    line = parse_line(text({CAR_LABEL: CARS[CAR_LABEL]}), 4)
    with pytest.raises(ManifestError, match="line 4: source-ref: must be the address of an object"):
        read_labelled_image(line, CAR_LABEL)


def test_a_line_that_is_wrong_is_named() -> None:
    """By number, attribute and box."""
    boxes = {**CARS[CAR_LABEL], "image_size": [{"width": 400, "height": 960}]}
    with pytest.raises(ManifestError, match=r"line 9: b: annotations\[0\]: the box reaches to x=540, outside") as error:
        read_labelled_image(parse_line(text({"source-ref": "s3://b/x", "b": boxes}), 9), "b")
    assert (error.value.line, error.value.attribute) == (9, "b")


def test_reading_says_how_much_more_is_wrong() -> None:
    """The first thing in full, and how many more there are."""
    with pytest.raises(ManifestError, match=r"images\[0\]: must be an object with .* \(and 2 more\)$"):
        next(read_annotations(b'{"images": [1, 2, 3], "annotations": []}'))


def document(change: Callable[[Any], object]) -> str:
    """A small annotations.json, changed."""
    value: dict[str, Any] = {
        "images": [{"file_name": "a.jpg", "height": 10, "width": 20, "id": 7}],
        "annotations": [{"image_id": 7, "bbox": [1, 2, 20, 10], "category_id": 0}],
    }
    change(value)
    return json.dumps(value)


@pytest.mark.parametrize(
    ("change", "attribute", "what"),
    [
        (lambda v: v.update(categories=[]), "categories", "this is COCO's format, whose boxes are [x, y, width, heig"),
        (lambda v: v.pop("images"), "images", "must be a list"),
        (lambda v: v.update(annotations={}), "annotations", "must be a list"),
        (lambda v: v["images"].append(1), "images[1]", "must be an object with file_name, height, width and id"),
        (lambda v: v["images"][0].pop("file_name"), "images[0].file_name", "must be the name of an image"),
        (lambda v: v["images"][0].pop("height"), "images[0].height", "the height of the image is missing"),
        (lambda v: v["images"][0].update(width=0), "images[0].width", "the width of the image must be a whole number"),
        (lambda v: v["images"].append({**v["images"][0], "file_name": "b"}), "images[1].id", "7 is the id of another"),
        (lambda v: v["images"].append({**v["images"][0], "id": 1}), "images[1]", "a.jpg is images[0] already"),
        (lambda v: v["annotations"].append(1), "annotations[1]", "must be an object with image_id, bbox and"),
        (lambda v: v["annotations"][0].update(image_id=8), "annotations[0].image_id", "8 is not the id of an image"),
        (lambda v: v["annotations"][0].update(image_id=[]), "annotations[0].image_id", "[] is not the id of an image"),
        (lambda v: v["annotations"][0].update(category_id=-1), "annotations[0].category_id", "must be a whole number"),
        (lambda v: v["annotations"][0].update(bbox=[1, 2, 3]), "annotations[0].bbox", "must be four numbers, [xmin"),
        (lambda v: v["annotations"][0].update(bbox=[1, 2, 21, 10]), "annotations[0].bbox", "the box reaches to x=21,"),
        (lambda v: v["annotations"][0].update(bbox=[1, 2, 20, 11]), "annotations[0].bbox", "the box reaches to y=11,"),
        (lambda v: v["annotations"][0].update(bbox=[-1, 2, 20, 9]), "annotations[0].bbox", "the box begins outside"),
        (lambda v: v["annotations"][0].update(bbox=[9, 2, 9, 9]), "annotations[0].bbox",
         "the box is empty: 0 x 7 pixels; bbox is [xmin, ymin, xmax, ymax], not [x, y, width, height]"),
    ],
)  # fmt: skip
def test_annotations_that_are_wrong(change: Callable[[Any], object], attribute: str, what: str) -> None:
    """Each is one problem that says where; and reading refuses the document."""
    (found,) = list(check_annotations(document(change)))
    assert (found.line, found.attribute) == (None, attribute)
    assert found.what.startswith(what)
    with pytest.raises(ManifestError, match="^" + attribute.replace("[", r"\[")):
        next(read_annotations(document(change)))


@pytest.mark.parametrize(
    ("change", "attribute", "what"),
    [
        (lambda v: v.pop("file"), "file", "must be the name of the image, below its channel"),
        (lambda v: v.pop("image_size"), "image_size", "the size of the image is missing"),
        (lambda v: v["annotations"][0].update(width=99), "annotations[0]", "the box reaches to x=100, outside"),
        (lambda v: v.update(categories={}), "categories", 'must be a list of {"class_id": ..., "name": ...}'),
        (lambda v: v["categories"].append({"class_id": 0}), "categories[1]", 'must be {"class_id": ..., "name": ...}'),
        (lambda v: v["categories"].append({"class_id": 0, "name": "b"}), "categories[1]", "class 0 is called 'a' alr"),
    ],
)  # fmt: skip
def test_documents_that_are_wrong(change: Callable[[Any], object], attribute: str, what: str) -> None:
    """Each is one problem that says where in it."""
    value: dict[str, Any] = {
        "file": "a.jpg",
        "image_size": [{"width": 20, "height": 10, "depth": 3}],
        "annotations": [{"class_id": 0, "left": 1, "top": 2, "width": 3, "height": 4}],
        "categories": [{"class_id": 0, "name": "a"}],
    }
    assert list(check_detector_document(json.dumps(value))) == []
    change(value)
    (found,) = list(check_detector_document(json.dumps(value)))
    assert found.attribute == attribute
    assert found.what.startswith(what)


def test_documents_that_are_no_json_say_the_line() -> None:
    """Both kinds."""
    for problems in (check_annotations, check_detector_document):
        (found,) = list(problems(b'{\n "images": [}'))
        assert (found.line, found.what) == (2, "the document is not JSON: Expecting value at character 13")
        (found,) = list(problems(b"[]"))
        assert found.what.startswith("the document must be an object")


def test_names_of_images() -> None:
    """Below their folder; two images of one name, and one elsewhere, are refused."""
    boxes = Boxes(ImageSize(1, 1))
    two = [LabelledImage("s3://b/x/a.jpg", boxes), LabelledImage("s3://b/y/a.jpg", boxes)]
    assert [image["file_name"] for image in build_annotations(two, folder="s3://b/")["images"]] == [
        "x/a.jpg",
        "y/a.jpg",
    ]
    with pytest.raises(ManifestError, match=r"s3://b/y/a.jpg and s3://b/x/a.jpg both would be called a.jpg"):
        build_annotations(two)
    with pytest.raises(ManifestError, match=r"s3://b/x/a.jpg twice would be called a.jpg"):
        build_annotations(two[:1] * 2)
    for elsewhere in ("s3://b/xa.jpg", "s3://b/x/", "s3://c/x/a.jpg"):
        with pytest.raises(ManifestError, match="is not below s3://b/x/"):
            relative_name(elsewhere, "s3://b/x")
    for outside in ("s3://b/x/../../a.jpg", "s3://b/x//etc/a.jpg"):
        with pytest.raises(ManifestError, match="not a path below a folder"):
            build_detector_document(LabelledImage(outside, boxes), folder="s3://b/x")
    assert name_detector_document("b.c/a") == "b.c/a.json"


def test_gaps_of_classes() -> None:
    """The built-in detector counts from 0 without gaps."""
    assert find_class_gaps(set()) == find_class_gaps({0}) == find_class_gaps({0, 1, 2}) == []
    assert find_class_gaps({1, 3}) == [0, 2]
    assert find_class_gaps({10**9}) == list(range(10))


def test_a_sum_of_parts_of_pixels_may_be_off_by_rounding() -> None:
    value: dict[str, Any] = {"file": "a", "image_size": [{"width": 640, "height": 640, "depth": 1}]}
    left, width = 3 * 0.1 * 640, 7 * 0.1 * 640
    value["annotations"] = [{"class_id": 0, "left": left, "top": left, "width": width, "height": width}]
    assert read_detector_document(json.dumps(value)).boxes.boxes[0].right > 640
    value["annotations"][0].update(width=width + 0.001, height=width + 0.001)
    assert len(list(check_detector_document(json.dumps(value)))) == 2
