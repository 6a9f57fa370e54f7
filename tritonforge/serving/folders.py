"""Temporary folders at paths that a shell, the dynamic linker and Triton's stubs take unchanged.

Triton puts paths into a shell's command unquoted, the linker splits LD_LIBRARY_PATH at colons and semicolons, a stub
reads ASCII only, and Linux cuts a script's ``#!`` line at 255 bytes. Where TMPDIR is no such path, one of the
system's own temporary folders is used instead; what is put there is small.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from tritonforge.errors import LaunchError
from tritonforge.triton.backends import is_word, list_odd_characters

__all__ = ["make", "places"]

#: Where a folder may be made when TMPDIR cannot be used, in this order.
_SYSTEM: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - mkdtemp makes a folder that no other user may enter

_LONGEST: Final = 150


def places() -> tuple[Path, ...]:
    """Where temporary folders may lie, the preferred place first."""
    return tuple(dict.fromkeys([Path(tempfile.gettempdir()), *map(Path, _SYSTEM)]))


def make(prefix: str) -> Path:
    """A new folder, for this user alone.

    Raises:
        LaunchError: no place can be used; the message names TMPDIR.
    """
    problems = []
    for place in places():
        problem = _problem(place)
        if not problem:
            try:
                return Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            except OSError as error:
                problem = error.strerror or str(error)
        problems.append(f"{ascii(str(place))[1:-1]}: {problem}")
    raise LaunchError(
        f"no folder for temporary files can be used ({'; '.join(problems)}); set TMPDIR to a writable one whose path "
        "has letters, digits and _ . / + @ % , = - (ASCII) only"
    )


def _problem(place: Path) -> str:
    """Why programs and libraries cannot be run from a folder; "" when they can."""
    path = str(place)
    if not is_word(path) or ":" in path:
        return f"its path has the characters {list_odd_characters(path) or ':'}"
    if len(path) > _LONGEST:
        return f"its path is longer than {_LONGEST} characters"
    try:
        if os.statvfs(place).f_flag & os.ST_NOEXEC:
            return "programs cannot be run from it (mounted noexec)"
    except OSError as error:
        return error.strerror or str(error)
    return ""
