"""What `tritonforge watch` costs the server that it watches: throughput with and without it, alternating on one server.

The watching process is stopped (SIGSTOP) in every other round, so that its start does not count. The server's own share
is measured apart from that, from the CPU time of a reading, which other programs on the machine do not change much: the
ratio of throughputs needs a machine on which nothing else runs.
Rows as in `wire`; ``ours_ms`` is the time of one request with watch, ``other_ms`` without.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
ROUNDS = 60
#: Seconds of a round.
LENGTH = 1.0
READINGS = 400


def run() -> list[dict[str, Any]]:
    """Return two rows; two minutes and a half on two cores."""
    sys.path.insert(0, str(ROOT))
    from tests.support.closed_load import send_closed_load
    from tests.support.step_models import write_steps
    from tritonforge.profiling.server_poller import ServerPoller
    from tritonforge.serving.server import Server

    program = str(Path(sys.executable).with_name("tritonforge"))
    with tempfile.TemporaryDirectory() as folder:
        repository = write_steps(Path(folder), {"first": 0.0, "second": 0.0, "third": 0.0})
        with Server(repository, sagemaker_port=None, http_port=0, grpc_port=None, metrics_port=0) as server:
            assert server.http_url is not None
            assert server.metrics_url is not None
            assert server.pid is not None
            command = [program, "watch", server.http_url, "--metrics-url", server.metrics_url, "--json"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as watching:
                try:
                    with send_closed_load(server.http_url, "both", np.ones((1, 4), np.float32), clients=8) as load:
                        time.sleep(5)
                        before = _cpu_seconds(watching.pid)
                        rates: list[list[float]] = [[], []]
                        for number in range(ROUNDS):
                            for side in (0, 1) if number % 2 else (1, 0):
                                watching.send_signal(signal.SIGCONT if side == 0 else signal.SIGSTOP)
                                count, began = load.answered, time.perf_counter()
                                time.sleep(LENGTH)
                                rates[side].append((load.answered - count) / (time.perf_counter() - began))
                    used = _cpu_seconds(watching.pid) - before
                finally:
                    watching.send_signal(signal.SIGCONT)
                    watching.terminate()
            ratio = sum(rates[0]) / sum(rates[1])
            ours, other = (1000 / statistics.median(side) for side in rates)
            with ServerPoller(server.http_url, metrics_url=server.metrics_url) as poller:
                poller.poll()
                before, own = _cpu_seconds(server.pid), time.process_time()
                for _ in range(READINGS):
                    poller.poll()
                server_ms = (_cpu_seconds(server.pid) - before) / READINGS * 1000
                own_ms = (time.process_time() - own) / READINGS * 1000
    watch_ms = used / (ROUNDS * LENGTH) * 1000
    share = (server_ms + watch_ms) / 1000 / (os.cpu_count() or 1)
    return [
        _row("throughput with tritonforge watch beside that without, 1 reading per second", ours, other, ratio, 0.99),
        {
            "name": f"CPU time of a reading, server {server_ms:.2f} ms and watch {watch_ms:.1f} ms ({own_ms:.1f} ms of "
            "it for reading): share of the machine at 1 per second",
            "ours_ms": server_ms + watch_ms,
            "other_ms": 0.0,
            "ratio": share,
            "target": "<= 0.01",
            "ok": share <= 0.01,
        },
    ]


def _row(name: str, ours: float, other: float, ratio: float, target: float) -> dict[str, Any]:
    return {
        "name": name, "ours_ms": ours, "other_ms": other, "ratio": ratio, "target": f">= {target}",
        "ok": ratio >= target,
    }  # fmt: skip


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of those below it, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children: set[str] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        children |= {*(task / "children").read_text().split()}
    return seconds + sum(_cpu_seconds(int(child)) for child in children)
