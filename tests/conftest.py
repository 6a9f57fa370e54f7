"""What several rooms of the tests share: the built repositories, and real servers that run them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tritonforge.serving.server import Server

ROOT = Path(__file__).parents[1]


def tritonforge(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    program = Path(sys.executable).with_name("tritonforge")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False)


def built(name: str, folder: Path) -> Path:
    """`repos/<name>` built into a folder."""
    done = tritonforge("build", f"repos/{name}", "-o", str(folder / name))
    assert done.returncode == 0, done.stderr
    return folder / name


@pytest.fixture(scope="session")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built repository of `repos/inception_v3`."""
    return built("inception_v3", tmp_path_factory.mktemp("inception"))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built repository of `repos/digits`."""
    return built("digits", tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def inception_server(inception: Path) -> Iterator[Server]:
    """A real tritonserver that runs `repos/inception_v3`."""
    with Server(inception, sagemaker_port=0, http_port=0, grpc_port=0, metrics_port=None) as server:
        yield server


@pytest.fixture(scope="session")
def digits_server(digits: Path) -> Iterator[Server]:
    """A real tritonserver that runs `repos/digits`."""
    with Server(digits, sagemaker_port=0, http_port=0, grpc_port=0, metrics_port=None) as server:
        yield server
