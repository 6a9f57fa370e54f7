"""One HTTP request as it comes in: its head at once, its body when it is asked for."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from email.message import Message
from io import BufferedIOBase
from typing import Final
from urllib.parse import unquote_to_bytes

__all__ = ["Incoming"]

#: Bytes of all chunks of a body: an object of S3 that is put at once (Amazon S3 user guide, "Uploading objects").
_LARGEST: Final = 5 * 2**30

#: The longest line that says the size of a chunk.
_LINE: Final = 8192

#: Digits of a length, and of a chunk's size, that no machine has memory for.
_DIGITS: Final = 16

#: Bytes that are thrown away at once.
_PIECE: Final = 1 << 20


class Incoming:
    """A request from a socket, or one that is made in this process.

    ``target`` is as in the request line; ``length`` is the Content-Length, -1 where the body is chunked.
    """

    def __init__(
        self, method: str, target: str, headers: Message | Mapping[str, str], stream: BufferedIOBase, port: int
    ) -> None:
        self.method = method
        self.target = target
        path, _, self.query = target.partition("?")
        if "://" in path[:9]:  # the absolute form of a proxy's clients
            path = "/" + path.partition("://")[2].partition("/")[2]
        self.path = path
        self.port = port
        self.items: tuple[tuple[str, str], ...] = tuple((name, _joined(value)) for name, value in headers.items())
        self.headers: dict[str, str] = {}
        for name, value in self.items:
            key = name.lower()
            self.headers[key] = f"{self.headers[key]},{value}" if key in self.headers else value
        self.chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        declared = self.headers.get("content-length", "0")
        is_number = declared.isascii() and declared.isdigit() and len(declared) < _DIGITS
        self.length = -1 if self.chunked else int(declared) if is_number else 0
        #: Whether it is clear where the body ends (RFC 9112, section 6.3); otherwise the next request is not found.
        self.is_framed = is_number if not self.chunked else "content-length" not in self.headers
        self._stream = stream
        self._body: bytes | None = None

    def address(self, bucket: str) -> None:
        """Address S3 in path style at 127.0.0.1: put a bucket in front of the path, where it is not empty."""
        host = f"127.0.0.1:{self.port}"
        if bucket:
            query = f"?{self.query}" if self.query else ""
            self.path = f"/{bucket}{self.path if self.path.startswith('/') else '/' + self.path}"
            self.target = self.path + query
        self.items = tuple((name, host if name.lower() == "host" else value) for name, value in self.items)
        self.headers["host"] = host

    def body(self) -> bytes:
        """The whole body, read once; gzip that the client's SDK put on it is taken off only by who asked for it."""
        if self._body is None:
            self._body = _dechunked(self._stream) if self.chunked else _exactly(self._stream, self.length)
        return self._body

    def discard(self) -> None:
        """Read what nobody asked for, so that the client hears the answer and the connection can be kept."""
        if self._body is not None:
            return
        if self.chunked:
            self.body()
        left = max(self.length, 0)
        while left > 0:
            piece = self._stream.read(min(left, _PIECE))
            if not piece:
                raise ConnectionError("the client closed before its body was through")
            left -= len(piece)
        self._body = b""

    def environ(self) -> dict[str, object]:
        """The WSGI environment, as PEP 3333 and moto's own request handler have it."""
        path = unquote_to_bytes(self.path).decode("latin-1")
        body = self.body()
        found: dict[str, object] = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": self.query,
            "REQUEST_URI": self.target,
            "RAW_URI": self.target,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self.port),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        preserved: dict[str, str] = {}
        for name, value in _spelled(self.items):
            key = name.upper().replace("-", "_")
            if "_" in name:
                preserved[f"HTTP_{key}"] = name
            if key == "CONTENT_TYPE":
                found[key] = value
            elif key not in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
                key = f"HTTP_{key}"
                found[key] = f"{found[key]},{value}" if key in found else value
        found["moto.preserved_header_names"] = preserved  # moto.core.request: the spelling of S3's metadata
        return found


def _spelled(items: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """The headers that WSGI may carry: those with an underscore only where S3's metadata may have one."""
    return [(name, value) for name, value in items if "_" not in name or name.lower().startswith("x-amz-meta-")]


def _joined(value: object) -> str:
    return str(value).replace("\r\n", "").replace("\n", "")


def _exactly(stream: BufferedIOBase, length: int) -> bytes:
    if length <= 0:
        return b""
    body = stream.read(length)
    if len(body) < length:
        raise ConnectionError(f"the client closed after {len(body)} of {length} bytes")
    return body


def _dechunked(stream: BufferedIOBase) -> bytes:
    """The body of ``Transfer-Encoding: chunked`` (RFC 9112, section 7.1); trailers are read and left aside."""
    pieces = []
    total = 0
    while True:
        digits = stream.readline(_LINE).split(b";", 1)[0].strip()
        if not digits or digits.strip(b"0123456789abcdefABCDEF") or len(digits) > _DIGITS:
            raise ConnectionError("the client sent a chunk without its size")
        size = int(digits, 16)
        total += size
        if total > _LARGEST:
            raise ConnectionError(f"the client sent chunks of more than {_LARGEST} bytes")
        if size == 0:
            break
        pieces.append(_exactly(stream, size))
        stream.readline(_LINE)
    while stream.readline(_LINE) not in (b"\r\n", b"\n", b""):
        continue
    return b"".join(pieces)
