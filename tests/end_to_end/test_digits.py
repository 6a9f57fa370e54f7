"""A network that was really trained, behind the real server: the truth test of wiring, layout and colours."""

import importlib.util
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tritonforge.errors import ServerError
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
    images, _ = heldout
    with Client(url(digits_server)) as client:
        alone = np.concatenate([client.infer_raw(image)["PROBABILITIES"] for image in images])

    def corrupted(request: int) -> bytes:
        """No image at all, or the first bytes of one."""
        return f"#{request:04d} is no image".encode() if request // 100 % 2 else images[request % 360][:20]

    def own(request: int, sentence: str) -> bool:
        """The sentence quotes how the bytes begin, which no other request shares."""
        return f"#{request:04d}" in sentence if request // 100 % 2 else "#" not in sentence

    failures: list[str] = []
    answered = [0] * 8

    def work(worker: int) -> None:
        with Client(url(digits_server)) as client:
            for index in range(250):
                request = worker * 250 + index
                corrupt = request % 100 == 37
                body = corrupted(request) if corrupt else images[request % 360]
                try:
                    found = client.infer_raw(body)["PROBABILITIES"]
                except ServerError as error:
                    answered[worker] += 1
                    if not corrupt:
                        failures.append(f"request {request} was good and got: {error}")
                    elif not own(request, error.message):
                        failures.append(f"request {request} got another's error: {error}")
                    continue
                answered[worker] += 1
                if corrupt:
                    failures.append(f"request {request} was corrupt and got an answer")
                elif np.abs(found[0] - alone[request % 360]).max() > 1e-5:
                    failures.append(f"request {request} got another's answer")

    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert failures == []
    assert answered == [250] * 8
