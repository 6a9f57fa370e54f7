"""Lines as AWS's own pages show them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image

#: The line that seed 4 formats for reading, of Ground Truth's job over street scenes.
CARS: dict[str, Any] = {
    "source-ref": "s3://sthakur/demo/images/SSDB00004.JPG",
    "sthakur-groundtruth-demo": {
        "annotations": [
            {"class_id": 0, "width": 162, "top": 458, "height": 89, "left": 378},
            {"class_id": 0, "width": 201, "top": 434, "height": 96, "left": 602},
            {"class_id": 0, "width": 61, "top": 434, "height": 39, "left": 343},
            {"class_id": 0, "width": 66, "top": 426, "height": 47, "left": 240},
        ],
        "image_size": [{"width": 1280, "depth": 3, "height": 960}],
    },
    "sthakur-groundtruth-demo-metadata": {
        "job-name": "labeling-job/sthakur-groundtruth-demo",
        "class-map": {"0": "car"},
        "human-annotated": "yes",
        "objects": [{"confidence": 0.09}, {"confidence": 0.09}, {"confidence": 0.09}, {"confidence": 0.09}],
        "creation-date": "2018-12-13T21:24:33.546706",
        "type": "groundtruth/object-detection",
    },
}
CAR_LABEL = "sthakur-groundtruth-demo"

_WHO = {"job-name": "a-job", "human-annotated": "yes", "creation-date": "2018-10-18T22:18:13.527256"}

SPECIES: dict[str, Any] = {
    "source-ref": "s3://bucket/example_image.jpg",
    "species": "0",
    "species-metadata": {
        "class-name": "dog", "confidence": 0.0, "type": "groundtruth/image-classification", **_WHO,
    },
}  # fmt: skip

THINGS: dict[str, Any] = {
    "source-ref": "s3://bucket/example_image.jpg",
    "things": [1, 0, 8],
    "things-metadata": {
        "class-map": {"1": "bicycle", "0": "person", "8": "clothing"},
        "confidence-map": {"1": 0.95, "0": 0.77, "8": 0.2},
        "type": "groundtruth/image-classification-multilabel",
        **_WHO,
    },
}

SEGMENTS: dict[str, Any] = {
    "source-ref": "s3://bucket/example_city_image.png",
    "city-streets-ref": "s3://bucket/output/mask.png",
    "city-streets-ref-metadata": {
        "internal-color-map": {
            "0": {"class-name": "BACKGROUND", "confidence": 0.9, "hex-color": "#ffffff"},
            "1": {"class-name": "buildings", "confidence": 0.9, "hex-color": "#2acf59"},
        },
        "type": "groundtruth/semantic-segmentation",
        **_WHO,
    },
}

#: A chain of jobs: boxes, and boxes that were looked at again.
ADJUSTED: dict[str, Any] = {
    "source-ref": CARS["source-ref"],
    "boxes": CARS[CAR_LABEL],
    "boxes-metadata": CARS[f"{CAR_LABEL}-metadata"],
    "adjusted-boxes": CARS[CAR_LABEL],
    "adjusted-boxes-metadata": {**CARS[f"{CAR_LABEL}-metadata"], "adjustment-status": "unadjusted"},
}

#: What no rule is known for: text, named entities, a verification, videos, and a job that failed.
OTHERS: list[dict[str, Any]] = [
    {"author": "Herman Melville", "line": "Call me Ishmael", "book": "Moby Dick"},
    {"source": "text", "ner": {"annotations": {"labels": [], "entities": [{"label": "x", "startOffset": 0}]}},
     "ner-metadata": {"type": "groundtruth/text-span", "entities": []}},
    {"source-ref": "s3://b/x", "ok": "1", "ok-metadata": {"class-name": "bad", "confidence": 0.93,
     "type": "groundtruth/label-verification", "worker-feedback": [{"comment": "too wide"}]}},
    {"source-ref": "s3://b/seq.json", "track-ref": "s3://b/SeqLabel.json",
     "track-ref-metadata": {"type": "groundtruth/video-object-tracking", "class-map": {"0": "person"}}},
    {"source-ref": "s3://b/x", "boxes-metadata": {"failure-reason": "ClientError: 4", "human-annotated": "true"}},
    {"source-ref": "s3://b/x", "deep": {"a": [{"b": [None, True, 1.5, "ü€😀"]}]}, "": {}, "n": 123456789012345678901},
]  # fmt: skip


def text(*lines: dict[str, Any]) -> bytes:
    """A manifest of lines, with the blanks that people's programs write."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


#: Any value of JSON.
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


Run = Callable[..., tuple[int, str, str]]


def images(folder: Path, count: int, size: tuple[int, int] = (64, 48)) -> Path:
    """Some pictures, and the augmented manifest with one box on each."""
    lines = []
    for number in range(count):
        path = folder / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", size, (number * 20 % 256, 90, 90)).save(path)
        boxes = {
            "image_size": [{"width": size[0], "height": size[1], "depth": 3}],
            "annotations": [{"class_id": number % 2, "left": 4, "top": 20, "width": 20, "height": 10}],
        }
        metadata = {"class-map": {"0": "cat", "1": "dog"}, "type": "groundtruth/object-detection"}
        lines.append({"source-ref": f"s3://bucket/train/images/{number}.png", "b": boxes, "b-metadata": metadata})
    manifest = folder / "b.manifest"
    manifest.write_bytes(text(*lines))
    return manifest
