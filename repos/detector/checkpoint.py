"""Checkpoints: everything that training needs to go on as if it had never been interrupted, in one file.

The file is replaced at once and whole, so that a job that is killed while it writes leaves the one before.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from tritonforge.training.algorithm import InputError

__all__ = ["FILE", "load", "save"]

FILE: Final = "state.npz"

#: The array that holds the rest, as JSON.
_TOLD: Final = "told"


def save(folder: Path, arrays: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    """Write a checkpoint: arrays by name, and what JSON can tell. Raises OSError, where a disk is full, say."""
    text = np.frombuffer(json.dumps(told).encode(), np.uint8)
    partial = folder / f".{FILE}.partial"
    try:
        with partial.open("wb") as file:
            np.savez(file, **{_TOLD: text}, **dict(arrays))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / FILE)
    finally:
        partial.unlink(missing_ok=True)


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The arrays and what was told of the checkpoint in a folder, None where there is none.

    Raises:
        InputError: the file is no checkpoint, or damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        told = json.loads(arrays.pop(_TOLD).tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"the checkpoint {path} cannot be read: {error}; take it away, and training begins anew"
        ) from error
    return arrays, told
