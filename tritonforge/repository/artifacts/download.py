"""Files from ``https://`` addresses, held to their sha256 and kept in a cache folder of the user.

A download is streamed to a temporary file beside its place in the cache and renamed once its digest is right; what is
damaged is never kept. There are no retries: whoever is offline is to hear of it in seconds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

from tritonforge.errors import ArtifactError

if TYPE_CHECKING:
    import urllib3

__all__ = [
    "Moved",
    "Opener",
    "UnreachableError",
    "cache_folder",
    "cached",
    "copy_checked",
    "fetch",
    "open_https",
    "unpack",
    "unwatched",
]

#: Seconds to wait for a connection, and between two pieces of the body.
CONNECT_TIMEOUT: Final = 4.0
READ_TIMEOUT: Final = 30.0
_MAX_REDIRECTS: Final = 5
_PIECE: Final = 1 << 20

#: Told how many bytes have been moved, and of how many, None where that is not known.
Moved = Callable[[int, int | None], None]

#: Opens an address and gives the response, whose status is 200; raises UnreachableError.
Opener = Callable[[str], "urllib3.BaseHTTPResponse"]


class UnreachableError(ArtifactError):
    """An address gave no file: there is no network, or the server does not answer with the file."""


def cache_folder() -> Path:
    """Where downloads are kept: ``TRITONFORGE_CACHE``, or ``tritonforge`` in the user's cache folder (XDG).

    Raises:
        ArtifactError: the user has no home directory.
    """
    chosen = os.environ.get("TRITONFORGE_CACHE")
    if chosen:
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tritonforge"
    except RuntimeError as error:  # no HOME, and a user that the system does not know
        raise ArtifactError(
            "the user has no home directory for downloads and progress (HOME is not set). Set TRITONFORGE_CACHE to a "
            "writable directory."
        ) from error


def cached(sha256: str) -> Path:
    """The place of a file in the cache, whether it is there or not."""
    return cache_folder() / "downloads" / sha256


def unwatched(done: int, total: int | None) -> None:
    """Nobody watches the bytes."""


def fetch(
    url: str,
    sha256: str,
    *,
    report: Callable[[str], None],
    moved: Moved = unwatched,
    opener: Opener | None = None,
) -> Path:
    """The path of the file in the cache, fetched first where it is not there yet. Its digest is checked either way.

    ``moved`` is told of each piece that came.

    Raises:
        UnreachableError: the file could not be fetched; the message says why.
        ArtifactError: what came has another digest; the message names the address and both digests.
    """
    path = cached(sha256)
    if path.is_file():
        if _digest(path) == sha256:
            return path
        path.unlink()  # damaged on disk: fetched again
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{sha256[:8]}-", suffix=".part")
    except OSError as error:
        raise ArtifactError(
            f"{path.parent}: downloads cannot be kept there: {error.strerror or error}. Set TRITONFORGE_CACHE to a "
            "writable directory."
        ) from error
    try:
        response = (opener or open_https)(url)
    except BaseException:
        os.close(handle)
        Path(name).unlink(missing_ok=True)
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            size = response.headers.get("Content-Length")
            report(f"downloading {url}" + (f" ({int(size) / 1e6:.1f} MB)" if size and size.isdigit() else ""))
            found = _stream(url, response, file, moved, int(size) if size and size.isdigit() else None)
        if found != sha256:
            raise ArtifactError(f"{url}: sha256 is {found}, but the definition states {sha256}; nothing was kept")
        Path(name).replace(path)
    finally:
        response.release_conn()
        Path(name).unlink(missing_ok=True)
    return path


def open_https(url: str) -> urllib3.BaseHTTPResponse:
    """The response to a GET of an ``https://`` address, body unread; a redirect may not leave ``https://``.

    The proxy that the environment names is used (``HTTPS_PROXY``, ``NO_PROXY``).
    """
    import urllib3

    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT)
    for _ in range(_MAX_REDIRECTS + 1):
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise UnreachableError(f"{url}: only https:// is fetched")
        proxy = urllib.request.getproxies().get("https")
        direct = proxy is None or urllib.request.proxy_bypass(parts.hostname)
        pool = urllib3.PoolManager() if direct else urllib3.ProxyManager(str(proxy))
        try:
            response = pool.request("GET", url, preload_content=False, retries=False, redirect=False, timeout=timeout)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"{url}: no network: {_reason(error)}") from error
        location = response.headers.get("Location")
        if response.status in (301, 302, 303, 307, 308) and location:
            response.release_conn()
            url = urljoin(url, location)
            continue
        if response.status != 200:
            response.release_conn()
            raise UnreachableError(f"{url}: the server answered {response.status} {response.reason or ''}".rstrip())
        return response
    raise UnreachableError(f"{url}: more than {_MAX_REDIRECTS} redirects")


def copy_checked(source: Path, destination: Path, sha256: str | None, *, moved: Moved = unwatched) -> None:
    """Copy one file, comparing its digest on the way where one is stated; raises ArtifactError when it differs."""
    digest = hashlib.sha256()
    try:
        with source.open("rb") as reading, destination.open("wb") as writing:
            size = source.stat().st_size
            while piece := reading.read(_PIECE):
                if sha256 is not None:
                    digest.update(piece)
                writing.write(piece)
                moved(writing.tell(), size)
    except OSError as error:
        raise ArtifactError(f"{source}: cannot be copied to {destination}: {error.strerror or error}") from error
    if sha256 is not None and digest.hexdigest() != sha256:
        destination.unlink()
        raise ArtifactError(f"{source}: sha256 is {digest.hexdigest()}, but the definition states {sha256}")


def unpack(archive: Path, member: str, destination: Path) -> None:
    """Take one file, or one folder with all below it, out of a tar archive (compressed or not).

    Raises:
        ArtifactError: this is no tar archive, has no such member, or has one whose path leaves the folder.
    """
    wanted = PurePosixPath(member).parts
    found = False
    try:
        with tarfile.open(archive) as tar:
            for each in tar:
                parts = PurePosixPath(each.name).parts
                if parts[: len(wanted)] != wanted or not each.isfile():
                    continue
                if ".." in parts:
                    raise ArtifactError(f"member {each.name!r} of the archive leaves its folder")
                target = destination.joinpath(*parts[len(wanted) :])
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(each)
                assert content is not None  # a regular file has content
                with content, target.open("wb") as file:
                    shutil.copyfileobj(content, file, _PIECE)
                found = True
            names = [] if found else tar.getnames()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ArtifactError(f"not a tar archive that can be read: {error}") from error
    if not found:
        raise ArtifactError(f"the archive has no member {member!r}; it has {', '.join(names[:8]) or 'none'}")


def _stream(url: str, response: urllib3.BaseHTTPResponse, file: IO[bytes], moved: Moved, total: int | None) -> str:
    import urllib3

    digest = hashlib.sha256()
    try:
        for piece in response.stream(_PIECE, decode_content=False):
            digest.update(piece)
            file.write(piece)
            moved(file.tell(), total)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise UnreachableError(f"{url}: the download broke off: {_reason(error)}") from error
    return digest.hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    """The innermost cause in words: urllib3 wraps the system's own sentence several times."""
    while isinstance(error.__cause__ or error.__context__, Exception):
        inner = error.__cause__ or error.__context__
        assert isinstance(inner, Exception)
        error = inner
    return str(getattr(error, "strerror", None) or error).splitlines()[0] or type(error).__name__
