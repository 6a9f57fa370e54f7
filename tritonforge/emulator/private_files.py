"""Files of the emulator that only its user may read: what users sent to S3, models, data of jobs, logs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import IO, Any, Final

from tritonforge import temporary

__all__ = ["container_files", "make_private", "make_state", "open_private"]

#: The folders of a state folder that outlive the process.
_FOLDERS: Final = ("neighbours", "sagemaker", "transforms", "trainings")


def make_state(folder: Path) -> None:
    """Make a state folder and the folders in it.

    The mode of a state folder that exists is left alone, as it may be a folder with other files of the user's.
    """
    for name in _FOLDERS:
        make_private(folder / name)


def container_files(state: Path | None) -> Path:
    """An empty folder for the files of containers; what a killed emulator left in a state folder is removed."""
    if state is None:
        return temporary.create("emulator")
    folder = state / "containers"
    shutil.rmtree(folder, ignore_errors=True)
    make_private(folder)
    return folder


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, all with mode 0700; one that exists gets that mode too."""
    for missing in reversed([each for each in folder.parents if not each.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)


def open_private(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file as `open` does; one that is made gets mode 0600."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600), **options)
