"""A published port: bytes go through whole, and a server is reached as Docker would reach it."""

from __future__ import annotations

import contextlib
import errno
import socket
import urllib.request

import pytest

from tests.support.sandbox_containers import Ran, until
from tritonforge.training.sandbox import SandboxError, start_container

pytestmark = pytest.mark.process

#: Answers with what it was sent, once the client has sent all of it (a half-closed connection).
ECHO = """
import socket, sys, threading
server = socket.create_server((sys.argv[1], 8080))
print("ready", flush=True)
def answer(peer):
    with peer:
        got = b"".join(iter(lambda: peer.recv(2**20), b""))
        peer.sendall(got[::-1])
while True:
    threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
"""


def serving(address: str, **given: object) -> Ran:
    """An echo server that listens at an address of its container."""
    begun = Ran("python3", "-c", ECHO, address, publish=8080, **given)
    assert until(lambda: "ready" in begun.lines)
    return begun


def asked(port: int | None, body: bytes) -> bytes:
    """The answer of the echo server; empty when the connection is closed without one."""
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port or 0)) as client:
        client.sendall(body)
        try:
            client.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # how a reset is reported afterwards
                raise
        return b"".join(iter(lambda: client.recv(2**20), b""))
    return b""


def test_bytes_go_through_in_both_directions() -> None:
    """A payload of 25 MB, an endpoint's largest, there and back; then another on a new connection."""
    body = bytes(range(256)) * 100_000
    with serving("0.0.0.0").process as process:
        assert asked(process.port, body) == body[::-1]
        assert asked(process.port, b"abc") == b"cba"


def test_a_server_on_loopback_only_is_not_reached() -> None:
    """As with Docker and on SageMaker, whose requests come from outside of the container."""
    with serving("127.0.0.1").process as process:
        assert asked(process.port, b"abc") == b""


def test_a_port_that_no_one_listens_on_is_closed_at_once() -> None:
    """A client hears so, and does not hang."""
    with start_container(["sleep", "60"], publish=8080) as process:
        assert asked(process.port, b"abc") == b""
    with pytest.raises(ConnectionRefusedError):  # and with the container its port goes
        socket.create_connection(("127.0.0.1", process.port or 0))


def test_a_port_that_is_in_use_is_refused() -> None:
    """One sentence, before anything runs."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SandboxError, match=rf"^port {port} on 127.0.0.1 is in use; choose another one"):
            start_container(["true"], publish=8080, port=port)
    with start_container(["python3", "-m", "http.server", "8080"], publish=8080, port=port) as process:
        assert process.port == port

        def answered() -> bool:
            with contextlib.suppress(OSError):
                return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).status == 200)
            return False

        assert until(answered)


def test_an_open_network_has_no_port_of_its_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = ["python3", "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    with start_container(command, publish=port, network=True) as process:
        assert process.port == port

        def listens() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        assert until(listens)
