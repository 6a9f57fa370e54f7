"""`make scaling-simulation`: the driver's own parts on a simulated cluster of 100 nodes, and what they cost.

The dispatcher is the real one. Clock, listing and workers are simulated: a listing gives 1,000 objects in a tenth of a
second; a fifth of the nodes has a quarter of the others' speed; nodes die at random and lose what is not reported yet,
and a new one joins after two minutes. Every size runs in a process of its own, whose peak memory is Linux's VmHWM. The
journal is the real one on the disk. Arguments are numbers of objects; the figures are in build/scaling_simulation.json.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from tests.support.checkout import ROOT
from tritonforge.transform import StoredObject
from tritonforge.transform.cluster.dispatch import Dispatcher
from tritonforge.transform.journal import FinishedObject, Journal
from tritonforge.transform.run_state import InputObject

NODES: Final = 100
#: Objects per second of a node, and the part of it that a slow node has.
RATE: Final = 100.0
SLOW: Final = 0.25
#: Requests in flight of a worker with one object each.
CAPACITY: Final = 32
#: Seconds between two reports, of a node's life on average (a spot instance's in a bad hour), until a new node joins.
TICK: Final = 0.1
LIFE: Final = 3600.0
JOIN: Final = 120.0
#: Objects that the listing gives per tick: one ListObjectsV2 of 1,000 keys in 0.1 s.
LISTED: Final = 1000
JOURNAL_ROWS: Final = 1_000_000
TARGET: Final = 100_000_000

console = Console(highlight=False, soft_wrap=True, markup=False)


@dataclass(slots=True)
class _Node:
    rate: float
    dies: float
    queue: deque[str] = field(default_factory=deque)
    credit: float = 0.0


def list_objects(count: int) -> Iterator[InputObject]:
    """Yield objects with keys as long as usual ones."""
    for number in range(count):
        key = f"2026/11/{number % 30 + 1:02}/camera-{number // 100_000:04}/{number:012}.jpg"
        uri = f"s3://bucket/photographs/{key}"
        yield InputObject(uri, key, StoredObject(uri, 100_000, f"{number:032x}"))


def simulate(count: int, seed: int = 0) -> dict[str, Any]:
    """Run a job of ``count`` objects on the simulated cluster and return its figures."""
    chance = random.Random(seed)
    dispatcher = Dispatcher()
    nodes: dict[str, _Node] = {}
    joining = [0.0] * NODES
    listing, listed = list_objects(count), deque[InputObject]()
    started = deaths = repeated = most = finished = 0
    is_listed = False
    node_seconds = driver_seconds = idle_since = now = 0.0
    while not (is_listed and not listed and dispatcher.is_idle):
        now += TICK
        for when in [when for when in joining if when <= now]:
            joining.remove(when)
            rate = RATE * (SLOW if started % 5 == 4 else 1.0)
            nodes[f"n{started}"] = _Node(rate, now + chance.expovariate(1 / LIFE))
            dispatcher.add_worker(f"n{started}", CAPACITY)
            started += 1
        if len(listed) < 8 * LISTED and not is_listed:
            lot = [one for _, one in zip(range(LISTED), listing, strict=False)]
            is_listed = not lot
            listed.extend(lot)
        for name, node in [*nodes.items()]:
            node_seconds += TICK * node.rate / RATE
            node.credit = min(node.credit + node.rate * TICK, len(node.queue))
            done = [node.queue.popleft() for _ in range(int(node.credit))]
            node.credit -= len(done)
            began = time.process_time()
            if node.dies <= now:  # with what it finished since its last report
                deaths += 1
                repeated += len(done)
                assert not dispatcher.remove_worker(name, is_lost=True)
                del nodes[name]
                joining.append(now + JOIN)
            elif done:
                finished += len(dispatcher.complete(name, done, now))
            driver_seconds += time.process_time() - began
        began = time.process_time()
        for name, free in dispatcher.list_free_windows(now):
            got = dispatcher.take_returned(name, free)
            if not got:
                got = [listed.popleft() for _ in range(min(free, len(listed)))]
                dispatcher.assign(name, got)
            nodes[name].queue.extend(one.key for one in got)
        driver_seconds += time.process_time() - began
        most = max(most, sum(len(node.queue) for node in nodes.values()))
        if is_listed and not listed and not idle_since:
            idle_since = now
    assert finished == count, (finished, count)
    memory = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    return {
        "objects": count,
        "hours": now / 3600,
        "rate_of_nodes": count / (node_seconds * RATE),
        "deaths": deaths,
        "repeated": repeated,
        "most_in_flight": most,
        "tail_seconds": now - idle_since,
        "driver_us_per_object": 1e6 * driver_seconds / count,
        "memory_mib": memory / 1024,
    }


def measure_journal() -> dict[str, float]:
    """Write a million rows as the driver does, then look rows up; return the costs."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder, Journal(Path(folder), {"a": 1}) as journal:
        listing = list_objects(JOURNAL_ROWS)
        began = time.process_time()
        while lot := [one for _, one in zip(range(100), listing, strict=False)]:
            journal.record_finished(
                [FinishedObject(key=one.key, uri=one.uri, etag=f"{0:032x}", size=100_000, records=1) for one in lot]
            )
        written = time.process_time() - began
        began = time.process_time()
        for one in list_objects(20_000):
            assert journal.find(one.key) is not None
        found = time.process_time() - began
        size = sum(path.stat().st_size for path in Path(folder).glob("journal.sqlite*"))
    return {
        "rows": JOURNAL_ROWS,
        "bytes_per_row": size / JOURNAL_ROWS,
        "us_per_row": 1e6 * written / JOURNAL_ROWS,
        "us_per_look_up": 1e6 * found / 20_000,
    }


def main(arguments: list[str]) -> None:
    """Simulate every size in a process of its own, measure the journal, and print both."""
    if arguments[:1] == ["one"]:
        console.print(json.dumps(simulate(int(arguments[1]))))
        return
    (ROOT / "build").mkdir(exist_ok=True)
    rows = []
    for count in [int(text) for text in arguments] or [1_000_000, 10_000_000]:
        command = [sys.executable, "-m", "tests.benchmarks.scaling_simulation", "one", str(count)]
        with console.status(f"{count:,} objects ..."):
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
    with console.status("journal ..."):
        journal = measure_journal()
    for row in rows:
        figures = (
            f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:,.3f}" for name, value in row.items()
        )
        console.print(", ".join(figures))
    console.print("journal: " + ", ".join(f"{name} {value:,.2f}" for name, value in journal.items()))
    last = rows[-1]
    console.print(
        f"{TARGET:,} objects on {NODES} nodes: {TARGET / last['objects'] * last['hours']:.1f} h, "
        f"{TARGET * last['driver_us_per_object'] / 3.6e9:.2f} h of the dispatcher, "
        f"{TARGET * journal['us_per_row'] / 3.6e9:.2f} h of the journal, "
        f"{TARGET * journal['bytes_per_row'] / 1e9:.0f} GB of journal, {TARGET // 1000:,} LIST requests, "
        f"resume looks up {TARGET * journal['us_per_look_up'] / 3.6e9:.2f} h"
    )
    target = ROOT / "build" / "scaling_simulation.json"
    target.write_text(json.dumps({"simulation": rows, "journal": journal}, indent=1) + "\n")
    console.print(f"written to {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
