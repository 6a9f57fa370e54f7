"""Work that needs a framework, in a process of its own: equal bytes each time, and no framework in the parent.

The child is ``python -m tritonforge.repository.child_process TASK ARGUMENTS``, where ``TASK`` is a function
``module:name`` that is called with the JSON document ``ARGUMENTS`` and a progress callback, and returns plain JSON. It
sends lines of JSON to its parent: ``{"progress": {...}}``, and last ``{"done": result}`` or ``{"error": {...}}``. What
frameworks print goes to a file, whose end is shown if the child dies without a last line. The child's standard input is
a pipe that ends with the parent, and then the child ends.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final

import tritonforge
from tritonforge.errors import ArtifactError, DefinitionError, MissingExtraError, TritonForgeError
from tritonforge.repository.download import BuildProgress, ProgressCallback, no_progress

__all__ = ["build_command", "error_from_json", "error_to_json", "run_in_child", "run_task"]

#: Bytes of a dead child's output that are shown.
_SHOWN_OUTPUT: Final = 2000

#: Seconds between two reports of transferred bytes.
_REPORT_INTERVAL: Final = 0.1


def run_in_child(
    task: str, arguments: Mapping[str, Any], *, what: str, on_progress: ProgressCallback = no_progress
) -> Any:
    """Run a function in a child process that ends with this call, and return its result.

    Args:
        task: the function, ``module:name``; see the module's docstring.
        arguments: its arguments, as values of JSON.
        what: how an error names the process.
        on_progress: called with the child's progress.

    Raises:
        ArtifactError, MissingExtraError, DefinitionError: the child's own error; or it died, with its last output.
    """
    command, environment = build_command(task, arguments)
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(  # noqa: S603 - this very Python, with this module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, env=environment
        )
        last: dict[str, Any] = {}
        try:
            assert child.stdout is not None
            for line in child.stdout:
                message: dict[str, Any] = json.loads(line)
                if "progress" in message:
                    on_progress(BuildProgress(**message["progress"]))
                else:
                    last = message
            status = child.wait()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
        if "error" in last:
            raise error_from_json(last["error"])
        if "done" not in last or status != 0:
            end = f"was ended by signal {-status}" if status < 0 else f"ended with {status}"
            raise ArtifactError(f"{what} {end}{_read_end(output)}")
    return last["done"]


def build_command(task: str, arguments: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Return the command line of the child that runs a task, and its environment."""
    return [sys.executable, "-m", __spec__.name, task, json.dumps(arguments)], _build_environment()


def error_to_json(error: TritonForgeError) -> dict[str, str]:
    """Return an error as values of JSON."""
    if isinstance(error, MissingExtraError):
        return {"kind": "MissingExtraError", "package": error.package, "extra": error.extra}
    return {"kind": type(error).__name__, "message": str(error)}


def error_from_json(value: dict[str, str]) -> TritonForgeError:
    """Return the error that `error_to_json` was called with; an error of any other kind is an ArtifactError."""
    if value["kind"] == "MissingExtraError":
        return MissingExtraError(value["package"], extra=value["extra"])
    kind = DefinitionError if value["kind"] == "DefinitionError" else ArtifactError
    return kind(value["message"])


def _build_environment() -> dict[str, str]:
    """Return this process's environment, changed so that the child finds this tritonforge and hashes reproducibly."""
    root = str(Path(tritonforge.__file__).parents[1])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",  # a module in the working directory must not hide one of a framework
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",  # what a definition imports late lies beside it, in the user's directory
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }


def _read_end(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _SHOWN_OUTPUT))
    text = output.read().decode(errors="replace").strip()
    return f"; its last output:\n{text}" if text else ""


class _Reporter:
    """The child's progress callback: one line of JSON for each event, bytes at most ten times a second."""

    def __init__(self, lines: IO[str]) -> None:
        self._lines = lines
        self._last = 0.0

    def __call__(self, event: BuildProgress) -> None:
        now = time.monotonic()
        if event.kind != "bytes" or now - self._last >= _REPORT_INTERVAL or event.done == event.total:
            self._last = now
            self.send({"progress": asdict(event)})

    def send(self, message: dict[str, Any]) -> None:
        self._lines.write(json.dumps(message) + "\n")
        self._lines.flush()


def run_task(task: str, arguments: str) -> int:
    """Run a task in this process, the child; return its exit status."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    # Definitions and frameworks print; their output must not mix with the lines for the parent.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with lines:
        reporter = _Reporter(lines)
        module, _, name = task.partition(":")
        try:
            result = getattr(importlib.import_module(module), name)(json.loads(arguments), reporter)
        except TritonForgeError as error:
            reporter.send({"error": error_to_json(error)})
            return 1
        reporter.send({"done": result})
    return 0


def _exit_with_parent() -> None:
    """Wait for the end of standard input, which comes when the parent closes it or is killed."""
    os.read(0, 1)  # sys.stdin would be locked while Python shuts down
    os._exit(1)


if __name__ == "__main__":
    sys.exit(run_task(*sys.argv[1:]))
