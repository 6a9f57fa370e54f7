"""annotations.json: the labels of a folder of images in one document, as JumpStart's object detectors read it. No I/O.

``{"images": [{"file_name", "height", "width", "id"}], "annotations": [{"image_id", "bbox": [xmin, ymin, xmax, ymax],
"category_id"}]}``, in pixels from the upper left corner. It looks like COCO's format and is not: COCO's boxes are
``[x, y, width, height]``, and this has no names of classes. Source: SageMaker developer guide, "Object Detection -
TensorFlow", and the model cards of ``tensorflow-od1-*``.

The built-in detector's format: one JSON document for each image, in a channel beside that of the images. No I/O.

``{"file", "image_size": [{"width", "height", "depth"}], "annotations": [{"class_id", "left", "top", "width",
"height"}], "categories": [{"class_id", "name"}]}``. ``file`` is the image below its channel, and the document is called
after it. Classes are numbered without gaps, from 0; ``categories`` may be left out. Source: SageMaker developer guide,
"Object Detection - MXNet", "Train with the Image Format".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tritonforge.errors import ManifestError
from tritonforge.records.manifest import describe_value
from tritonforge.training.manifest.checking import Problem, describe_error_as_problem
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
    "build_annotations",
    "build_detector_document",
    "check_annotations",
    "check_detector_document",
    "find_class_gaps",
    "name_detector_document",
    "read_annotations",
    "read_detector_document",
]

_COCO: Final = "this is COCO's format, whose boxes are [x, y, width, height]; here they are [xmin, ymin, xmax, ymax]"


def build_annotations(images: Iterable[LabelledImage], *, folder: str = "") -> dict[str, Any]:
    """The document of labelled images, which get their numbers as they come; it is held whole.

    ``folder`` is where the images lie, so that their names are below it; without one, a name is the last part of an
    address. Raises ManifestError for an image that lies elsewhere, and for two of one name.
    """
    pictures: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    seen: dict[str, str] = {}
    for number, image in enumerate(images):
        name, size = relative_name(image.source, folder), image.boxes.size
        other = seen.setdefault(name, image.source)
        if len(seen) <= number:
            what = "twice" if other == image.source else f"and {other} both"
            raise ManifestError(f"{image.source} {what} would be called {name}; say the folder that the images lie in")
        pictures.append({"file_name": name, "height": size.height, "width": size.width, "id": number})
        annotations += [
            {"image_id": number, "bbox": [box.left, box.top, box.right, box.bottom], "category_id": box.class_id}
            for box in image.boxes.boxes
        ]
    return {"images": pictures, "annotations": annotations}


def read_annotations(
    document: bytes | str, *, folder: str = "", names: Mapping[int, str] | None = None
) -> Iterator[LabelledImage]:
    """The labelled images of a document, in its order, with their addresses below a folder.

    Raises ManifestError, with all that is wrong, before anything is given out.
    """
    value = _parsed(document)
    found = list(_problems(value))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ManifestError(f"{found[0].what}{more}", attribute=found[0].attribute)
    boxes: dict[int | str, list[Box]] = {each["id"]: [] for each in value["images"]}
    for each in value["annotations"]:
        boxes[each["image_id"]].append(_box(each))
    for each in value["images"]:
        size = ImageSize(each["width"], each["height"])
        yield LabelledImage(
            join_source(each["file_name"], folder), Boxes(size, tuple(boxes[each["id"]])), dict(names or {})
        )


def check_annotations(document: bytes | str) -> Iterator[Problem]:
    """Everything that is wrong with a document; the attribute says where, like ``annotations[3]``."""
    try:
        value = _parsed(document)
    except ManifestError as error:
        yield describe_error_as_problem(error)
        return
    yield from _problems(value)


def _parsed(document: bytes | str) -> dict[str, Any]:
    value = read_json(document, what="the document")
    if not isinstance(value, dict):
        raise ManifestError('the document must be an object, {"images": [...], "annotations": [...]}')
    return value


def _problems(value: dict[str, Any]) -> Iterator[Problem]:
    if "categories" in value:
        yield Problem(None, "categories", _COCO)
    sizes: dict[int | str, ImageSize | None] = {}
    files: dict[str, int] = {}
    lists = ("images", "annotations")
    if not all(isinstance(value.get(name), list) for name in lists):
        yield from (Problem(None, name, "must be a list") for name in lists if not isinstance(value.get(name), list))
        return
    for index, each in enumerate(value["images"]):
        path = f"images[{index}]"
        if not isinstance(each, dict):
            yield Problem(None, path, "must be an object with file_name, height, width and id")
            continue
        yield from _image(each, path, sizes)
        if isinstance(each.get("file_name"), str):
            first = files.setdefault(each["file_name"], index)
            if first != index:
                yield Problem(None, path, f"{each['file_name']} is images[{first}] already")
    for index, each in enumerate(value["annotations"]):
        path = f"annotations[{index}]"
        if not isinstance(each, dict):
            yield Problem(None, path, "must be an object with image_id, bbox and category_id")
            continue
        yield from _annotation(each, path, sizes)


def _image(value: Mapping[str, Json], path: str, sizes: dict[int | str, ImageSize | None]) -> Iterator[Problem]:
    name, number = value.get("file_name"), value.get("id")
    if not isinstance(name, str) or not name:
        yield Problem(None, f"{path}.file_name", "must be the name of an image")
    wrong = [side for side in ("height", "width") if not is_count(value.get(side), 1)]
    for side in wrong:
        missing = "is missing" if side not in value else "must be a whole number of at least 1"
        yield Problem(None, f"{path}.{side}", f"the {side} of the image {missing}")
    if not _is_id(number):
        yield Problem(None, f"{path}.id", "must be a whole number or a text")
        return
    assert isinstance(number, (int, str))
    if number in sizes:
        yield Problem(None, f"{path}.id", f"{number!r} is the id of another image already")
        return
    width, height = value.get("width"), value.get("height")
    sizes[number] = (
        None if wrong or not isinstance(width, int) or not isinstance(height, int) else ImageSize(width, height)
    )


def _annotation(value: Mapping[str, Any], path: str, sizes: Mapping[int | str, ImageSize | None]) -> Iterator[Problem]:
    image, corners = value.get("image_id"), value.get("bbox")
    size = None
    if not isinstance(image, (int, str)) or not _is_id(image) or image not in sizes:
        yield Problem(None, f"{path}.image_id", f"{describe_value(image)} is the id of no image")
    else:
        size = sizes[image]
    if not is_count(value.get("category_id")):
        yield Problem(None, f"{path}.category_id", "must be a whole number of at least 0")
    if not isinstance(corners, list) or len(corners) != 4 or not all(map(is_number, corners)):
        yield Problem(None, f"{path}.bbox", "must be four numbers, [xmin, ymin, xmax, ymax]")
        return
    box = _box({"category_id": 0, "bbox": corners})
    for what in check_box(box, size):
        hint = (
            "; bbox is [xmin, ymin, xmax, ymax], not [x, y, width, height]" if min(box.width, box.height) <= 0 else ""
        )
        yield Problem(None, f"{path}.bbox", what + hint)


def _box(value: Mapping[str, Any]) -> Box:
    left, top, right, bottom = value["bbox"]
    return Box(value["category_id"], left, top, right - left, bottom - top)


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def build_detector_document(image: LabelledImage, *, folder: str = "") -> tuple[str, bytes]:
    """What the document of an image is called, and the document; ``folder`` is where the images lie.

    Raises ManifestError for an image that lies elsewhere.
    """
    name = relative_name(image.source, folder)
    if {"", ".", ".."} & set(name.split("/")):
        raise ManifestError(
            f"{image.source} would be called {name}, which is no path below a folder", attribute=SOURCE_ATTRIBUTE
        )
    document = {
        "file": name,
        **encode_boxes(image.boxes),
        "categories": [{"class_id": number, "name": image.names[number]} for number in sorted(image.names)],
    }
    return name_detector_document(name), encode_json(document) + b"\n"


def name_detector_document(name: str) -> str:
    """What the document of an image is called.

    >>> document_name("a.b/sample.image1.jpg"), document_name("a.b/sample")
    ('a.b/sample.image1.json', 'a.b/sample.json')
    """
    folder, slash, last = name.rpartition("/")
    stem = last.rpartition(".")[0] or last
    return f"{folder}{slash}{stem}.json"


def read_detector_document(document: bytes | str, *, folder: str = "") -> LabelledImage:
    """The labelled image of a document. Raises ManifestError with the first thing that is wrong."""
    value, found = _read(document)
    if value is None or found:
        raise ManifestError(found[0].what, line=found[0].line, attribute=found[0].attribute)
    boxes = read_boxes({key: value[key] for key in ("image_size", "annotations")})[0]
    assert boxes is not None
    names = {each["class_id"]: each["name"] for each in value.get("categories") or []}
    return LabelledImage(join_source(value["file"], folder), boxes, names)


def check_detector_document(document: bytes | str) -> Iterator[Problem]:
    """Everything that is wrong with a document; the attribute says where in it."""
    yield from _read(document)[1]


def find_class_gaps(classes: Mapping[int, object] | set[int]) -> list[int]:
    """The numbers that are missing for classes to be numbered from 0 without gaps, at most the first ten.

    >>> gaps({0, 2, 5})
    [1, 3, 4]
    """
    missing: list[int] = []
    for number in range(max(classes, default=-1)):
        if number not in classes:
            missing.append(number)
            if len(missing) == 10:
                break
    return missing


def _read(document: bytes | str) -> tuple[dict[str, Any] | None, list[Problem]]:
    try:
        value = read_json(document, what="the document")
    except ManifestError as error:
        return None, [describe_error_as_problem(error)]
    if not isinstance(value, dict):
        return None, [Problem(None, "", 'the document must be an object, {"file": ..., "image_size": ..., ...}')]
    found = []
    if not isinstance(value.get("file"), str) or not value["file"]:
        found.append(Problem(None, "file", "must be the name of the image, below its channel"))
    found += [Problem(None, path, what) for path, what in read_boxes(value)[1]]
    found += list(_categories(value.get("categories")))
    return value, found


def _categories(value: object) -> Iterator[Problem]:
    if value is None:
        return
    if not isinstance(value, list):
        yield Problem(None, "categories", 'must be a list of {"class_id": ..., "name": ...}')
        return
    seen: dict[int, str] = {}
    for index, each in enumerate(value):
        path = f"categories[{index}]"
        if not isinstance(each, dict) or not is_count(each.get("class_id")) or not isinstance(each.get("name"), str):
            yield Problem(None, path, 'must be {"class_id": ..., "name": ...}')
        elif seen.setdefault(each["class_id"], each["name"]) != each["name"]:
            yield Problem(None, path, f"class {each['class_id']} is called {seen[each['class_id']]!r} already")
