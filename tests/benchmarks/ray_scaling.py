"""`make ray-scaling`: `transform --on ray` at 1, 2 and 3 nodes beside one machine's `transform`, and a killed node.

All nodes are on this machine, so that its cores are the bound: with a model that waits (an accelerator's part in a
request) the rate grows with the nodes, with one that computes it cannot grow beyond the cores. Rates are those of the
job's own report, without the start of servers; every side runs in turn, ROUNDS times, and ratios are medians. The last
part kills one of three nodes in the middle of 2,000 objects. Figures are in build/ray_scaling.json.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.support.checkout import ROOT
from tests.support.killed_transforms import outputs, wait_for
from tests.support.ray_nodes import start_nodes, write_repository

ROUNDS: Final = 3
NODES: Final = 3
OBJECTS: Final = 2000
#: Seconds that a request waits in the first model.
PAUSE: Final = 0.02

console = Console(highlight=False, soft_wrap=True, markup=False)


def write_objects(folder: Path) -> None:
    """Write the input and the repository of all jobs."""
    (folder / "in").mkdir()
    for number in range(OBJECTS):
        path = folder / "in" / f"{number % 20:02}" / f"{number:05}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"text {number}")
    write_repository(folder / "repository")


def transform(source: Path, target: Path, repository: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a job; it writes its report as JSON."""
    program = Path(sys.executable).with_name("tritonforge")
    command = [program, "transform", source, target, "--repository", repository, "--json", *arguments]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the report of a job."""
    output, errors = process.communicate(timeout=600)
    assert output, errors
    report: dict[str, Any] = json.loads(output)
    assert report["state"] == "Completed", errors
    return report


def measure_scaling(folder: Path, cluster: Any, name: str, settings: list[str]) -> list[dict[str, Any]]:
    """Run one machine and 1, 2 and 3 nodes in turn; return the rates and their ratios."""
    sides: dict[str, list[str]] = {"one machine": []}
    for nodes in range(1, NODES + 1):
        sides[f"{nodes} nodes"] = ["--on", "ray", "--address", cluster.address, "--workers", str(nodes)]
    rates: dict[str, list[float]] = {side: [] for side in sides}
    written: dict[str, dict[str, bytes]] = {}
    for round_number in range(ROUNDS):
        for side, arguments in sides.items():
            target = folder / f"out-{name}-{side}-{round_number}".replace(" ", "-")
            report = finish(transform(folder / "in", target, folder / "repository", *settings, *arguments))
            # From the first worker's start of work to the end, as `transform` on one machine counts too.
            seconds = max((node["seconds"] for node in report.get("nodes", ())), default=report["seconds"])
            rates[side].append(report["records"] / seconds)
            written[side] = outputs(target)
            assert written[side] == written["one machine"], side
    base = statistics.median(rates["one machine"])
    return [
        {
            "model": name,
            "side": side,
            "records_per_second": statistics.median(values),
            "ratio": statistics.median(a / b for a, b in zip(values, rates["one machine"], strict=True)),
            "base": base,
        }
        for side, values in rates.items()
    ]


def kill_node(folder: Path, cluster: Any) -> dict[str, Any]:
    """Kill a node in the middle of a job; compare the outputs, and those that the journal had before."""
    target, work = folder / "out-killed", folder / "work-killed"
    settings = ["--env", f"PAUSE={PAUSE}", "--gather", "never", "--work", str(work)]
    began = time.monotonic()
    process = transform(
        folder / "in", target, folder / "repository", "--on", "ray", "--address", cluster.address, *settings
    )
    assert wait_for(lambda: sum(1 for _ in target.rglob("*.out")) > OBJECTS // 3, 300)
    with closing(sqlite3.connect(f"file:{work}/journal.sqlite?mode=ro", uri=True)) as rows:
        keys = [key.decode() for (key,) in rows.execute("SELECT key FROM objects WHERE state = 1")]
    before = {key: (target / f"{key}.out").stat() for key in keys}
    cluster.remove_node(cluster.worker_list.pop(), allow_graceful=False)
    report = finish(process)
    rewritten = [key for key, status in before.items() if (target / f"{key}.out").stat().st_ino != status.st_ino]
    here = finish(transform(folder / "in", folder / "out-here", folder / "repository"))
    assert outputs(target) == outputs(folder / "out-here")
    assert not rewritten
    return {
        "objects": report["objects"],
        "records": report["records"],
        "failed": report["failed"],
        "finished_before": len(before),
        "finished_and_repeated": len(rewritten),
        "equal_to_one_machine": here["objects"] == report["objects"],
        "seconds": time.monotonic() - began,
        "nodes": report["nodes"],
    }


def main() -> None:
    """Measure all, print it and write it."""
    with tempfile.TemporaryDirectory() as name, start_nodes(NODES) as cluster:
        folder = Path(name)
        write_objects(folder)
        waiting = ["--env", f"PAUSE={PAUSE}", "--gather", "never", "--max-concurrent", "4"]
        with console.status("a model that waits ..."):
            rows = measure_scaling(folder, cluster, f"waits {PAUSE * 1000:g} ms", waiting)
        with console.status("a model that computes ..."):
            rows += measure_scaling(folder, cluster, "computes", ["--gather", "never"])
        with console.status("a killed node ..."):
            killed = kill_node(folder, cluster)
    table = Table("model", "side", "records/s", "ratio", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["model"], row["side"], f"{row['records_per_second']:.0f}", f"{row['ratio']:.2f}")
    console.print(table)
    console.print(f"cores: {os.cpu_count()}; a node killed: {json.dumps(killed)}")
    target = ROOT / "build" / "ray_scaling.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"scaling": rows, "killed": killed, "cores": os.cpu_count()}, indent=1) + "\n")
    console.print(f"written to {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
