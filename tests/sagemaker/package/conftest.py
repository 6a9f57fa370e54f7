"""Fixtures of the tests of packages."""

from pathlib import Path

import pytest

from tests.support.model_archives import FILES, lay


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of an ensemble and its only step, written by hand."""
    return lay(tmp_path / "repository", FILES)
