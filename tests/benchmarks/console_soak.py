"""The console open for long under load: no growth of memory, no error.

``python -m tests.benchmarks.console_soak build/digits --model digits --input IMAGE
--file repos/digits/tests/seven.png --minutes 30``
serves the repository with ``--ui``, keeps the page open in Chromium, sends requests all the time and a sample through
the page every 15 seconds. Every minute it reads the memory of `serve` and, after a garbage collection, the heap and the
nodes of the page. It prints JSON, and exits with 1 if the last quarter needs more than the first one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.support.browser import open_browser
from tritonforge.inference.client import Client
from tritonforge.inference.wire import pad_batch

#: Growth that is allowed from the first quarter to the last one: of memory, and of the page's heap and nodes.
ALLOWED = {"rss_mb": (1.03, 6.0), "heap_mb": (1.10, 2.0), "nodes": (1.05, 200.0)}
#: Minutes after which the first quarter begins: the page has its eight requests by then, and figures of three minutes.
WARM_UP = 4
BETWEEN_SAMPLES = 15


def read_memory(pid: int) -> float:
    """Resident memory of a process in MB."""
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


def send_requests(
    url: str, pause: float, model: str, name: str, content: bytes, stopped: threading.Event, counts: dict[str, int]
) -> None:
    """Send one request after another until the end."""
    with Client(url, front_end="triton") as client:
        while not stopped.wait(pause):
            client.infer({name: pad_batch([content])}, model=model)
            counts["requests"] += 1


def measure_page(session: Any) -> dict[str, float]:
    """The heap in MB and the number of nodes of the page, after a collection."""
    session.send("HeapProfiler.collectGarbage")
    metrics = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
    return {"heap_mb": metrics["JSHeapUsedSize"] / 2**20, "nodes": metrics["Nodes"]}


def soak(arguments: argparse.Namespace, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Keep the page open, and return what was measured."""
    assert process.stdout is not None
    addresses = json.loads(process.stdout.readline())["addresses"]
    stopped, counts, errors, points = threading.Event(), {"requests": 0}, [], []
    content = arguments.file.read_bytes()
    load = threading.Thread(
        target=send_requests,
        args=(addresses["http"], arguments.pause, arguments.model, arguments.input, content, stopped, counts),
    )
    load.start()
    try:
        with open_browser() as browser:
            page = browser.new_page()
            page.on("console", lambda entry: errors.append(entry.text) if entry.type == "error" else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(addresses["console"])
            page.wait_for_selector("#samples button")
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            began = time.monotonic()
            minute = 0
            while minute < arguments.minutes:
                page.locator("#samples button").first.click()
                page.wait_for_timeout(BETWEEN_SAMPLES * 1000)
                if time.monotonic() - began >= 60 * (minute + 1):
                    minute += 1
                    points.append({"minute": minute, "rss_mb": read_memory(process.pid), **measure_page(session)})
                    sys.stderr.write(json.dumps(points[-1]) + "\n")
    finally:
        stopped.set()
        load.join()
    return {"requests": counts["requests"], "errors": errors, "points": points}


def judge(measured: dict[str, Any]) -> list[str]:
    """What grew, in words."""
    points = measured["points"][WARM_UP:]
    quarter = max(1, len(points) // 4)
    problems = [f"error of the page: {error}" for error in measured["errors"][:5]]
    for name, (factor, least) in ALLOWED.items():
        first, last = (
            statistics.median(point[name] for point in part) for part in (points[:quarter], points[-quarter:])
        )
        measured[name] = {"first_quarter": round(first, 2), "last_quarter": round(last, 2)}
        if last > max(first * factor, first + least):
            problems.append(f"{name} grew from {first:.1f} to {last:.1f}")
    return problems


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two requests of the load")
    arguments = parser.parse_args()
    command = [
        Path(sys.executable).with_name("tritonforge"), "serve", arguments.repository, "--ui", "--sagemaker-port", "off",
        "--http-port", "0", "--grpc-port", "off", "--metrics-port", "off", "--format", "json",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ.copy()) as process:
        try:
            measured = soak(arguments, process)
        finally:
            process.send_signal(signal.SIGINT)
    problems = judge(measured)
    sys.stdout.write(json.dumps({**measured, "problems": problems}) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
