"""A published port: what connects to a socket of this machine is connected to a port of the container.

Runs in the keeper, whose new sockets belong to the container's network while the listening one belongs to this
machine's. Bytes go through as they come, each direction until its end; nothing is read as HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

__all__ = ["serve"]

#: Bytes that are taken at once; the largest payload of an endpoint is 25 MB.
_SIZE: Final = 2**18


async def serve(listener: socket.socket, target: tuple[str, int]) -> None:
    """Relay connections until cancelled.

    Where the container does not listen (yet), a connection is accepted and closed, as docker's proxy does.
    """
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    connections: set[asyncio.Task[None]] = set()
    while True:
        try:
            client, _ = await loop.sock_accept(listener)
        except OSError:  # too many open files, say: those who wait are taken when others have gone
            await asyncio.sleep(0.05)
            continue
        task = asyncio.create_task(_connect(client, target))
        connections.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(connections.discard)


async def _connect(client: socket.socket, target: tuple[str, int]) -> None:
    loop = asyncio.get_running_loop()
    with client, socket.socket() as server:
        for each in (client, server):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # either side went; both are closed
            await loop.sock_connect(server, target)
            directions = [asyncio.create_task(_copy(client, server)), asyncio.create_task(_copy(server, client))]
            try:
                await asyncio.gather(*directions)
            finally:
                for direction in directions:
                    direction.cancel()


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_SIZE))
    while count := await loop.sock_recv_into(source, buffer):
        await loop.sock_sendall(sink, buffer[:count])
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
