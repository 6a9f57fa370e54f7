"""Fixtures: packages written by a test, and a program that takes TensorFlow Serving's place without TensorFlow."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.tfs_packages import PROGRAM, Start, Write, write_package
from tritonforge.serving.tfs.server import TfsServer


@pytest.fixture(scope="session")
def model_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that takes TensorFlow Serving's place."""
    path = tmp_path_factory.mktemp("program") / "tensorflow_model_server"
    path.write_text(f"#!{sys.executable}\n{PROGRAM}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def package(tmp_path: Path) -> Write:
    """Writes the package of a test (`write_package`)."""

    def write(code: Mapping[str, str] | None = None, *, model: str = "toy/1") -> Path:
        return write_package(tmp_path / "package", code, model=model)

    return write


@pytest.fixture
def start(package: Write, model_server: Path) -> Any:
    """Starts a package with code in front of the program; everything is stopped when the test ends."""
    started: list[TfsServer] = []

    def run(
        code: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None, **options: Any
    ) -> TfsServer:
        server = TfsServer(package(code), program=model_server, environment=environment, **options)
        started.append(server)
        return server

    yield run
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def start_once(tmp_path_factory: pytest.TempPathFactory, model_server: Path) -> Iterator[Start]:
    """Starts packages that all tests of a module ask; they are stopped when its last test ends."""
    with ExitStack() as stack:

        def run(code: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None) -> TfsServer:
            folder = write_package(tmp_path_factory.mktemp("shared") / "package", code)
            return stack.enter_context(TfsServer(folder, program=model_server, environment=environment))

        yield run
