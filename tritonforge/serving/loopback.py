"""Loopback: ports that are held until tritonserver listens on them, and the library that keeps it there.

tritonserver opens its ports only after all models are loaded, which may take minutes; another program could take a free
port that was merely looked up. A socket that is bound with SO_REUSEADDR and does not listen keeps every other program
away, yet lets tritonserver bind and listen: its front ends set SO_REUSEADDR too (socket(7)).

Some servers have no option for the address that they listen on (``loopback.c`` names them). A library in LD_PRELOAD
replaces their ``bind``: 0.0.0.0 becomes 127.0.0.1, or the address in `ADDRESS_VARIABLE`. It is compiled from that file
when the wheel is built; where the wheel has none, `install_library` compiles it, and without a C compiler it refuses.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tritonforge.errors import LaunchError

__all__ = ["ADDRESS_VARIABLE", "HOST", "LIBRARY", "choose_unguessable_address", "describe_shared_port", "hold_ports",
           "install_library", "is_open", "port_in_use_error"]  # fmt: skip

HOST: Final = "127.0.0.1"

#: The file name of the library, which LD_PRELOAD finds on the library path.
LIBRARY: Final = "libtritonforge_loopback.so"

#: The environment variable with the loopback address of IPv4 that the library uses.
ADDRESS_VARIABLE: Final = "TRITONFORGE_LOOPBACK"

_SOURCE: Final = Path(__file__).with_name("loopback.c")


def install_library(folder: Path) -> Path:
    """Put the library into a folder and return its path: the compiled one of the wheel, else compiled here.

    Raises:
        LaunchError: the wheel has no library for this machine, and there is no C compiler.
    """
    library = folder / LIBRARY
    built = _SOURCE.with_name(LIBRARY)
    if built.is_file() and _read_machine(built) == _read_machine(Path(sys.executable)):
        shutil.copyfile(built, library)
        return library
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise LaunchError(
            f"{_SOURCE.with_name(LIBRARY)} is missing, which keeps servers on loopback; install a C compiler (on "
            "Debian and Ubuntu the package gcc), or turn the SageMaker front end off"
        )
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the C compiler
    if done.returncode:
        raise LaunchError(f"{_SOURCE}: cannot compile: {done.stderr.strip()}")
    return library


def _read_machine(program: Path) -> bytes:
    """Return class, byte order and machine type of an ELF file."""
    with program.open("rb") as file:
        header = file.read(20)
    return header[4:6] + header[18:20]


def choose_unguessable_address() -> str:
    """Return a random address of 127.0.0.0/8, for a server that only this process uses; 127.0.0.1 if there is no other.

    A web page can send requests to every port of 127.0.0.1, but it cannot try 16 million addresses with all their
    ports.
    """
    address = "127.{}.{}.{}".format(*(1 + secrets.randbelow(254) for _ in range(3)))
    with socket.socket() as trial:
        try:
            trial.bind((address, 0))
        except OSError:  # a machine whose loopback device has one address
            return HOST
    return address


@contextlib.contextmanager
def hold_ports(wanted: Mapping[str, int | None], *, address: str = HOST) -> Iterator[dict[str, int | None]]:
    """Hold ports of a loopback address by name: 0 becomes a free one, None stays None.

    Raises:
        LaunchError: a port is given twice, is in use, or this user may not open it.
    """
    if sentence := describe_shared_port(wanted):
        raise LaunchError(sentence)
    with ExitStack() as stack:
        ports: dict[str, int | None] = {}
        for name, port in wanted.items():
            ports[name] = (
                None if port is None else stack.enter_context(_hold_port(name, port, address)).getsockname()[1]
            )
        yield ports


def describe_shared_port(wanted: Mapping[str, int | None]) -> str:
    """Return the problem of two front ends with the same port; "" if all ports differ."""
    owners: dict[int, str] = {}
    for name, port in wanted.items():
        if port and port in owners:
            return f"port {port} is given to both {owners[port]} and {name}; choose another one with --{name}-port"
        if port:
            owners[port] = name
    return ""


def port_in_use_error(name: str, port: int) -> LaunchError:
    """Return the error for a port that another program listens on."""
    return LaunchError(
        f"port {port} on {HOST} is in use; choose another one for {name} with --{name}-port (0: any free)"
    )


def is_open(port: int, *, address: str = HOST) -> bool:
    """Return True if a program listens on a port."""
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex((address, port)) == 0


def _hold_port(name: str, port: int, address: str) -> socket.socket:
    holder = socket.socket()
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((address, port))
    except (OSError, OverflowError) as error:
        holder.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise port_in_use_error(name, port) from error
        raise LaunchError(
            f"port {port} on {HOST} cannot be opened: {error}; choose another with --{name}-port"
        ) from error
    return holder
