"""Checkpoints: the whole state of a training in one file, so that it resumes as if it had never been interrupted.

The file is replaced atomically: a job that is killed while it writes keeps the checkpoint before.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from tritonforge.files import replace_file
from tritonforge.training.algorithm import InputError

__all__ = ["FILE", "load", "save"]

FILE: Final = "state.npz"

#: The array that has the state, as JSON.
_STATE_ARRAY: Final = "told"


def save(folder: Path, arrays: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a checkpoint: arrays by name, and a state that can be encoded as JSON. Raises OSError."""
    text = np.frombuffer(json.dumps(state).encode(), np.uint8)
    with replace_file(folder / FILE) as file:
        np.savez(file, **{_STATE_ARRAY: text}, **dict(arrays))


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Read the arrays and the state of the checkpoint in a folder, None if the folder has none.

    Raises:
        InputError: the file is not a checkpoint, or damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        state = json.loads(arrays.pop(_STATE_ARRAY).tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"the checkpoint {path} cannot be read: {error}; remove it to start the training anew"
        ) from error
    return arrays, state
