"""HttpModelClient against a server that is not Triton: what is sent, and what each kind of silence means."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.invocation_container import Container
from tritonforge.errors import ConnectError
from tritonforge.transform import HttpModelClient, ServerLostError


@pytest.fixture
def container() -> Iterator[Container]:
    """A container on a free port."""
    with Container() as server:
        yield server
        server.shutdown()


@pytest.fixture
def client(container: Container) -> Iterator[HttpModelClient]:
    """An client for it."""
    found = HttpModelClient(container.url, patience=0.5)
    yield found
    found.close()


@pytest.mark.parametrize("body", [b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4], b""])
def test_a_body_goes_as_it_is(container: Container, client: HttpModelClient, body: Any) -> None:
    """With its length, and nothing but the headers that were given."""
    reply = client.invoke(body, {"Content-Type": "application/x-image"}, timeout=5)
    assert (reply.status, reply.body, reply.headers["x-kind"]) == (200, 2 * bytes(body), "test")
    ((headers, seen),) = container.asked
    assert seen == bytes(body)
    assert headers["content-length"] == str(len(seen))
    assert headers["content-type"] == "application/x-image"
    assert "accept" not in headers


def test_a_stream_goes_in_chunks(container: Container, client: HttpModelClient) -> None:
    reply = client.invoke(iter([b"ab", memoryview(b"cd"), b"", b"ef"]), {}, timeout=5)
    assert reply.body == 2 * b"abcdef"
    ((headers, _),) = container.asked
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers


def test_no_answer_in_time_is_no_end_of_the_server(container: Container, client: HttpModelClient) -> None:
    """It may still work on it: ConnectError, and not ServerLostError."""
    container.pause = 0.5
    with pytest.raises(ConnectError, match=r"no response within 0\.05 s") as caught:
        client.invoke(b"x", {}, timeout=0.05)
    assert not isinstance(caught.value, ServerLostError)


def test_a_cut_connection_may_have_been_received(container: Container, client: HttpModelClient) -> None:
    """The server ended under the request."""
    container.hang_up = True
    with pytest.raises(ServerLostError) as caught:
        client.invoke(b"x", {}, timeout=5)
    assert caught.value.received
    assert len(container.asked) == 1


def test_a_refused_connection_was_not_received() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = HttpModelClient(f"http://127.0.0.1:{port}", patience=0.2)
    with pytest.raises(ServerLostError) as caught:
        client.invoke(b"x", {}, timeout=5)
    assert not caught.value.received
    with pytest.raises(ConnectError, match=r"did not come back within 0\.2 s"):
        client.recover(threading.Event())


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
    container: Container, client: HttpModelClient, answer: tuple[int, bytes], expected: Any
) -> None:
    container.parameters = answer
    assert client.fetch_parameters() == expected


def test_recovery_waits_for_a_ping(container: Container, client: HttpModelClient) -> None:
    """Until the server is healthy, or the job stops."""
    container.healthy = False
    threading.Timer(0.2, lambda: setattr(container, "healthy", True)).start()
    client.recover(threading.Event())
    assert container.healthy
    container.healthy = False
    stop = threading.Event()
    stop.set()
    client.recover(stop)
