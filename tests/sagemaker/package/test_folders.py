"""A folder that is not a repository, as what a training job leaves: all of it goes into the archive."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from tritonforge.errors import PackageError
from tritonforge.sagemaker import package


def test_hidden_files_and_empty_folders_are_packed(tmp_path: Path) -> None:
    """What a repository's package leaves out may be the model itself here."""
    folder = tmp_path / "model"
    for name in (".hidden", "assets/.DS_Store", "code/__pycache__/module.pyc", "weights~"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "variables" / "deep" / "empty").mkdir(parents=True)
    package.pack(folder, tmp_path / "all.tar.gz")
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        names = archive.getnames()
    assert {".hidden", "assets/.DS_Store", "code/__pycache__/module.pyc", "weights~"} <= set(names)
    assert "variables/deep/empty" in names
    package.write_package(folder, tmp_path / "repository.tar.gz")
    with tarfile.open(tmp_path / "repository.tar.gz") as archive:
        assert ".hidden" not in archive.getnames()


def test_a_pipe_cannot_be_packed(tmp_path: Path) -> None:
    """As in a repository: nothing is skipped silently."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PackageError, match="neither a file nor a directory"):
        package.pack(tmp_path, tmp_path.with_suffix(".tar.gz"))
