"""Ports, and the object that keeps tritonserver's sockets on loopback."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tritonforge.errors import LaunchError
from tritonforge.serving import loopback

BIND = """
import json, os, socket
def bound(family, address):
    with socket.socket(family) as made:
        try:
            made.bind(address)
        except OSError as error:
            return error.errno
        name = made.getsockname()
        return name.decode("latin-1") if isinstance(name, bytes) else name[0]
taken = socket.create_server(("127.0.0.1", 0))
port = taken.getsockname()[1]
print(json.dumps([
    bound(socket.AF_INET, ("0.0.0.0", 0)), bound(socket.AF_INET, ("0.0.0.0", port)),
    bound(socket.AF_INET, ("127.0.0.3", 0)), bound(socket.AF_INET6, ("::1", 0)),
    bound(socket.AF_UNIX, chr(0) + "tritonforge" + str(os.getpid())), bound(socket.AF_INET6, ("::", 0)),
    bound(socket.AF_INET6, ("::", port)),
]))
"""


def test_the_loopback_object_moves_any_address_to_loopback(tmp_path: Path) -> None:
    """0.0.0.0 and :: become 127.0.0.1 and errors keep their errno; every other address is left as it is."""
    (tmp_path / loopback.NAME).write_bytes(loopback.shared_object())
    environment = {"LD_LIBRARY_PATH": str(tmp_path), "LD_PRELOAD": loopback.NAME}
    done = subprocess.run(
        [sys.executable, "-I", "-c", BIND], env=environment, check=True, capture_output=True, text=True
    )
    address, taken, other, six, unix, any_six, taken_six = json.loads(done.stdout)
    assert done.stderr == ""
    assert any_six == "::ffff:127.0.0.1"
    assert taken_six == 98  # EADDRINUSE
    assert (address, other, six) == ("127.0.0.1", "127.0.0.3", "::1")
    assert taken == 98  # EADDRINUSE
    assert unix.startswith("\0tritonforge")
    (tmp_path / loopback.NAME).write_bytes(loopback.shared_object("127.34.0.78"))
    done = subprocess.run(
        [sys.executable, "-I", "-c", BIND], env=environment, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout)[0] == "127.34.0.78"
    assert json.loads(done.stdout)[5] == "::ffff:127.34.0.78"


def test_a_server_that_only_this_process_asks_has_an_address_that_no_page_finds() -> None:
    """Each time another one of 127.0.0.0/8, and its ports are held there."""
    first, second = loopback.choose_unguessable_address(), loopback.choose_unguessable_address()
    assert first != second
    assert "127.0.0.1" not in (first, second)
    with loopback.hold_ports({"sagemaker": 0}, address=first) as found:
        port = found["sagemaker"] or 0
        with socket.create_server((first, port)):
            assert loopback.is_open(port, address=first)
            assert not loopback.is_open(port, address=second)


def test_no_part_of_the_loopback_object_is_writable_and_executable() -> None:
    """Two segments are loaded, and the stack stays without execution."""
    content = loopback.shared_object()
    start, count = struct.unpack_from("<Q", content, 32)[0], struct.unpack_from("<H", content, 56)[0]
    segments = [struct.unpack_from("<II", content, start + 56 * number) for number in range(count)]
    assert [flags for kind, flags in segments if kind == 1] == [5, 6]
    assert [flags for kind, flags in segments if kind == 0x6474E551] == [6]


def test_held_ports_are_free_ones_that_nobody_else_gets() -> None:
    """A port of 0 is chosen, None stays None, and a second holder is refused while a listener is not."""
    with loopback.hold_ports({"http": 0, "grpc": None}) as found:
        port = found["http"]
        assert port
        assert found["grpc"] is None
        with socket.socket() as rude, pytest.raises(OSError, match="in use"):
            rude.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)), pytest.raises(LaunchError, match=f"port {port} .*--http-port"):  # noqa: SIM117
            with loopback.hold_ports({"http": port}):
                pass


def test_a_port_that_cannot_be_is_refused() -> None:
    """Ports are 16 bits wide."""
    with (
        pytest.raises(LaunchError, match=r"port 70000 on 127\.0\.0\.1 cannot be opened"),
        loopback.hold_ports({"http": 70000}),
    ):
        pass
