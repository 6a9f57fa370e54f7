"""The program that tritonserver starts as ``bash`` when it judges a repository: it starts one stub and nothing else.

The python backend runs ``bash -c " exec <stub> <model file> <region> <size> <growth> <pid> <library> <handle> <name>
<directory>"`` with strings of the repository in it (python_backend src/stub_launcher.cc, r24.10). No shell reads them
here. Of the whole text only the region, whose prefix is known, and numbers are taken over; the stub, the model's file
and the names are those of the stand-in. So no file of the repository is executed, sourced or imported, whatever it and
its configuration say. Only the standard library is used.
"""

from __future__ import annotations

import json
import os
import re
import sys

__all__ = ["main", "stub_arguments"]


def stub_arguments(command: str, *, stub: str, model: str, library: str, prefix: str) -> list[str] | None:
    """The command line of the stand-in's stub for a text that bash was to run; None where it is not such a text."""
    pattern = rf" ({re.escape(prefix)}[0-9a-fA-F-]+) (\d+) (\d+) (\d+) {re.escape(library)} (\d+) "
    found = re.search(pattern, command)
    if found is None:
        return None
    region, size, growth, parent, handle = found.groups()
    return [stub, model, region, size, growth, parent, library, handle, "stand-in", "DEFAULT"]


def main() -> int:
    """Replace this process by the stub."""
    with open(f"{__file__}.json", encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes longer to import than this runs
        settings = json.load(file)
    arguments = stub_arguments(sys.argv[-1], **settings)
    if arguments is None:
        print(f"{sys.argv[-1]!r} is not the command of a stub", file=sys.stderr)  # noqa: T201 - into the server's log
        return 1
    os.execv(arguments[0], arguments)  # noqa: S606 - the stub, without a shell
    return 1


if __name__ == "__main__":
    sys.exit(main())
