"""A composite GitHub Action, run as the runner runs it: each step in a shell of its own, with outputs between them.

Source: GitHub's documentation, "Metadata syntax" (``runs`` of composite actions) and "Workflow syntax" (``shell: bash``
is ``bash --noprofile --norc -eo pipefail FILE``). A step that ``uses`` another action is not run.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ActionRun", "run_action"]

_EXPRESSION = re.compile(r"\$\{\{ *(inputs|steps)\.([\w-]+)(?:\.outputs\.([\w-]+))? *\}\}")


@dataclass
class ActionRun:
    """How an action ended: its exit code, what it printed, and the outputs of its steps by id and name."""

    code: int = 0
    stdout: str = ""
    stderr: str = ""
    steps: dict[str, dict[str, str]] = field(default_factory=dict)


def run_action(
    action: Mapping[str, Any],
    folder: Path,
    inputs: Mapping[str, str],
    *,
    outputs: Mapping[str, Mapping[str, str]] | None = None,
    **environment: str,
) -> ActionRun:
    """Run the steps of an action in a directory until one fails.

    ``outputs`` are those of steps that are left out, by their ids, such as the one that installs the program.
    """
    values = {name: str(row.get("default", "")) for name, row in action["inputs"].items()} | dict(inputs)
    run = ActionRun(steps={step: dict(named) for step, named in (outputs or {}).items()})

    def evaluate(text: str) -> str:
        def replace(match: re.Match[str]) -> str:
            kind, name, output = match.groups()
            return values[name] if kind == "inputs" else run.steps.get(name, {}).get(output, "")

        return _EXPRESSION.sub(replace, text)

    for number, step in enumerate(action["runs"]["steps"]):
        if "uses" in step or step.get("id") in (outputs or {}):
            continue
        assert step["shell"] == "bash"
        assert "if" not in step
        script, written = folder / f"step-{number}.sh", folder / f"step-{number}.output"
        script.write_text(step["run"])
        written.touch()
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=folder, capture_output=True, text=True, check=False,
            env={
                **os.environ, **{name: evaluate(value) for name, value in step.get("env", {}).items()}, **environment,
                "GITHUB_OUTPUT": str(written), "RUNNER_TEMP": str(folder),
            },
        )  # fmt: skip
        run.stdout += done.stdout
        run.stderr += done.stderr
        if "id" in step:
            run.steps[step["id"]] = dict(line.split("=", 1) for line in written.read_text().splitlines())
        if done.returncode:
            run.code = done.returncode
            return run
    return run
