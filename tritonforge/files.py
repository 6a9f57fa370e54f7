"""Files: SHA-256, atomic writes, locks, the cache directory, and the text of an operating system error.

Here is what differs between Linux, macOS and Windows: flags that a system does not have are 0, and what replaces a
missing call is named beside it. Modules for all systems use these functions instead of ``os`` and ``fcntl``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Protocol

from tritonforge.errors import ArtifactError

try:
    import fcntl
except ImportError:  # Windows, whose own locks are in a module of their own
    fcntl = None  # type: ignore[assignment]  # typeshed allows modules alone

__all__ = [
    "CHUNK",
    "NO_FOLLOW",
    "READ",
    "WRITE",
    "Readable",
    "cache_directory",
    "describe_error",
    "documentation_address",
    "get_user_id",
    "hash_file",
    "hash_stream",
    "lock_file",
    "open_descriptor",
    "read_at",
    "refuse_link",
    "rename_over",
    "replace_file",
    "set_mode",
    "sync_directory",
    "write_file",
]  # fmt: skip

#: Bytes that are read at a time: large enough that calls do not count, small enough for the processor's cache.
CHUNK: Final = 1 << 20

_COMMON: Final[int] = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)  # Windows translates line ends else

#: The flags of `os.open` for a file that is read, a pipe without a writer included, and for a file that is written.
READ: Final[int] = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _COMMON
WRITE: Final[int] = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _COMMON

#: The flag that refuses a symbolic link; 0 on Windows, where `refuse_link` looks first.
NO_FOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)

#: How often and how long a rename waits on Windows for a program that has the file open, such as a virus scanner.
_RENAMES: Final = 20
_RENAME_PAUSE: Final = 0.05

#: The open files of this process, by descriptor.
_DESCRIPTORS: Final = Path("/proc/self/fd")


class Readable(Protocol):
    """What `hash_stream` reads: an open binary file, a socket's file, a member of an archive."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, empty at the end."""


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hash_stream(file)


