"""Sends prepared HTTP requests from one thread, and notes when each was due, was sent, and was answered.

Everything about a request is prepared: headers and body are one buffer, sent again and again; of an answer only the
status and the length are read. So one process sends more requests than a light model answers, and takes little of the
processor from a server on the same machine. It imports nothing but the standard library.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

__all__ = ["HttpLoad", "Samples"]

_READ: Final = 256 * 1024
_READABLE: Final = select.EPOLLIN
_BOTH: Final = select.EPOLLIN | select.EPOLLOUT
#: Seconds between two looks at requests without an answer, and until a refused connection is tried again.
_LOOK: Final = 0.2
_RETRY: Final = 0.1
#: Bytes of an error's body that are kept.
_ERROR_SIZE: Final = 4096
#: Bytes of the head of an answer.
_HEAD_SIZE: Final = 65_536


class _NotHttpError(Exception):
    """What arrived is not an answer of HTTP/1.1."""


class Samples:
    """Errors, and when requests were due, sent and answered, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.times = array("d")
        self.errors: dict[str, int] = {}

    def add(self, due: float, sent: float, end: float) -> None:
        """Add an answer."""
        self.times.extend((due, sent, end))

    def add_error(self, sentence: str) -> None:
        """Count an error."""
        self.errors[sentence] = self.errors.get(sentence, 0) + 1


class _Connection:
    """A connection with at most one request at a time."""

    __slots__ = ("body", "due", "is_chunked", "is_closing", "left", "pending", "place", "script", "sent", "socket",
                 "start", "status")  # fmt: skip

    def __init__(self, script: Sequence[int], place: int) -> None:
        self.script = script
        self.place = place
        self.socket: socket.socket | None = None
        self.pending: memoryview | None = None
        self.due = self.sent = 0.0
        self.reset()

    def reset(self) -> None:
        """Expect a new answer."""
        self.start = b""
        self.left = -1  # bytes of the body that are missing; -1 before the head is complete
        self.status = 0
        self.body = b""
        self.is_chunked = self.is_closing = False


