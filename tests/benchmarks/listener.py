"""The HTTP listener of local containers against waitress: small JSON bodies and large binary ones, on one connection.

Each side is a process of its own that answers every request with two bytes; the client measures rounds that alternate
between the sides. Run without waitress, the benchmark gives no figure.
"""

from __future__ import annotations

import http.client
import importlib.util
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SIZES = {"200 bytes": 200, "600 KB": 600_000, "20 MB": 20_000_000}
ROUNDS = 15
#: Requests of one round.
COUNTS = {"200 bytes": 200, "600 KB": 40, "20 MB": 4}
CONNECTIONS = 4

OURS = """
from tritonforge.serving.listener import Listener, Reply, open_socket
opened = open_socket("127.0.0.1", 0)
print(opened.getsockname()[1], flush=True)
Listener(opened, lambda request: Reply(200, b"{}")).run()
"""

#: Settings that suit large bodies: in memory, and read in pieces as large as those of the listener.
OTHER = """
import socket
from waitress import create_server
def application(environ, start_response):
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
    return [b"{}"]
opened = socket.create_server(("127.0.0.1", 0))
print(opened.getsockname()[1], flush=True)
create_server(
    application, sockets=[opened], threads=64, inbuf_overflow=2**31 - 1, recv_bytes=2**18, max_request_body_size=2**30
).run()
"""


def run() -> list[dict[str, Any]]:
    """Return a row for each size, on one connection and on several at once."""
    if importlib.util.find_spec("waitress") is None:
        return []
    rows = []
    sides = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for program in (OURS, OTHER)]
    try:
        ports = [int(side.stdout.readline()) for side in sides if side.stdout is not None]
        for name, size in SIZES.items():
            for connections in (1, CONNECTIONS):
                times: list[list[float]] = [[], []]
                for _ in range(ROUNDS):
                    for side, port in enumerate(ports):
                        times[side].append(measure(port, bytes(size), COUNTS[name], connections))
                ours, other = (statistics.median(side) * 1000 for side in times)
                rows.append(
                    {
                        "name": f"listener: a request of {name}, {connections} at once (other: waitress)",
                        "ours_ms": ours,
                        "other_ms": other,
                        "ratio": ours / other,
                        "target": "",
                        "ok": True,
                    }
                )
    finally:
        for side in sides:
            side.kill()
            side.wait()
            if side.stdout is not None:
                side.stdout.close()
    return rows


def measure(port: int, body: bytes, count: int, connections: int) -> float:
    """Return the seconds of one request, on average."""

    def send(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(count // connections):
            connection.request("POST", "/invocations", body)
            assert connection.getresponse().read() == b"{}"
        connection.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(send, range(connections)))
    return (time.perf_counter() - began) / (count // connections * connections)
