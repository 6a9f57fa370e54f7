"""The file system of a container: read-only system folders of this machine, and folders of its own. An edge.

Home directories and all other data of the machine are hidden, unless they are bound.

The machine is not changed: the root is built inside a mount namespace, in memory, and disappears with it. It is a tmpfs
that shows each folder of the old root; where a mount point is missing, its parent folder becomes a tmpfs too, which
shows the original entries. (The first step, pivoting onto a tmpfs twice, is bubblewrap's.)

Files that a container leaves in bound folders lose their set-user-ID and set-group-ID bits (`strip_privileges`): inside
the container they have no effect (its mounts are nosuid), on this machine they would.
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

#: Device files for all programs, the same as in docker run.
_DEVICES: Final = ("full", "null", "random", "tty", "urandom", "zero")

#: Parts of /proc through which root could change the machine; read-only in docker run as well.
_READ_ONLY_PROC: Final = ("bus", "fs", "irq", "sys", "sysrq-trigger")

#: The folders of this machine in every container: programs and libraries (/nix has those of NixOS), and /sys.
SYSTEM: Final = ("bin", "lib", "lib32", "lib64", "libx32", "nix", "sbin", "sys", "usr")

#: The entries of /etc in every container: those of the C library, the dynamic linker, TLS, fonts and Java; no keys.
_ETC_ENTRIES: Final = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version", "fonts",
    "gai.conf", "group", "host.conf", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf",
    "localtime", "magic", "mime.types", "nsswitch.conf", "os-release", "passwd", "pki", "protocols", "python3",
    "redhat-release", "services", "shells", "ssl", "timezone",
)  # fmt: skip

#: Folders of /etc that hold keys beside certificates, and the entries that stay hidden.
_KEYS: Final = (("ssl", "private"), ("pki/tls", "private"))

#: Empty folders that programs expect.
_EMPTY: Final = ("etc", "home", "root", "var")

#: A mount point that every machine has; the mount is visible in this namespace only.
_STAGE: Final = Path("/tmp")  # noqa: S108 - no file is written to this machine's

_NEW: Final = Path("/new")
_OLD: Final = Path("/old")
_ROOT: Final = Path("/")


class BindSpec(TypedDict):
    """A folder or file of this machine, shown at a path of the container; both paths are absolute."""

    source: str
    target: str
    read_only: bool


class _Root:
    """The root under construction at `_NEW`, built from the old one at `_OLD`; paths are the container's."""

    def __init__(self) -> None:
        self._own: set[Path] = set()  # the container's tmpfs: mount points may be created in them
        self._bound: set[Path] = set()  # binds of the caller: nothing may be created in them

    def add_tmpfs(self, path: Path, options: str = "mode=755") -> None:
        """Mount an empty tmpfs of the container at an existing folder."""
        kernel.mount("tmpfs", _at(_NEW, path), options)
        self._own.add(path)

    def shadow(self, path: Path, *, only: Sequence[str] | None = None, hidden: Sequence[str] = ()) -> None:
        """Mount a tmpfs that shows the old root's entries of a folder, read-only, or those of ``only``.

        The entries ``hidden`` are empty folders instead, even if the old root lacks them.
        """
        self.add_tmpfs(path)
        for name in hidden:
            _create(path / name, folder=True)
        old = _at(_OLD, path)
        for entry in sorted(old.iterdir()) if old.is_dir() else ():
            shown = path / entry.name
            if entry.name in hidden or (only is not None and entry.name not in only):
                continue
            if entry.is_symlink():
                _at(_NEW, shown).symlink_to(entry.readlink())
            elif entry.is_dir() or entry.is_file():  # sockets and FIFOs of this machine stay outside
                _create(shown, folder=entry.is_dir())
                kernel.bind(entry, _at(_NEW, shown))
                kernel.protect(_at(_NEW, shown))

    def add_mount_point(self, path: Path, *, folder: bool) -> None:
        """Create a mount point at a path, whether or not this machine has one."""
        for here in (*reversed(path.parents[:-1]), path):
            if os.path.lexists(_at(_NEW, here)):
                continue
            if not self._may_change(here.parent):
                self.shadow(here.parent)
            _create(here, folder=folder or here != path)

    def bind(self, bound: BindSpec) -> None:
        """Show a folder or a file of the old root."""
        source, target = _at(_OLD, Path(bound["source"])), Path(bound["target"])
        self.add_mount_point(target, folder=source.is_dir())
        kernel.bind(source, _at(_NEW, target))
        kernel.protect(_at(_NEW, target), writable=not bound["read_only"])
        self._bound.add(target)

    def write(self, path: Path, text: str) -> None:
        """Create a read-only file of the container, whether or not this machine has one there."""
        content = Path("/content")
        content.write_text(text, encoding="utf-8")
        self.add_mount_point(path, folder=False)
        kernel.bind(content, _at(_NEW, path))
        kernel.protect(_at(_NEW, path))
        content.unlink()  # the bind keeps it

    def _may_change(self, path: Path) -> bool:
        """Return True if the nearest mount at or above a folder is a tmpfs of the container.

        Raises:
            FileNotFoundError: the nearest mount is a bind of the caller.
        """
        for folder in (path, *path.parents):
            if folder in self._own:
                return True
            if folder in self._bound:
                raise FileNotFoundError(
                    f"a mount point is required in {path}, and the folder that is bound there lacks it; create it there"
                )
            if os.path.ismount(_at(_NEW, folder)):
                return False
        return False


