"""AWS's own post and notebook against the emulator: nothing is changed but the names that they leave open."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.sagemaker.peers.conftest import IMAGE, PHOTOGRAPH, Place, upload_package
from tritonforge.inference.client import Client
from tritonforge.sagemaker.emulator import Emulator
from tritonforge.serving.server import Server

pytestmark = [pytest.mark.server, pytest.mark.framework]

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def place(inception: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The emulator with the package of the seed's ensemble."""
    with Emulator(speed=1000) as emulator:
        yield Place(emulator, upload_package(emulator, inception, tmp_path_factory.mktemp("packages")))


@pytest.fixture(scope="module")
def expected(inception_server: Server) -> np.ndarray:
    """What the same repository answers on a bare tritonserver."""
    with Client(inception_server.sagemaker_url or "") as client:
        return client.infer_raw(PHOTOGRAPH.read_bytes()).outputs["OUTPUT"].reshape(-1)


def test_the_code_of_the_post_runs_from_create_model_to_both_invocations(place: Place, expected: np.ndarray) -> None:
    """CreateModel to InvokeEndpoint as JSON and as binary+json: both answer what the ensemble answers."""
    arguments = (place.package, place.emulator.role_arn, IMAGE, str(PHOTOGRAPH))
    told = json.loads(place.run(sys.executable, str(HERE / "seed_ensemble.py"), *arguments))
    assert [arn.rpartition(":")[2].partition("/")[0] for arn in told["arns"]] == [
        "model",
        "endpoint-config",
        "endpoint",
    ]
    assert told["variant"] == "AllTraffic"
    assert len(told["json"]) == 1001
    np.testing.assert_allclose(told["json"], expected, atol=1e-5)
    np.testing.assert_allclose(told["binary"], expected, atol=1e-5)


def test_the_steps_of_the_notebook_run_with_their_own_request_building(
    place: Place, inception: Path, expected: np.ndarray
) -> None:
    """The notebook packs with tar, polls and builds its requests itself; the endpoint answers all the same."""
    arguments = (str(inception), place.emulator.role_arn, str(PHOTOGRAPH))
    told = json.loads(place.run(sys.executable, str(HERE / "notebook_steps.py"), *arguments))
    assert told["statuses"] == ["Creating", "InService"]
    np.testing.assert_allclose(told["json"], expected, atol=1e-5)
    np.testing.assert_allclose(told["binary"], expected, atol=1e-5)
