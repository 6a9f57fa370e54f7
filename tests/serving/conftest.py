"""Fixtures: a model repository made once, one server for it, and a small client of the v2 protocol."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from filelock import FileLock

from tests.support.checkout import ROOT
from tests.support.tensor_client import FREE, Asker
from tests.support.throwaway_server import ThrowawayServer
from tritonforge.serving.server import Server


@pytest.fixture(scope="session")
def repositories(shared: Path) -> Path:
    """The folder with the repositories that make_repository.py makes; tests read it."""
    folder = shared / "serving-repositories"
    with FileLock(shared / "serving-repositories.lock"):
        if not (shared / "serving-repositories.made").exists():
            program = ROOT / "tests" / "support" / "model_zoo.py"
            subprocess.run([sys.executable, str(program), str(folder)], check=True, capture_output=True)
            (shared / "serving-repositories.made").touch()
    return folder


@pytest.fixture(scope="session")
def zoo(repositories: Path) -> Iterator[Server]:
    """A server with every model of the zoo; /invocations asks the ensemble."""
    with ThrowawayServer(repositories / "zoo", **FREE) as server:
        yield server


@pytest.fixture(scope="session")
def ask(zoo: Server) -> Iterator[Asker]:
    """The client of the zoo."""
    with urllib3.PoolManager(maxsize=16) as pool:
        assert zoo.http_url is not None
        yield Asker(zoo.http_url, pool)
