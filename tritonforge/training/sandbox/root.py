"""A container's file system: this machine's system folders, read-only, and folders of the container's own.

Home directories and all other data of the machine are not in it, unless they are bound.

Nothing of it touches the machine: it is built inside a mount namespace, in memory, and goes with it. The root is a
tmpfs that shows each folder of the old root; where a mount point is needed and missing, the folder that it belongs into
becomes a tmpfs too, which shows what was there. (The way to begin, pivoting onto a tmpfs twice, is bubblewrap's.)

What a container leaves in folders of this machine: no file that gives who executes it another user's rights.

Inside the container such files have no effect (its mounts are nosuid); on this machine they would.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict

from tritonforge.training.sandbox import kernel

__all__ = ["SYSTEM", "BindSpec", "build_root", "strip_privileges"]

#: Device files that every program may expect (docker run gives the same).
_DEVICES: Final = ("full", "null", "random", "tty", "urandom", "zero")

#: Parts of /proc through which root could change the machine; docker run keeps them read-only as well.
_GUARDED: Final = ("bus", "fs", "irq", "sys", "sysrq-trigger")

#: What a container has of this machine besides what is bound: programs and libraries (/nix has those of NixOS), and
#: what the kernel tells of itself.
SYSTEM: Final = ("bin", "lib", "lib32", "lib64", "libx32", "nix", "sbin", "sys", "usr")

#: What it has of /etc: what the C library, the dynamic linker, TLS, fonts and Java look for; no keys and no passwords.
_SETTINGS: Final = (
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "group",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki",
    "protocols",
    "python3",
    "redhat-release",
    "services",
    "shells",
    "ssl",
    "timezone",
)

#: Folders of /etc that hold keys beside certificates, and what of them stays out.
_KEYS: Final = (("ssl", "private"), ("pki/tls", "private"))

#: Empty folders that programs may expect.
_EMPTY: Final = ("etc", "home", "root", "var")

#: The mount point that every machine has; what is mounted there is seen in this namespace only.
_STAGE: Final = Path("/tmp")  # noqa: S108 - no file is written to this machine's

_NEW: Final = Path("/new")
_OLD: Final = Path("/old")
_ROOT: Final = Path("/")


class BindSpec(TypedDict):
    """One folder or file of this machine, shown at a path of the container; both paths are absolute."""

    source: str
    target: str
    read_only: bool


class _Root:
    """The root under construction at `_NEW`, out of the old one at `_OLD`; paths are the container's."""

    def __init__(self) -> None:
        self._own: set[Path] = set()  # the tmpfs of this container's: mount points may be made in them
        self._bound: set[Path] = set()  # what the caller bound: nothing may be made in these

    def own(self, path: Path, options: str = "mode=755") -> None:
        """An empty tmpfs of the container's own, at a folder that is there."""
        kernel.mount("tmpfs", _at(_NEW, path), options)
        self._own.add(path)

    def cover(self, path: Path, *, only: Sequence[str] | None = None, hidden: Sequence[str] = ()) -> None:
        """A tmpfs that shows what the old root has in a folder, read-only; of that the entries ``only``.

        The entries ``hidden`` are empty folders instead, also where the old root lacks them.
        """
        self.own(path)
        for name in hidden:
            _make(path / name, folder=True)
        old = _at(_OLD, path)
        for entry in sorted(old.iterdir()) if old.is_dir() else ():
            shown = path / entry.name
            if entry.name in hidden or (only is not None and entry.name not in only):
                continue
            if entry.is_symlink():
                _at(_NEW, shown).symlink_to(entry.readlink())
            elif entry.is_dir() or entry.is_file():  # sockets and FIFOs of this machine stay outside
                _make(shown, folder=entry.is_dir())
                kernel.bind(entry, _at(_NEW, shown))
                kernel.protect(_at(_NEW, shown))

    def place(self, path: Path, *, folder: bool) -> None:
        """Have a mount point at a path, whether or not this machine has one."""
        for here in (*reversed(path.parents[:-1]), path):
            if os.path.lexists(_at(_NEW, here)):
                continue
            if not self._may_change(here.parent):
                self.cover(here.parent)
            _make(here, folder=folder or here != path)

    def bind(self, bound: BindSpec) -> None:
        """Show a folder or a file of the old root."""
        source, target = _at(_OLD, Path(bound["source"])), Path(bound["target"])
        self.place(target, folder=source.is_dir())
        kernel.bind(source, _at(_NEW, target))
        kernel.protect(_at(_NEW, target), writable=not bound["read_only"])
        self._bound.add(target)

    def write(self, path: Path, text: str) -> None:
        """A read-only file of the container's own, whether or not this machine has one there."""
        content = Path("/content")
        content.write_text(text, encoding="utf-8")
        self.place(path, folder=False)
        kernel.bind(content, _at(_NEW, path))
        kernel.protect(_at(_NEW, path))
        content.unlink()  # the bind keeps it

    def _may_change(self, path: Path) -> bool:
        """Whether the nearest mount at or above a folder is a tmpfs of the container's own.

        Raises:
            FileNotFoundError: it is what the caller bound.
        """
        for each in (path, *path.parents):
            if each in self._own:
                return True
            if each in self._bound:
                raise FileNotFoundError(
                    f"a mount point is wanted in {path}, and the folder that is bound there lacks it; make it there"
                )
            if os.path.ismount(_at(_NEW, each)):
                return False
        return False


