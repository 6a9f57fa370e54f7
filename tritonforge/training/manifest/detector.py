"""The built-in detector's format: one JSON document for each image, in a channel beside that of the images. No I/O.

``{"file", "image_size": [{"width", "height", "depth"}], "annotations": [{"class_id", "left", "top", "width",
"height"}], "categories": [{"class_id", "name"}]}``. ``file`` is the image below its channel, and the document is called
after it. Classes are numbered without gaps, from 0; ``categories`` may be left out. Source: SageMaker developer guide,
"Object Detection - MXNet", "Train with the Image Format".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tritonforge.errors import ManifestError
from tritonforge.training.manifest.boxes import is_count, read_boxes, written_boxes
from tritonforge.training.manifest.checking import Problem, problem_of
from tritonforge.training.manifest.labelled import SOURCE, Labelled, file_name, joined
from tritonforge.training.manifest.values import json_text, read_json

__all__ = ["detector_document", "detector_problems", "document_name", "gaps", "read_detector"]


def detector_document(image: Labelled, *, folder: str = "") -> tuple[str, bytes]:
    """What the document of an image is called, and the document; ``folder`` is where the images lie.

    Raises ManifestError for an image that lies elsewhere.
    """
    name = file_name(image.source, folder)
    if {"", ".", ".."} & set(name.split("/")):
        raise ManifestError(f"{image.source} would be called {name}, which is no path below a folder", attribute=SOURCE)
    document = {
        "file": name,
        **written_boxes(image.boxes),
        "categories": [{"class_id": number, "name": image.names[number]} for number in sorted(image.names)],
    }
    return document_name(name), json_text(document) + b"\n"


def document_name(name: str) -> str:
    """What the document of an image is called.

    >>> document_name("a.b/sample.image1.jpg"), document_name("a.b/sample")
    ('a.b/sample.image1.json', 'a.b/sample.json')
    """
    folder, slash, last = name.rpartition("/")
    stem = last.rpartition(".")[0] or last
    return f"{folder}{slash}{stem}.json"


def read_detector(document: bytes | str, *, folder: str = "") -> Labelled:
    """The labelled image of a document. Raises ManifestError with the first thing that is wrong."""
    value, found = _read(document)
    if value is None or found:
        raise ManifestError(found[0].what, line=found[0].line, attribute=found[0].attribute)
    boxes = read_boxes({key: value[key] for key in ("image_size", "annotations")})[0]
    assert boxes is not None
    names = {each["class_id"]: each["name"] for each in value.get("categories") or []}
    return Labelled(joined(value["file"], folder), boxes, names)


def detector_problems(document: bytes | str) -> Iterator[Problem]:
    """Everything that is wrong with a document; the attribute says where in it."""
    yield from _read(document)[1]


def gaps(classes: Mapping[int, object] | set[int]) -> list[int]:
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
        return None, [problem_of(error)]
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
