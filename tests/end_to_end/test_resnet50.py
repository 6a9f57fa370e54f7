"""ResNet-50's two SavedModels on a real server: behind DALI in an ensemble, and alone on encoded images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.photographs import PHOTOGRAPHS
from tritonforge.errors import ServerError
from tritonforge.inference.client import Client
from tritonforge.serving.server import Server

# test_digits.py shows the same of a small ensemble, test_resnet50_tfs.py of a small SavedModel on encoded images, and
# serving/test_backends.py that an error of TensorFlow is reported with 400 and leaves other requests alone.
pytestmark = [pytest.mark.server, pytest.mark.framework, pytest.mark.long]


@pytest.fixture(scope="module")
def server(resnet50: Path) -> Iterator[Server]:
    """A real tritonserver that runs `repos/resnet50`."""
    with Server(resnet50, sagemaker_port=0, http_port=0, grpc_port=None, metrics_port=None) as running:
        yield running


def test_encoded_images_get_the_signature_of_the_seed(server: Server) -> None:
    """`image_bytes` in; `classes` are the places of the largest of 1001 `probabilities`, which sum to 1."""
    with Client(str(server.http_url), model="resnet50_image_bytes") as client:
        answer = client.infer_images(PHOTOGRAPHS)
    assert answer["probabilities"].shape == (2, 1001)
    np.testing.assert_allclose(answer["probabilities"].sum(axis=1), 1, atol=1e-4)
    assert answer["classes"].dtype == np.int64
    assert answer["classes"].reshape(-1).tolist() == answer["probabilities"].argmax(axis=1).tolist()


def test_a_corrupt_image_is_refused_in_tensorflows_words_and_the_next_is_answered(server: Server) -> None:
    """The graph's own decoder refuses it; the session continues."""
    with Client(str(server.http_url), model="resnet50_image_bytes") as client:
        with pytest.raises(ServerError, match="Unknown image file format") as refused:
            client.infer_images([b"no image"])
        assert refused.value.status == 400
        assert client.infer_images(PHOTOGRAPHS[:1])["probabilities"].shape == (1, 1001)


def test_the_ensemble_is_what_invocations_asks(server: Server) -> None:
    """The only ensemble is the default model, and its classes have the labels of its network."""
    assert server.default_model == "ensemble_resnet50"
    with Client(str(server.sagemaker_url)) as client:
        rows = client.infer_images(PHOTOGRAPHS, classification=3).classes()
    labels = (server.repository / "resnet50/resnet50_labels.txt").read_text().splitlines()
    for row in rows:
        assert [entry.label for entry in row] == [labels[entry.index] for entry in row]
        assert row[0].score >= row[1].score >= row[2].score > 0
