"""The child process that makes one artifact: ``python -m tritonforge.repository.artifacts definition.py model folder``.

See `tritonforge.repository.artifacts.child_process`, its only caller, for what it writes to standard output.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tritonforge.errors import ArtifactError
from tritonforge.repository.artifacts.artifact_content import make
from tritonforge.repository.artifacts.child_channel import Parent, answer
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

    def work(parent: Parent) -> Any:
        definitions = load(arguments.definition)
        model = definitions.models.get(arguments.model)
        if not isinstance(model, Model):
            raise ArtifactError(f"{arguments.definition}: there is no model {arguments.model!r}")
        found = make(
            model,
            arguments.destination,
            base=definitions.folder,
            report=parent.say,
            moved=parent.moved,
            version=arguments.version,
        )
        return None if found is None else found.to_json()

    return answer(work)


if __name__ == "__main__":
    sys.exit(main())
