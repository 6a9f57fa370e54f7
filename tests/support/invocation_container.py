"""A container that is not Triton: it answers POST /invocations, GET /ping and GET /execution-parameters."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Container(ThreadingHTTPServer):
    """A container that records the requests; its attributes control how it behaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self.parameters: tuple[int, bytes] = (404, b"")
        self.pause = 0.0
        self.hang_up = False
        self.healthy = True
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that were killed."""

    @property
    def url(self) -> str:
        """The address at which it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers with the body, doubled."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two packets, and the second would wait for an answer
    server: Container

    def do_POST(self) -> None:
        """/invocations."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(headers["content-length"]))
        assert self.path == "/invocations"
        self.server.asked.append((headers, body))
        if self.server.hang_up:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        time.sleep(self.server.pause)
        self._answer(200, 2 * body)

    def do_GET(self) -> None:
        """/ping and /execution-parameters."""
        if self.path == "/execution-parameters":
            self._answer(*self.server.parameters)
        else:
            self._answer(200 if self.server.healthy else 503, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Kind", "test")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""