def build_root(binds: Sequence[BindSpec], files: Mapping[str, str], *, shared_memory: int) -> None:
    """Make this process's root the container's; the caller has a mount namespace of its own, and new PIDs.

    ``files`` are texts by their path in the container; ``shared_memory`` is the size of /dev/shm in bytes.

    Raises:
        Refused: the kernel does not allow a step.
        OSError: a mount point cannot be had.
    """
    kernel.mount("tmpfs", _STAGE, "mode=755")
    old = _at(_STAGE, _OLD)
    old.mkdir()
    _at(_STAGE, _NEW).mkdir()
    kernel.enter_root(_STAGE, old)
    os.chdir(_ROOT)
    root = _Root()
    root.cover(_ROOT, only=SYSTEM, hidden=("dev", "opt", "proc", "run", "tmp", *_EMPTY))
    root.cover(Path("/etc"), only=_SETTINGS)
    for folder, name in _KEYS:
        if _at(_OLD, Path("/etc", folder, name)).is_dir():
            root.cover(Path("/etc", folder), hidden=(name,))
    root.own(Path("/opt"))  # SageMaker's folder and the image's: nothing of this machine
    root.own(Path("/root"), "mode=700")
    root.own(Path("/var"))
    _make(Path("/var/tmp"), folder=True)  # noqa: S108 - the container's own
    _at(_NEW, Path("/var/tmp")).chmod(0o1777)  # noqa: S108
    root.own(Path("/run"))
    root.own(Path("/tmp"), "mode=1777")  # noqa: S108 - the container's own
    _devices(root, shared_memory)
    processes = _NEW / "proc"
    kernel.mount("proc", processes, executable=False)
    for guarded in (processes / name for name in _GUARDED):
        if guarded.exists():
            kernel.bind(guarded, guarded)
            kernel.protect(guarded)
    for bound in sorted(binds, key=lambda each: each["target"].count("/")):  # what lies inside another comes after it
        root.bind(bound)
    for path, text in files.items():
        root.write(Path(path), text)
    kernel.detach(_OLD)
    os.chdir(_NEW)
    here = Path()
    kernel.enter_root(here, here)  # the root so far lies on top of the new one, until ...
    kernel.detach(here)
    os.chdir(_ROOT)


def _devices(root: _Root, shared_memory: int) -> None:
    folder = Path("/dev")
    root.own(folder)
    for name in _DEVICES:
        _make(folder / name, folder=False)
        kernel.bind(_at(_OLD, folder / name), _at(_NEW, folder / name))
        kernel.protect(_at(_NEW, folder / name), devices=True)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        _at(_NEW, folder / name).symlink_to(f"/proc/self/fd{target}")
    for name in ("shm", "pts"):
        _make(folder / name, folder=True)
    root.own(folder / "shm", f"mode=1777,size={shared_memory}")
    terminals = _at(_NEW, folder / "pts")
    kernel.mount("devpts", terminals, "newinstance,ptmxmode=0666,mode=620", executable=False, devices=True)
    _at(_NEW, folder / "ptmx").symlink_to("pts/ptmx")


def _at(root: Path, path: Path) -> Path:
    """A path of the container (or of the machine) as it is below ``root`` at the moment."""
    return root / path.relative_to(_ROOT)


def _make(path: Path, *, folder: bool) -> None:
    """An empty folder or file to mount over."""
    if folder:
        _at(_NEW, path).mkdir(mode=0o755)
    else:
        _at(_NEW, path).touch(mode=0o644)


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
