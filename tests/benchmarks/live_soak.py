"""`make soak-live MINUTES=30`: watch, `serve --ui` and its page in Chromium, open for long under a gentle load.

A repository of Python models (an ensemble, and a model whose code requests another one) runs in `tritonforge serve
--watch --trace --ui` on a terminal of its own, `tritonforge watch` on another one, and the page in a real Chromium. One
client sends 5 requests per second (--rate) to both models in turn, and a sample goes through the page every 15 seconds.
Read every 10 seconds: the resident memory of tritonserver, of serve (which has the console) and of watch; and after a
garbage collection the heap and the nodes of the page. The first third of the time is warm-up; then nothing may grow:
the median of the last quarter is compared with that of the first one. Errors are refused requests, messages and failed
requests of the page, its banner, and intervals in which watch has no answer.

Written to build/live_soak.json, with every reading; the exit code is 1 if something grew or an error occurred.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.browser import open_browser
from tests.support.checkout import ROOT
from tests.support.step_models import write_caller, write_steps
from tritonforge.errors import TritonForgeError
from tritonforge.inference.client import Client

PROGRAM = str(Path(sys.executable).with_name("tritonforge"))
MODELS = ("both", "pipeline")
INPUTS = {"both": "IN", "pipeline": "in"}

#: What is read -> what the last quarter may be more than the first one: a factor, or a number if that is more.
ALLOWED = {
    "tritonserver_mb": (1.02, 4.0), "serve_mb": (1.02, 2.0), "watch_mb": (1.02, 2.0), "page_heap_mb": (1.05, 1.0),
    "page_nodes": (1.02, 100.0),
}  # fmt: skip
#: Seconds between two readings, and between two samples that the page sends.
BETWEEN_READINGS = 10.0
BETWEEN_SAMPLES = 15.0


@dataclass
class Counts:
    """What happened during the soak."""

    requests: int = 0
    intervals: int = 0
    samples: int = 0
    errors: list[str] = field(default_factory=list)


def main() -> int:
    """Run the soak; 1 if something grew or an error occurred."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("minutes", type=float, nargs="?", default=30.0)
    parser.add_argument("--rate", type=float, default=5.0, help="requests per second")
    arguments = parser.parse_args()
    counts = Counts()
    with tempfile.TemporaryDirectory() as folder:
        readings, trace_bytes = soak(Path(folder), counts, minutes=arguments.minutes, rate=arguments.rate)
    rows = [judge(name, [reading[name] for reading in readings]) for name in ALLOWED]
    for row in rows:
        sys.stdout.write(
            f"{row['name']}: {row['first']:.1f}, then {row['last']:.1f} ({row['per_hour']:+.1f} per hour): "
            f"{'does not grow' if row['ok'] else 'GROWS'}\n"
        )
    sys.stdout.write(
        f"{arguments.minutes:g} minutes: {counts.requests} requests, {counts.intervals} tables of watch, "
        f"{counts.samples} samples of the page, {trace_bytes / 1e6:.1f} MB of trace, {len(counts.errors)} errors\n"
    )
    for sentence in counts.errors[:10]:
        sys.stdout.write(f"{sentence}\n")
    document = {
        "minutes": arguments.minutes, "rate": arguments.rate, "requests": counts.requests, "errors": counts.errors,
        "watch_tables": counts.intervals, "page_samples": counts.samples, "trace_bytes": trace_bytes, "rows": rows,
        "readings": readings,
    }  # fmt: skip
    target = ROOT / "build" / "live_soak.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if not counts.errors and all(row["ok"] for row in rows) else 1


def soak(folder: Path, counts: Counts, *, minutes: float, rate: float) -> tuple[list[dict[str, float]], int]:
    """Run the programs and return the readings, and the size of the trace in bytes."""
    repository = write_steps(folder / "repository", {"first": 0.001, "second": 0.004, "third": 0.001})
    write_caller(repository, "pipeline", called="first")
    ports = [f"--{port}-port=0" for port in ("http", "metrics", "sagemaker")]
    options = [*ports, "--grpc-port=off", "--json", "--watch", "--ui", f"--trace={folder / 'trace.json'}"]
    with contextlib.ExitStack() as stack:
        serve = stack.enter_context(run_on_terminal("serve", str(repository), *options, stdout=subprocess.PIPE))
        assert serve.stdout is not None
        addresses = json.loads(serve.stdout.readline())["addresses"]
        watch_options = (addresses["http"], "--metrics-url", addresses["metrics"])
        watch = stack.enter_context(run_on_terminal("watch", *watch_options, counts=counts))
        pids = {"tritonserver_mb": find_server(serve.pid), "serve_mb": serve.pid, "watch_mb": watch.pid}
        ended = threading.Event()
        load = threading.Thread(target=send_requests, args=(addresses["http"], rate, ended, counts))
        load.start()
        stack.callback(load.join)
        stack.callback(ended.set)
        page = stack.enter_context(open_page(addresses["console"], counts))
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        readings: list[dict[str, float]] = []
        began = time.monotonic()
        next_sample = 0.0
        while (passed := time.monotonic() - began) < minutes * 60:
            if passed >= next_sample:
                send_sample(page, counts)
                next_sample += BETWEEN_SAMPLES
            readings.append(
                {"seconds": round(passed, 1), **{name: read_resident(pid) for name, pid in pids.items()},
                 **read_page(session)}
            )  # fmt: skip
            page.wait_for_timeout(max(0.0, BETWEEN_READINGS - (time.monotonic() - began - passed)) * 1000)
        if not page.locator("#banner").is_hidden():
            counts.errors.append(f"page: {page.locator('#banner').inner_text()}")
        size = (folder / "trace.json").stat().st_size
        return readings, size


