"""An upload to the emulated S3, whole and verified, beside boto3's own `upload_file` of the same file, in turns.

Rows as in `wire`. The file is 256 MB of noise, as a model.tar.gz is. What ours does more: a CRC-32 of the whole file
before, and after it S3's own asked back. The skip of a second run is measured beside the upload that it saves.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from tritonforge.emulator import Emulator
from tritonforge.sagemaker.client import Session, Store

Row = dict[str, Any]

SIZE: Final = 256 << 20
ROUNDS: Final = 3
#: How much longer than boto3's an upload may take for being verified, which is moto's work too: it puts the object
#: together once more for the checksum of the whole.
ALLOWED: Final = 2.0
#: How much faster a skipped upload is, at least.
SKIPPED: Final = 10.0


def run() -> list[Row]:
    """All figures; about half a minute on two cores."""
    with Emulator(speed=1000.0) as emulator, tempfile.TemporaryDirectory() as folder:
        os.environ.update(emulator.environment)
        path = Path(folder) / "model.tar.gz"
        path.write_bytes(os.urandom(SIZE))
        with Session(endpoint_url=emulator.url) as session:
            store, client, place = Store(session), session.client("s3"), f"s3://{emulator.bucket}"
            ours, theirs, skipped = [], [], []
            for turn in range(ROUNDS):
                again = partial(store.upload, path, f"{place}/ours", digest=str(turn))
                ours.append(seconds(again))
                skipped.append(seconds(again))
                theirs.append(seconds(partial(client.upload_file, str(path), emulator.bucket, "theirs")))
    return [
        row(f"upload of {SIZE >> 20} MB, verified, over boto3's upload_file", ours, theirs, at_most=ALLOWED),
        row("the same again: skipped, over the upload it saves", ours, skipped, at_least=SKIPPED),
    ]


def seconds(step: Callable[[], object]) -> float:
    """How long a step takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def row(
    name: str, ours: list[float], other: list[float], *, at_most: float | None = None, at_least: float | None = None
) -> Row:
    """One figure: the ratio of two medians, and whether it is what it must be."""
    first, second = statistics.median(ours) * 1000, statistics.median(other) * 1000
    ratio = first / second
    return {
        "name": name,
        "ours_ms": first,
        "other_ms": second,
        "ratio": ratio,
        "target": f"<= {at_most:g} x" if at_most is not None else f">= {at_least:g} x",
        "ok": (at_most is None or ratio <= at_most) and (at_least is None or ratio >= at_least),
    }
