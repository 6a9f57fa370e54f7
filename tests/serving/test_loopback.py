"""Ports, and the object that keeps tritonserver's sockets on loopback."""

from __future__ import annotations

import errno
import json
import shutil
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


def bind_addresses(folder: Path, **variables: str) -> list[object]:
    """What BIND prints with the library of a folder."""
    environment = {"LD_LIBRARY_PATH": str(folder), "LD_PRELOAD": loopback.LIBRARY, **variables}
    command = [sys.executable, "-I", "-c", BIND]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return list(json.loads(done.stdout))


@pytest.mark.process
def test_the_library_moves_any_address_to_loopback(tmp_path: Path) -> None:
    """0.0.0.0 and :: become 127.0.0.1 and errors keep their errno; every other address is left as it is."""
    loopback.install_library(tmp_path)
    address, taken, other, six, unix, any_six, taken_six = bind_addresses(tmp_path)
    assert (address, other, six, any_six) == ("127.0.0.1", "127.0.0.3", "::1", "::ffff:127.0.0.1")
    assert (taken, taken_six) == (errno.EADDRINUSE, errno.EADDRINUSE)
    assert str(unix).startswith("\0tritonforge")
    chosen = bind_addresses(tmp_path, TRITONFORGE_LOOPBACK="127.34.0.78")
    assert (chosen[0], chosen[5]) == ("127.34.0.78", "::ffff:127.34.0.78")


@pytest.mark.parametrize("value", ["0.0.0.0", "192.168.0.1", "", "127.0.0", "localhost"])
@pytest.mark.process
def test_the_library_takes_no_address_beyond_loopback(tmp_path: Path, value: str) -> None:
    loopback.install_library(tmp_path)
    assert bind_addresses(tmp_path, TRITONFORGE_LOOPBACK=value)[0] == "127.0.0.1"


@pytest.mark.process
def test_the_library_of_the_wheel_is_used_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled library lies beside its source; one for another machine is not used."""
    source = tmp_path / "package" / "loopback.c"
    source.parent.mkdir()
    loopback.install_library(source.parent)
    monkeypatch.setattr(loopback, "_SOURCE", source)
    monkeypatch.setenv("CC", "no-such-compiler")
    assert bind_addresses(loopback.install_library(tmp_path).parent)[0] == "127.0.0.1"
    (source.parent / loopback.LIBRARY).write_bytes(b"\x7fELF of another machine")
    with pytest.raises(LaunchError, match="is missing, which keeps servers on loopback; install a C compiler"):
        loopback.install_library(tmp_path)


@pytest.mark.process
def test_a_library_that_does_not_compile_is_refused_with_the_compilers_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "loopback.c"
    source.write_text("#error no such machine\n")
    monkeypatch.setattr(loopback, "_SOURCE", source)
    with pytest.raises(LaunchError, match=r"loopback\.c: cannot compile: (.|\n)*no such machine"):
        loopback.install_library(tmp_path)


@pytest.mark.process
def test_the_library_compiles_for_aarch64(tmp_path: Path) -> None:
    """With Debian's cross compiler, where it is installed."""
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if compiler is None:
        pytest.skip("aarch64-linux-gnu-gcc is not installed")
    source = Path(loopback.__file__).with_name("loopback.c")
    options = ["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O2"]
    subprocess.run([compiler, *options, "-o", str(tmp_path / "library.so"), str(source)], check=True)
    assert struct.unpack_from("<H", (tmp_path / "library.so").read_bytes(), 18)[0] == 183  # EM_AARCH64


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


def test_held_ports_are_free_and_no_other_program_gets_them() -> None:
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
