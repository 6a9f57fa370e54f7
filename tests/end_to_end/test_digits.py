"""A trained network on a real server: wiring, layout, colours, every kind of request, and the conversion to ONNX."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.support import digit_traffic as traffic
from tests.support.image_requests import REQUESTS, Ensemble
from tests.support.instances import instances
from tests.support.photographs import photographs_and_crops
from tritonforge.inference.client import Client
from tritonforge.repository.onnx_conversion import Conversion
from tritonforge.repository.onnx_converter import convert_repository
from tritonforge.serving.server import Server
from tritonforge.validation.report import validate

pytestmark = [pytest.mark.server, pytest.mark.framework]

ROOT = Path(__file__).parents[2]
IMAGES = photographs_and_crops()


@pytest.fixture(scope="module")
def heldout() -> tuple[list[bytes], list[int]]:
    """360 encoded images that training never saw, and their digits."""
    spec = importlib.util.spec_from_file_location("digits_network", ROOT / "repos/digits/network.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images, labels = module.heldout()
    return images, labels


def url(server: Server) -> str:
    """The SageMaker front end."""
    assert server.sagemaker_url is not None
    return server.sagemaker_url


def test_heldout_digits_are_read_through_the_ensemble(
    digits_server: Server, heldout: tuple[list[bytes], list[int]]
) -> None:
    """At least 95 % of the held-out images, PNG and JPEG, are read right, by the label that comes back."""
    images, labels = heldout
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    right = 0
    with Client(url(digits_server)) as client:
        for start in range(0, len(images), 40):
            rows = client.infer_images(images[start : start + 40], classification=1).classes()
            right += sum(
                row[0].label == names[label] for row, label in zip(rows, labels[start : start + 40], strict=True)
            )
    assert right / len(images) >= 0.95


@pytest.mark.parametrize("count", [600, pytest.param(2000, marks=pytest.mark.long)])
def test_requests_of_eight_clients_get_their_own_answers_with_corrupt_ones_between(
    digits_server: Server, heldout: tuple[list[bytes], list[int]], count: int
) -> None:
    """1 % of the requests carry no image: each gets its own error, every other one its own answer, none is lost."""
    failures, answered = traffic.run(url(digits_server), heldout[0][: count // 5], requests=count)
    assert failures == []
    assert answered == count


@pytest.fixture
def ensemble(digits_server: Server) -> Ensemble:
    """The ensemble on the server."""
    return Ensemble(digits_server, "digits", "IMAGE", "PROBABILITIES")


def test_the_answers_differ_between_the_images(digits_answers: np.ndarray[Any, Any]) -> None:
    """The eight images have answers that differ by far more than 1e-5; equal answers would prove nothing."""
    assert digits_answers.shape == (8, 10)
    np.testing.assert_allclose(digits_answers.sum(axis=1), 1, atol=1e-4)
    apart = [np.abs(digits_answers[a] - digits_answers[b]).max() for a in range(8) for b in range(a)]
    assert min(apart) > 1e-3


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("request_images", REQUESTS, ids=lambda function: function.__name__)
def test_the_server_answers_what_the_same_models_answer_in_process(
    request_images: Callable[[Ensemble, list[bytes]], np.ndarray[Any, Any]],
    count: int,
    ensemble: Ensemble,
    digits_answers: np.ndarray[Any, Any],
) -> None:
    """Every kind of request, for one image and for eight: the largest difference is at most 1e-5."""
    found = request_images(ensemble, IMAGES[:count])
    assert found.shape == (count, 10)
    assert np.abs(found - digits_answers[:count]).max() <= 1e-5


def test_labels_come_back_with_the_best_classes(
    ensemble: Ensemble, digits: Path, digits_answers: np.ndarray[Any, Any]
) -> None:
    """The ensemble's classes are the graph's, with the names of the label file."""
    labels = (digits / "classify/labels.txt").read_text().splitlines()
    with Client(ensemble.url("sagemaker")) as client:
        rows = client.infer_images(IMAGES, classification=5).classes()
    for row, probabilities in zip(rows, digits_answers, strict=True):
        best = np.argsort(-probabilities)[:5]
        assert [entry.index for entry in row] == best.tolist()
        assert [entry.label for entry in row] == [labels[index] for index in best]
        np.testing.assert_allclose([entry.score for entry in row], probabilities[best], atol=2e-5)


def test_each_instance_loads_tensorflow_without_keras(digits_server: Server) -> None:
    """Triton makes two instances of a TensorFlow model on the CPU; Keras would load scikit-learn."""
    found = instances(digits_server, "classify")
    assert len(found) == 2
    for instance in found:
        assert instance.has_loaded("tensorflow")
        assert not instance.has_loaded("sklearn")


@pytest.fixture(scope="module")
def digits_onnx(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """`repos/digits`, converted for 26.05."""
    return convert_repository(digits, tmp_path_factory.mktemp("onnx") / "digits", image="26.05")


@pytest.fixture(scope="module")
def digits_onnx_server(digits_onnx: Conversion) -> Iterator[Server]:
    """A real tritonserver that runs the converted digits."""
    with Server(digits_onnx.repository, sagemaker_port=0, http_port=0, grpc_port=None, metrics_port=None) as server:
        yield server


def test_the_converted_repository_is_valid_for_the_newest_image(digits_onnx: Conversion, digits: Path) -> None:
    """Validation for 26.05 on SageMaker rejects nothing; it rejects the original."""
    found = validate(digits_onnx.repository, image="26.05", target="sagemaker")
    assert [finding for finding in found if finding.refused_by] == []
    assert "E601" in {finding.code for finding in validate(digits, image="26.05")}


def test_the_conversion_compares_photographs_from_the_ensembles_own_preprocessing(digits_onnx: Conversion) -> None:
    """It compares photographs and random inputs; the difference is not zero, and within its tolerance."""
    (facts,) = digits_onnx.models
    assert (facts.photographs, facts.random, facts.classes) == (5, 5, 10)
    assert 0 < facts.relative_difference <= 1e-4
    assert digits_onnx.notes == ()


def test_digits_are_read_as_well_after_the_conversion(
    digits_server: Server, digits_onnx_server: Server, heldout: tuple[list[bytes], list[int]]
) -> None:
    """A hundred held-out images get the label that they get from TensorFlow, with nearly the same probability."""

    def ask(server: Server, images: list[bytes], **options: Any) -> Any:
        with Client(url(server)) as client:
            return client.infer_images(images, **options)

    images = heldout[0][:100]
    ours, theirs = (ask(server, images[:50])["PROBABILITIES"] for server in (digits_server, digits_onnx_server))
    assert 0 < np.abs(ours - theirs).max() <= 1e-5  # not 0: two runtimes answered
    for options in ({"classification": 1}, {"classification": 5, "binary": False}):
        rows = [ask(server, images[50:], **options).classes() for server in (digits_server, digits_onnx_server)]
        assert [row[0].label for row in rows[0]] == [row[0].label for row in rows[1]]
        assert len({row[0].label for row in rows[0]}) > 5
