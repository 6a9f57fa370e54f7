"""The processes that a real server starts for the instances of a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tritonforge.serving.server import Server


@dataclass(frozen=True)
class Instance:
    """A process: its private memory in bytes, and the files that it has mapped."""

    memory: int
    mapped: frozenset[Path]

    def has_loaded(self, package: str) -> bool:
        """Return True if the process has mapped a library of this Python package."""
        return any(package in path.parts for path in self.mapped)


def instances(server: Server, model: str) -> list[Instance]:
    """The instances of a model that runs in the python backend, as TensorFlow's and ONNX's models do."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = dict(re.findall(r"^(\w+):\s*(\d+)", (folder / "status").read_text(), re.MULTILINE))
            words = (folder / "cmdline").read_bytes().split(b"\0")
            lines = (folder / "maps").read_text().splitlines()
        except OSError:  # the process has ended, or belongs to another user
            continue
        if status["PPid"] == str(server.pid) and f"/{model}/".encode() in b"".join(words[1:2]):
            mapped = frozenset(Path(line.split()[-1]) for line in lines if ".so" in line)
            found.append(Instance(int(status["RssAnon"]) * 1024, mapped))
    return found
