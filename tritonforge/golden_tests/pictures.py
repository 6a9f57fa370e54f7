"""The tensors of a failed case as files: the picture before and after side by side, and the array of this answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonforge.errors import CaseError, MissingExtraError
from tritonforge.files import describe_error, replace_file
from tritonforge.golden_tests.evaluation import Difference
from tritonforge.golden_tests.suite import CaseResult, describe_step
from tritonforge.golden_tests.tensor_record import TensorRecord, draw_thumbnail

__all__ = ["draw_pair", "write_tensors"]

Array = npt.NDArray[Any]

#: Pixels that a pixel of a thumbnail becomes, and those between two pictures.
_SCALE = 8
_GAP = 8


def write_tensors(folder: Path, result: CaseResult) -> list[Path]:
    """Write the tensors that differ into a folder, and return the paths.

    ``CASE.STEP.OUTPUT.npy`` is the tensor of this answer, ``CASE.STEP.OUTPUT.before.npy`` the recorded one if the
    recording has all of it, and ``CASE.STEP.OUTPUT.png`` shows both as pictures if they look like images: before on the
    left, now on the right.

    Raises:
        CaseError: the files cannot be written.
        MissingExtraError: a tensor is a picture, and Pillow is not installed.
    """
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for difference in result.differences:
            stem = re.sub(r"[^\w.-]", "_", f"{result.name}.{describe_step(result, difference)}")
            written += _write_difference(folder / stem, difference)
    except OSError as error:
        raise CaseError(f"{folder}: cannot write: {describe_error(error)}") from error
    return list(dict.fromkeys(written))


def draw_pair(before: TensorRecord, now: Array) -> Array | None:
    """Return the picture of a recorded tensor beside that of another one, in the same scale of values.

    It is UINT8 [height, width, channels]; None if one of them does not look like an image.
    """
    if before.values is not None:
        limits = (float(before.values.min()), float(before.values.max())) if before.values.size else (0.0, 0.0)
        left = None if before.values.dtype == object else draw_thumbnail(before.values, limits=limits)
    elif before.summary is not None:
        left, limits = before.thumbnail, (before.summary.minimum, before.summary.maximum)
    else:
        return None
    right = None if now.dtype == object else draw_thumbnail(now, limits=limits)
    if left is None or right is None or left.shape[2] != right.shape[2]:
        return None
    height = max(left.shape[0], right.shape[0]) * _SCALE
    parts = [np.repeat(np.repeat(picture, _SCALE, axis=0), _SCALE, axis=1) for picture in (left, right)]
    padded = [np.pad(part, ((0, height - part.shape[0]), (0, 0), (0, 0)), constant_values=255) for part in parts]
    gap = np.full((height, _GAP, left.shape[2]), 255, np.uint8)
    pair: Array = np.concatenate([padded[0], gap, padded[1]], axis=1)
    return pair


def _write_difference(stem: Path, difference: Difference) -> Iterator[Path]:
    if difference.now is None:
        return
    if difference.now.dtype != object and difference.now.dtype.name != "bfloat16":  # .npy holds neither
        yield _save(stem.with_name(f"{stem.name}.npy"), difference.now)
        before = difference.before
        if before is not None and before.values is not None and before.values.dtype != object:
            yield _save(stem.with_name(f"{stem.name}.before.npy"), before.values)
    pair = None if difference.before is None else draw_pair(difference.before, difference.now)
    if pair is None:
        return
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", extra="local") from error
    path = stem.with_name(f"{stem.name}.png")
    with replace_file(path, sync=False) as file:
        Image.fromarray(pair[:, :, 0] if pair.shape[2] == 1 else pair).save(file, "PNG")
    yield path


def _save(path: Path, array: Array) -> Path:
    with replace_file(path, sync=False) as file:
        np.save(file, array, allow_pickle=False)
    return path
