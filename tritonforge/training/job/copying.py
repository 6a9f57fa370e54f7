"""File mode: the objects of a channel as files of this machine, copied before the program starts. An edge."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

from tritonforge.training.job.contents import ChannelError, StoppedError, content
from tritonforge.transform.places import Folders, Found, Place

__all__ = ["copy", "local_folder"]

_THREADS: Final = 8
_WAITING: Final = 64


def copy(listed: Iterable[tuple[Found | str, str]], place: Place, target: Path, ended: threading.Event) -> int:
    """Copy objects to their paths below a folder; how many there were.

    Raises ChannelError for what cannot be read, or has a path that no file can have; StoppedError; OSError where the
    folder cannot be written.
    """
    count = 0
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(_THREADS, "training-copy") as pool:
        try:
            for found, path in listed:
                if ended.is_set():
                    raise StoppedError
                waiting.append(pool.submit(_copied, place, found, _inside(target, path, found), ended))
                count += 1
                if len(waiting) > _WAITING:
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
    return count


def local_folder(place: Place, uri: str) -> Path | None:
    """The folder of this machine that an address is, None where it is none."""
    path = Path(uri)
    return path if isinstance(place, Folders) and "://" not in uri and path.is_dir() else None


def _copied(place: Place, found: Found | str, path: Path, ended: threading.Event) -> None:
    uri = found if isinstance(found, str) else found.uri
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ChannelError(f"{uri}: another object lies at its path, or at a part of it") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ChannelError(f"{uri}: a part of its key is longer than a file's name may be") from error
        raise
    with open(opened, "wb", buffering=0) as file, closing(content(place, found, ended)) as chunks:  # noqa: PTH123 - a descriptor
        for chunk in chunks:
            left = memoryview(chunk)
            while left:
                left = left[file.write(left) :]


def _inside(target: Path, path: str, found: Found | str) -> Path:
    parts = [each for each in path.split("/") if each and each != "."]
    if not parts or ".." in parts or "\0" in path:
        uri = found if isinstance(found, str) else found.uri
        raise ChannelError(f"{uri}: its key is no path of a file")
    return target.joinpath(*parts)
