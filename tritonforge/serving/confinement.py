"""Programs that keep the code of a repository from being run while a server checks it.

``python -S -I confinement.py <rules> <program> <arguments>`` replaces itself by the program, which may open and execute
named folders only, and has memory within a limit: by Landlock, where Linux has it. The rules are JSON: ``read`` are
paths below which files may be read and executed, ``write`` those below which they may be written as well, ``folders``
those below which empty folders may be made and removed. Everything else is closed to the program and all that it
starts. Without Landlock (Linux before 5.13, or switched off) the limits alone hold.
Source: Linux, Documentation/userspace-api/landlock.rst; include/uapi/linux/landlock.h.

Under the name ``bash`` the same file starts one stub and nothing else. The python backend runs ``bash -c " exec <stub>
<model file> <region> <size> <growth> <pid> <library> <handle> <name> <directory>"`` with strings of the repository in
it (python_backend src/stub_launcher.cc, r24.10). No shell reads them here: of the whole text only the region, whose
prefix is known, and numbers are used; the stub, the model's file and the names are those of the stand-in.

Only the standard library is used.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import resource
import stat
import struct
import sys
from collections.abc import Iterable
from typing import Final

__all__ = ["build_stub_arguments", "confine", "run_confined", "start_stub"]


_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _MAKE_DIR = 1 << 4, 1 << 7
_TRUNCATE: Final = 1 << 14
_REFER: Final = 1 << 13
#: All rights of the first version of Landlock: bits 0 to 12.
_FIRST: Final = (1 << 13) - 1
#: Rights that a rule for a file, not a folder, may hold.
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE

#: Bytes of memory that one process may allocate, bytes of a file that it may write, seconds of CPU time.
_LIMITS: Final = (
    (resource.RLIMIT_DATA, 6 * 2**30),
    (resource.RLIMIT_FSIZE, 2**30),
    (resource.RLIMIT_CPU, 300),
    (resource.RLIMIT_CORE, 0),
)


def confine(*, read: Iterable[str], write: Iterable[str], folders: Iterable[str]) -> bool:
    """Confine this process; return False where the kernel has no Landlock. It cannot be undone."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    if version < 1:
        return False
    handled = _FIRST | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    ruleset = libc.syscall(_CREATE_RULESET, struct.pack("=Q", handled), ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    reading = _EXECUTE | _READ_FILE | _READ_DIR
    for paths, rights in ((read, reading), (write, handled), (folders, _READ_DIR | _MAKE_DIR | _REMOVE_DIR)):
        for path in paths:
            with contextlib.suppress(OSError):  # a missing path needs no rule
                _allow_path(libc, ruleset, path, rights)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    is_confined = libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return bool(is_confined)


def _allow_path(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def run_confined() -> int:
    """Confine this process and replace it by the program."""
    for limit, value in _LIMITS:
        with contextlib.suppress(ValueError, OSError):  # a lower limit is set already
            resource.setrlimit(limit, (value, value))
    confine(**json.loads(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - what to run is the caller's
    return 1


def build_stub_arguments(command: str, *, stub: str, model: str, library: str, prefix: str) -> list[str] | None:
    """Return the command line of the stand-in's stub for a command of bash; None for any other command."""
    pattern = rf" ({re.escape(prefix)}[0-9a-fA-F-]+) (\d+) (\d+) (\d+) {re.escape(library)} (\d+) "
    match = re.search(pattern, command)
    if match is None:
        return None
    region, size, growth, parent, handle = match.groups()
    return [stub, model, region, size, growth, parent, library, handle, "stand-in", "DEFAULT"]


def start_stub() -> int:
    """Replace this process by the stub."""
    with open(f"{__file__}.json", encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes longer to import than this runs
        settings = json.load(file)
    arguments = build_stub_arguments(sys.argv[-1], **settings)
    if arguments is None:
        print(f"{sys.argv[-1]!r} is not the command of a stub", file=sys.stderr)  # noqa: T201 - into the server's log
        return 1
    os.execv(arguments[0], arguments)  # noqa: S606 - the stub, without a shell
    return 1


if __name__ == "__main__":
    sys.exit(start_stub() if os.path.basename(sys.argv[0]) == "bash" else run_confined())  # noqa: PTH119 - as above
