"""Stated dims and types of a DALI pipeline's outputs against what the pipeline gives, with DALI itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritonforge import TYPE_FP32, TYPE_UINT8, Dali, Input, Output
from tritonforge.repository.dali_model import compare_outputs, write_pipeline

pytestmark = pytest.mark.framework


def picture(images: Any) -> Any:
    """A picture of a fixed height, whose width follows the input's."""
    from nvidia.dali import fn, types

    images = fn.decoders.image(images, device="mixed", output_type=types.RGB)
    return fn.crop_mirror_normalize(fn.resize(images, resize_y=100), dtype=types.FLOAT, output_layout="HWC")


def doubled(numbers: Any) -> Any:
    """Twice as many numbers."""
    from nvidia.dali import fn

    return fn.cat(numbers, numbers, axis=0)


def gathered(numbers: Any) -> Any:
    """Fails on ones: the anchor is behind the end."""
    from nvidia.dali import fn

    return fn.slice(numbers, numbers, numbers, axes=[0], normalized_anchor=False, normalized_shape=False)


JPEG = [Input("jpeg", TYPE_UINT8, [-1])]
NUMBERS = [Input("x", TYPE_FP32, [95])]
CASES: dict[str, tuple[Any, list[Input], int, Output, str | None]] = {
    "right": (picture, JPEG, 4, Output("p", TYPE_FP32, [100, -1, 3]), None),
    "open": (picture, JPEG, 4, Output("p", TYPE_FP32, [-1, -1, -1]), None),
    "of the sample": (picture, JPEG, 4, Output("p", TYPE_FP32, [100, 150, 3]), None),
    "an extent": (
        picture,
        JPEG,
        4,
        Output("p", TYPE_FP32, [99, -1, 3]),
        "m: output 'p' is stated with dims [99, -1, 3], but its pipeline gives [100, -1, 3] (-1 varies with the input)",
    ),
    "a rank": (
        picture,
        JPEG,
        4,
        Output("p", TYPE_FP32, [100, -1]),
        "m: output 'p' is stated with dims [100, -1], but its pipeline gives [100, -1, 3] (-1 varies with the input)",
    ),
    "a type": (
        picture,
        JPEG,
        4,
        Output("p", TYPE_UINT8, [100, -1, 3]),
        "m: output 'p' is stated as TYPE_UINT8, but its pipeline gives TYPE_FP32",
    ),
    "numbers": (doubled, NUMBERS, 4, Output("y", TYPE_FP32, [190]), None),
    "numbers of another extent": (
        doubled,
        NUMBERS,
        4,
        Output("y", TYPE_FP32, [192]),
        "m: output 'y' is stated with dims [192], but its pipeline gives [190]",
    ),
    "without max_batch_size": (
        doubled,
        [Input("x", TYPE_FP32, [-1, 95])],
        0,
        Output("y", TYPE_FP32, [-1, 192]),
        "m: output 'y' is stated with dims [-1, 192], but its pipeline gives [-1, 190]",
    ),
    "a reshape": (
        doubled,
        NUMBERS,
        4,
        Output("y", TYPE_FP32, [192], reshape=[96, 2]),
        "m: output 'y' is stated with reshape [96, 2], but its pipeline gives [190]",
    ),
    "samples that it cannot process": (gathered, NUMBERS, 4, Output("y", TYPE_FP32, [7]), None),
}


def written(case: str, folder: Path) -> tuple[Dali, bytes]:
    """The model of a case and its file."""
    pipeline, inputs, batch, output, _ = CASES[case]
    model = Dali("m", max_batch_size=batch, pipeline=pipeline, input=inputs, output=[output])
    write_pipeline(model, folder / "model.dali")
    return model, (folder / "model.dali").read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_an_output_that_the_pipeline_does_not_give_is_named(case: str, tmp_path: Path) -> None:
    """What depends on the sample, or cannot be run on made-up ones, is not judged."""
    sentence = CASES[case][-1]
    assert compare_outputs(*written(case, tmp_path)) == ([] if sentence is None else [sentence])


def test_without_dali_nothing_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A serialised pipeline is copied where DALI is not installed."""
    model, data = written("an extent", tmp_path)
    monkeypatch.setitem(sys.modules, "nvidia.dali.pipeline", None)
    assert compare_outputs(model, data) == []


def test_the_made_up_picture_is_one() -> None:
    """Read by another decoder."""
    import io

    from PIL import Image

    from tritonforge.repository.dali_model import _encode_png

    pixels = np.asarray(Image.open(io.BytesIO(_encode_png(3, 5))))
    assert pixels.shape == (3, 5, 3)
    assert pixels[2, 4].tolist() == [0x80, 0x90, 0xA0]
