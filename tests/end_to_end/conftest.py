"""A detector that is learned once in a run, for the tests that ask it and those that go on from it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.end_to_end import detection
from tests.end_to_end.detection import LEARNS, lay_out, trained

sys.path.insert(0, str(detection.ROOT / "tests/fixtures"))

import make_detections


@pytest.fixture(scope="session")
def learned(shared: Path) -> Path:
    """The container's folder after training on the digits 0 to 2, by the program itself."""
    base = shared / "detector"
    with FileLock(shared / "detector.lock"):
        if not (shared / "detector.learned").exists():
            make_detections.make(shared / "detector-training", 700, classes=range(3))
            make_detections.make(shared / "detector-heldout", 100, classes=range(3), part="heldout")
            trained(lay_out(base, LEARNS, {"training": shared / "detector-training"}))
            (shared / "detector.learned").touch()
    return base