def build_root(binds: Sequence[BindSpec], files: Mapping[str, str], *, shared_memory: int) -> None:
    """Replace this process's root by the container's; the caller has a new mount and PID namespace.

    ``files`` are texts by their path in the container; ``shared_memory`` is the size of /dev/shm in bytes.

    Raises:
        KernelError: the kernel rejects a step.
        OSError: a mount point cannot be created.
    """
    kernel.mount("tmpfs", _STAGE, "mode=755")
    old = _at(_STAGE, _OLD)
    old.mkdir()
    _at(_STAGE, _NEW).mkdir()
    kernel.enter_root(_STAGE, old)
    os.chdir(_ROOT)
    root = _Root()
    root.shadow(_ROOT, only=SYSTEM, hidden=("dev", "opt", "proc", "run", "tmp", *_EMPTY))
    root.shadow(Path("/etc"), only=_ETC_ENTRIES)
    for folder, name in _KEYS:
        if _at(_OLD, Path("/etc", folder, name)).is_dir():
            root.shadow(Path("/etc", folder), hidden=(name,))
    root.add_tmpfs(Path("/opt"))  # SageMaker's and the image's own
    root.add_tmpfs(Path("/root"), "mode=700")
    root.add_tmpfs(Path("/var"))
    _create(Path("/var/tmp"), folder=True)  # noqa: S108 - the container's own
    _at(_NEW, Path("/var/tmp")).chmod(0o1777)  # noqa: S108
    root.add_tmpfs(Path("/run"))
    root.add_tmpfs(Path("/tmp"), "mode=1777")  # noqa: S108 - the container's own
    _mount_devices(root, shared_memory)
    processes = _NEW / "proc"
    kernel.mount("proc", processes, executable=False)
    for guarded in (processes / name for name in _READ_ONLY_PROC):
        if guarded.exists():
            kernel.bind(guarded, guarded)
            kernel.protect(guarded)
    for bound in sorted(binds, key=lambda bind: bind["target"].count("/")):  # parents before what is inside them
        root.bind(bound)
    for path, text in files.items():
        root.write(Path(path), text)
    kernel.detach(_OLD)
    os.chdir(_NEW)
    here = Path()
    kernel.enter_root(here, here)  # the current root covers the new one until ...
    kernel.detach(here)
    os.chdir(_ROOT)


def _mount_devices(root: _Root, shared_memory: int) -> None:
    folder = Path("/dev")
    root.add_tmpfs(folder)
    for name in _DEVICES:
        _create(folder / name, folder=False)
        kernel.bind(_at(_OLD, folder / name), _at(_NEW, folder / name))
        kernel.protect(_at(_NEW, folder / name), devices=True)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        _at(_NEW, folder / name).symlink_to(f"/proc/self/fd{target}")
    for name in ("shm", "pts"):
        _create(folder / name, folder=True)
    root.add_tmpfs(folder / "shm", f"mode=1777,size={shared_memory}")
    terminals = _at(_NEW, folder / "pts")
    kernel.mount("devpts", terminals, "newinstance,ptmxmode=0666,mode=620", executable=False, devices=True)
    _at(_NEW, folder / "ptmx").symlink_to("pts/ptmx")


def _at(root: Path, path: Path) -> Path:
    """Return where a path of the container (or of the machine) currently is, below ``root``."""
    return root / path.relative_to(_ROOT)


def _create(path: Path, *, folder: bool) -> None:
    """Create an empty folder or file as a mount point."""
    if folder:
        _at(_NEW, path).mkdir(mode=0o755)
    else:
        _at(_NEW, path).touch(mode=0o644)


_PRIVILEGES: Final = stat.S_ISUID | stat.S_ISGID


def strip_privileges(path: str) -> None:
    """Remove the set-user-ID and set-group-ID bits of every regular file at or below ``path``, without following links.

    Files that cannot be read or changed are left unchanged.
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
