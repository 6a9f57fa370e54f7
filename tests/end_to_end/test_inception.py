"""The seed's ensemble on a real server: its answers are those of the same pipeline and graph in this process.

Converted to ONNX it answers the same on a second server; a server with this graph takes
long to start, so both are here.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.image_requests import REQUESTS, Ensemble
from tests.support.instances import instances
from tests.support.photographs import photographs_and_crops
from tritonforge import tf_memory
from tritonforge.inference.client import Client
from tritonforge.model_files.dali_pipeline import move_to_cpu
from tritonforge.repository.onnx_conversion import Conversion
from tritonforge.repository.onnx_converter import convert_repository
from tritonforge.serving.server import Server
from tritonforge.validation.report import validate

# test_digits.py shows the same with a small graph: the answers of every kind of request, labels, and the conversion to
# ONNX. test_tensorflow_image.py shows how much memory an instance keeps.
pytestmark = [pytest.mark.server, pytest.mark.framework, pytest.mark.long]

IMAGES = photographs_and_crops()
SOFTMAX = "InceptionV3/Predictions/Softmax"


@pytest.fixture(scope="module")
def expected(inception: Path) -> np.ndarray[Any, Any]:
    """The probabilities of the eight images, by DALI and TensorFlow in this process."""
    import nvidia.dali as dali
    import tensorflow as tf

    pipeline = dali.Pipeline.deserialize(
        serialized_pipeline=move_to_cpu((inception / "dali/1/model.dali").read_bytes()),
        batch_size=8,
        num_threads=2,
        device_id=None,
    )
    pipeline.build()
    pipeline.feed_input("DALI_INPUT_0", [np.frombuffer(image, np.uint8) for image in IMAGES])
    (pixels,) = pipeline.run()
    graph = tf.Graph()
    with graph.as_default():
        definition = tf.compat.v1.GraphDef()
        definition.ParseFromString((inception / "inception_graphdef/1/model.graphdef").read_bytes())
        tf.import_graph_def(definition, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        found: np.ndarray[Any, Any] = session.run(f"{SOFTMAX}:0", {"input:0": pixels.as_array()})
    del session, graph, definition
    tf_memory.trim_heap()  # the server needs as much again
    return found


def test_the_answers_differ_between_the_images(expected: np.ndarray[Any, Any]) -> None:
    """Equal answers would prove nothing: the eight images have answers that differ by far more than 1e-5."""
    assert expected.shape == (8, 1001)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-4)
    apart = [np.abs(expected[a] - expected[b]).max() for a in range(8) for b in range(a)]
    assert min(apart) > 1e-3


def test_an_instance_keeps_less_than_ten_times_its_weights(inception_server: Server, inception: Path) -> None:
    """TensorFlow and what it needs of the graph; not what loading left behind, nor Keras and what that loads."""
    weights = (inception / "inception_graphdef/1/model.graphdef").stat().st_size
    found = instances(inception_server, "inception_graphdef")
    assert len(found) == 2  # Triton makes two instances of a TensorFlow model on the CPU
    for instance in found:
        assert instance.has_loaded("tensorflow")
        assert not instance.has_loaded("sklearn")
        assert instance.memory < 10 * weights


@pytest.fixture(scope="module")
def ensemble(inception_server: Server) -> Ensemble:
    """The ensemble on the server."""
    return Ensemble(inception_server, "ensemble_dali_inception", "INPUT", "OUTPUT")


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("request_images", REQUESTS, ids=lambda function: function.__name__)
def test_the_server_answers_what_the_same_models_answer_in_process(
    request_images: Callable[[Ensemble, list[bytes]], np.ndarray[Any, Any]],
    count: int,
    ensemble: Ensemble,
    expected: np.ndarray[Any, Any],
) -> None:
    """Every kind of request, for one image and for eight: the largest difference is at most 1e-5."""
    found = request_images(ensemble, IMAGES[:count])
    assert found.shape == (count, 1001)
    assert np.abs(found - expected[:count]).max() <= 1e-5


def test_labels_come_back_with_the_best_classes(
    ensemble: Ensemble, inception: Path, expected: np.ndarray[Any, Any]
) -> None:
    """The ensemble's classes are the graph's, with the names of the label file."""
    labels = (inception / "inception_graphdef/inception_labels.txt").read_text().splitlines()
    with Client(ensemble.url("sagemaker")) as client:
        rows = client.infer_images(IMAGES, classification=5).classes()
    for row, probabilities in zip(rows, expected, strict=True):
        best = np.argsort(-probabilities)[:5]
        assert [entry.index for entry in row] == best.tolist()
        assert [entry.label for entry in row] == [labels[index] for index in best]
        np.testing.assert_allclose([entry.score for entry in row], probabilities[best], atol=2e-5)


@pytest.fixture(scope="module")
def inception_onnx(inception: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """`repos/inception_v3`, converted for 26.05."""
    return convert_repository(inception, tmp_path_factory.mktemp("onnx") / "inception", image="26.05")


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
    for images in (IMAGES[:2], IMAGES[:1]):
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
    ours = asked(inception_server, IMAGES[:2], classification=5, binary=False).classes()
    theirs = asked(inception_onnx_server, IMAGES[:2], classification=5, binary=False).classes()
    for one, other in zip(ours, theirs, strict=True):
        assert [(entry.index, entry.label) for entry in one] == [(entry.index, entry.label) for entry in other]
        assert [entry.label for entry in other] == [labels[entry.index] for entry in other]


def test_the_comparison_went_through_the_ensembles_own_preprocessing(inception_onnx: Conversion) -> None:
    """Photographs and random inputs, and a difference that is there, and is allowed."""
    (facts,) = inception_onnx.models
    assert (facts.photographs, facts.random, facts.classes) == (5, 5, 10)
    assert 0 < facts.relative_difference <= 1e-4
    assert inception_onnx.notes == ()


def test_the_converted_repository_is_right_for_the_newest_image(inception_onnx: Conversion) -> None:
    """Validated for 26.05 on SageMaker: nothing is refused."""
    found = validate(inception_onnx.repository, image="26.05", target="sagemaker")
    assert [finding for finding in found if finding.refused_by] == []
