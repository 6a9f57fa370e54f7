"""A container's file system: this machine's, read-only, with folders of the container's own in their places.

Nothing of it touches the machine: it is built inside a mount namespace, in memory, and goes with it. The root is a
tmpfs that shows each folder of the old root; where a mount point is needed and missing, the folder that it belongs into
becomes a tmpfs too, which shows what was there. (The way to begin, pivoting onto a tmpfs twice, is bubblewrap's.)
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Final, TypedDict

from tritonforge.training.isolation import kernel

__all__ = ["Bound", "build"]

#: Device files that every program may expect (docker run gives the same).
_DEVICES: Final = ("full", "null", "random", "tty", "urandom", "zero")

#: Parts of /proc through which root could change the machine; docker run keeps them read-only as well.
_GUARDED: Final = ("bus", "fs", "irq", "sys", "sysrq-trigger")

_NEW: Final = "/new"
_OLD: Final = "/old"


class Bound(TypedDict):
    """One folder or file of this machine, shown at a path of the container."""

    source: str
    target: str
    read_only: bool


class _Root:
    """The root under construction at `_NEW`, out of the old one at `_OLD`."""

    def __init__(self) -> None:
        # What this container made itself, so that folders may be made in it: paths below `_NEW`.
        self._own: set[str] = set()
        self._bound: set[str] = set()

    def cover(self, path: str, *, hidden: Sequence[str] = ()) -> None:
        """A tmpfs at a path (of the container) that shows what the old root has there, read-only.

        The entries ``hidden`` become empty folders instead, also where the old root lacks them.
        """
        self.own(path, "mode=755")
        for name in hidden:
            os.mkdir(f"{_NEW}{path}/{name}")
        entries = list(os.scandir(_OLD + path)) if os.path.isdir(_OLD + path) else []
        for entry in sorted(entries, key=lambda each: each.name):
            name = path.rstrip("/") + "/" + entry.name
            if entry.name in hidden:
                continue
            if entry.is_symlink():
                os.symlink(os.readlink(_OLD + name), _NEW + name)
            elif entry.is_dir() or entry.is_file():
                self._make(name, folder=entry.is_dir())
                kernel.bind(_OLD + name, _NEW + name)
                kernel.read_only(_NEW + name)

    def own(self, path: str, options: str) -> None:
        """An empty tmpfs of the container's own."""
        kernel.mount("tmpfs", _NEW + path, options)
        self._own.add(path)

    def place(self, path: str, *, folder: bool) -> None:
        """Have a mount point at a path, whether or not this machine has one."""
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts) + 1):
            here = "/" + "/".join(parts[:depth])
            parent = os.path.dirname(here)
            if os.path.lexists(_NEW + here):
                continue
            if not self._is_own(parent):
                if any(parent == each or parent.startswith(each + "/") for each in self._bound):
                    raise FileNotFoundError(
                        f"{here} is to be a mount point inside a folder that lacks it; make it first"
                    )
                self.cover(parent)
            self._make(here, folder=folder or depth < len(parts))

    def bind(self, bound: Bound) -> None:
        """Show a folder or a file of the old root."""
        source, target = _OLD + bound["source"], bound["target"]
        self.place(target, folder=os.path.isdir(source))
        kernel.bind(source, _NEW + target)
        kernel.read_only(_NEW + target, writable=not bound["read_only"])
        self._bound.add(target)

    def write(self, path: str, text: str) -> None:
        """A file of the container's own, whether or not this machine has one there."""
        content = f"/contents{len(self._own)}"
        with open(content, "w", encoding="utf-8") as file:
            file.write(text)
        self.place(path, folder=False)
        kernel.bind(content, _NEW + path)
        kernel.read_only(_NEW + path)
        os.unlink(content)

    def _is_own(self, path: str) -> bool:
        """Whether the nearest mount above a path is the container's own."""
        while path not in self._own and path not in self._bound and path != "/":
            if os.path.ismount(_NEW + path):
                return False
            path = os.path.dirname(path)
        return path in self._own

    def _make(self, path: str, *, folder: bool) -> None:
        if folder:
            os.mkdir(_NEW + path, 0o755)
        else:
            os.close(os.open(_NEW + path, os.O_CREAT | os.O_WRONLY, 0o644))


def build(binds: Sequence[Bound], *, hosts: str, shared_memory: int) -> None:
    """Make this process's root the container's; the caller has a mount namespace of its own, and new PIDs.

    ``hosts`` is the text of /etc/hosts, ``shared_memory`` the size of /dev/shm in bytes.

    Raises:
        Refused: the kernel does not allow a step.
        OSError: a source or a mount point is not there.
    """
    kernel.mount("tmpfs", "/tmp", "mode=755")  # noqa: S108 - a mount point that every machine has
    os.mkdir("/tmp" + _NEW)  # noqa: S108
    os.mkdir("/tmp" + _OLD)  # noqa: S108
    kernel.enter_root("/tmp", "/tmp" + _OLD)  # noqa: S108
    os.chdir("/")
    root = _Root()
    root.cover("/", hidden=("dev", "opt", "proc", "run", "tmp"))
    root.cover("/opt", hidden=("ml", "program"))  # what SageMaker and the image have there, and nothing of this machine
    root.own("/run", "mode=755")
    root.own("/tmp", "mode=1777")  # noqa: S108 - the container's own
    _devices(root, shared_memory)
    kernel.mount("proc", f"{_NEW}/proc", executable=False)
    for name in _GUARDED:
        if os.path.exists(f"{_NEW}/proc/{name}"):
            kernel.bind(f"{_NEW}/proc/{name}", f"{_NEW}/proc/{name}")
            kernel.read_only(f"{_NEW}/proc/{name}")
    root.write("/etc/hosts", hosts)
    for bound in sorted(binds, key=lambda each: each["target"].count("/")):  # what lies inside another comes after it
        root.bind(bound)
    kernel.detach(_OLD)
    os.chdir(_NEW)
    kernel.enter_root(".", ".")  # the old root lies on top of the new one, until ...
    kernel.detach(".")
    os.chdir("/")


def _devices(root: _Root, shared_memory: int) -> None:
    root.own("/dev", "mode=755")
    for name in _DEVICES:
        if stat.S_ISCHR(os.stat(f"{_OLD}/dev/{name}").st_mode):
            os.close(os.open(f"{_NEW}/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
            kernel.bind(f"{_OLD}/dev/{name}", f"{_NEW}/dev/{name}")
            kernel.read_only(f"{_NEW}/dev/{name}", devices=True)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{_NEW}/dev/{name}")
    os.mkdir(f"{_NEW}/dev/shm")
    root.own("/dev/shm", f"mode=1777,size={shared_memory}")  # noqa: S108 - POSIX shared memory
    os.mkdir(f"{_NEW}/dev/pts")
    kernel.mount("devpts", f"{_NEW}/dev/pts", "newinstance,ptmxmode=0666,mode=620", executable=False, devices=True)
    os.symlink("pts/ptmx", f"{_NEW}/dev/ptmx")
