"""What passes through a published port, request by request, whatever the pieces that it comes in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.training.sandbox.relay import RejectedRequestError, RequestGate

HEAD = b"POST /invocations HTTP/1.1\r\nHost: localhost:80\r\n"
REQUESTS = [
    HEAD + b"Content-Length: 5\r\n\r\nabcde",
    b"\r\nGET /ping HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
    b"GET /ping HTTP/1.0\n\n",
]
FOREIGN = b"POST /invocations HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n"


def passed(gate: RequestGate, content: bytes, size: int) -> bytes:
    """What goes through of a content that comes in pieces."""
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return b"".join(bytes(part) for piece in pieces for part in gate.pass_on(memoryview(piece)))


@given(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=4), st.integers(1, 200))
def test_requests_pass_unchanged(requests: list[bytes], size: int) -> None:
    """Bodies of every framing, one request after the other."""
    content = b"".join(requests).removeprefix(b"\r\n")
    assert passed(RequestGate(80), content, size) == content


@given(st.lists(st.sampled_from(REQUESTS), max_size=3), st.integers(1, 200))
def test_a_foreign_request_is_refused_wherever_it_is_on_a_connection(requests: list[bytes], size: int) -> None:
    """As the first one, and after others that were passed on."""
    gate = RequestGate(80)
    before = b"".join(requests).removeprefix(b"\r\n")
    assert passed(gate, before, size) == before
    with pytest.raises(RejectedRequestError, match="evil") as caught:
        passed(gate, FOREIGN, size)
    assert caught.value.status == 403


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        HEAD + b"Content-Length: +5\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n",
        HEAD + b"X: a\r\n Origin: b\r\n\r\n",
        HEAD + b"Content-Length : 5\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b"X: a\rb\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        HEAD + b"\r\n\x00\x01 not a request\r\n\r\n",
        HEAD + b"X: " + b"x" * 200_000,
    ],
)
def test_what_two_readers_could_frame_differently_is_refused(head: bytes) -> None:
    """Otherwise a second request could hide in the body of the first."""
    with pytest.raises(RejectedRequestError) as caught:
        passed(RequestGate(80), head, 4096)
    assert caught.value.status in (400, 431)


@pytest.mark.parametrize(
    "content", [b"\x00\x01\n\x02", b"\x16\x03\x01 tls", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\nGET / evil\n", b"{}"]
)
def test_other_protocols_pass_as_they_are(content: bytes) -> None:
    """No browser can begin a connection so."""
    gate = RequestGate(80)
    assert passed(gate, content * 3, 1) + gate.end() == content * 3


def test_a_head_that_is_cut_off_is_not_passed_on() -> None:
    """Some servers answer a head that ends with the connection."""
    gate = RequestGate(80)
    assert passed(gate, b"POST / HTTP/1.1\r\nHost: evil.example\r\n", 7) + gate.end() == b""
    short = RequestGate(80)
    assert passed(short, b"abc", 1) + short.end() == b"abc"


def test_a_connection_that_becomes_a_web_socket_is_passed_on() -> None:
    """A browser's has an Origin; any other client may."""
    head = b"GET /ws HTTP/1.1\r\nHost: localhost:80\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    assert passed(RequestGate(80), head + b"\r\n\x81\x05\n\n\n", 10) == head + b"\r\n\x81\x05\n\n\n"
    with pytest.raises(RejectedRequestError, match="web pages"):
        passed(RequestGate(80), head + b"Origin: http://evil.example\r\n\r\n", 10)
