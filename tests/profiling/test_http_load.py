"""Prepared requests over real sockets, to a server of the test that answers as it is set up to."""

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tritonforge.profiling.http_load import HttpLoad, Samples

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Peer:
    """A server that answers the requests of each connection with ``answer``; ``received`` has the requests."""

    def __init__(self, answer: Callable[[int], bytes]) -> None:
        self.answer = answer
        self.received: list[bytes] = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """Accept connections until the listener is closed."""
        while True:
            try:
                opened, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(opened,), daemon=True).start()

    def serve(self, opened: socket.socket) -> None:
        """Answer the requests of a connection."""
        with opened, opened.makefile("rb") as stream:
            while line := stream.readline():
                size = 0
                while (header := stream.readline().strip()) != b"":
                    if header.lower().startswith(b"content-length:"):
                        size = int(header.split(b":")[1])
                self.received.append(line.split()[1] + b" " + stream.read(size))
                answer = self.answer(len(self.received))
                if not answer:
                    return
                opened.sendall(answer)


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def start(answer: Callable[[int], bytes] = lambda number: OK) -> Peer:
        peers.append(Peer(answer))
        return peers[-1]

    yield start
    for started in peers:
        started.listener.close()


def message(body: bytes) -> bytes:
    return b"POST /x HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def run(
    peer: Peer,
    *,
    requests: int,
    messages: tuple[bytes, ...] = (b"a",),
    connections: int = 1,
    dues: Iterator[float] | None = None,
    timeout: float = 5.0,
    scripts: tuple[tuple[int, ...], ...] | None = None,
) -> Samples:
    """Send until there are enough answers and errors."""
    samples = Samples()
    load = HttpLoad(
        peer.address, messages=[message(body) for body in messages], scripts=scripts or (range(len(messages)),),
        connections=connections, dues=dues, timeout=timeout, samples=samples,
    )  # fmt: skip
    reader, writer = os.pipe()
    try:
        load.run(
            control=reader, tick=0.01,
            on_tick=lambda: len(samples.times) // 3 + sum(samples.errors.values()) < requests,
        )  # fmt: skip
    finally:
        load.close()
        os.close(reader)
        os.close(writer)
    return samples


def test_each_connection_sends_the_next_request_when_the_last_one_was_answered(peer: Callable[..., Peer]) -> None:
    server = peer()
    samples = run(server, requests=50, messages=(b"a", b"bb", b"ccc"))
    assert server.received[:4] == [b"/x a", b"/x bb", b"/x ccc", b"/x a"]
    assert (server.connections, samples.errors) == (1, {})
    rows = [samples.times[index : index + 3] for index in range(0, len(samples.times), 3)]
    assert all(due == sent <= end for due, sent, end in rows)
    assert all(before[2] <= after[1] for before, after in itertools.pairwise(rows))


def test_connections_take_their_scripts_in_turn(peer: Callable[..., Peer]) -> None:
    server = peer()
    run(server, requests=20, messages=(b"a", b"b"), connections=2, scripts=((0,), (1,)))
    assert {b"/x a", b"/x b"} == set(server.received)


def test_an_answer_in_pieces_and_a_large_request_are_one_request(peer: Callable[..., Peer]) -> None:
    body = bytes(3_000_000)
    server = peer(lambda number: b"HTTP/1.1 200 OK\r\nContent-Length: 700000\r\n\r\n" + bytes(700_000))
    samples = run(server, requests=3, messages=(body,))
    assert (len(samples.times) // 3, samples.errors) == (len(server.received), {})
    assert {len(request) for request in server.received} == {len(body) + 3}


def test_a_chunked_answer_ends_with_its_last_chunk(peer: Callable[..., Peer]) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    samples = run(peer(lambda number: head + b"2\r\n{}\r\n0\r\n\r\n"), requests=5)
    assert samples.errors == {}


def test_errors_are_counted_by_their_sentence(peer: Callable[..., Peer]) -> None:
    error = b"HTTP/1.1 503 Unavailable\r\nContent-Length: 16\r\n\r\n" + b'{"error":"full"}'
    samples = run(peer(lambda number: error if number % 2 else OK), requests=10)
    assert list(samples.errors) == ['503 {"error":"full"}']
    assert abs(samples.errors['503 {"error":"full"}'] - len(samples.times) / 3) <= 1


def test_a_connection_that_the_server_closes_is_an_error_and_is_opened_again(peer: Callable[..., Peer]) -> None:
    server = peer(lambda number: b"" if number == 2 else OK)
    samples = run(server, requests=4)
    assert samples.errors == {"the connection was closed before the answer was complete": 1}
    assert server.connections == 2


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
                                    b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"\0" * 100])  # fmt: skip
def test_an_answer_that_is_not_http_is_an_error(answer: bytes, peer: Callable[..., Peer]) -> None:
    assert run(peer(lambda number: answer), requests=1).errors == {"the answer is not HTTP/1.1": 1}


def test_a_request_without_an_answer_is_an_error_after_the_timeout(peer: Callable[..., Peer]) -> None:
    silence = threading.Event()
    try:
        samples = run(peer(lambda number: b"" if silence.wait(2) else OK), requests=1, timeout=0.2)
    finally:
        silence.set()
    assert samples.errors == {"no answer within 0.2 s": 1}


def test_requests_are_sent_when_they_are_due_on_as_many_connections_as_it_takes(peer: Callable[..., Peer]) -> None:
    waiting = threading.Barrier(5)

    def answer(number: int) -> bytes:
        if number <= 5:
            waiting.wait(5)  # five requests are there at once
        return OK

    begin = time.monotonic()
    server = peer(answer)
    samples = run(server, requests=10, connections=8, dues=(begin + number / 1000 for number in range(10**6)))
    assert samples.errors == {}
    assert server.connections >= 5
    dues = [samples.times[index] for index in range(0, len(samples.times), 3)]
    assert min(dues) == pytest.approx(begin)


def test_a_refused_connection_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    closed = Peer.__new__(Peer)
    closed.address = address
    assert run(closed, requests=1).errors == {"Connection refused": 1}
