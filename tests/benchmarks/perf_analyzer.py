"""`make oracle`: the load generator beside NVIDIA's perf_analyzer, alternating on one server, within 5 %.

perf_analyzer is the program in tritonclient's wheel 2.50 (about 14 MB, downloaded by pip into build/perf_analyzer); the
libraries that it needs are in nvidia-pytriton's wheel under other names. Each row has the median of the rounds for both
sides, for throughput and median latency, at concurrency 1 and 4 and at a rate. Models: ``steady`` sleeps 10 ms in 4
instances, so that the server's time is the same for both: its rows must be within 5 %. ``fast`` does nothing, so that
what a client costs, which differs, is a part of the latency: its rows are printed only, and so is the processor time of
both. Written to build/perf_analyzer.json. Argument: the number of rounds, 3 by default. About four minutes.
"""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.support.bottleneck_repositories import write_python_model
from tests.support.checkout import ROOT
from tritonforge.inference.client import Client
from tritonforge.inference.wire import encode_request
from tritonforge.profiling.load import ClosedLoop, Load, OpenLoop, StopRule
from tritonforge.profiling.load_generator import measure
from tritonforge.profiling.target import open_target
from tritonforge.serving.installation import find_installation
from tritonforge.serving.server import Server

WHEEL: Final = "tritonclient==2.50.0"
SECONDS: Final = 5.0
#: Model, protocol and load of each row.
ROWS: Final[tuple[tuple[str, str, Load], ...]] = (
    ("steady", "http", ClosedLoop(1)),
    ("steady", "http", ClosedLoop(4)),
    ("steady", "http", OpenLoop(200.0, is_poisson=False)),
    ("steady", "grpc", ClosedLoop(4)),
    ("fast", "http", ClosedLoop(1)),
    ("fast", "http", ClosedLoop(4)),
    ("fast", "grpc", ClosedLoop(1)),
)
TOLERANCE: Final = 0.05

console = Console(highlight=False, soft_wrap=True)


def prepare_program(folder: Path) -> Path:
    """Return the program; its wheel is downloaded once."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "perf_analyzer"
    if not program.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--platform=manylinux1_x86_64", f"--dest={folder}", WHEEL]
        subprocess.run(command, check=True)
        (wheel,) = folder.glob("tritonclient-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/bin/perf_analyzer"))
            program.write_bytes(archive.read(name))
        program.chmod(0o755)
    return program


def find_libraries(folder: Path) -> dict[str, str]:
    """Return an environment in which the program finds libb64 and libcudart by their usual names."""
    libraries = find_installation().libraries
    for pattern, name in (("libb64-*", "libb64.so.0d"), ("libcudart-*", "libcudart.so.12")):
        (source,) = libraries.glob(pattern)
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(source)
    return {**os.environ, "LD_LIBRARY_PATH": str(folder)}


def run_perf_analyzer(
    program: Path, environment: Mapping[str, str], address: str, model: str, protocol: str, load: Load
) -> dict[str, float]:
    """Return throughput, median latency in milliseconds, and processor time as a share, of perf_analyzer."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.csv"
        command = [str(program), "-m", model, "-u", address, "-i", protocol, "-f", str(report)]
        command += ["-p", str(int(SECONDS * 1000 / 3)), "-s", "500", "-r", "3", "--percentile=50", "--shape=x:8"]
        if isinstance(load, ClosedLoop):
            command += [f"--concurrency-range={load.concurrency}"]
        else:
            command += [f"--request-rate-range={load.rate:g}", "--request-distribution=constant"]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if not report.is_file():
            raise SystemExit(f"perf_analyzer: exit code {done.returncode}: {(done.stderr or done.stdout)[-800:]}")
        (row,) = csv.DictReader(report.read_text().splitlines())
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "throughput": float(row["Inferences/Second"]),
        "p50": float(row["p50 latency"]) / 1000,
        "cpu": used / (time.monotonic() - began),
    }


def run_own(url: str, model: str, load: Load) -> dict[str, float]:
    """Return the same figures of the load generator."""
    payload = encode_request({"x": np.random.default_rng(0).random((1, 8), dtype=np.float32)})
    stop = StopRule(precision=0.005, min_seconds=SECONDS, max_seconds=SECONDS)
    with Client(url) as client:
        result = measure(open_target(client, model=model), [payload], load, stop=stop)
    if result.failures:
        raise SystemExit(f"{result.failures} requests failed: {result.errors[0].sentence}")
    return {"throughput": result.throughput.value, "p50": result.p50, "cpu": result.generator.cpu}


def main(arguments: list[str]) -> int:
    """Run all rows; 1 if one is not within the tolerance."""
    rounds = int(arguments[0]) if arguments else 3
    folder = ROOT / "build" / "perf_analyzer"
    program = prepare_program(folder)
    environment = find_libraries(folder)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as repository:
        write_python_model(Path(repository), "steady", seconds=0.01, instances=4)
        write_python_model(Path(repository), "fast", seconds=0.0)
        with Server(repository, sagemaker_port=None, http_port=0, grpc_port=0, metrics_port=None) as server:
            for model, protocol, load in ROWS:
                url = server.http_url if protocol == "http" else server.grpc_url
                assert url is not None
                address = re.sub(r"^\w+://", "", url)
                own, other = [], []
                for turn in range(2 * rounds):
                    if turn % 4 in (0, 3):  # ours, theirs, theirs, ours, ...
                        own.append(run_own(url, model, load))
                    else:
                        other.append(run_perf_analyzer(program, environment, address, model, protocol, load))
                row: dict[str, Any] = {"model": model, "protocol": protocol, "load": str(load)}
                for key in ("throughput", "p50", "cpu"):
                    ours, theirs = (statistics.median(result[key] for result in side) for side in (own, other))
                    row[key] = {"ours": ours, "perf_analyzer": theirs, "ratio": ours / theirs if theirs else 0.0}
                rows.append(row)
                console.print(describe(row))
    table = Table("row", "requests/s", "perf_analyzer", "ratio", "p50 ms", "perf_analyzer", "ratio", box=None)
    for row in rows:
        cells = [
            f"{row[key][side]:.4g}" for key in ("throughput", "p50") for side in ("ours", "perf_analyzer", "ratio")
        ]
        table.add_row(f"{row['model']} {row['protocol']} {row['load']}", *cells)
    console.print(table)
    target = ROOT / "build" / "perf_analyzer.json"
    target.write_text(json.dumps(rows, indent=1) + "\n")
    compared = [row for row in rows if row["model"] == "steady"]
    return int(any(abs(row[key]["ratio"] - 1) > TOLERANCE for row in compared for key in ("throughput", "p50")))


def describe(row: Mapping[str, Any]) -> str:
    """Return a row as a line."""
    figures = ", ".join(
        f"{key} {row[key]['ours']:.4g} : {row[key]['perf_analyzer']:.4g} ({row[key]['ratio']:.3f})"
        for key in ("throughput", "p50", "cpu")
    )
    return f"{row['model']} {row['protocol']} {row['load']}: {figures}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
