"""The HTTP listener: bodies of known length and chunked, limits, kept connections, and its end."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tritonforge.serving.listener import Listener, Reply, Request, open_socket


@contextmanager
def listener(*, largest: int = 1000) -> Iterator[tuple[int, Listener]]:
    """A listener that says what it was asked."""
    opened = open_socket("127.0.0.1", 0)
    port = opened.getsockname()[1]
    made = Listener(opened, describe, largest=largest)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield port, made
    finally:
        made.stop(drain=5)
        thread.join(10)


def describe(request: Request) -> Reply:
    """Method, path, query, and the body."""
    head = f"{request.method} {request.path}?{request.query} {request.headers.get('x-mine', '')}\n"
    return Reply(200, head.encode() + request.body, content_type="text/plain")


def exchanged(port: int, text: bytes) -> bytes:
    """Everything that is answered to these bytes until the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(text)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    return answer


def test_requests_come_whole_and_connections_are_kept() -> None:
    """Path and query apart, headers by lower-case name, a body of known length or in chunks."""
    with listener() as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/a%20b?c=d", b"body", {"X-Mine": "1"})
        first = connection.getresponse().read()
        kept = connection.sock
        chunked = {"Transfer-Encoding": "chunked"}
        connection.request("POST", "/x", iter([b"in ", b"chunks"]), chunked, encode_chunked=True)
        assert (first, connection.getresponse().read()) == (b"POST /a b?c=d 1\nbody", b"POST /x? \nin chunks")
        assert connection.sock is kept
        connection.close()


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 1001\r\n\r\n" + bytes(1001),
        b"Content-Length: 16000000\r\n\r\n" + bytes(16_000_000),
        b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + bytes(1000) + b"\r\n1\r\nx\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    ],
    ids=["length", "more than any buffer", "absurd length", "chunks", "absurd chunk"],
)
def test_what_is_too_large_is_refused(framing: bytes) -> None:
    """413, and the connection ends; memory is not asked for it."""
    with listener() as (port, _):
        answer = exchanged(port, f"POST / HTTP/1.1\r\nHost: localhost:{port}\r\n".encode() + framing)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"the body is too large (expected at most 1000 bytes)")
    assert b"Connection: close" in answer


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: x\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        "Content-Length: ²\r\n\r\n".encode("latin-1"),
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_framed_is_refused(framing: bytes) -> None:
    """400, and the connection ends."""
    with listener() as (port, _):
        answer = exchanged(port, f"POST / HTTP/1.1\r\nHost: localhost:{port}\r\n".encode() + framing)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_kept_connection_ends_with_the_answer_after_the_stop() -> None:
    """Who keeps a connection open gets "Connection: close" and an answer."""
    with listener() as (port, made):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"GET /? \n"
        made.stop(drain=0)
        connection.request("GET", "/again")
        response = connection.getresponse()
        assert (response.getheader("Connection"), response.read()) == ("close", b"GET /again? \n")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
