"""The answer's contract: what is taken, which form is asked for, and what it looks like."""

import json

import numpy as np
import pytest

from tritonforge.errors import TritonForgeError
from tritonforge.training.algorithm import RefusalError
from tritonforge.training.detection import AnswerFormat, build_answer, check_content_type, parse_accept

BOXES = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.75, 1.0]], np.float32)


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("", AnswerFormat()),
        ("application/json", AnswerFormat()),
        ("*/*", AnswerFormat()),
        ("application/*;q=0.5", AnswerFormat()),
        ("application/json;verbose", AnswerFormat(verbose=True)),
        ("application/json;verbose;n_predictions=5", AnswerFormat(True, 5)),
        ("application/json; n_predictions=7 ;verbose", AnswerFormat(True, 7)),
        ("APPLICATION/JSON;N_Predictions=1", AnswerFormat(False, 1)),
        ("application/json; charset=utf-8", AnswerFormat()),
        ("text/html, application/json;verbose;q=0.8, */*;q=0.9;n_predictions=2", AnswerFormat(False, 2)),
        ("application/json;q=0, application/json;verbose", AnswerFormat(verbose=True)),
    ],
)
def test_forms_that_can_be_asked_for(header: str, form: AnswerFormat) -> None:
    """Parameters in any order, media ranges by their weight."""
    assert parse_accept(header) == form


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("text/csv", "'text/csv'"),
        ("application/jsonlines", "'application/jsonlines'"),
        ("application/json;n_predictions=0", "at least 1"),
        ("application/json;n_predictions=five", "at least 1"),
        ("application/json;n_predictions", "at least 1"),
        ("application/json;chatty", "'chatty' is unknown"),
        ("application/json;q=0", "'application/json;q=0'"),
    ],
)
def test_forms_that_cannot_are_refused_with_those_that_can(header: str, words: str) -> None:
    """406, what was asked for, and what may be."""
    with pytest.raises(RefusalError) as refused:
        parse_accept(header)
    assert refused.value.status == 406
    assert words in str(refused.value)
    assert "application/json;verbose" in str(refused.value)
    assert isinstance(refused.value, TritonForgeError)


def test_only_an_encoded_image_is_taken() -> None:
    """415 for everything else."""
    for good in ("application/x-image", "Application/X-Image; charset=binary"):
        check_content_type(good)
    for bad, words in (("application/json", "'application/json'"), ("", "found none"), ("image", "'image'")):
        with pytest.raises(RefusalError, match=words) as refused:
            check_content_type(bad)
        assert refused.value.status == 415


def test_a_plain_answer() -> None:
    """Corners [xmin, ymin, xmax, ymax] as the notebook draws them, nothing else."""
    document = json.loads(build_answer(BOXES, [1, 0], [0.9, 0.25], labels=["cat", "dog"]))
    assert document == {
        "normalized_boxes": [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.75, 1.0]],
        "classes": [1, 0],
        "scores": [0.9, 0.25],
    }


def test_a_verbose_answer_that_is_limited() -> None:
    """The limit holds for the predictions; labels and the model's own output are whole, rows first."""
    document = json.loads(build_answer(BOXES, [1, 0], [0.9, 0.25], labels=["cat", "dog"], form=AnswerFormat(True, 1)))
    assert document["normalized_boxes"] == [[0.1, 0.2, 0.3, 0.4]]
    assert (document["classes"], document["scores"]) == ([1], [0.9])
    assert document["labels"][document["classes"][0]] == "dog"
    assert document["tensorflow_model_output"] == {
        "detection_boxes": [[[0.2, 0.1, 0.4, 0.3], [0.5, 0.5, 1.0, 0.75]]],
        "detection_classes": [[1.0, 0.0]],
        "detection_scores": [[0.9, 0.25]],
        "num_detections": [2.0],
    }


def test_an_answer_without_detections() -> None:
    """Empty lists."""
    document = json.loads(build_answer(np.zeros((0, 4)), [], [], labels=["cat"]))
    assert document == {"normalized_boxes": [], "classes": [], "scores": []}
