"""The child process that makes one artifact: ``python -m tritonforge.repository.artifacts definition.py model folder``.

See `tritonforge.repository.artifacts.child`, its only caller, for what it writes to standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from tritonforge.errors import ArtifactError, TritonForgeError
from tritonforge.repository.artifacts.child import error_to_json
from tritonforge.repository.artifacts.download import Moved
from tritonforge.repository.artifacts.make import make
from tritonforge.repository.definition.loading import load
from tritonforge.repository.definition.models import Model


def main() -> int:
    """Make the artifact; 0 when it was made, 1 when an error was written."""
    parser = argparse.ArgumentParser(prog="python -m tritonforge.repository.artifacts", description=__doc__)
    parser.add_argument("definition", type=Path)
    parser.add_argument("model")
    parser.add_argument("destination", type=Path)
    parser.add_argument("--version", type=int, default=1)
    arguments = parser.parse_args()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    # The definition's own prints, and its frameworks', are not to mix with the lines for the parent.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with lines:
        try:
            definitions = load(arguments.definition)
            model = definitions.models.get(arguments.model)
            if not isinstance(model, Model):
                raise ArtifactError(f"{arguments.definition}: there is no model {arguments.model!r}")
            found = make(
                model,
                arguments.destination,
                base=definitions.folder,
                report=lambda text: _write(lines, {"report": text}),
                moved=_told_now_and_then(lines),
                version=arguments.version,
            )
        except TritonForgeError as error:
            _write(lines, {"error": error_to_json(error)})
            return 1
        _write(lines, {"done": None if found is None else found.to_json()})
    return 0


def _told_now_and_then(lines: IO[str]) -> Moved:
    """Tell the parent of moved bytes, ten times a second at most, and of the last ones."""
    last = 0.0

    def moved(done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 0.1 or done == total:
            last = now
            _write(lines, {"moved": [done, total]})

    return moved


def _end_with_the_parent() -> None:
    """Wait for the end of standard input, which comes when the parent closes it or is killed."""
    os.read(0, 1)  # sys.stdin would be locked while Python shuts down
    os._exit(1)


def _write(lines: IO[str], message: dict[str, Any]) -> None:
    lines.write(json.dumps(message) + "\n")
    lines.flush()


if __name__ == "__main__":
    sys.exit(main())