class HttpLoad:
    """Sends requests to ``host:port`` until `stop` was called and all answers are there.

    Args:
        address: host and port.
        messages: whole requests, as they are sent.
        scripts: the order of the messages on each connection; the connections take the scripts in turn.
        connections: how many; with ``dues``, the most that are opened.
        dues: when requests are due, in seconds of the monotonic clock; None to send on each connection as soon as the
            last answer arrived.
        timeout: seconds until a request without an answer is an error.
        samples: gets what is measured.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        messages: Sequence[bytes],
        scripts: Sequence[Sequence[int]],
        connections: int,
        dues: Iterator[float] | None,
        timeout: float,
        samples: Samples,
    ) -> None:
        self._address = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        self._messages = messages
        self._scripts = scripts
        self._limit = connections
        self._dues = dues
        self._timeout = timeout
        self._samples = samples
        self._epoll = select.epoll()
        self._connections: list[_Connection] = []
        self._by_descriptor: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._late: deque[float] = deque()
        self._retries: deque[tuple[float, _Connection]] = deque()
        self._running = 0
        self._is_stopping = False

    def stop(self) -> None:
        """Send nothing more."""
        self._is_stopping = True

    def run(self, *, control: int, on_tick: Callable[[], bool], tick: float) -> None:
        """Run until `stop`.

        Args:
            control: a file descriptor; ``on_tick`` is called when it can be read.
            on_tick: called every ``tick`` seconds; it returns False to stop.
            tick: seconds.
        """
        self._epoll.register(control, select.EPOLLIN)
        now = time.monotonic()
        if self._dues is None:
            for _ in range(self._limit):
                self._send(self._create_connection(), now, now)
            due = float("inf")
        else:
            due = next(self._dues)
        next_tick, next_look = now + tick, now + _LOOK
        stopped_at = 0.0
        while True:
            now = time.monotonic()
            if not self._is_stopping:
                while due <= now and self._dues is not None:
                    self._send_due(due, now)
                    due = next(self._dues)
                while self._retries and self._retries[0][0] <= now:
                    _, connection = self._retries.popleft()
                    self._send(connection, now, now)
            elif not stopped_at:
                stopped_at = now
            if self._is_stopping and (not self._running or now > stopped_at + self._timeout):
                return
            wait = min(due if not self._is_stopping else next_tick, next_tick, next_look)
            if self._retries:
                wait = min(wait, self._retries[0][0])
            # epoll itself rounds its timeout up to milliseconds; select on it does not.
            if wait > now:
                select.select((self._epoll,), (), (), wait - now)
            for descriptor, event in self._epoll.poll(0):
                connection_or_none = self._by_descriptor.get(descriptor)
                if connection_or_none is not None:
                    self._handle(connection_or_none, event)
                elif descriptor == control and not self._is_stopping:
                    next_tick = 0.0
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + tick
                if not on_tick():
                    self.stop()
            if now >= next_look:
                next_look = now + _LOOK
                self._drop_overdue(now)

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            if connection.socket is not None:
                connection.socket.close()
        self._epoll.close()

    def _send_due(self, due: float, now: float) -> None:
        self._late.append(due)
        while self._late and (self._idle or len(self._connections) < self._limit):
            connection = self._idle.pop() if self._idle else self._create_connection()
            self._send(connection, self._late.popleft(), now)

    def _create_connection(self) -> _Connection:
        number = len(self._connections)
        script = self._scripts[number % len(self._scripts)]
        # Connections that share a script begin at different messages of it.
        connection = _Connection(script, (number // len(self._scripts)) % len(script))
        self._connections.append(connection)
        return connection

    def _send(self, connection: _Connection, due: float, now: float) -> None:
        message = self._messages[connection.script[connection.place]]
        connection.due, connection.sent = due, now
        connection.reset()
        self._running += 1
        try:
            if connection.socket is None:
                self._connect(connection)
                sent = 0
            else:
                sent = connection.socket.send(message)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._fail(connection, _describe(error))
            return
        if sent < len(message):
            connection.pending = memoryview(message)[sent:]
            assert connection.socket is not None  # connected above
            self._epoll.modify(connection.socket.fileno(), _BOTH)

    def _connect(self, connection: _Connection) -> None:
        family, kind, protocol, _, address = self._address
        opened = socket.socket(family, kind, protocol)
        connection.socket = opened
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._by_descriptor[opened.fileno()] = connection
        self._epoll.register(opened.fileno(), _BOTH)
        code = opened.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))

    def _handle(self, connection: _Connection, event: int) -> None:
        assert connection.socket is not None  # its descriptor is registered
        try:
            if event & (select.EPOLLERR | select.EPOLLHUP) and (
                code := connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            ):
                raise OSError(code, os.strerror(code))
            if event & select.EPOLLOUT and connection.pending is not None:
                connection.pending = connection.pending[connection.socket.send(connection.pending) :]
                if not connection.pending:
                    connection.pending = None
                    self._epoll.modify(connection.socket.fileno(), _READABLE)
            if event & (select.EPOLLIN | select.EPOLLHUP):
                self._receive(connection, connection.socket)
        except BlockingIOError:
            return
        except _NotHttpError:
            self._fail(connection, "the answer is not HTTP/1.1")
        except OSError as error:
            self._fail(connection, _describe(error))

    def _receive(self, connection: _Connection, receiver: socket.socket) -> None:
        while True:
            data = receiver.recv(_READ)
            if not data:
                if connection in self._idle or not connection.sent:
                    self._disconnect(connection)  # an idle connection that the server closed
                else:
                    self._fail(connection, "the connection was closed before the answer was complete")
                return
            size = len(data)
            if connection.left < 0:
                data = self._read_head(connection, data)
                if connection.left < 0:
                    return
            if connection.is_chunked:
                connection.body = (connection.body + data)[-_ERROR_SIZE:]
                if connection.body.endswith(b"0\r\n\r\n"):
                    connection.left = 0
            else:
                connection.left -= len(data)
                if connection.status != 200 and len(connection.body) < _ERROR_SIZE:
                    connection.body += data
            if connection.left <= 0:
                self._finish(connection)
                return
            if size < _READ:
                return

    def _read_head(self, connection: _Connection, data: bytes) -> bytes:
        """Read the head of an answer, and return what follows it; ``left`` stays -1 where it is not complete."""
        start = connection.start + data
        end = start.find(b"\r\n\r\n")
        if end < 0:
            if len(start) > _HEAD_SIZE or not start.startswith(b"HTTP/1."[: len(start)]):
                raise _NotHttpError
            connection.start = start
            return b""
        head = start[:end].lower()
        connection.status = int(head[9:12]) if head[9:12].isdigit() else 0
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            stop = head.find(b"\r\n", at + 2)
            length = head[at + 17 : stop if stop >= 0 else end].strip()
            if not length.isdigit():
                raise _NotHttpError
            connection.left = int(length)
        else:
            connection.is_chunked = b"\r\ntransfer-encoding: chunked" in head
            connection.left = 1 if connection.is_chunked else 0
        connection.is_closing = b"\r\nconnection: close" in head
        return start[end + 4 :]

    def _finish(self, connection: _Connection) -> None:
        now = time.monotonic()
        self._running -= 1
        if connection.status == 200:
            self._samples.add(connection.due, connection.sent, now)
        else:
            text = connection.body[:_ERROR_SIZE].decode("utf-8", "replace")
            self._samples.add_error(f"{connection.status} {text}")
        connection.place = (connection.place + 1) % len(connection.script)
        connection.sent = 0.0
        if connection.is_closing:
            self._disconnect(connection)
        if self._is_stopping:
            return
        if self._dues is None:
            self._send(connection, now, now)
        elif self._late:
            self._send(connection, self._late.popleft(), now)
        else:
            self._idle.append(connection)

    def _fail(self, connection: _Connection, sentence: str) -> None:
        """Count an error, and send the connection's next request a little later on a new connection."""
        self._running -= 1
        self._samples.add_error(sentence)
        self._disconnect(connection)
        connection.place = (connection.place + 1) % len(connection.script)
        connection.sent = 0.0
        if self._dues is None:
            self._retries.append((time.monotonic() + _RETRY, connection))
        else:
            self._idle.append(connection)

    def _disconnect(self, connection: _Connection) -> None:
        if connection.socket is not None:
            self._by_descriptor.pop(connection.socket.fileno(), None)
            connection.socket.close()
            connection.socket = None
        connection.pending = None

    def _drop_overdue(self, now: float) -> None:
        for connection in self._connections:
            if connection.sent and now > connection.sent + self._timeout:
                self._fail(connection, f"no answer within {self._timeout:g} s")


def _describe(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
