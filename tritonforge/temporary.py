"""Temporary directories with an owner: those of killed runs are removed when the next command starts.

The name of a directory states its owner, ``tritonforge_<PID namespace>_<process>_<its start>_...``, and so do the names
of shared memory regions. An entry is removed only if it belongs to this user and that process has ended; an entry of
another PID namespace is left to the processes of that namespace.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["SHARED_MEMORY", "build_prefix", "create_directory", "open_directory", "sweep", "sweep_backend"]

#: Where the python backend keeps the shared memory between tritonserver and its stubs.
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - POSIX shared memory, not a directory for temporary files

#: Where temporary directories are made besides TMPDIR, see `tritonforge.serving.server_process`.
_PLACES: Final = (Path("/tmp"), Path("/var/tmp"), SHARED_MEMORY)  # noqa: S108 - swept, and never written to
_FAMILY: Final = "tritonforge_"
#: What Triton's python backend makes at each start, in /tmp whatever TMPDIR is, and leaves behind when it is killed.
#: Source: python_backend, src/pb_env.cc, EnvironmentManager.
_BACKEND_FAMILY: Final = "python_env_"
_BACKEND_FOLDER: Final = Path("/tmp")  # noqa: S108 - Triton's choice
#: Seconds by which a process may seem younger than its directory: the kernel reports its own start in whole seconds.
_CLOCK_SLACK: Final = 2.0
_BACKEND_LIBRARY: Final = "libtriton_python.so"


def build_prefix(purpose: str = "") -> str:
    """Return the start of the names of what this process makes for a purpose: letters and digits only."""
    try:
        namespace = _read_namespace()
    except OSError:  # a system without /proc, where `sweep` removes nothing
        namespace = 0
    process = os.getpid()
    return f"{_FAMILY}{namespace}_{process}_{_read_start(process) or 0}_{purpose}{'_' if purpose else ''}"


def create_directory(purpose: str) -> Path:
    """Make a directory that only this user may enter; the caller removes it. Raises OSError."""
    import tempfile

    return Path(tempfile.mkdtemp(prefix=build_prefix(purpose)))


@contextmanager
def open_directory(purpose: str) -> Iterator[Path]:
    """Yield a directory that only this user may enter, and remove it at the end. Raises OSError."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix=build_prefix(purpose)) as name:
        yield Path(name)


def sweep(places: Iterable[Path] | None = None) -> None:
    """Remove what killed runs of this user have left in ``places``: temporary directories and shared memory.

    Nothing is raised: what cannot be read or removed is left.
    """
    with contextlib.suppress(OSError):
        start = f"{_FAMILY}{_read_namespace()}_"
        for place in places if places is not None else dict.fromkeys((_find_temporary_directory(), *_PLACES)):
            for entry in _list_own(place, start):
                process, began, *_ = (*entry.name.removeprefix(start).split("_"), "")
                if process.isdigit() and began.isdigit() and _read_start(int(process)) != int(began):
                    _remove_entry(entry)


def sweep_backend(place: Path = _BACKEND_FOLDER) -> None:
    """Remove directories of Triton's python backend that are older than all its processes. Nothing is raised."""
    with contextlib.suppress(OSError, ValueError):
        _sweep_backend(place)


def _sweep_backend(place: Path) -> None:
    entries = list(_list_own(place, _BACKEND_FAMILY))
    if not entries:  # the usual case; the processes need not be read
        return
    running = (process for process in Path("/proc").iterdir() if process.name.isdigit() and _runs_backend(process))
    starts = [ticks for process in running if (ticks := _read_start(int(process.name))) is not None]
    oldest = _convert_ticks(min(starts)) - _CLOCK_SLACK if starts else float("inf")
    for entry in entries:
        if entry.stat(follow_symlinks=False).st_mtime < oldest:
            _remove_entry(entry)


def _runs_backend(process: Path) -> bool:
    try:
        return process.stat().st_uid == os.geteuid() and _BACKEND_LIBRARY in (process / "maps").read_text()
    except (OSError, UnicodeDecodeError):  # it ended meanwhile
        return False


def _list_own(place: Path, start: str) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a directory with this start of their names that belong to this user; follow no link."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(start):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                        yield entry


def _remove_entry(entry: os.DirEntry[str]) -> None:
    import shutil

    with contextlib.suppress(OSError):
        if stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode):
            shutil.rmtree(entry.path, ignore_errors=True)  # works on descriptors and follows no link
        else:
            Path(entry.path).unlink()


def _find_temporary_directory() -> Path:
    """Return the directory for temporary files, as `tempfile` finds it where the environment names an existing one."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        if (given := os.environ.get(name)) and Path(given).is_dir():
            return Path(given)
    return Path("/tmp")  # noqa: S108 - read, never written to by a known name


def _read_namespace() -> int:
    """Return the inode of the PID namespace: a process id has no meaning outside of it."""
    return Path("/proc/self/ns/pid").stat().st_ino


def _read_start(process: int) -> int | None:
    """Return the start of a process in clock ticks since the system's; None if it has ended. Source: proc(5), stat."""
    try:
        fields = Path("/proc", str(process), "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19])


def _convert_ticks(ticks: int) -> float:
    """Return the time of a clock tick in seconds since 1970. Source: proc(5), btime of /proc/stat."""
    [line] = [line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime ")]
    return int(line.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
