"""A longer load than the tests': every answer checked, and whether the server's memory grows with the requests.

Rows as in `wire`; ``ours_ms`` is the time of one request.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

from tritonforge.serving.server import Server

Row = dict[str, Any]

ROOT = Path(__file__).parents[2]
REQUESTS = 40_000


def run() -> list[Row]:
    """40,000 requests of eight clients, 1 % corrupt; about two minutes on two cores."""
    sys.path.insert(0, str(ROOT))
    from tests.benchmarks.serving import build
    from tests.support import digit_traffic as traffic

    spec = importlib.util.spec_from_file_location("digits_network", ROOT / "repos/digits/network.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images, _ = module.heldout()
    with Server(build("digits"), sagemaker_port=0, http_port=None, grpc_port=None, metrics_port=None) as server:
        assert server.sagemaker_url is not None
        assert server.pid is not None
        traffic.run(server.sagemaker_url, images, requests=REQUESTS // 4)
        before = _resident(server.pid)
        began = time.perf_counter()
        failures, answered = traffic.run(server.sagemaker_url, images, requests=REQUESTS)
        taken = time.perf_counter() - began
        grown = _resident(server.pid) - before
    lost = REQUESTS - answered + len(failures)
    return [
        {
            "name": f"{REQUESTS:,} requests of 8 clients, 1 % corrupt: answers wrong or lost",
            "ours_ms": taken / REQUESTS * 1000,
            "other_ms": 0.0,
            "ratio": float(lost),
            "target": "0",
            "ok": lost == 0,
        },
        {
            "name": f"memory that tritonserver and its backends keep after them (MB; before: {before / 1e6:.0f})",
            "ours_ms": 0.0,
            "other_ms": 0.0,
            "ratio": grown / 1e6,
            "target": "<= 50 MB",
            "ok": grown <= 50e6,
        },
    ]


def _resident(pid: int) -> int:
    """Resident bytes of a process and of all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += (task / "children").read_text().split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(_resident(int(child)) for child in set(children))
