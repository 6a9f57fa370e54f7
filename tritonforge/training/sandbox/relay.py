"""A published port: what connects to a socket of this machine is connected to a port of the container.

Runs in the keeper, whose new sockets belong to the container's network while the listening one belongs to this
machine's. Bytes go through as they come, each direction until its end; requests of HTTP/1 that come from a web page are
refused (`request_gate`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from http import HTTPStatus
from typing import Final

from tritonforge.training.sandbox.request_gate import Refused, RequestGate

__all__ = ["serve"]

#: Bytes that are taken at once; the largest payload of an endpoint is 25 MB.
_SIZE: Final = 2**18

#: Bytes that are read of a client's after it was refused, and seconds that the next of them may take: a connection that
#: is closed while its client still sends loses the answer.
_UNREAD: Final = 2**28
_PATIENCE: Final = 2.0


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
            gate = RequestGate(client.getsockname()[1])
            directions = [
                asyncio.create_task(_checked(client, server, gate)),
                asyncio.create_task(_copy(server, client)),
            ]
            try:
                await asyncio.gather(*directions)
            finally:
                for direction in directions:
                    direction.cancel()


async def _checked(client: socket.socket, server: socket.socket, gate: RequestGate) -> None:
    """Copy what the client sends until its end, or until it sends what is refused."""
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_SIZE))
    try:
        while count := await loop.sock_recv_into(client, buffer):
            for piece in gate.pass_on(buffer[:count]):
                await loop.sock_sendall(server, piece)
    except Refused as refused:
        await _refuse(client, refused)
        raise ConnectionAbortedError from refused  # the other direction ends too
    if left := gate.end():
        await loop.sock_sendall(server, left)
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_WR)


async def _refuse(client: socket.socket, refused: Refused) -> None:
    """Answer the client itself, and read for a while what it still sends."""
    loop = asyncio.get_running_loop()
    body = f"{refused}\n".encode()
    head = (
        f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    await loop.sock_sendall(client, head.encode() + body)
    client.shutdown(socket.SHUT_WR)
    buffer, left = bytearray(_SIZE), _UNREAD
    with contextlib.suppress(asyncio.TimeoutError):
        while left > 0 and (count := await asyncio.wait_for(loop.sock_recv_into(client, buffer), _PATIENCE)):
            left -= count


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_SIZE))
    while count := await loop.sock_recv_into(source, buffer):
        await loop.sock_sendall(sink, buffer[:count])
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
