"""Ports on loopback, held from the moment they are chosen until tritonserver listens on them.

tritonserver opens its ports only after all models are loaded, which may take minutes; a free port that was merely
looked up would by then belong to somebody else. A socket that is bound with SO_REUSEADDR and does not listen keeps
everybody else away, yet lets tritonserver bind and listen: its front ends set SO_REUSEADDR too (socket(7)).
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Final

from tritonforge.errors import LaunchError

__all__ = ["HOST", "given_twice", "held", "in_use", "is_open", "unguessable_address"]

HOST: Final = "127.0.0.1"


def unguessable_address() -> str:
    """A random address of 127.0.0.0/8, for a server that only this process asks; 127.0.0.1 where there is no other.

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
def held(wanted: Mapping[str, int | None], *, address: str = HOST) -> Iterator[dict[str, int | None]]:
    """Hold ports of a loopback address by name: 0 becomes a free one, None stays None.

    Raises:
        LaunchError: a port is given twice, is in use, or this user may not open it.
    """
    if sentence := given_twice(wanted):
        raise LaunchError(sentence)
    with ExitStack() as stack:
        ports: dict[str, int | None] = {}
        for name, port in wanted.items():
            ports[name] = None if port is None else stack.enter_context(_hold(name, port, address)).getsockname()[1]
        yield ports


def given_twice(wanted: Mapping[str, int | None]) -> str:
    """What is wrong where two front ends are to have one port; empty where none are."""
    owners: dict[int, str] = {}
    for name, port in wanted.items():
        if port and port in owners:
            return f"port {port} is given to both {owners[port]} and {name}; choose another one with --{name}-port"
        if port:
            owners[port] = name
    return ""


def in_use(name: str, port: int) -> LaunchError:
    """The error for a port that somebody else listens on."""
    return LaunchError(
        f"port {port} on {HOST} is in use; choose another one for {name} with --{name}-port (0: any free)"
    )


def is_open(port: int, *, address: str = HOST) -> bool:
    """Whether anybody listens on a port."""
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex((address, port)) == 0


def _hold(name: str, port: int, address: str) -> socket.socket:
    holder = socket.socket()
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((address, port))
    except (OSError, OverflowError) as error:
        holder.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise in_use(name, port) from error
        raise LaunchError(
            f"port {port} on {HOST} cannot be opened: {error}; choose another with --{name}-port"
        ) from error
    return holder
