"""The shared memory that W471 and W472 compute, measured on a real server in a /dev/shm of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT
from tests.support.shared_memory import MOUNT, SMALL, write_repository
from tritonforge.validation.context import Options
from tritonforge.validation.model_views import build_context
from tritonforge.validation.rules.shared_memory import find_region_size, measure_need
from tritonforge.validation.tree_reader import read_tree

pytestmark = [pytest.mark.server, pytest.mark.slow]

MEGABYTE = 1 << 20


def serve(folder: Path, size: str, *numbers: int) -> dict[str, Any]:
    """What the program of `tests.support.shared_memory` prints where /dev/shm has a size."""
    program = [sys.executable, "-m", "tests.support.shared_memory", str(folder), *map(str, numbers)]
    command = [*SMALL, MOUNT.format(size), "sh", *program]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=ROOT, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compute(folder: Path, *, count: int, elements: int) -> tuple[int, int]:
    """What the rules compute for the same repository: bytes at the start, and after a full batch of each instance."""
    write_repository(folder, count=count, elements=elements)
    context = build_context(read_tree(folder), Options(gpus=0))
    region = find_region_size(context)
    assert region is not None
    need = measure_need(context, context.models["m"], region)
    return need.start, need.full


def test_a_full_batch_takes_what_is_computed(tmp_path: Path) -> None:
    """Inputs and outputs at once, each rounded up to the growth of 1 MB; nothing is given back."""
    start, full = compute(tmp_path / "computed", count=1, elements=1_000_000)
    measured = serve(tmp_path / "served", "512m", 1, 1_000_000, 8, 1)
    assert measured["errors"] == []
    assert measured["start"] == start == MEGABYTE
    assert full == 2 * 8 * 4_000_000
    assert full <= measured["after"][0] <= full + start + 2 * MEGABYTE
    assert measured["after"][1] == measured["after"][0]


def test_a_small_batch_takes_no_more_than_the_region(tmp_path: Path) -> None:
    start, full = compute(tmp_path / "computed", count=2, elements=10)
    measured = serve(tmp_path / "served", "64m", 2, 10, 8)
    assert measured == {"start": start, "after": [full], "errors": []}
    assert start == full == 2 * MEGABYTE


def test_a_server_does_not_start_where_the_regions_do_not_fit(tmp_path: Path) -> None:
    """W471: three regions of 1 MB in 2.5 MB."""
    assert compute(tmp_path / "computed", count=3, elements=10)[0] > 2.5 * MEGABYTE
    (error,) = serve(tmp_path / "served", "2560k", 3, 10)["errors"]
    assert "model 'm' did not load: Unable to initialize shared memory key '" in error
    assert "to requested size (1048576 bytes)" in error


def test_a_full_batch_fails_where_it_does_not_fit_and_a_smaller_one_does_not(tmp_path: Path) -> None:
    """W472: 64 MB of tensors in 20 MB, the size of /dev/shm between the need of a batch of 1 and of 8."""
    assert compute(tmp_path / "computed", count=1, elements=1_000_000)[1] > 20 * MEGABYTE
    (error,) = serve(tmp_path / "served", "20m", 1, 1_000_000, 1, 8)["errors"]
    assert "Failed to increase the shared memory pool size" in error
