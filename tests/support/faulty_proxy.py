"""A way to a server with faults in it: a small HTTP proxy on loopback that spoils the requests it is received to."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

#: A spoilt answer: status, headers, body.
Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Incoming:
    """One request on its way: a fault may change ``body`` before it continues."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Outgoing:
    """One answer on its way back: ``cut_after`` ends the connection after this number of bytes of the body."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut_after: int | None = None


class CutError(Exception):
    """Raised by a fault to end the connection without an answer."""


@dataclass
class Way:
    """A proxy's address, what passed, and the faults on it.

    A ``fault`` sees each request and answers it itself with a `Reply`, raises `CutError`, or gives None to let it
    through; ``spoil`` sees each answer, with its request, and changes it.
    """

    target: str
    url: str = ""
    seen: list[Incoming] = field(default_factory=list)
    fault: Callable[[Incoming], Reply | None] = lambda _: None
    spoil: Callable[[Incoming, Outgoing], None] = lambda _, __: None

    def calls(self, method: str, part: str = "") -> int:
        """How many requests of this method had this part in their path."""
        return sum(request.method == method and part in request.path for request in self.seen)


@dataclass
class Proxy:
    """A proxy: the address that stays, and the way that its requests go now."""

    url: str
    way: Way


@contextmanager
def way_to(target: str) -> Iterator[Way]:
    """A way through a proxy of its own."""
    with proxy_to(target) as proxy:
        yield proxy.way


@contextmanager
def proxy_to(target: str) -> Iterator[Proxy]:
    """A proxy to an address, in threads of this process."""
    proxy = Proxy("", Way(target))
    host = urlsplit(target).netloc

    def carry(request: Incoming) -> Outgoing:
        connection = http.client.HTTPConnection(host, timeout=30)
        request.headers.pop("Expect", None)
        request.headers["Content-Length"] = str(len(request.body))
        connection.request(request.method, request.path, body=request.body, headers=request.headers)
        answer = connection.getresponse()
        outgoing = Outgoing(answer.status, dict(answer.getheaders()), answer.read())
        connection.close()
        return outgoing

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            way = proxy.way
            if self.headers.get("Expect") == "100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Incoming(self.command, self.path, dict(self.headers.items()), body)
            way.seen.append(request)
            try:
                reply = way.fault(request)
                outgoing = carry(request) if reply is None else Outgoing(*reply)
                way.spoil(request, outgoing)
            except CutError:
                self.cut()
            else:
                self.give(outgoing)

        def give(self, answer: Outgoing) -> None:
            self.send_response(answer.status)
            received = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            length = received.pop("Content-Length", None)
            for name, value in received.items():
                self.send_header(name, value)
            self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.cut_after])
            if answer.cut_after is not None:
                self.cut()

        def cut(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on  # noqa: N815 - names that http.server looks up

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    proxy.url = proxy.way.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_HOP = frozenset({"connection", "transfer-encoding", "date", "server"})


def build_refusal(status: int, code: str, message: str = "no") -> Reply:
    """An error as S3 words it."""
    text = (
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message><RequestId>R1</RequestId></Error>"
    )
    return status, {"Content-Type": "application/xml"}, text.encode()


@contextmanager
def forgetful() -> Iterator[str]:
    """The address of an S3 that takes every upload, reads it a little at a time, and keeps nothing."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def take(self) -> None:
            if self.headers.get("Expect") == "100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            left = int(self.headers.get("Content-Length", 0))
            while left:
                left -= len(self.rfile.read(min(left, 65_536)))
            body = b""
            if self.command == "POST":
                name = "InitiateMultipartUploadResult" if "uploads" in self.path else "CompleteMultipartUploadResult"
                body = f"<{name}><UploadId>1</UploadId><ETag>e</ETag></{name}>".encode()
            self.send_response(404 if self.command in ("HEAD", "GET") else 200)
            self.send_header("ETag", '"e"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = take  # noqa: N815 - names that http.server looks up

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
