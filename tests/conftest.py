"""What all tests share: the built repositories, and real servers that run them."""

import os
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import markers
from tests.support.checkout import ROOT, build_once
from tritonforge.serving.server import Server

# No test is timed, and no machine is too slow for one.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# A shell that runs the tests in the background has them, and every program that they start, pass over Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


#: The files that take longest, the longest first. They are started first, so that no process is left with one of them
#: when the others are done.
LONGEST_FIRST = (
    "end_to_end/test_detector_learner.py",
    "profiling/test_bottlenecks.py",
    "tuning/test_command.py",
    "sagemaker/transform/test_seed.py",
    "sagemaker/endpoints/test_interruption.py",
    "sagemaker/peers/test_sagemaker_sdk.py",
    "validation/test_differential.py",
    "end_to_end/test_digits.py",
    "golden_tests/test_digits.py",
    "golden_tests/test_suite.py",
    "repository/test_conversion.py",
    "transform/test_local_server.py",
    "serving/test_server.py",
    "sagemaker/endpoints/test_deploy_command.py",
    "sagemaker/peers/test_seed_and_notebook.py",
    "serving/test_backends.py",
    "transform/test_digits.py",
    "sagemaker/peers/test_aws_cli.py",
    "sagemaker/client/test_on_emulator.py",
    "serving/tfs/test_contract.py",
    "web_console/test_console_browser.py",
    "cli/test_watch.py",
    "cli/test_serve_and_infer.py",
    "serving/tfs/test_server.py",
    "transform/test_interruption.py",
    "repository/test_artifacts_repos.py",
    "end_to_end/test_resnet50_tfs.py",
    "emulator/hosting/test_host.py",
    "transform/test_command.py",
    "repository/test_artifacts_make.py",
)


def pytest_configure() -> None:
    """Listen to what tests do."""
    markers.install()


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
    """Put the files of `LONGEST_FIRST` first; ``--no-loadscope-reorder`` keeps this order in several processes."""
    order = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


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
def refused() -> Callable[..., tuple[str, str]]:
    """The code and the sentence of an error."""
    from botocore.exceptions import ClientError

    def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            call(**arguments)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    return refusal