@contextlib.contextmanager
def open_page(url: str, counts: Counts) -> Iterator[Any]:
    """Open the console in Chromium; what it logs as an error, and requests that fail, are counted."""
    with open_browser() as browser:
        page = browser.new_page()
        is_closing = False

        def note(sentence: str) -> None:
            if not is_closing:
                counts.errors.append(f"page: {sentence}")

        page.on("console", lambda entry: note(entry.text) if entry.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: note(str(error)))
        page.on("requestfailed", lambda request: note(f"{request.url}: {request.failure}"))
        page.on("response", lambda reply: note(f"{reply.url}: {reply.status}") if reply.status >= 400 else None)
        page.goto(url)
        page.wait_for_selector("#samples button")
        yield page
        is_closing = True


def send_sample(page: Any, counts: Counts) -> None:
    """Send the first sample through the page to the model that is shown, then show the other model."""
    counts.samples += 1
    page.locator("#samples button").first.click()
    page.wait_for_selector("#status.good, #status.bad", timeout=60_000)
    if page.locator("#status.bad").count():
        counts.errors.append(f"page: {page.locator('#status').inner_text()}")
    if counts.samples % 4 == 0:
        page.select_option("#model", MODELS[counts.samples // 4 % 2])
        page.wait_for_selector("#graph[aria-busy=false]")


def send_requests(url: str, rate: float, ended: threading.Event, counts: Counts) -> None:
    """Send requests to both models in turn, one after another, at most ``rate`` per second."""
    array = np.ones((1, 4), np.float32)
    with Client(url, front_end="triton") as client:
        due = time.monotonic()
        while not ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / rate, time.monotonic())
            model = MODELS[counts.requests % 2]
            counts.requests += 1
            try:
                client.infer({INPUTS[model]: array}, model=model)
            except TritonForgeError as error:
                counts.errors.append(f"request {counts.requests}: {error}")


@contextlib.contextmanager
def run_on_terminal(
    *arguments: str, stdout: int | None = None, counts: Counts | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a command on a terminal of its own; ``counts`` gets the tables that it draws, and those without an answer."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen([PROGRAM, *arguments], stdin=terminal, stdout=stdout or terminal, stderr=terminal,
                               env=environment, text=True)  # fmt: skip
    os.close(terminal)
    ended = threading.Event()
    threading.Thread(target=drain, args=(controller, counts, ended), daemon=True).start()
    try:
        yield process
    finally:
        ended.set()
        process.send_signal(signal.SIGINT)
        process.wait(60)


def drain(descriptor: int, counts: Counts | None, ended: threading.Event) -> None:
    """Read what a program writes to its terminal."""
    with contextlib.suppress(OSError):  # the terminal is closed when the command ends
        while text := os.read(descriptor, 65536):
            if counts is None or ended.is_set():
                continue
            counts.intervals += text.count(b"requests/s")
            if b"no valid answer" in text:
                counts.errors.append("watch: no valid answer")


def find_server(pid: int) -> int:
    """Return the process of tritonserver below a process."""
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        if Path(f"/proc/{current}/comm").read_text().strip() == "tritonserver":
            return current
        for task in Path(f"/proc/{current}/task").iterdir():
            waiting += map(int, (task / "children").read_text().split())
    raise SystemExit("no tritonserver runs below serve")


def read_resident(pid: int) -> float:
    """Return the resident memory of one process in MB, without those below it."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def read_page(session: Any) -> dict[str, float]:
    """Return the heap in MB and the nodes of the page, after a garbage collection."""
    session.send("HeapProfiler.collectGarbage")
    metrics = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
    return {"page_heap_mb": metrics["JSHeapUsedSize"] / 1e6, "page_nodes": metrics["Nodes"]}


def judge(name: str, values: list[float]) -> dict[str, Any]:
    """Compare the first quarter after the warm-up with the last one; the growth per hour is that of a line."""
    measured = values[len(values) // 3 :]
    quarter = max(1, len(measured) // 4)
    first, last = statistics.median(measured[:quarter]), statistics.median(measured[-quarter:])
    hours = [place * BETWEEN_READINGS / 3600 for place in range(len(measured))]
    slope = statistics.linear_regression(hours, measured).slope if len(measured) > 1 else 0.0
    factor, number = ALLOWED[name]
    return {
        "name": name,
        "first": first,
        "last": last,
        "per_hour": slope,
        "ok": last <= max(first * factor, first + number),
    }


if __name__ == "__main__":
    sys.exit(main())
