"""A network that was really trained, behind the real server: the truth test of wiring, layout and colours."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.end_to_end import traffic
from tritonforge.inference.client import Client
from tritonforge.serving.server import Server

pytestmark = [pytest.mark.server, pytest.mark.framework]

ROOT = Path(__file__).parents[2]


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


def test_two_thousand_requests_of_eight_clients_with_corrupt_ones_between(
    digits_server: Server, heldout: tuple[list[bytes], list[int]]
) -> None:
    """1 % of the requests carry no image: each gets its own error, every other one its own answer, none is lost."""
    failures, answered = traffic.run(url(digits_server), heldout[0], requests=2000)
    assert failures == []
    assert answered == 2000
