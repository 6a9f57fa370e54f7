"""`make bottlenecks`: repositories with a planted bottleneck on servers of their own; profile and watch name the step.

A case is right if the step and the kind are those of `tests.support.bottleneck_repositories`. What watch reads during
the profile must name the step too; it has no client, so that a case outside of the server (``transfer``) is not one of
its cases. About 15 s for a case; written to build/bottlenecks.json. Arguments are names of cases.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.support.bottleneck_repositories import PLANTED, Planted
from tests.support.checkout import ROOT
from tritonforge.inference.client import Client
from tritonforge.profiling.activity import ActivityHistory, ServerActivity
from tritonforge.profiling.load import ClosedLoop, StopRule
from tritonforge.profiling.report import LoadProfile
from tritonforge.profiling.server_poller import ServerPoller
from tritonforge.profiling.session import profile_loads
from tritonforge.profiling.target import open_target, read_configs
from tritonforge.serving.server import Server

console = Console(highlight=False, soft_wrap=True, markup=False)

STOP = StopRule(min_seconds=1.5, max_seconds=5.0, warm_up=0.3)


def profile_case(case: Planted, url: str) -> LoadProfile:
    """Return the profile of a case on a server."""
    payloads, scripts = case.encode()
    with Client(url) as client:
        target = open_target(client, model=case.name)
        (profile,) = profile_loads(
            target,
            payloads,
            [ClosedLoop(case.concurrency)],
            configs=read_configs(client),
            stop=STOP,
            scripts=scripts,
        )
    return profile


@contextmanager
def watch_server(url: str) -> Iterator[list[ServerActivity]]:
    """Read a server every second, as `tritonforge watch` does; the list has what its table showed."""
    ended, shown = threading.Event(), list[ServerActivity]()

    def read() -> None:
        history = ActivityHistory(10.0)
        with ServerPoller(url) as poller:
            while not ended.wait(1.0):
                activity = history.add(poller.poll())
                if activity is not None:
                    shown.append(activity)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield shown
    finally:
        ended.set()
        thread.join()


def find_shown_step(shown: list[ServerActivity], model: str) -> str:
    """Return the step that the table marked at the end of the load, "" without one."""
    steps = [
        activity.bottleneck.step
        for server in shown
        for activity in server.models
        if activity.rows[0].name == model and activity.bottleneck is not None
    ]
    return steps[-1] if steps else ""


def main(names: list[str]) -> int:
    """Profile the cases; 1 if one is wrong."""
    rows: list[dict[str, Any]] = []
    for case in PLANTED:
        if names and case.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            case.write(Path(folder))
            with Server(
                folder, sagemaker_port=None, http_port=0, grpc_port=0, metrics_port=None, arguments=case.arguments
            ) as server:
                url = server.grpc_url if case.is_decoupled else server.http_url
                assert url is not None
                assert server.http_url is not None
                with watch_server(server.http_url) as shown:
                    profile = profile_case(case, url)
        found = profile.bottleneck
        text = "" if found is None else " ".join([found.sentence, *found.advice])
        is_right = found is not None and found.step == case.step and found.kind in case.kinds and case.advice in text
        rows.append({"case": case.name, "is_right": is_right, "expected": [case.step, *case.kinds], "sentence": text})
        rows[-1] |= {"step": found.step, "kind": found.kind} if found is not None else {}
        shown_step = find_shown_step(shown, case.name)
        rows[-1] |= {"watch_step": shown_step, "is_watch_right": shown_step == case.step or case.kinds == ("transfer",)}
        if not rows[-1]["is_watch_right"]:
            console.print(f"{case.name}: watch marked {shown_step or 'no step'} (expected {case.step})")
        verdict = "right" if is_right else f"WRONG (expected {case.step}: {' or '.join(case.kinds)})"
        console.print(f"{case.name}: {verdict}: {found.kind if found else 'none'}: {text}")
        if not is_right and profile.times is not None:
            for step in profile.times.steps:
                console.print(f"    {step}")
    right = sum(row["is_right"] for row in rows)
    console.print(f"{right} of {len(rows)} bottlenecks are named with their step and kind")
    watched = sum(row["is_watch_right"] for row in rows)
    console.print(f"{watched} of {len(rows)} steps are marked by watch, or outside of the server")
    target = ROOT / "build" / "bottlenecks.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n")
    return int(min(right, watched) < len(rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
