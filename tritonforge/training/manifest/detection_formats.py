"""Formats of object detection data besides the augmented manifest, checked, read and built. No I/O.

annotations.json holds the labels of a folder of images in one document, as JumpStart's object detectors read it:
``{"images": [{"file_name", "height", "width", "id"}], "annotations": [{"image_id", "bbox": [xmin, ymin, xmax, ymax],
"category_id"}]}``, in pixels from the upper left corner. It resembles COCO's format, but COCO's boxes are ``[x, y,
width, height]``, and this format has no names of classes.

The built-in detector reads one JSON document per image, in a channel beside that of the images: ``{"file",
"image_size": [{"width", "height", "depth"}], "annotations": [{"class_id", "left", "top", "width", "height"}],
"categories": [{"class_id", "name"}]}``. ``file`` is the path of the image in its channel, and the document is named
after it. Classes are numbered from 0 without gaps; ``categories`` is optional.

Sources: SageMaker developer guide, "Object Detection - TensorFlow", and the model cards of ``tensorflow-od1-*``;
"Object Detection - MXNet", "Train with the Image Format".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tritonforge.errors import ManifestError
from tritonforge.records.manifest import describe_value
from tritonforge.training.manifest.checking import Problem
from tritonforge.training.manifest.labels import (
    SOURCE_ATTRIBUTE,
    Box,
    Boxes,
    ImageSize,
    LabelledImage,
    check_box,
    encode_boxes,
    is_count,
    is_number,
    join_source,
    read_boxes,
    relative_name,
)
from tritonforge.training.manifest.lines import Json, encode_json, read_json

__all__ = [
    "build_annotations", "build_detector_document", "check_annotations", "check_detector_document",
    "find_class_gaps", "name_detector_document", "read_annotations", "read_detector_document",
]  # fmt: skip

_COCO: Final = "this is COCO's format, whose boxes are [x, y, width, height]; here they are [xmin, ymin, xmax, ymax]"


def build_annotations(images: Iterable[LabelledImage], *, folder: str = "") -> dict[str, Any]:
    """Build annotations.json of labelled images, numbered in their order.

    ``folder`` is where the images are, so that their names are relative to it; without one, a name is the last part of
    an address. Raises ManifestError for an image outside the folder, and for two images of the same name.
    """
    pictures: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    sources: dict[str, str] = {}
    for number, image in enumerate(images):
        name, size = relative_name(image.source, folder), image.boxes.size
        other = sources.setdefault(name, image.source)
        if len(sources) <= number:
            what = "twice" if other == image.source else f"and {other} both"
            raise ManifestError(f"{image.source} {what} would be called {name}; give the folder of the images")
        pictures.append({"file_name": name, "height": size.height, "width": size.width, "id": number})
        annotations += [
            {"image_id": number, "bbox": [box.left, box.top, box.right, box.bottom], "category_id": box.class_id}
            for box in image.boxes.boxes
        ]
    return {"images": pictures, "annotations": annotations}


def read_annotations(
    document: bytes | str, *, folder: str = "", names: Mapping[int, str] | None = None
) -> Iterator[LabelledImage]:
    """Yield the labelled images of annotations.json in order, with their addresses below a folder.

    Raises ManifestError, with all problems, before anything is yielded.
    """
    value = _parse_annotations(document)
    problems = list(_check_annotations(value))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ManifestError(f"{problems[0].what}{more}", attribute=problems[0].attribute)
    boxes: dict[int | str, list[Box]] = {image["id"]: [] for image in value["images"]}
    for annotation in value["annotations"]:
        boxes[annotation["image_id"]].append(_build_box(annotation["category_id"], annotation["bbox"]))
    for image in value["images"]:
        size = ImageSize(image["width"], image["height"])
        source = join_source(image["file_name"], folder)
        yield LabelledImage(source, Boxes(size, tuple(boxes[image["id"]])), dict(names or {}))


def check_annotations(document: bytes | str) -> Iterator[Problem]:
    """Yield everything that is wrong with annotations.json; the attribute is a path like ``annotations[3]``."""
    try:
        value = _parse_annotations(document)
    except ManifestError as error:
        yield Problem.from_error(error)
        return
    yield from _check_annotations(value)


def _parse_annotations(document: bytes | str) -> dict[str, Any]:
    value = read_json(document, what="the document")
    if not isinstance(value, dict):
        raise ManifestError('the document must be an object, {"images": [...], "annotations": [...]}')
    return value


def _check_annotations(value: dict[str, Any]) -> Iterator[Problem]:
    if "categories" in value:
        yield Problem(None, "categories", _COCO)
    if missing := [name for name in ("images", "annotations") if not isinstance(value.get(name), list)]:
        yield from (Problem(None, name, "must be a list") for name in missing)
        return
    sizes: dict[int | str, ImageSize | None] = {}
    files: dict[str, int] = {}
    for index, image in enumerate(value["images"]):
        path = f"images[{index}]"
        if not isinstance(image, dict):
            yield Problem(None, path, "must be an object with file_name, height, width and id")
            continue
        yield from _check_image(image, path, sizes)
        if isinstance(image.get("file_name"), str):
            first = files.setdefault(image["file_name"], index)
            if first != index:
                yield Problem(None, path, f"{image['file_name']} is images[{first}] already")
    for index, annotation in enumerate(value["annotations"]):
        path = f"annotations[{index}]"
        if not isinstance(annotation, dict):
            yield Problem(None, path, "must be an object with image_id, bbox and category_id")
            continue
        yield from _check_annotation(annotation, path, sizes)


def _check_image(value: Mapping[str, Json], path: str, sizes: dict[int | str, ImageSize | None]) -> Iterator[Problem]:
    """Check an image, and add its size to ``sizes``, None if it is invalid."""
    name, number = value.get("file_name"), value.get("id")
    if not isinstance(name, str) or not name:
        yield Problem(None, f"{path}.file_name", "must be the name of an image")
    wrong = [side for side in ("height", "width") if not is_count(value.get(side), 1)]
    for side in wrong:
        missing = "is missing" if side not in value else "must be a whole number of at least 1"
        yield Problem(None, f"{path}.{side}", f"the {side} of the image {missing}")
    if not isinstance(number, (int, str)) or isinstance(number, bool):
        yield Problem(None, f"{path}.id", "must be a whole number or a text")
    elif number in sizes:
        yield Problem(None, f"{path}.id", f"{number!r} is the id of another image already")
    else:
        width, height = value.get("width"), value.get("height")
        valid = not wrong and isinstance(width, int) and isinstance(height, int)
        sizes[number] = ImageSize(width, height) if valid else None  # type: ignore[arg-type]  # checked in `valid`


def _check_annotation(
    value: Mapping[str, Any], path: str, sizes: Mapping[int | str, ImageSize | None]
) -> Iterator[Problem]:
    image, corners = value.get("image_id"), value.get("bbox")
    size = None
    if not isinstance(image, (int, str)) or isinstance(image, bool) or image not in sizes:
        yield Problem(None, f"{path}.image_id", f"{describe_value(image)} is not the id of an image")
    else:
        size = sizes[image]
    if not is_count(value.get("category_id")):
        yield Problem(None, f"{path}.category_id", "must be a whole number of at least 0")
    if not isinstance(corners, list) or len(corners) != 4 or not all(map(is_number, corners)):
        yield Problem(None, f"{path}.bbox", "must be four numbers, [xmin, ymin, xmax, ymax]")
        return
    box = _build_box(0, corners)
    hint = "; bbox is [xmin, ymin, xmax, ymax], not [x, y, width, height]" if min(box.width, box.height) <= 0 else ""
    for what in check_box(box, size):
        yield Problem(None, f"{path}.bbox", what + hint)


def _build_box(class_id: int, corners: list[Any]) -> Box:
    left, top, right, bottom = corners
    return Box(class_id, left, top, right - left, bottom - top)


def build_detector_document(image: LabelledImage, *, folder: str = "") -> tuple[str, bytes]:
    """Build the name and the content of the built-in detector's document of an image below ``folder``.

    Raises ManifestError for an image outside the folder.
    """
    name = relative_name(image.source, folder)
    if {"", ".", ".."} & set(name.split("/")):
        what = f"{image.source} would be called {name}, which is not a path below a folder"
        raise ManifestError(what, attribute=SOURCE_ATTRIBUTE)
    document = {
        "file": name,
        **encode_boxes(image.boxes),
        "categories": [{"class_id": number, "name": image.names[number]} for number in sorted(image.names)],
    }
    return name_detector_document(name), encode_json(document) + b"\n"


def name_detector_document(name: str) -> str:
    """Return the name of the document of an image.

    >>> name_detector_document("a.b/sample.image1.jpg"), name_detector_document("a.b/sample")
    ('a.b/sample.image1.json', 'a.b/sample.json')
    """
    folder, slash, last = name.rpartition("/")
    stem = last.rpartition(".")[0] or last
    return f"{folder}{slash}{stem}.json"


def read_detector_document(document: bytes | str, *, folder: str = "") -> LabelledImage:
    """Read the labelled image of a document. Raises ManifestError with the first problem."""
    value, problems = _read_detector_document(document)
    if value is None or problems:
        raise ManifestError(problems[0].what, line=problems[0].line, attribute=problems[0].attribute)
    boxes = read_boxes({key: value[key] for key in ("image_size", "annotations")})[0]
    assert boxes is not None
    names = {category["class_id"]: category["name"] for category in value.get("categories") or []}
    return LabelledImage(join_source(value["file"], folder), boxes, names)


def check_detector_document(document: bytes | str) -> Iterator[Problem]:
    """Yield everything that is wrong with a document; the attribute is the path in it."""
    yield from _read_detector_document(document)[1]


def find_class_gaps(classes: Mapping[int, object] | set[int]) -> list[int]:
    """Return the numbers, at most ten, that are missing for classes to be numbered from 0 without gaps.

    >>> find_class_gaps({0, 2, 5})
    [1, 3, 4]
    """
    missing: list[int] = []
    for number in range(max(classes, default=-1)):
        if number not in classes:
            missing.append(number)
            if len(missing) == 10:
                break
    return missing


def _read_detector_document(document: bytes | str) -> tuple[dict[str, Any] | None, list[Problem]]:
    try:
        value = read_json(document, what="the document")
    except ManifestError as error:
        return None, [Problem.from_error(error)]
    if not isinstance(value, dict):
        return None, [Problem(None, "", 'the document must be an object, {"file": ..., "image_size": ..., ...}')]
    problems = []
    if not isinstance(value.get("file"), str) or not value["file"]:
        problems.append(Problem(None, "file", "must be the name of the image, below its channel"))
    problems += [Problem(None, path, what) for path, what in read_boxes(value)[1]]
    problems += list(_check_categories(value.get("categories")))
    return value, problems


def _check_categories(value: object) -> Iterator[Problem]:
    if value is None:
        return
    if not isinstance(value, list):
        yield Problem(None, "categories", 'must be a list of {"class_id": ..., "name": ...}')
        return
    names: dict[int, str] = {}
    for index, item in enumerate(value):
        path = f"categories[{index}]"
        if not isinstance(item, dict) or not is_count(item.get("class_id")) or not isinstance(item.get("name"), str):
            yield Problem(None, path, 'must be {"class_id": ..., "name": ...}')
        elif names.setdefault(item["class_id"], item["name"]) != item["name"]:
            yield Problem(None, path, f"class {item['class_id']} is called {names[item['class_id']]!r} already")
