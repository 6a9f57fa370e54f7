"""A model that answers in this process and fails as asked, and short ways to a job over folders."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.folder_transforms import (
    Folder,
)
from tests.support.forked_scripts import Forks


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A job's folders."""
    return Folder(tmp_path)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """The process that those of `killed.Tool` are forks of."""
    modules = ("tritonforge.cli.main", "tritonforge.cli.transform", "tritonforge.transform.local_server")
    with Forks([sys.executable], *modules) as running:
        yield running


@pytest.fixture
def quick() -> Iterator[None]:
    """Retries without pauses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tritonforge.transform.model_client._RETRY_DELAY", 0.0)
        yield
