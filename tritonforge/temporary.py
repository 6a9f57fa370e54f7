"""Temporary folders with an owner: those of runs that were killed are removed when the next command starts.

The name of a folder says who made it, ``tritonforge_<PID namespace>_<process>_<its start>_...``, and so do the names of
shared memory regions. An entry is removed only if it belongs to this user and that process has ended; an entry of
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

__all__ = ["SHARED_MEMORY", "create", "folder", "prefix", "sweep", "sweep_backend"]

#: Where the python backend keeps the shared memory between tritonserver and its stubs.
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - not a place of ours for temporary files: POSIX shared memory

#: Where temporary folders are made besides where TMPDIR says, see `tritonforge.serving.shell_safety`.
_PLACES: Final = (Path("/tmp"), Path("/var/tmp"), SHARED_MEMORY)  # noqa: S108 - swept, and never written to
_FAMILY: Final = "tritonforge_"
#: What Triton's python backend makes at each start, in /tmp whatever TMPDIR is, and leaves behind when it is killed.
#: Source: python_backend, src/pb_env.cc, EnvironmentManager.
_BACKEND_FAMILY: Final = "python_env_"
_BACKEND_FOLDER: Final = Path("/tmp")  # noqa: S108 - Triton's choice
#: Seconds by which a process may seem younger than a folder that it made: the kernel tells its own start in whole ones.
_CLOCK_SLACK: Final = 2.0
_BACKEND_LIBRARY: Final = "libtriton_python.so"


def prefix(purpose: str = "") -> str:
    """The start of the names of what this process makes for a purpose: letters and digits only."""
    return f"{_FAMILY}{_namespace()}_{os.getpid()}_{_started(os.getpid())}_{purpose}{'_' if purpose else ''}"


def create(purpose: str) -> Path:
    """Make a folder that only this user may enter; the caller removes it. Raises OSError."""
    import tempfile

    return Path(tempfile.mkdtemp(prefix=prefix(purpose)))


@contextmanager
def folder(purpose: str) -> Iterator[Path]:
    """A folder that only this user may enter, for the length of the context. Raises OSError."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix=prefix(purpose)) as name:
        yield Path(name)


def sweep(places: Iterable[Path] | None = None) -> None:
    """Remove what killed runs of this user have left in ``places``: the temporary folders and the shared memory.

    Nothing is raised: what cannot be read or removed is left.
    """
    with contextlib.suppress(OSError):
        start = f"{_FAMILY}{_namespace()}_"
        for place in places if places is not None else dict.fromkeys((_temporary(), *_PLACES)):
            for entry in _own(place, start):
                process, began, *_ = (*entry.name.removeprefix(start).split("_"), "")
                if process.isdigit() and began.isdigit() and _started(int(process)) != int(began):
                    _remove(entry)


def sweep_backend(place: Path = _BACKEND_FOLDER) -> None:
    """Remove folders of Triton's python backend that no process can have made that still runs it. Nothing is raised."""
    with contextlib.suppress(OSError, ValueError):
        _sweep_backend(place)


def _sweep_backend(place: Path) -> None:
    entries = list(_own(place, _BACKEND_FAMILY))
    if not entries:  # most often; the processes need not be looked at
        return
    running = (process for process in Path("/proc").iterdir() if process.name.isdigit() and _runs_backend(process))
    starts = [ticks for process in running if (ticks := _started(int(process.name))) is not None]
    oldest = _epoch(min(starts)) - _CLOCK_SLACK if starts else float("inf")
    for entry in entries:
        if entry.stat(follow_symlinks=False).st_mtime < oldest:
            _remove(entry)


def _runs_backend(process: Path) -> bool:
    try:
        return process.stat().st_uid == os.geteuid() and _BACKEND_LIBRARY in (process / "maps").read_text()
    except (OSError, UnicodeDecodeError):  # it ended meanwhile
        return False


def _own(place: Path, start: str) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder with a name that starts so, if they are this user's own; no link is followed."""
    with contextlib.suppress(OSError), os.scandir(place) as found:
        for entry in found:
            if entry.name.startswith(start):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                        yield entry


def _remove(entry: os.DirEntry[str]) -> None:
    import shutil

    with contextlib.suppress(OSError):
        if stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode):
            shutil.rmtree(entry.path, ignore_errors=True)  # goes by descriptors and never through a link
        else:
            Path(entry.path).unlink()


def _temporary() -> Path:
    """The folder for temporary files, as `tempfile` finds it where the environment names one that is there."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        if (given := os.environ.get(name)) and Path(given).is_dir():
            return Path(given)
    return Path("/tmp")  # noqa: S108 - read, never written to by a known name


def _namespace() -> int:
    """The inode of the PID namespace: a process id means nothing outside of it."""
    return Path("/proc/self/ns/pid").stat().st_ino


def _started(process: int) -> int | None:
    """When a process started, in clock ticks since the system did; None when it has ended. Source: proc(5), stat."""
    try:
        fields = Path("/proc", str(process), "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19])


def _epoch(ticks: int) -> float:
    """The time of a clock tick, in seconds since 1970. Source: proc(5), btime of /proc/stat."""
    [line] = [line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime ")]
    return int(line.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
