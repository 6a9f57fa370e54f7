"""TensorFlow repositories as ONNX on the real server: the answers are those of TensorFlow, the labels are kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn

from tests.end_to_end.test_digits import heldout  # noqa: F401 - a fixture
from tritonforge.inference.client import Client
from tritonforge.repository.conversion import Conversion, converted
from tritonforge.repository.validation import validate
from tritonforge.serving.server import Server

pytestmark = [pytest.mark.server, pytest.mark.framework]

PHOTOGRAPHS = [
    (Path(sklearn.__file__).parent / "datasets" / "images" / name).read_bytes() for name in ("china.jpg", "flower.jpg")
]


class Silent:
    """Progress that nobody watches."""

    def begin(self, what: str) -> None:
        """A step."""

    def say(self, sentence: str) -> None:
        """A note."""

    def moved(self, done: int, total: int | None) -> None:
        """Bytes."""


@pytest.fixture(scope="module")
def digits_onnx(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """`repos/digits`, converted for 26.05."""
    return converted(digits, tmp_path_factory.mktemp("onnx") / "digits", image="26.05", progress=Silent())


@pytest.fixture(scope="module")
def inception_onnx(inception: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """`repos/inception_v3`, converted for 26.05."""
    return converted(inception, tmp_path_factory.mktemp("onnx") / "inception", image="26.05", progress=Silent())


@pytest.fixture(scope="module")
def digits_onnx_server(digits_onnx: Conversion) -> Iterator[Server]:
    """A real tritonserver that runs the converted digits."""
    with Server(digits_onnx.repository, sagemaker_port=0, http_port=0, grpc_port=None, metrics_port=None) as server:
        yield server


@pytest.fixture(scope="module")
def inception_onnx_server(inception_onnx: Conversion) -> Iterator[Server]:
    """A real tritonserver that runs the converted Inception V3."""
    with Server(inception_onnx.repository, sagemaker_port=0, http_port=0, grpc_port=None, metrics_port=None) as server:
        yield server


def asked(server: Server, images: list[bytes], **options: Any) -> Any:
    """The ensemble's answer through the SageMaker front end."""
    with Client(str(server.sagemaker_url)) as client:
        return client.infer_images(images, **options)


def test_inception_as_onnx_answers_photographs_as_tensorflow_does(
    inception_onnx: Conversion, inception_onnx_server: Server, inception_server: Server
) -> None:
    """1001 probabilities of two photographs, one by one and together, through the same ensemble on two servers."""
    (facts,) = inception_onnx.models
    for images in (PHOTOGRAPHS, PHOTOGRAPHS[:1]):
        ours = asked(inception_server, images)["OUTPUT"]
        theirs = asked(inception_onnx_server, images)["OUTPUT"]
        assert theirs.shape == (len(images), 1001)
        assert np.abs(ours - theirs).max() <= facts.tolerance * np.abs(ours).max()
    assert np.abs(ours[0] - theirs[-1]).max() > 0  # two runtimes answered, not one twice


def test_labels_come_back_as_json_from_the_converted_ensemble(
    inception_server: Server, inception_onnx_server: Server, inception: Path
) -> None:
    """The five best classes of each photograph: the same places and names from both servers, in JSON."""
    labels = (inception / "inception_graphdef/inception_labels.txt").read_text().splitlines()
    ours = asked(inception_server, PHOTOGRAPHS, classification=5, binary=False).classes()
    theirs = asked(inception_onnx_server, PHOTOGRAPHS, classification=5, binary=False).classes()
    for one, other in zip(ours, theirs, strict=True):
        assert [(each.index, each.label) for each in one] == [(each.index, each.label) for each in other]
        assert [each.label for each in other] == [labels[each.index] for each in other]


def test_the_comparison_went_through_the_ensembles_own_preprocessing(inception_onnx: Conversion) -> None:
    """Photographs and random inputs, and a difference that is there, and is allowed."""
    (facts,) = inception_onnx.models
    assert (facts.photographs, facts.random, facts.classes) == (5, 5, 10)
    assert 0 < facts.relative_difference <= 1e-4
    assert inception_onnx.notes == ()


def test_both_repositories_are_right_for_the_newest_image(
    inception_onnx: Conversion, digits_onnx: Conversion, digits: Path
) -> None:
    """Validated for 26.05 on SageMaker: nothing is refused; the original is."""
    for conversion in (inception_onnx, digits_onnx):
        found = validate(conversion.repository, image="26.05", target="sagemaker")
        assert [each for each in found if each.refused_by] == []
    assert "E601" in {each.code for each in validate(digits, image="26.05")}


def test_digits_are_read_as_well_as_before(
    digits_server: Server,
    digits_onnx_server: Server,
    heldout: tuple[list[bytes], list[int]],  # noqa: F811 - the fixture
) -> None:
    """A hundred held-out images: each gets the label that it got from TensorFlow, with all but the same probability."""
    images = heldout[0][:100]
    ours, theirs = (asked(server, images[:50]) for server in (digits_server, digits_onnx_server))
    assert np.abs(ours["PROBABILITIES"] - theirs["PROBABILITIES"]).max() <= 1e-5
    rows = [asked(server, images[50:], classification=1).classes() for server in (digits_server, digits_onnx_server)]
    assert [row[0].label for row in rows[0]] == [row[0].label for row in rows[1]]
    assert len({row[0].label for row in rows[0]}) > 5
