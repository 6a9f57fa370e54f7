"""Run a definition in a process of its own, and validate what it declares.

A definition must run to be judged: only where the user allows it, and never in the process of the language server. The
child runs `check` with the unsaved texts of the editor in the place of the files. Its environment and its end with the
parent are those of `tritonforge.repository.child_process`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, Final

from tritonforge.files import describe_error
from tritonforge.repository.child_process import build_command
from tritonforge.repository.download import ProgressCallback
from tritonforge.validation.findings import Finding

__all__ = ["DefinitionProblem", "DefinitionReport", "check", "run_check"]

#: Seconds that a definition may take.
_TIMEOUT: Final = 60.0
#: Bytes of a report that are read.
_MAXIMAL_REPORT: Final = 16 * 1024 * 1024
_PLACED: Final = re.compile(r"(?P<file>[^\n:]+\.py):(?P<line>\d+): (?P<words>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DefinitionProblem:
    """Why a definition cannot be run: a sentence, and the file (relative to the definition's directory) and line."""

    message: str
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class DefinitionReport:
    """The findings on what a definition declares, the steps of its ensembles, and why it cannot be run."""

    findings: Sequence[Finding] = ()
    steps: Mapping[str, Sequence[str]] | None = None
    problem: DefinitionProblem | None = None


def check(arguments: Mapping[str, Any], on_progress: ProgressCallback) -> dict[str, Any]:
    """Run the definition ``file`` with the texts ``buffers`` by path; return findings and steps, as values of JSON.

    Raises:
        DefinitionError: the definition is invalid.
    """
    from tritonforge.repository.definition.ensemble import Ensemble
    from tritonforge.repository.definition.loading import load
    from tritonforge.repository.resolve import resolve
    from tritonforge.validation.context import Options
    from tritonforge.validation.report import run

    request = json.loads(Path(arguments["request"]).read_text(encoding="utf-8"))
    _prefer_buffers({os.path.realpath(path): text for path, text in request["buffers"].items()})
    definitions = load(request["file"])
    tree = resolve(definitions.models, definitions.package).tree()
    findings = run(tree, Options(**request["options"])).findings
    steps = {
        name: [step.model.name for step in model.steps]
        for name, model in definitions.models.items()
        if isinstance(model, Ensemble)
    }
    return {"findings": [asdict(finding) for finding in findings], "steps": steps}


def _prefer_buffers(buffers: Mapping[str, str]) -> None:
    """Have Python's importer read these texts in the place of the files, also where a compiled file exists."""
    get_data, path_stats = SourceFileLoader.get_data, SourceFileLoader.path_stats

    def get_buffer(loader: SourceFileLoader, path: str) -> bytes:
        text = buffers.get(os.path.realpath(path))
        return get_data(loader, path) if text is None else text.encode("utf-8", "surrogatepass")

    def get_stats(loader: SourceFileLoader, path: str) -> Mapping[str, Any]:
        if os.path.realpath(path) in buffers:
            raise OSError  # so that the importer does not look for a compiled file
        return path_stats(loader, path)

    setattr(SourceFileLoader, "get_data", get_buffer)  # noqa: B010 - mypy refuses the assignment
    setattr(SourceFileLoader, "path_stats", get_stats)  # noqa: B010


async def run_check(file: Path, buffers: Mapping[str, str], options: Mapping[str, Any]) -> DefinitionReport:
    """Run `check` in a child process, which ends when this call does, also when it is cancelled."""
    with tempfile.TemporaryDirectory(prefix="tritonforge-lsp-") as folder:
        request = Path(folder, "request.json")
        request.write_text(json.dumps({"file": str(file), "buffers": dict(buffers), "options": dict(options)}))
        command, environment = build_command(f"{__name__}:check", {"request": str(request)})
        try:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=file.parent,
                env=environment,
                start_new_session=sys.platform != "win32",
            )
        except OSError as error:  # its directory is gone, for example
            problem = DefinitionProblem(f"the definition cannot run: {describe_error(error)}", file.name, 1)
            return DefinitionReport(problem=problem)
        try:
            assert child.stdout is not None
            output = await asyncio.wait_for(_read(child.stdout), _TIMEOUT)
        except asyncio.TimeoutError:
            problem = DefinitionProblem(f"the definition did not end within {_TIMEOUT:.0f} s", file.name, 1)
            return DefinitionReport(problem=problem)
        finally:
            _end(child)
            await child.wait()
    return _read_report(output, file)


async def _read(stream: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size < _MAXIMAL_REPORT and (part := await stream.read(65536)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _end(child: asyncio.subprocess.Process) -> None:
    """End the child with the processes that the definition has started, which may be there after its own end."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform != "win32":
            os.killpg(child.pid, signal.SIGKILL)
        elif child.returncode is None:
            child.kill()


def _read_report(output: bytes, file: Path) -> DefinitionReport:
    last: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        for line in output.splitlines():
            last = json.loads(line)
    if "done" in last:
        findings = tuple(Finding(**finding) for finding in last["done"]["findings"])
        return DefinitionReport(findings, last["done"]["steps"])
    error = last.get("error", {})
    message = error.get("message") or (
        f"install tritonforge[{error['extra']}]" if "extra" in error else "the process of the definition ended early"
    )
    match = _PLACED.match(message)
    if match is None:
        return DefinitionReport(problem=DefinitionProblem(message, file.name, 1))
    return DefinitionReport(problem=DefinitionProblem(match["words"], match["file"], int(match["line"])))
