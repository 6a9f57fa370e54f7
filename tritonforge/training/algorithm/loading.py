"""The declaration of a program folder: its algorithm.py is imported, and the Algorithm that it binds is found. An edge.

A program folder need not have one: its `train` and `serve` may be of any language.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tritonforge.errors import DefinitionError
from tritonforge.module_loader import declared
from tritonforge.training.algorithm.declaration import Algorithm

__all__ = ["FILE", "find", "load"]

#: The file of a program folder that declares its algorithm.
FILE: Final = "algorithm.py"


def load(program: Path | str) -> Algorithm:
    """The algorithm that a program folder declares: what ``algorithm.py`` binds to the name ``algorithm``.

    Raises:
        DefinitionError: there is no such file or no such name, or an error while it is imported (with file and line).
    """
    file = (Path(program) / FILE).resolve()
    if not file.is_file():
        raise DefinitionError(
            f"{program}: there is no {FILE} in it; declare there what it takes: algorithm = Algorithm(...)"
        )
    found = getattr(declared(file, "it only declares an algorithm"), "algorithm", None)
    if not isinstance(found, Algorithm):
        raise DefinitionError(f"{program}/{FILE}: it binds no algorithm; write algorithm = Algorithm(...)")
    return found


def find(program: Path | str) -> Algorithm | None:
    """The algorithm that a program folder declares, None where it has no ``algorithm.py``; errors as of `load`."""
    return load(program) if (Path(program) / FILE).is_file() else None
