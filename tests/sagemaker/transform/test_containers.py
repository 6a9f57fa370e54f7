"""The containers of jobs: which image is run as what, and how the engine asks a container that comes and goes."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest

from tritonforge.emulator.control.fleet import BatchModelClient
from tritonforge.emulator.hosting import ContainerError, ContainerGoneError
from tritonforge.emulator.hosting.container_images import is_tensorflow_serving
from tritonforge.emulator.interfaces import ContainerResponse
from tritonforge.errors import ConnectError
from tritonforge.transform import ServerLostError

ECR = "763104351884.dkr.ecr.us-west-2.amazonaws.com"


@pytest.mark.parametrize(
    ("image", "declared", "expected"),
    [
        (f"{ECR}/tensorflow-inference:2.20-gpu-py312", {}, True),
        (f"{ECR}/tensorflow-inference-arm64:2.19-cpu", {}, True),
        ("520713654638.dkr.ecr.us-west-2.amazonaws.com/sagemaker-tensorflow-serving:1.12.0-gpu", {}, True),
        (f"{ECR}/sagemaker-tritonserver:24.09-py3", {}, False),
        ("mine/classifier:1", {}, False),
        ("mine/classifier:1", {"mine/classifier:1": "tensorflow-inference"}, True),
        ("mine/classifier:1", {"mine/classifier:1": "tensorflow-inference:2.20"}, True),
        (f"{ECR}/tensorflow-inference:2.20", {f"{ECR}/tensorflow-inference:2.20": "24.09"}, False),
    ],
)
def test_which_images_run_packages(image: str, declared: Mapping[str, str], expected: bool) -> None:
    """Those of AWS's two repositories, and what a user declares as such."""
    assert is_tensorflow_serving(image, declared) is expected


@pytest.mark.parametrize("tag", ["1.13.1-gpu", "2.1.0-cpu"])
def test_images_that_were_never_there(tag: str) -> None:
    """The older repository ends with 1.12; the sentence says where the image is."""
    with pytest.raises(ContainerError, match=r"from 1\.13\.0 on the repository is tensorflow-inference"):
        is_tensorflow_serving(f"520713654638.dkr.ecr.us-west-2.amazonaws.com/sagemaker-tensorflow-serving:{tag}", {})


class Moody:
    """A container that does in turn what it is reported to; an Exception is raised, the last mood stays."""

    def __init__(self, *moods: ContainerResponse | Exception) -> None:
        self.moods = list(moods)

    def _next(self) -> ContainerResponse:
        mood = self.moods.pop(0) if len(self.moods) > 1 else self.moods[0]
        if isinstance(mood, Exception):
            raise mood
        return mood

    def invoke(self, body: bytes, headers: Mapping[str, str], *, timeout: float) -> ContainerResponse:
        """The next mood."""
        return self._next()

    def get(self, path: str, *, timeout: float) -> ContainerResponse:
        """The next mood."""
        return self._next()


def test_what_a_container_does_is_reported_to_the_engine() -> None:
    """A container that may have seen the request, one that has not, and one that is too slow are three things."""
    asker = BatchModelClient(Moody(ContainerGoneError("it ended", in_flight=True)))
    with pytest.raises(ServerLostError) as gone:
        asker.invoke(b"", {}, timeout=1)
    assert gone.value.received
    asker = BatchModelClient(Moody(ContainerGoneError("it is away")))
    with pytest.raises(ServerLostError) as gone:
        asker.invoke(b"", {}, timeout=1)
    assert not gone.value.received
    asker = BatchModelClient(Moody(TimeoutError("no answer within 1 s")))
    with pytest.raises(ConnectError) as slow:
        asker.invoke(b"", {}, timeout=1)
    assert not isinstance(slow.value, ServerLostError)


@pytest.mark.parametrize(
    ("status", "refused", "broke"), [(200, False, False), (400, True, False), (415, True, False), (500, False, True)]
)
def test_whose_fault_a_failure_is(status: int, refused: bool, broke: bool) -> None:
    """4xx is the client's, 5xx the container's."""
    asker = BatchModelClient(Moody(ContainerResponse(status, {"a": "b"}, b"body")))
    reply = asker.invoke(b"", {}, timeout=1)
    assert (reply.status, reply.headers, reply.body) == (status, {"a": "b"}, b"body")
    assert (asker.refused, asker.broke) == (refused, broke)


@pytest.mark.parametrize(
    ("answer", "parameters"),
    [
        (ContainerResponse(200, {}, b'{"MaxPayloadInMB": 5}'), {"MaxPayloadInMB": 5}),
        (ContainerResponse(400, {}, b'{"MaxPayloadInMB": 5}'), None),
        (ContainerResponse(404, {}, b""), None),
        (ContainerResponse(200, {}, b"<html>"), None),
        (ContainerResponse(200, {}, b"[5]"), None),
        (ContainerGoneError("away"), None),
        (TimeoutError(), None),
    ],
)
def test_execution_parameters(answer: ContainerResponse | Exception, parameters: object) -> None:
    """An object of JSON with status 200, and nothing else."""
    assert BatchModelClient(Moody(answer)).fetch_parameters() == parameters


@pytest.mark.slow
def test_a_container_that_comes_back_is_waited_for() -> None:
    """Until /ping says 200; not for ever, and not when the job is stopped."""
    away = ContainerGoneError("away")
    never = threading.Event()
    BatchModelClient(
        Moody(away, TimeoutError(), ContainerResponse(503, {}, b""), ContainerResponse(200, {}, b""))
    ).recover(never)
    with pytest.raises(ConnectError, match=r"did not come back within 0\.2 s"):
        BatchModelClient(Moody(away), patience=0.2).recover(never)
    stopped = threading.Event()
    stopped.set()
    BatchModelClient(Moody(away)).recover(stopped)
