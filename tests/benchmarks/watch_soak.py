"""`make watch-soak MINUTES=30`: watch, `serve --watch --trace --ui` and its console under load, and their memory.

A server runs in `tritonforge serve --watch --trace --ui` on a terminal of its own, `tritonforge watch` runs on another
one and as JSON lines, and a reader takes the place of the console's page: it asks for the graph and the live figures
once per second. The memory of the three processes is read every 5 seconds. After a warm-up of a fifth of the time it
must not grow: the median of the last quarter is at most 2 % + 2 MB above that of the first. Failed requests, readings
without an answer and lines on standard error are errors. Written to build/watch_soak.json.
"""

from __future__ import annotations

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
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from rich.console import Console

from tests.support.checkout import ROOT
from tests.support.closed_load import send_closed_load
from tests.support.step_models import write_steps

PROGRAM = str(Path(sys.executable).with_name("tritonforge"))
console = Console(highlight=False, soft_wrap=True, markup=False)


def main(minutes: float) -> int:
    """Run the soak; 1 if memory grew or an error occurred."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        repository = write_steps(folder / "repository", {"first": 0.001, "second": 0.004, "third": 0.001})
        ports = [f"--{port}-port=0" for port in ("http", "grpc", "metrics", "sagemaker")]
        options = [*ports, "--json", "--watch", "--ui", "--trace", str(folder / "trace.json"), "--trace-rate", "10"]
        serve = stack.enter_context(_run_on_terminal("serve", str(repository), *options, stdout=subprocess.PIPE))
        assert serve.stdout is not None
        report = json.loads(serve.stdout.readline())
        url, metrics = report["addresses"]["http"], report["addresses"]["metrics"]
        watch = ("watch", url, "--metrics-url", metrics)
        live = stack.enter_context(_run_on_terminal(*watch))
        errors = folder / "errors"
        with errors.open("w") as file:
            lines = subprocess.Popen([PROGRAM, *watch, "--json"], stdout=subprocess.PIPE, stderr=file, text=True)
        stack.callback(lines.wait)
        stack.callback(lines.send_signal, signal.SIGINT)
        problems: list[str] = []
        counts = {"intervals": 0, "pages": 0}
        ended = threading.Event()
        readers = [
            threading.Thread(target=_read_lines, args=(lines, problems, counts, ended), daemon=True),
            threading.Thread(
                target=_read_console, args=(report["addresses"]["console"], problems, counts, ended), daemon=True
            ),
        ]
        for reader in readers:
            reader.start()
        processes = {"serve --watch --trace --ui": serve.pid, "watch": live.pid, "watch --json": lines.pid}
        samples: dict[str, list[int]] = {name: [] for name in processes}
        with send_closed_load(url, "both", np.ones((1, 4), np.float32), clients=4) as load:
            end = time.monotonic() + minutes * 60
            while time.monotonic() < end:
                time.sleep(5)
                for name, pid in processes.items():
                    samples[name].append(_resident(pid))
        ended.set()
        readers[1].join(10)
        problems += [f"request: {failure}" for failure in load.failures[:5]]
        problems += errors.read_text().splitlines()[:5]
        size = (folder / "trace.json").stat().st_size
        rows = [_judge(name, values) for name, values in samples.items()]
    for row in rows:
        console.print(f"{row['process']}: {row['first_mb']:.1f} MB, then {row['last_mb']:.1f} MB: "
                      f"{'ok' if row['ok'] else 'GREW'}")  # fmt: skip
    console.print(f"{load.answered} requests, {counts['intervals']} intervals, {counts['pages']} readings of the "
                  f"console, {size / 1e6:.1f} MB of trace, {len(problems)} errors")  # fmt: skip
    for problem in problems[:10]:
        console.print(problem)
    target = ROOT / "build" / "watch_soak.json"
    target.parent.mkdir(exist_ok=True)
    document = {"minutes": minutes, "requests": load.answered, **counts, "trace_bytes": size, "errors": problems,
                "processes": rows}  # fmt: skip
    target.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if not problems and all(row["ok"] for row in rows) else 1


@contextlib.contextmanager
def _run_on_terminal(*arguments: str, stdout: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a command whose standard input, output and error are a terminal whose text is discarded."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen([PROGRAM, *arguments], stdin=terminal, stdout=stdout or terminal, stderr=terminal,
                               env=environment, text=True)  # fmt: skip
    os.close(terminal)
    threading.Thread(target=_drain, args=(controller,), daemon=True).start()
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _drain(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # the terminal is closed when the command ends
        while os.read(descriptor, 65536):
            pass


def _read_lines(
    process: subprocess.Popen[str], problems: list[str], counts: dict[str, int], ended: threading.Event
) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        (server,) = json.loads(line)["servers"]
        counts["intervals"] += 1
        if "error" in server and not ended.is_set():
            problems.append(f"watch: {server['error']}")


def _read_console(url: str, problems: list[str], counts: dict[str, int], ended: threading.Event) -> None:
    """Ask for what the page asks for; its token is in the fragment of the address."""
    parts = urlsplit(url)
    token = (parts.fragment or parts.query).rpartition("=")[2]
    while not ended.wait(1.0):
        for path in ("/", "/api/repository", "/api/graph?model=both", "/api/statistics?model=both"):
            request = urllib.request.Request(
                f"{parts.scheme}://{parts.netloc}{path}", headers={"Authorization": f"Bearer {token}"}
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    response.read()
            except OSError as error:
                if not ended.is_set():
                    problems.append(f"console {path}: {error}")
        counts["pages"] += 1


def _resident(pid: int) -> int:
    """Return the resident bytes of one process, without those below it."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _judge(name: str, values: list[int]) -> dict[str, Any]:
    measured = values[len(values) // 5 :]
    quarter = max(1, len(measured) // 4)
    first, last = statistics.median(measured[:quarter]), statistics.median(measured[-quarter:])
    return {"process": name, "first_mb": first / 1e6, "last_mb": last / 1e6, "ok": last <= first * 1.02 + 2e6,
            "samples_mb": [round(value / 1e6, 2) for value in values]}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0))
