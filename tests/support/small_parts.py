"""Uploads in small parts: S3's least is 5 MiB, of which each run would make, sum and send several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from s3transfer import utils

#: The least bytes of a part within `sent`.
PART = 64 << 10


@contextmanager
def send_small_parts() -> Iterator[None]:
    """Uploads of this process may have parts of `PART` bytes."""
    most, _, parts = utils.ChunksizeAdjuster.__init__.__defaults__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils.ChunksizeAdjuster.__init__, "__defaults__", (most, PART, parts))
        yield


@contextmanager
def accept_small_parts() -> Iterator[None]:
    """So may uploads to moto's S3 in this process."""
    with send_small_parts(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", PART)
        yield
