"""How long `tritonforge serve` takes from its start to a ready server, beside another checkout of tritonforge.

``python tests/benchmarks/cold_start.py OTHER [REPOSITORY] [--rounds N]`` starts both in turn: ``OTHER`` is a checkout
with a ``.venv`` of its own, such as a worktree of an older commit. The ratio of wall-clock times needs a quiet machine;
that of CPU seconds (of the command, tritonserver and its stubs, until it is ready) holds on a busy one, too. The last
line is JSON. The page cache is warm for both after the first pair, which is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TICKS: Final = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print a row for each pair of starts, and the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("other", type=Path, help="a checkout to compare with")
    parser.add_argument("repository", type=Path, nargs="?", default=ROOT / "build" / "inception_v3")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pairs = []
    for number in range(options.rounds + 1):
        pair = [measure_start(checkout, options.repository) for checkout in (options.other.absolute(), ROOT)]
        (other, other_cpu), (ours, cpu) = pair
        print(f"other {other:6.2f} s, CPU {other_cpu:6.2f} s; ours {ours:6.2f} s, CPU {cpu:6.2f} s", flush=True)  # noqa: T201 - a benchmark that is run by hand
        if number:
            pairs.append(pair)
    row = {
        f"{name}_{side}": round(statistics.median(pair[place][index] for pair in pairs), 3)
        for place, side in enumerate(("other", "ours"))
        for index, name in enumerate(("seconds", "cpu_seconds"))
    }
    row["ratio"] = round(statistics.median(other[0] / ours[0] for other, ours in pairs), 3)
    row["cpu_ratio"] = round(statistics.median(other[1] / ours[1] for other, ours in pairs), 3)
    print(json.dumps(row))  # noqa: T201


def measure_start(checkout: Path, repository: Path) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of one start."""
    command = [checkout / ".venv" / "bin" / "tritonforge", "serve", repository.absolute(), "--json"]
    for name in ("sagemaker", "http"):
        command += [f"--{name}-port", "0"]
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()  # written once it is ready
        seconds = time.perf_counter() - began
        cpu = sum_cpu_seconds(server.pid)
        server.terminate()
        _, errors = server.communicate()
    if not line:
        sys.exit(errors)
    return seconds, cpu


def sum_cpu_seconds(root: int) -> float:
    """Return user and system time of a process, its descendants, and those that they have waited for."""
    rows: dict[int, tuple[int, float]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            rows[int(folder.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / TICKS)
    total, todo = 0.0, [root]
    while todo:
        pid = todo.pop()
        total += rows[pid][1] if pid in rows else 0.0
        todo += [child for child, (parent, _) in rows.items() if parent == pid]
    return total


if __name__ == "__main__":
    main()
