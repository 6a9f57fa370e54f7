"""The members of a model archive, read as a stream in bounded memory. It trusts nothing.

What any later step could stumble over is refused here: names and links that lead out of the folder, devices, two
members of one name, bombs, an archive that is damaged or cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tritonforge.errors import PackageError
from tritonforge.sagemaker.package.gunzip import Gunzip, Source
from tritonforge.sagemaker.package.headers import BLOCK, Headers
from tritonforge.sagemaker.package.limits import LIMITS, Limits
from tritonforge.sagemaker.package.names import Member, Names

__all__ = ["Content", "entries", "members", "opened"]


class Content:
    """The content of the member at hand, valid until the next one is asked for: pieces of at most 1 MiB."""

    def __init__(self, stream: Gunzip, member: str, size: int) -> None:
        self._stream, self._member, self._left = stream, member, size

    def __iter__(self) -> Iterator[memoryview]:
        """The pieces that were not taken yet."""
        while self._left:
            piece = self._stream.read(self._left)
            if not piece:
                raise PackageError(f"{self._member}: it ends in the middle; the upload or the copy was cut off")
            self._left -= len(piece)
            yield piece


def entries(source: Source | Path, *, limits: Limits = LIMITS) -> Iterator[Member]:
    """The members of an archive in their order, each safe to unpack; raises as `members`."""
    with opened(source) as (file, name):
        for member, _ in members(file, name=name, limits=limits):
            yield member


def members(source: Source, *, name: str, limits: Limits = LIMITS) -> Iterator[tuple[Member, Content]]:
    """The members with their contents; ``name`` stands for the archive in errors.

    Raises:
        PackageError: the archive is damaged or not what SageMaker takes, or a member must not be unpacked.
        MissingExtraError: isal is not installed.
    """
    stream = Gunzip(source, name=name, limits=limits)
    headers, names = Headers(stream, archive=name, limits=limits), Names(archive=name, limits=limits)
    while (header := headers.following()) is not None:
        member = names.member(header)
        if member is None:
            continue
        content = Content(stream, f"{name}: {member.path}", member.size)
        yield member, content
        for _ in content:
            pass
        for _ in Content(stream, f"{name}: {member.path}", -member.size % BLOCK):
            pass


@contextmanager
def opened(source: Source | Path) -> Iterator[tuple[Source, str]]:
    """The file of a path, or the stream as it is, and what to call it."""
    if not isinstance(source, Path):
        yield source, "the archive"
        return
    try:
        file = source.open("rb", buffering=0)
    except OSError as error:
        raise PackageError(f"{source}: it cannot be read: {error.strerror}") from error
    with file:
        yield file, str(source)