def hash_stream(stream: Readable) -> str:
    """Return the SHA-256 of all that a stream still has to read, in hexadecimal digits."""
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def replace_file(path: Path, *, mode: int | None = None, sync: bool = True) -> Iterator[IO[bytes]]:
    """Write a file that appears under its name when the context ends, with its whole content or not at all.

    The content is written to a file without a name, or, where the file system has none (NFS, FUSE), to a hidden file
    beside ``path``, which then takes the name. If the context raises, an existing file keeps its content and nothing is
    left behind; without a name that also holds if the process is killed.

    Args:
        path: the file to write; its directory must exist.
        mode: the permissions of the new file; if None those that `open` gives to a new file (0o666 less the umask).
        sync: bring the content to the disk before the file takes its name, so that a power failure cannot leave an
            empty file. False for what can be made again.

    Raises OSError.
    """
    partial = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.part")
    descriptor, has_name = _create_file(partial, 0o666 if mode is None else mode)
    file = os.fdopen(descriptor, "wb")
    try:
        yield file
        file.flush()
        if mode is not None:
            set_mode(descriptor, mode)  # whatever the umask
        if sync:
            os.fsync(descriptor)
        if not has_name:
            _link_file(descriptor, partial)
        file.close()
        rename_over(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # what is left in its buffer on a full disk
            file.close()  # Windows removes no open file
        partial.unlink(missing_ok=True)
        raise
    finally:
        with contextlib.suppress(OSError):  # what is left in its buffer on a full disk
            file.close()


def _create_file(path: Path, mode: int) -> tuple[int, bool]:
    """Create a file in the directory of a path; return its descriptor, and whether it has the name of the path."""
    if hasattr(os, "O_TMPFILE") and _DESCRIPTORS.is_dir():
        try:
            return os.open(path.parent, os.O_TMPFILE | os.O_WRONLY | _COMMON, mode), False
        except FileNotFoundError:
            raise
        except OSError:  # no such files here, or the directory cannot be written: the next line raises that
            pass
    return os.open(path, WRITE, mode), True


def _link_file(descriptor: int, path: Path) -> None:
    """Give a file without a name one."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        # With the descriptor of a directory Python calls linkat, which follows the link in /proc to the file itself.
        os.link(_DESCRIPTORS / str(descriptor), path.name, dst_dir_fd=directory, follow_symlinks=True)
    finally:
        os.close(directory)


def write_file(path: Path, content: bytes, *, mode: int | None = None, sync: bool = True) -> None:
    """Write bytes to a file as `replace_file` does. Raises OSError."""
    with replace_file(path, mode=mode, sync=sync) as file:
        file.write(content)


def sync_directory(path: Path) -> None:
    """Write a directory's entries to the disk, if its file system supports that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)  # Windows opens no directories
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def open_descriptor(path: Path | str, *, follow_links: bool = True) -> int:
    """Open a file for reading and return its descriptor, which does not wait for a pipe's writer. Raises OSError."""
    if follow_links:
        return os.open(path, READ)
    refuse_link(path)
    return os.open(path, READ | NO_FOLLOW)


def refuse_link(path: Path | str) -> None:
    """Raise OSError (ELOOP) for a symbolic link where the system has no flag that does so when it opens a file."""
    if not NO_FOLLOW and Path(path).is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def read_at(descriptor: int, offset: int, size: int) -> bytes:
    """Return up to ``size`` bytes at an offset. Raises OSError."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)  # Windows; no two threads share a descriptor
    return os.read(descriptor, size)


def set_mode(descriptor: int, mode: int) -> None:
    """Set the permissions of an open file; nothing on a system that has none. Raises OSError."""
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, mode)


def rename_over(source: Path, target: Path) -> None:
    """Give a file the name of another one in one step. Raises OSError.

    On Windows that waits up to a second for programs that have the other file open.
    """
    attempts = _RENAMES if os.name == "nt" else 1
    for attempt in range(attempts):
        try:
            source.replace(target)
            return
        except PermissionError:  # noqa: PERF203 - each attempt may fail
            if attempt == attempts - 1:
                raise
            time.sleep(_RENAME_PAUSE)


def lock_file(file: IO[Any] | int) -> None:
    """Lock an open file or a descriptor until it is closed.

    Raises:
        BlockingIOError: another process has the lock.
        OSError: the file system has no locks.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    windows: Any = msvcrt  # typeshed has its functions on Windows only
    try:
        windows.locking(file if isinstance(file, int) else file.fileno(), windows.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error


def get_user_id() -> int:
    """Return the number of the user, which owns what this process writes; 0 on Windows, where each file has 0."""
    return os.geteuid() if hasattr(os, "geteuid") else 0


def documentation_address() -> str:
    """Return the address of the documentation site, ``TRITONFORGE_DOCS_URL``; empty if it is not set or not http(s)."""
    address = os.environ.get("TRITONFORGE_DOCS_URL", "")
    return address if address.startswith(("http://", "https://")) and address.isprintable() else ""


def cache_directory() -> Path:
    """Return the directory of downloads, progress and results.

    It is ``TRITONFORGE_CACHE``, or ``tritonforge`` in the user's cache (XDG).

    Raises:
        ArtifactError: the user has no home directory.
    """
    chosen = os.environ.get("TRITONFORGE_CACHE")
    if chosen:
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tritonforge"
    except RuntimeError as error:  # HOME is not set, and the system has no entry for the user
        raise ArtifactError(
            "the user has no home directory for downloads and progress (HOME is not set). Set TRITONFORGE_CACHE to a "
            "writable directory."
        ) from error


def describe_error(error: BaseException) -> str:
    """Return the operating system's text for an error, such as "No space left on device", without number and path.

    An error without such a text gives its message, one without a message the name of its type.
    """
    text = getattr(error, "strerror", None) or str(error)
    return str(text) or type(error).__name__
