"""Work that needs a framework in a process of its own: the same bytes each time, and no framework in the parent.

Parent and child talk in lines of JSON: ``{"report": text}`` and ``{"moved": [bytes, of bytes]}``
while it works, and last ``{"done": signature}`` or
``{"error": {...}}``. What frameworks print goes to a file whose end is shown when the child dies without a word. The
child's standard input is a pipe that nothing is written to: it ends with the parent, and then the child does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import tritonforge
from tritonforge import errors
from tritonforge.errors import ArtifactError, DefinitionError, MissingExtraError, TritonForgeError
from tritonforge.model_files.signature import Signature
from tritonforge.repository.artifacts.download import Moved, unwatched

__all__ = ["error_from_json", "error_to_json", "make_in_child", "run_in_child"]

#: Bytes of a dead child's last words that are shown.
_LAST_WORDS = 2000


def make_in_child(
    definition: Path,
    model_name: str,
    destination: Path,
    *,
    report: Callable[[str], None],
    moved: Moved = unwatched,
    version: int = 1,
) -> Signature | None:
    """As `make`, for the model of that name in the definition file, in a child process that ends with this call.

    Raises:
        ArtifactError, MissingExtraError, DefinitionError: as `make`; also when the child dies.
    """
    done = run_in_child(
        "tritonforge.repository.artifacts",
        [str(definition), model_name, str(destination), "--version", str(version)],
        what=f"{model_name}: the process that makes its file",
        report=report,
        moved=moved,
    )
    return None if done is None else Signature.from_json(done)


def run_in_child(
    module: str,
    arguments: Sequence[str],
    *,
    what: str,
    report: Callable[[str], None],
    moved: Moved = unwatched,
) -> Any:
    """Run a module of tritonforge as a program, and give what it says last; ``what`` names the process in errors.

    Raises:
        ArtifactError, MissingExtraError, DefinitionError: the child's own error; or it died, with its last words.
    """
    command = [sys.executable, "-m", module, *arguments]
    with tempfile.TemporaryFile() as noise:
        child = subprocess.Popen(  # noqa: S603 - this very Python, with a module of this package
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise, env=_environment()
        )
        try:
            assert child.stdout is not None
            last = _listen(child.stdout, report, moved)
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
            raise ArtifactError(f"{what} {_end(status)}{_tail(noise)}")
    return last["done"]


def error_to_json(error: TritonForgeError) -> dict[str, str]:
    """An error as values of JSON."""
    if isinstance(error, MissingExtraError):
        return {"kind": "MissingExtraError", "package": error.package, "extra": error.extra}
    return {"kind": type(error).__name__, "message": str(error)}


def error_from_json(value: dict[str, str]) -> TritonForgeError:
    """The error that `error_to_json` gave; a kind without a name of its own here is an ArtifactError."""
    if value["kind"] == "MissingExtraError":
        return MissingExtraError(value["package"], extra=value["extra"])
    made = DefinitionError if value["kind"] == errors.DefinitionError.__name__ else ArtifactError
    return made(value["message"])


def _listen(lines: IO[bytes], report: Callable[[str], None], moved: Moved) -> dict[str, Any]:
    last: dict[str, Any] = {}
    for line in lines:
        message: dict[str, Any] = json.loads(line)
        if "report" in message:
            report(message["report"])
        elif "moved" in message:
            moved(*message["moved"])
        else:
            last = message
    return last


def _environment() -> dict[str, str]:
    """This process's environment; the child finds this tritonforge, and hashes the same way each time."""
    root = str(Path(tritonforge.__file__).parents[1])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",  # a module in the folder where the user stands is not to hide one of a framework
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",  # what a definition imports late lies beside it, in the user's folder
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }


def _end(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with {status}"


def _tail(noise: IO[bytes]) -> str:
    size = noise.seek(0, os.SEEK_END)
    noise.seek(max(0, size - _LAST_WORDS))
    words = noise.read().decode(errors="replace").strip()
    return f"; its last words:\n{words}" if words else ""
