"""A published port: connections to a socket of this machine are relayed to a port of the container. An edge.

The relay runs in the keeper, whose new sockets are in the container's network, while the listening one is in this
machine's. Bytes are relayed as they arrive, each direction until its end.

Requests of web pages are rejected (`tritonforge.request_origin`). The program may use any protocol: a connection that
does not begin with an HTTP/1 request is relayed unchanged, since no browser can open one. Otherwise the head of every
request is checked, and its body is followed to its end, where the next head begins. Framing that two parsers could read
differently is rejected (RFC 9112, sections 6.3 and 11.2).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from http import HTTPStatus
from typing import Final

from tritonforge import request_origin

__all__ = ["RejectedRequestError", "RequestGate", "serve_relay"]

#: The maximum of bytes of a head, and of the line of a chunk's size.
_MAX_HEAD: Final = 64 * 1024
_MAX_LINE: Final = 8 * 1024

_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} ")
_METHOD_START: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{0,32}")
_REQUEST: Final = re.compile(rb"[^ ]+ (?P<target>[^ ]+) HTTP/1\.[01]")
_HEADER: Final = re.compile(rb"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[^\r\0]*)")
_CHUNK: Final = re.compile(rb"(?P<size>[0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")

#: HTTP/2 without TLS, as gRPC has it; browsers have it with TLS only.
_HTTP2: Final = b"PRI * HTTP/2.0"


class RejectedRequestError(Exception):
    """A request that is rejected, with the status and the sentence of the response."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class RequestGate:
    """Checks the requests of one connection; ``port`` is the published one, which the header Host must name."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._state = "start"  # head, body, size, data, data end, trailers, or other
        self._pending = bytearray()
        self._left = 0

    def pass_on(self, data: bytes | memoryview) -> list[bytes | memoryview]:
        """Take bytes as they arrive, and return those that may be relayed now; raise RejectedRequestError."""
        if self._state == "other":
            return [data]
        sent: list[bytes | memoryview] = []
        rest = memoryview(data)
        while len(rest):
            if self._state == "other":
                sent.append(rest)
                break
            if self._state in ("body", "data"):
                piece, rest = rest[: self._left], rest[self._left :]
                self._left -= len(piece)
                sent.append(piece)
                if self._left == 0:
                    self._state = "head" if self._state == "body" else "data end"
                continue
            taken = self._measure_line(rest)
            self._pending += rest[:taken]
            rest = rest[taken:]
            if (passed := self._check_pending()) is not None:
                sent.append(passed)
        return sent

    def end(self) -> bytes:
        """Return the pending bytes at the end of the connection; an incomplete head is discarded."""
        left = bytes(self._pending) if self._state in ("start", "other") and b"\n" not in self._pending else b""
        self._pending.clear()
        return left

    def _measure_line(self, rest: memoryview) -> int:
        """Return how many bytes of ``rest`` belong to the current line."""
        for window in (256, _MAX_HEAD):  # most lines are short, and the window is copied for each
            if (found := bytes(rest[:window]).find(b"\n")) >= 0:
                return found + 1
        return min(len(rest), _MAX_HEAD)

    def _check_pending(self) -> bytes | None:
        """Return the pending bytes that may be relayed; they end where a line ends, or where the data did."""
        if self._state == "start":
            return self._check_start()
        if self._state == "head":
            return self._check_head()
        limit = _MAX_HEAD if self._state == "trailers" else _MAX_LINE
        if not self._pending.endswith(b"\n"):
            if len(self._pending) > limit:
                raise RejectedRequestError(400, "the body is not framed as HTTP/1.1 requires")
            return None
        line = bytes(self._pending)
        self._pending.clear()
        text = line.rstrip(b"\r\n")
        if self._state == "size":
            size = _CHUNK.fullmatch(text)
            if size is None:
                raise RejectedRequestError(400, "the body is not framed as HTTP/1.1 requires")
            self._left = int(size["size"], 16)
            self._state = "data" if self._left else "trailers"
        elif self._state == "data end":
            if text:
                raise RejectedRequestError(400, "the body is not framed as HTTP/1.1 requires")
            self._state = "size"
        elif not text:  # the line that ends the trailers
            self._state = "head"
        return line

    def _check_start(self) -> bytes | None:
        pending = bytes(self._pending)
        if pending.startswith(_HTTP2) or not (_METHOD.match(pending) or _METHOD_START.fullmatch(pending)):
            self._state = "other"
            self._pending.clear()
            return pending
        if not _METHOD.match(pending) or (len(pending) < len(_HTTP2) and _HTTP2.startswith(pending)):
            return None  # undecided until more bytes arrive
        self._state = "head"
        return self._check_head()

    def _check_head(self) -> bytes | None:
        if not self._pending.endswith((b"\n\r\n", b"\n\n")):
            if len(self._pending) > _MAX_HEAD:
                raise RejectedRequestError(431, f"the head of the request has more than {_MAX_HEAD} bytes")
            if self._pending.endswith(b"\n") and not self._pending.strip():  # an empty line between requests
                self._pending.clear()
                return b"\r\n"
            return None
        pending = bytes(self._pending)
        self._pending.clear()
        first, *lines = (line.removesuffix(b"\r") for line in pending.rstrip(b"\r\n").split(b"\n"))
        request = _REQUEST.fullmatch(first)
        headers = [_HEADER.fullmatch(line) for line in lines]
        if request is None or None in headers:
            raise RejectedRequestError(400, "this is not a request of HTTP/1.1")
        named = [(match["name"].decode(), match["value"].decode("latin-1").strip()) for match in headers if match]
        if sentence := request_origin.find_origin_error(
            named, port=self._port, target=request["target"].decode("latin-1")
        ):
            raise RejectedRequestError(403, sentence)
        self._follow_head(named)
        return pending

    def _follow_head(self, headers: list[tuple[str, str]]) -> None:
        """Set the state after a head."""
        lengths = {value for name, value in headers if name.lower() == "content-length"}
        encodings = [value.lower() for name, value in headers if name.lower() == "transfer-encoding"]
        if "upgrade" in ",".join(value.lower() for name, value in headers if name.lower() == "connection"):
            self._state = "other"
        elif encodings:
            if lengths or encodings != ["chunked"]:
                raise RejectedRequestError(400, "the body is not framed as HTTP/1.1 requires")
            self._state = "size"
        elif lengths:
            length = lengths.pop()
            if lengths or not re.fullmatch(r"[0-9]{1,15}", length):
                raise RejectedRequestError(400, "the body is not framed as HTTP/1.1 requires")
            self._left = int(length)
            self._state = "body" if self._left else "head"
        else:
            self._state = "head"


#: Bytes of one read; the largest payload of an endpoint is 25 MB.
_READ_SIZE: Final = 2**18

#: Bytes of a rejected client that are read and discarded, and seconds to wait for the next of them: if a connection is
#: closed while its client still sends, the response is lost.
_MAX_DISCARDED: Final = 2**28
_DISCARD_SECONDS: Final = 2.0


async def serve_relay(listener: socket.socket, target: tuple[str, int]) -> None:
    """Relay connections until cancelled.

    If the container does not listen (yet), a connection is accepted and closed, as docker's proxy does.
    """
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    connections: set[asyncio.Task[None]] = set()
    while True:
        try:
            client, _ = await loop.sock_accept(listener)
        except OSError:  # for example too many open files: retry when other connections have ended
            await asyncio.sleep(0.05)
            continue
        task = asyncio.create_task(_connect(client, target))
        connections.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(connections.discard)


async def _connect(client: socket.socket, target: tuple[str, int]) -> None:
    loop = asyncio.get_running_loop()
    with client, socket.socket() as server:
        for connection in (client, server):
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # one side ended; both are closed
            await loop.sock_connect(server, target)
            gate = RequestGate(client.getsockname()[1])
            directions = [
                asyncio.create_task(_relay_checked(client, server, gate)),
                asyncio.create_task(_relay(server, client)),
            ]
            try:
                await asyncio.gather(*directions)
            finally:
                for direction in directions:
                    direction.cancel()


async def _relay_checked(client: socket.socket, server: socket.socket, gate: RequestGate) -> None:
    """Relay what the client sends until its end, or until a request is rejected."""
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_READ_SIZE))
    try:
        while count := await loop.sock_recv_into(client, buffer):
            for piece in gate.pass_on(buffer[:count]):
                await loop.sock_sendall(server, piece)
    except RejectedRequestError as refused:
        await _reject(client, refused)
        raise ConnectionAbortedError from refused  # the other direction ends too
    if left := gate.end():
        await loop.sock_sendall(server, left)
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_WR)


async def _reject(client: socket.socket, refused: RejectedRequestError) -> None:
    """Answer the client, and read for a while what it still sends."""
    loop = asyncio.get_running_loop()
    body = f"{refused}\n".encode()
    head = (
        f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    await loop.sock_sendall(client, head.encode() + body)
    client.shutdown(socket.SHUT_WR)
    buffer, left = bytearray(_READ_SIZE), _MAX_DISCARDED
    with contextlib.suppress(asyncio.TimeoutError):
        while left > 0 and (count := await asyncio.wait_for(loop.sock_recv_into(client, buffer), _DISCARD_SECONDS)):
            left -= count


async def _relay(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_READ_SIZE))
    while count := await loop.sock_recv_into(source, buffer):
        await loop.sock_sendall(sink, buffer[:count])
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
