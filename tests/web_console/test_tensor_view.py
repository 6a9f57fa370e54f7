import base64
import math

import numpy as np
import pytest

from tritonforge.web_console.detections import find_detections
from tritonforge.web_console.tensor_view import build_tensor_view, find_media_type


def read_png(image):
    """The size of a PNG in a view, from its header."""
    content = base64.b64decode(image["data"])
    assert content.startswith(b"\x89PNG")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def test_rows_of_encoded_images_are_images_without_their_padding() -> None:
    batch = np.frombuffer(b"\xff\xd8\xff-jpeg\0\0" + b"\x89PNG\r\n\x1a\n+\0", np.uint8).reshape(2, 10)
    view = build_tensor_view(batch, has_batch=True)
    assert view["form"] == "image"
    assert [image["media_type"] for image in view["images"]] == ["image/jpeg", "image/png"]
    assert base64.b64decode(view["images"][0]["data"]) == b"\xff\xd8\xff-jpeg"


def test_bytes_that_are_no_image_are_text() -> None:
    view = build_tensor_view(np.array([[b"seven"], [b"\xff\x00"]], object), has_batch=True)
    assert (view["form"], view["texts"]) == ("text", ["seven", "\\xff\x00"])
    assert view["statistics"] is None


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1, 32, 24, 3), (24, 32)), ((2, 3, 32, 24), (24, 32)), ((1, 8, 8, 1), (8, 8)), ((1, 1600, 1000, 3), (250, 400))],
)
def test_pixels_in_either_order_are_pictures(shape, size) -> None:
    view = build_tensor_view(np.zeros(shape, np.float32), has_batch=True)
    assert view["form"] == "picture"
    assert read_png(view["images"][0]) == size


@pytest.mark.parametrize("shape", [(1, 100, 4), (1, 7, 7, 3), (1, 2, 900, 3), (1, 16, 16, 64)])
def test_other_shapes_are_no_pictures(shape) -> None:
    assert build_tensor_view(np.zeros(shape, np.float32), has_batch=True)["form"] == "values"


@pytest.mark.parametrize(
    ("low", "high", "scale"),
    [(0.1, 0.9, [0, 1]), (-0.5, 0.9, [-1, 1]), (0, 250, [0, 255]), (-123.0, 151.0, [-123, 151])],
)
def test_the_scale_of_a_picture_is_a_usual_one_if_the_values_fit(low, high, scale) -> None:
    pixels = np.full((1, 8, 8, 3), low, np.float32)
    pixels[0, 0] = high
    assert build_tensor_view(pixels, has_batch=True)["scale"] == scale


def test_a_vector_of_floats_is_bars_with_the_best_class_first() -> None:
    view = build_tensor_view(np.array([[0.1, 0.7, 0.2]], np.float32), labels=["a", "b"], has_batch=True)
    assert view["is_probability"]
    assert [(bar["index"], bar["label"]) for bar in view["rows"][0]] == [(1, "b"), (2, ""), (0, "a")]


def test_numbers_that_json_does_not_have_are_counted_and_named() -> None:
    view = build_tensor_view(np.array([[math.nan, math.inf, 1.0]], np.float32), has_batch=True)
    assert view["statistics"]["not_finite"] == 2
    assert [bar["value"] for bar in view["rows"][0]] == ["inf", 1.0, "nan"]
    empty = build_tensor_view(np.zeros((0, 4), np.float32), has_batch=True)
    assert empty["statistics"]["minimum"] is None


def test_a_large_tensor_has_a_small_view() -> None:
    view = build_tensor_view(np.random.default_rng(0).random((64, 512, 512, 3), np.float32), has_batch=True)
    assert sum(len(image["data"]) for image in view["images"]) < 4_000_000


@pytest.mark.parametrize(
    ("content", "expected"), [(b"RIFF0000WEBPVP8", "image/webp"), (b"BM6", "image/bmp"), (b"<svg", ""), (b"", "")]
)
def test_the_media_type_is_in_the_first_bytes(content, expected) -> None:
    """SVG is not among them: it can have scripts."""
    assert find_media_type(content) == expected


def build_detector_outputs():
    return {
        "boxes": np.array([[[0, 0, 0.5, 0.5], [0.2, 0.2, 0.9, 0.9], [0, 0, 0, 0]]], np.float32),
        "scores": np.array([[0.4, 0.8, 0.0]], np.float32),
        "labels": np.array([[b"cat", b"dog", b""]], object),
        "count": np.array([[2]], np.int32),
    }


def test_boxes_are_sorted_by_score_and_cut_at_their_count() -> None:
    detections = find_detections(build_detector_outputs(), has_batch=True)
    assert detections["is_normalised"]
    assert [(box["label"], box["score"]) for box in detections["images"][0]] == [("dog", 0.8), ("cat", 0.4)]


def test_boxes_of_the_object_detection_api_have_rows_first() -> None:
    outputs = {
        "detection_boxes": np.array([[[10, 20, 30, 40]]], np.float32),
        "detection_scores": np.array([[0.9]], np.float32),
        "detection_classes": np.array([[1]], np.float32),
    }
    detections = find_detections(outputs, labels=["cat", "dog"], has_batch=True)
    assert not detections["is_normalised"]
    assert detections["images"][0][0] == {"corners": [20, 10, 40, 30], "score": 0.9, "label": "dog"}


def test_outputs_without_scores_for_every_box_are_no_detections() -> None:
    outputs = build_detector_outputs()
    outputs["scores"] = np.zeros((1, 3, 10), np.float32)
    assert find_detections(outputs, has_batch=True) is None
