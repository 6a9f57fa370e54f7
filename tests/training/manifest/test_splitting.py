"""Splitting: by the image alone, about as many as asked for."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.errors import DefinitionError, ManifestError
from tritonforge.training.manifest import Line, assign_split
from tritonforge.training.manifest.lines import compute_split_position


def of(number: int, **more: str) -> Line:
    """A line of image number ``number``."""
    return Line(number + 1, {"source-ref": f"s3://b/{number}.jpg", **more})


def test_the_side_is_what_its_description_says() -> None:
    """The first 53 bits of SHA-256 of seed/key: the same for any program, today and later."""
    digest = hashlib.sha256(b"7/s3://b/1.jpg").hexdigest()
    assert compute_split_position(b"s3://b/1.jpg", 7) == (int(digest[:16], 16) >> 11) / 2**53
    assert [number for number in range(12) if assign_split(of(number), fraction=0.3) == "validation"] == [1, 3, 8, 11]


def test_about_as_many_as_asked_for() -> None:
    """Of 10,000 images within three standard deviations, for several seeds, which give other splits."""
    chosen = []
    for seed in range(4):
        sides = {
            number for number in range(10_000) if assign_split(of(number), fraction=0.2, seed=seed) == "validation"
        }
        assert abs(len(sides) - 2000) < 120
        chosen.append(sides)
    assert len(chosen[0] & chosen[1]) < 600


@given(st.integers(0, 10**6), st.integers(), st.floats(0, 1), st.floats(0, 1))
def test_only_the_image_decides(number: int, seed: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    first = assign_split(of(number), fraction=low, seed=seed)
    assert assign_split(Line(99, {"x": 1, **of(number, label="1").attributes}), fraction=low, seed=seed) == first
    if first == "validation":
        assert assign_split(of(number), fraction=high, seed=seed) == "validation"
    assert assign_split(of(number), fraction=0, seed=seed) == "train"
    assert assign_split(of(number), fraction=1, seed=seed) == "validation"


def test_what_cannot_be_split() -> None:
    """A line without what the split goes by, and a fraction that is none."""
    with pytest.raises(ManifestError, match="line 4: patient: the line does not have it, and the split depends on it"):
        assign_split(of(3), fraction=0.2, by="patient")
    assert {assign_split(of(number, patient="7"), fraction=0.5, by="patient") for number in range(20)} == {"train"}
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(DefinitionError, match="must be from 0 to 1"):
            assign_split(of(3), fraction=wrong)
