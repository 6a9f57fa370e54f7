"""How long the command line takes to say what it can: whole processes, beside Python's own start.

Rows as in `wire`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def run() -> list[Row]:
    """`tritonforge --help` and the start of Python, alternating."""
    program = str(Path(sys.executable).with_name("tritonforge"))
    ours, other = [], []
    for _ in range(15):
        ours.append(_timed([program, "--help"]))
        other.append(_timed([sys.executable, "-c", "pass"]))
    median = statistics.median(ours) * 1000
    return [
        {
            "name": "tritonforge --help, whole process (ms) / python -c pass",
            "ours_ms": median,
            "other_ms": statistics.median(other) * 1000,
            "ratio": statistics.median(a / b for a, b in zip(ours, other, strict=True)),
            "target": "< 200 ms",
            "ok": median < 200,
        }
    ]


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
