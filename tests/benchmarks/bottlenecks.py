"""`make bottlenecks`: repositories with a planted bottleneck, each on a server of its own; profile names the step.

A case is right if the step and the kind are those of `tests.support.bottleneck_repositories`. About 15 s for a case;
written to build/bottlenecks.json. Arguments are names of cases.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.support.bottleneck_repositories import PLANTED, Planted
from tests.support.checkout import ROOT
from tritonforge.inference.client import Client
from tritonforge.profiling.load import ClosedLoop, StopRule
from tritonforge.profiling.report import LoadProfile
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
                profile = profile_case(case, url)
        found = profile.bottleneck
        text = "" if found is None else " ".join([found.sentence, *found.advice])
        is_right = found is not None and found.step == case.step and found.kind in case.kinds and case.advice in text
        rows.append({"case": case.name, "is_right": is_right, "expected": [case.step, *case.kinds], "sentence": text})
        rows[-1] |= {"step": found.step, "kind": found.kind} if found is not None else {}
        verdict = "right" if is_right else f"WRONG (expected {case.step}: {' or '.join(case.kinds)})"
        console.print(f"{case.name}: {verdict}: {found.kind if found else 'none'}: {text}")
        if not is_right and profile.times is not None:
            for step in profile.times.steps:
                console.print(f"    {step}")
    right = sum(row["is_right"] for row in rows)
    console.print(f"{right} of {len(rows)} bottlenecks are named with their step and kind")
    target = ROOT / "build" / "bottlenecks.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n")
    return int(right < len(rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
