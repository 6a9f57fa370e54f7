"""HttpAsker against a server that is not Triton: what is sent, and what each kind of silence means."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tritonforge.errors import ConnectError
from tritonforge.transform import HttpAsker, ServerLostError


class Container(ThreadingHTTPServer):
    """A container that keeps what it was asked, and can be told how to behave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self.parameters: tuple[int, bytes] = (404, b"")
        self.pause = 0.0
        self.hang_up = False
        self.healthy = True
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error of the container."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers with the body, doubled."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two packets, and the second would wait for an answer
    server: Container

    def do_POST(self) -> None:
        """/invocations."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(headers["content-length"]))
        assert self.path == "/invocations"
        self.server.asked.append((headers, body))
        if self.server.hang_up:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        time.sleep(self.server.pause)
        self._answer(200, 2 * body)

    def do_GET(self) -> None:
        """/ping and /execution-parameters."""
        if self.path == "/execution-parameters":
            self._answer(*self.server.parameters)
        else:
            self._answer(200 if self.server.healthy else 503, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Kind", "test")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def container() -> Iterator[Container]:
    """A container on a free port."""
    with Container() as server:
        yield server
        server.shutdown()


@pytest.fixture
def asker(container: Container) -> Iterator[HttpAsker]:
    """An asker for it."""
    found = HttpAsker(container.url, patience=0.5)
    yield found
    found.close()


@pytest.mark.parametrize("body", [b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4], b""])
def test_a_body_goes_as_it_is(container: Container, asker: HttpAsker, body: Any) -> None:
    """With its length, and nothing but the headers that were given."""
    reply = asker.ask(body, {"Content-Type": "application/x-image"}, timeout=5)
    assert (reply.status, reply.body, reply.headers["x-kind"]) == (200, 2 * bytes(body), "test")
    ((headers, seen),) = container.asked
    assert seen == bytes(body)
    assert headers["content-length"] == str(len(seen))
    assert headers["content-type"] == "application/x-image"
    assert "accept" not in headers


def test_a_stream_goes_in_chunks(container: Container, asker: HttpAsker) -> None:
    """Nobody knows its length before."""
    reply = asker.ask(iter([b"ab", memoryview(b"cd"), b"", b"ef"]), {}, timeout=5)
    assert reply.body == 2 * b"abcdef"
    ((headers, _),) = container.asked
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers


def test_no_answer_in_time_is_no_end_of_the_server(container: Container, asker: HttpAsker) -> None:
    """It may still work on it: ConnectError, and not ServerLostError."""
    container.pause = 0.5
    with pytest.raises(ConnectError, match=r"no answer came within 0\.05 s") as caught:
        asker.ask(b"x", {}, timeout=0.05)
    assert not isinstance(caught.value, ServerLostError)


def test_a_cut_connection_may_have_been_received(container: Container, asker: HttpAsker) -> None:
    """The server ended under the request."""
    container.hang_up = True
    with pytest.raises(ServerLostError) as caught:
        asker.ask(b"x", {}, timeout=5)
    assert caught.value.received
    assert len(container.asked) == 1


def test_a_refused_connection_was_not_received() -> None:
    """Nobody listens there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asker = HttpAsker(f"http://127.0.0.1:{port}", patience=0.2)
    with pytest.raises(ServerLostError) as caught:
        asker.ask(b"x", {}, timeout=5)
    assert not caught.value.received
    with pytest.raises(ConnectError, match=r"did not come back within 0\.2 s"):
        asker.recover(threading.Event())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((200, json.dumps({"MaxPayloadInMB": 3}).encode()), {"MaxPayloadInMB": 3}),
        ((404, b"<html>"), None),
        ((404, b'{"MaxPayloadInMB":3}'), None),
        ((400, b""), None),
        ((200, b"no JSON"), None),
        ((200, b"[1]"), None),
    ],
)
def test_execution_parameters_are_optional(
    container: Container, asker: HttpAsker, answer: tuple[int, bytes], expected: Any
) -> None:
    """Triton answers 400, the TensorFlow Serving container 404: there are none."""
    container.parameters = answer
    assert asker.execution_parameters() == expected


def test_recovery_waits_for_a_ping(container: Container, asker: HttpAsker) -> None:
    """Until the server is healthy, or the job stops."""
    container.healthy = False
    threading.Timer(0.2, lambda: setattr(container, "healthy", True)).start()
    asker.recover(threading.Event())
    assert container.healthy
    container.healthy = False
    stop = threading.Event()
    stop.set()
    asker.recover(stop)
