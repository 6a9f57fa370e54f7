"""Files from ``https://`` addresses, checked by their SHA-256 and kept in a cache directory of the user.

A download takes its name in the cache when its digest is right; a damaged one is never kept. There are no retries: a
user who is offline learns it in seconds.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Final, Literal, TypeAlias
from urllib.parse import urljoin, urlsplit

from tritonforge.errors import ArtifactError
from tritonforge.files import CHUNK, cache_directory, describe_error, hash_file, replace_file

if TYPE_CHECKING:
    import urllib3

__all__ = ["BuildProgress", "Opener", "ProgressCallback", "UnreachableError", "cache_path",
           "copy_file", "extract_member", "fetch", "no_progress", "open_https"]  # fmt: skip

#: Seconds to wait for a connection, and between two chunks of the body.
CONNECT_TIMEOUT: Final = 4.0
READ_TIMEOUT: Final = 30.0
_MAX_REDIRECTS: Final = 5

#: Opens an address and returns the response, whose status is 200; raises UnreachableError.
Opener: TypeAlias = Callable[[str], "urllib3.BaseHTTPResponse"]


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """One event of a build.

    ``kind`` is ``"step"`` when a slow step begins (``message`` names it), ``"bytes"`` while the step transfers bytes
    (``done`` of ``total``; ``total`` is None where it is not known), and ``"note"`` for a sentence that the user must
    read.
    """

    kind: Literal["step", "bytes", "note"]
    message: str = ""
    done: int = 0
    total: int | None = None


ProgressCallback: TypeAlias = Callable[[BuildProgress], None]


def no_progress(_: BuildProgress) -> None:
    """No-op progress callback."""


class UnreachableError(ArtifactError):
    """An address gave no file: the network is unavailable, or the server does not send it."""


def cache_path(sha256: str) -> Path:
    """Return the path of a file in the cache, whether it exists or not."""
    return cache_directory() / "downloads" / sha256


def fetch(
    url: str, sha256: str, *, on_progress: ProgressCallback = no_progress, label: str = "", opener: Opener | None = None
) -> Path:
    """Return the path of a file in the cache, downloading it first if it is missing. Its digest is always checked.

    ``label`` comes before the note that a download begins.

    Raises:
        UnreachableError: the file could not be fetched.
        ArtifactError: the file that came has another digest, or the cache cannot be written.
    """
    path = cache_path(sha256)
    try:
        if path.is_file():
            if hash_file(path) == sha256:
                return path
            path.unlink()  # damaged on disk: fetched again
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path, sync=False) as file:  # before the request: an unwritable cache needs no download
            response = (opener or open_https)(url)
            try:
                length = response.headers.get("Content-Length") or ""
                total = int(length) if length.isdigit() else None
                size = "" if total is None else f" ({total / 1e6:.1f} MB)"
                on_progress(BuildProgress("note", f"{label}downloading {url}{size}"))
                digest = _write_body(url, response, file, on_progress, total)
            finally:
                response.release_conn()
            if digest != sha256:
                raise ArtifactError(f"{url}: sha256 is {digest}, but the definition states {sha256}; nothing was kept")
    except OSError as error:
        raise ArtifactError(
            f"{path.parent}: cannot write: {describe_error(error)}. Set TRITONFORGE_CACHE to a writable directory."
        ) from error
    return path


def open_https(url: str) -> urllib3.BaseHTTPResponse:
    """Return the response to a GET of an ``https://`` address, body unread; a redirect may not leave ``https://``.

    The proxy of the environment is used (``HTTPS_PROXY``, ``NO_PROXY``).
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
            raise UnreachableError(f"{url}: no network: {_describe_cause(error)}") from error
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


def _write_body(
    url: str, response: urllib3.BaseHTTPResponse, file: IO[bytes], on_progress: ProgressCallback, total: int | None
) -> str:
    """Write the body of a response to a file, and return its SHA-256."""
    import urllib3

    digest = hashlib.sha256()
    chunks = response.stream(CHUNK, decode_content=False)
    while True:
        try:
            chunk = next(chunks, b"")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"{url}: the download broke off: {_describe_cause(error)}") from error
        if not chunk:
            return digest.hexdigest()
        digest.update(chunk)
        file.write(chunk)
        on_progress(BuildProgress("bytes", done=file.tell(), total=total))


def copy_file(
    source: Path, destination: Path, sha256: str | None, *, on_progress: ProgressCallback = no_progress
) -> None:
    """Copy one file, comparing its digest on the way where one is stated; raises ArtifactError when it differs."""
    digest = hashlib.sha256()
    try:
        with source.open("rb") as reading, destination.open("wb") as writing:
            size = source.stat().st_size
            while chunk := reading.read(CHUNK):
                if sha256 is not None:
                    digest.update(chunk)
                writing.write(chunk)
                on_progress(BuildProgress("bytes", done=writing.tell(), total=size))
    except OSError as error:
        raise ArtifactError(f"{source}: cannot be copied to {destination}: {describe_error(error)}") from error
    if sha256 is not None and digest.hexdigest() != sha256:
        destination.unlink()
        raise ArtifactError(f"{source}: sha256 is {digest.hexdigest()}, but the definition states {sha256}")


def extract_member(archive: Path, member: str, destination: Path) -> None:
    """Extract one file, or one directory with all below it, from a tar archive (compressed or not).

    Raises:
        ArtifactError: this is not a tar archive, it has no such member, or a member's path leaves the directory.
    """
    wanted = PurePosixPath(member).parts
    extracted = False
    try:
        with tarfile.open(archive) as tar:
            for entry in tar:
                parts = PurePosixPath(entry.name).parts
                if parts[: len(wanted)] != wanted or not entry.isfile():
                    continue
                if ".." in parts:
                    raise ArtifactError(f"member {entry.name!r} of the archive leaves its directory")
                target = destination.joinpath(*parts[len(wanted) :])
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(entry)
                assert content is not None  # a regular file has content
                with content, target.open("wb") as file:
                    shutil.copyfileobj(content, file, CHUNK)
                extracted = True
            names = [] if extracted else tar.getnames()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ArtifactError(f"cannot read it as a tar archive: {error}") from error
    if not extracted:
        raise ArtifactError(f"the archive has no member {member!r}; it has {', '.join(names[:8]) or 'none'}")


def _describe_cause(error: Exception) -> str:
    """Return the innermost cause in words: urllib3 wraps the system's own text several times."""
    while isinstance(inner := error.__cause__ or error.__context__, Exception):
        error = inner
    return describe_error(error).splitlines()[0]
