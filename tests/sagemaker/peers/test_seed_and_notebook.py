"""AWS's own post and notebook against the emulator: nothing is changed but the names that they leave open."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.peers import IMAGE, Peers, Place, upload_package
from tests.support.photographs import CHINA
from tests.support.picture_models import INCEPTION, write_repository
from tritonforge.emulator import Emulator
from tritonforge.inference.client import Client
from tritonforge.serving.server import Server

pytestmark = pytest.mark.server

HERE = Path(__file__).parent


# `repos/inception_v3` itself, with its large graph, in `make test-all` only: that DALI and TensorFlow answer on a
# server is shown by end_to_end/test_digits.py, and on an endpoint by client/test_on_emulator.py.
@pytest.fixture(
    scope="module", params=["small", pytest.param("inception", marks=[pytest.mark.framework, pytest.mark.long])]
)
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble with the names of the post's: a small one without a framework, or `repos/inception_v3`."""
    if request.param == "inception":
        built: Path = request.getfixturevalue("inception")
        return built
    return write_repository(tmp_path_factory.mktemp("repositories") / "inception", INCEPTION)


@pytest.fixture(scope="module")
def place(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The emulator with the package of the ensemble."""
    with Emulator(speed=1000) as emulator:
        yield upload_package(emulator, repository, tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def expected(repository: Path) -> np.ndarray:
    """What the same repository answers on a bare tritonserver."""
    with (
        Server(repository, sagemaker_port=0, http_port=None, grpc_port=None, metrics_port=None) as server,
        Client(server.sagemaker_url or "") as client,
    ):
        return client.infer_raw(CHINA.read_bytes()).outputs["OUTPUT"].reshape(-1)


def test_the_code_of_the_post_runs_from_create_model_to_both_invocations(
    place: Place, peers: Peers, expected: np.ndarray
) -> None:
    """CreateModel to InvokeEndpoint as JSON and as binary+json: both answer what the ensemble answers."""
    arguments = (place.package, place.emulator.role_arn, IMAGE, str(CHINA))
    result = json.loads(peers.boto3(place.emulator, HERE / "seed_ensemble.py", *arguments))
    assert [arn.rpartition(":")[2].partition("/")[0] for arn in result["arns"]] == [
        "model",
        "endpoint-config",
        "endpoint",
    ]
    assert result["variant"] == "AllTraffic"
    assert len(result["json"]) == 1001
    np.testing.assert_allclose(result["json"], expected, atol=1e-5)
    np.testing.assert_allclose(result["binary"], expected, atol=1e-5)


def test_the_steps_of_the_notebook_run_with_their_own_request_building(
    place: Place, peers: Peers, repository: Path, expected: np.ndarray
) -> None:
    """The notebook packs with tar, polls and builds its requests itself; the endpoint answers all the same."""
    arguments = (str(repository), place.emulator.role_arn, str(CHINA))
    result = json.loads(peers.boto3(place.emulator, HERE / "notebook_steps.py", *arguments))
    assert result["statuses"] == ["Creating", "InService"]
    np.testing.assert_allclose(result["json"], expected, atol=1e-5)
    np.testing.assert_allclose(result["binary"], expected, atol=1e-5)
