"""An HTTP listener: requests whole in memory, one thread a connection, connections kept open.

The containers of TensorFlow Serving and of algorithms that run on this machine listen with it, and so does the web
console. Requests of web pages are refused, except those of a page that the listener itself serves
(`tritonforge.request_origin`).

It does not use a library because that is slower: waitress 3.0 needs the same time for small requests one after another,
1.3 to 1.8 times as long for an image of 600 KB, and 1.7 to 7 times for 20 MB (tests/benchmarks/listener.py).
"""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Final, TypeAlias
from urllib.parse import unquote

from tritonforge import request_origin

__all__ = ["LARGEST_BODY", "Listener", "Reply", "Request", "RequestHandler", "discard_input", "open_socket"]

_JSON: Final = "application/json"
#: The longest line of a chunked body's framing that is read.
_LINE: Final = 1024
#: Bytes of the largest body that is accepted by default: more than any payload of SageMaker's.
LARGEST_BODY: Final = 2**30
#: Bytes that are read of the body of a refused request, of one read of it, and seconds that the next one may take.
_UNWANTED: Final = 2**28
_PIECE: Final = 2**16
_PATIENCE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request; ``headers`` are by lower-case name, ``path`` is without the query and unquoted."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; ``reason`` is the phrase after the status, "" for the usual one."""

    status: int
    body: bytes = b""
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


RequestHandler: TypeAlias = Callable[[Request], Reply]


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; 0 is any free port. Child processes may inherit it."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(1024)
    return listening


class Listener:
    """Answers the requests to a listening socket until it is stopped; ``answer`` is called from many threads.

    A body of more than ``largest`` bytes is refused with 413 before memory is allocated, a request of a web page with
    403. The header Host is checked where the socket is bound to a loopback address; one that is bound to every address
    is in a container, which may be reached by any name. With ``has_page`` requests of a page from this listener's own
    address are answered; the socket is then bound to a loopback address.
    """

    def __init__(
        self, opened: socket.socket, answer: RequestHandler, *, largest: int = LARGEST_BODY, has_page: bool = False
    ) -> None:
        class Handler(_Exchange):
            answering = staticmethod(answer)
            busy = _Busy()
            most = largest
            port = _find_loopback_port(opened)
            serves_page = has_page

        self._busy = Handler.busy
        self._server = ThreadingHTTPServer(opened.getsockname()[:2], Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = opened
        self._server.daemon_threads = True  # idle connections do not keep the process

    def run(self) -> None:
        """Answer until `stop` is called from elsewhere."""
        self._server.serve_forever(poll_interval=0.1)

    def stop(self, *, drain: float) -> None:
        """Accept no further connections, and wait for the requests in progress, ``drain`` seconds at most.

        Connections that are kept open end with the request in progress.
        """
        self._busy.ending = True
        self._server.shutdown()
        self._server.socket.close()
        self._busy.wait(drain)


class _Busy:
    """The number of requests in progress."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self.ending = False

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0, seconds)


class _Exchange(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "tritonforge"
    disable_nagle_algorithm = True  # an answer is one write, and waits for nothing
    answering: RequestHandler
    busy: _Busy
    most: int
    port: int | None
    serves_page: bool

    def log_message(self, *_: object) -> None:
        """Disable per-request access logging: the container's log is for errors."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is not an HTTP request, and close the connection."""
        self.close_connection = True
        self._send(Reply(code, (explain or message or HTTPStatus(code).phrase).encode(), "text/plain"))

    def _handle(self) -> None:
        if sentence := self._find_origin_error():
            self.send_error(HTTPStatus.FORBIDDEN, sentence)
            discard_input(self.connection, self.rfile)
            return
        try:
            body = self._read_body()
        except OverflowError:
            sentence = f"the body is too large (expected at most {self.most} bytes)"
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence)
            discard_input(self.connection, self.rfile)
            return
        if body is None:
            self.send_error(HTTPStatus.BAD_REQUEST, "the body is not framed as HTTP/1.1 requires")
            return
        path, _, query = self.path.partition("?")
        if "://" in path[:9]:  # the absolute form of a proxy's clients
            path = "/" + path.partition("://")[2].partition("/")[2]
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, unquote(path), query, headers, body)
        with self.busy:
            try:
                reply = self.answering(request)
            except Exception:  # an internal error; the client must not wait for a response that never comes
                traceback.print_exc()
                reply = Reply(HTTPStatus.INTERNAL_SERVER_ERROR, b'{"error": "internal error; see the log"}')
            self._send(reply)

    def _find_origin_error(self) -> str | None:
        if self.serves_page and self.port is not None:
            return request_origin.find_page_error(
                self.headers.items(), port=self.port, method=self.command, target=self.path
            )
        return request_origin.find_origin_error(self.headers.items(), port=self.port, target=self.path)

    do_DELETE = do_GET = do_HEAD = do_OPTIONS = do_PATCH = do_POST = do_PUT = _handle  # noqa: N815 - http.server's

    def _read_body(self) -> bytes | None:
        """Return the whole body; None if it has neither a length nor chunks. OverflowError: it is too large."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._read_chunks()
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            return None
        if len(length) > len(str(self.most)) or int(length) > self.most:
            raise OverflowError
        body = self.rfile.read(int(length))
        return body if len(body) == int(length) else None

    def _read_chunks(self) -> bytes | None:
        pieces: list[bytes] = []
        left = self.most
        while True:
            digits = self.rfile.readline(_LINE).partition(b";")[0].strip()
            if not digits or digits.strip(b"0123456789abcdefABCDEF"):
                return None
            size = int(digits, 16)
            left -= size
            if left < 0:
                raise OverflowError
            if size == 0:
                while self.rfile.readline(_LINE).strip():
                    pass  # trailers
                return b"".join(pieces)
            pieces.append(self.rfile.read(size))
            if self.rfile.readline(_LINE).strip():
                return None

    def _send(self, reply: Reply) -> None:
        reason = reply.reason or _find_phrase(reply.status)
        headers = {"Content-Type": reply.content_type, **reply.headers, "Content-Length": str(len(reply.body))}
        if self.busy.ending:
            self.close_connection = True
        if self.close_connection:
            headers["Connection"] = "close"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        body = b"" if self.command == "HEAD" else reply.body
        try:
            self.wfile.write(f"HTTP/1.1 {reply.status} {reason}\r\n{head}\r\n".encode("latin-1", "replace") + body)
        except OSError:  # the client is gone
            self.close_connection = True


def discard_input(connection: socket.socket, stream: BufferedIOBase) -> None:
    """Discard what a refused client still sends, for a while; a connection closed before that loses the reply."""
    try:
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(_PATIENCE)
        left = _UNWANTED
        while left > 0 and (read := len(stream.read1(_PIECE))):
            left -= read
    except OSError:
        pass  # the client is gone, or slow; it has the reply


def _find_loopback_port(opened: socket.socket) -> int | None:
    """Return the port of a socket that is bound to a loopback address; None for any other."""
    address, port = opened.getsockname()[:2]
    return int(port) if address.startswith("127.") or address == "::1" else None


def _find_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
