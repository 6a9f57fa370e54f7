"""What all tests share: the built repositories, and real servers that run them."""

import gc
import os
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import markers, schedule
from tests.support.checkout import build_once
from tests.support.framework_children import FrameworkProcess
from tritonforge.serving.server import Server

# No test is timed, and no machine is too slow for one. Every run tries the same examples, so that it ends as the one
# before did; --hypothesis-profile=random looks for others.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("random"), derandomize=True)
settings.load_profile("same")

# A shell that runs the tests in the background has them, and every program that they start, pass over Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure() -> None:
    """Listen to what tests do."""
    markers.install()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give one process the files that share a server, and several the tests of a file that share nothing."""
    return schedule.make_scheduler(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """Turn the garbage collector off while tests are collected, and have it pass over what was collected.

    That is a million objects, which live as long as the tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Fail a test whose fixtures do what its markers do not allow."""
    with markers.check_markers(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fail a test that does what its markers do not allow."""
    with markers.check_markers(item):
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; ``--no-loadscope-reorder`` keeps this order in several processes."""
    items.sort(key=lambda item: schedule.find_rank(item.path))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of one run share; what is made in it is made once, under a lock."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def inception(shared: Path) -> Path:
    """The built repository of `repos/inception_v3`; tests read it."""
    return build_once("inception_v3", shared)


@pytest.fixture(scope="session")
def digits(shared: Path) -> Path:
    """The built repository of `repos/digits`; tests read it."""
    return build_once("digits", shared)


@pytest.fixture(scope="session")
def resnet50(shared: Path) -> Path:
    """The built repository of `repos/resnet50`; tests read it."""
    return build_once("resnet50", shared)


@pytest.fixture(scope="module")
def inception_server(inception: Path) -> Iterator[Server]:
    """A real tritonserver that runs `repos/inception_v3`; it has 4 GB, which no test keeps longer than it must."""
    with Server(inception, sagemaker_port=0, http_port=0, grpc_port=0, metrics_port=None) as server:
        yield server


@pytest.fixture(scope="session")
def digits_server(digits: Path) -> Iterator[Server]:
    """A real tritonserver that runs `repos/digits`."""
    with Server(digits, sagemaker_port=0, http_port=0, grpc_port=0, metrics_port=None) as server:
        yield server


@pytest.fixture(scope="session")
def framework_processes() -> Iterator[tuple[FrameworkProcess, FrameworkProcess]]:
    """Two processes that fork those in which models are made and converted."""
    imports = "import keras, onnxruntime, tensorflow, tf2onnx"
    with FrameworkProcess(imports) as first, FrameworkProcess(imports) as second:
        yield first, second


@pytest.fixture(scope="session")
def refused() -> Callable[..., tuple[str, str]]:
    """The code and the sentence of an error."""
    from botocore.exceptions import ClientError

    def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            call(**arguments)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    return refusal
