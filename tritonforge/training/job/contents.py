"""The content of objects, read with patience: what cannot be read is one sentence that names the object. An edge."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Final

from tritonforge.errors import TritonForgeError
from tritonforge.records import Buffer
from tritonforge.transform.places import Found, Place, PlaceError

__all__ = ["ChannelError", "StoppedError", "content"]

#: How often an object is tried in all, and seconds before the second time; twice as many before each further one.
_TRIES: Final = 3
_PAUSE: Final = 0.1


class ChannelError(TritonForgeError):
    """A channel's data are missing, damaged, or not what the job says."""

    exit_code = 2


class StoppedError(Exception):
    """The job is over; what was under way is given up."""


def content(place: Place, found: Found | str, ended: threading.Event) -> Generator[Buffer, None, None]:
    """The content of an object; a read that is cut off goes on where it was.

    ``found`` is an address, or the object as it was listed, which then has to be as long as it was. Raises ChannelError
    for an object that is not there, or cannot be read in three tries; StoppedError once ``ended`` is set.
    """
    uri, size = (found, None) if isinstance(found, str) else (found.uri, found.size)
    offset = 0
    for attempt in range(_TRIES):
        problem: TritonForgeError
        try:
            for chunk in place.open(uri, offset):
                if ended.is_set():
                    raise StoppedError
                offset += len(chunk)
                yield chunk
            if size is None or offset >= size:
                return
            problem = ChannelError(f"{uri}: it was cut off after {offset} of {size} bytes")
        except PlaceError as error:
            problem = error
            if error.hopeless or _is_missing(place, uri):
                break
        if attempt < _TRIES - 1 and ended.wait(_PAUSE * 2**attempt):
            raise StoppedError
    if _is_missing(place, uri):
        raise ChannelError(f"{uri}: there is no such object") from problem
    raise ChannelError(str(problem)) from problem


def _is_missing(place: Place, uri: str) -> bool:
    try:
        return place.find(uri) is None
    except PlaceError:
        return False
