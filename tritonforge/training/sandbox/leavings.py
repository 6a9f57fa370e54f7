"""What a container leaves in folders of this machine: no file that gives who executes it another user's rights.

Inside the container such files have no effect (its mounts are nosuid); on this machine they would.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

__all__ = ["strip_privileges"]

_PRIVILEGES: Final = stat.S_ISUID | stat.S_ISGID


def strip_privileges(path: str) -> None:
    """Take the set-user-ID and set-group-ID bits off every regular file at or below ``path``; no link is followed.

    What cannot be read or changed is left as it is.
    """
    if not Path(path).is_dir():
        _strip(path, None)
        return
    for _, _, names, folder in os.fwalk(path, follow_symlinks=False):
        for name in names:
            _strip(name, folder)


def _strip(name: str, folder: int | None) -> None:
    with contextlib.suppress(OSError):
        if not _has_privileges(os.stat(name, dir_fd=folder, follow_symlinks=False)):
            return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            opened = os.open(name, flags, dir_fd=folder)
        except PermissionError:  # its owner may always change it, and read it then
            os.chmod(name, 0o600, dir_fd=folder)
            opened = os.open(name, flags, dir_fd=folder)
        try:
            found = os.fstat(opened)
            if _has_privileges(found):
                os.fchmod(opened, stat.S_IMODE(found.st_mode) & ~_PRIVILEGES)
        finally:
            os.close(opened)


def _has_privileges(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and bool(found.st_mode & _PRIVILEGES)
