"""Packages for TensorFlow Serving, and a program that replaces the server without TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tritonforge.serving.tfs.server import TfsServer

#: A tensorflow_model_server: it takes its flags, listens where that does, notes what it was given, and answers a
#: predict request with what it got. A body with "fail" in it is refused, one with "slow" takes a second, one with
#: "together" waits for seven others.
PROGRAM = """
import sys
if "--version" in sys.argv:
    print("TensorFlow ModelServer: 2.20.0-fake")
    sys.exit(0)
import http.server, json, os, socket, threading, time
flags = dict(each[2:].split("=", 1) for each in sys.argv[1:])
together = threading.Barrier(8)
texts = {name: open(path).read() for name, path in flags.items() if name.endswith("_file")}

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        broken = "broken" in self.path
        status = {"error_code": "NOT_FOUND" if broken else "OK", "error_message": "damaged" if broken else ""}
        row = {"version": "1", "state": "END" if broken else "AVAILABLE", "status": status}
        self.answer(200, json.dumps({"model_version_status": [row]}).encode())
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if b"fail" in body:
            self.answer(400, b'{\\n    "error": "no such thing"\\n}')
            return
        if b"slow" in body:
            time.sleep(1.0)
        if b"together" in body:
            together.wait(60)
        seen = {"path": self.path, "body": body.decode(), "pid": os.getpid(), "flags": flags, "texts": texts,
                "address": self.server.socket.getsockname()[0]}
        self.answer(200, json.dumps(seen, indent=1).encode())

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

Server(("::", int(flags["rest_api_port"])), Handler).serve_forever()
"""
#: The pair of handlers that passes everything on.
PASSING = """
def input_handler(data, context):
    return data.read()

def output_handler(response, context):
    return response.content, context.accept_header
"""
Write = Callable[..., Path]


def write_package(folder: Path, code: Mapping[str, str] | None = None, *, model: str = "toy/1") -> Path:
    """Write a package with one model, ``toy`` version 1, and the files of ``code`` by name."""
    (folder / model).mkdir(parents=True)
    (folder / model / "saved_model.pb").write_bytes(b"not looked into here")
    for name, text in (code or {}).items():
        path = folder / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


Start = Callable[..., TfsServer]


def read_answer(answer: Any) -> dict[str, Any]:
    """A good answer's JSON."""
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(answer.body)
    return found
