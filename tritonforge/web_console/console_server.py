"""The HTTP edge of the console: a page on loopback, and its data behind a token.

The page, its scripts and styles are files of this package, equal for everybody, and need no token. All data needs it.
The token is in the fragment of the address (``#token=``), which browsers do not send: the page keeps it in its own
session storage, which pages of other ports do not share as they share cookies, and sends it in the header
``Authorization``. So a page of another origin can neither read it nor have the browser add it to a request.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from tritonforge.errors import ConnectError, TritonForgeError
from tritonforge.graph.svg import render_dark_style
from tritonforge.serving.listener import Listener, Reply, Request, open_socket
from tritonforge.serving.loopback import port_in_use_error
from tritonforge.web_console.served_repository import ServedRepository
from tritonforge.web_console.tensor_view import find_media_type

__all__ = ["ConsoleServer"]

_HOST: Final = "127.0.0.1"
_STATIC: Final = Path(__file__).with_name("static")
_TYPES: Final = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}  # fmt: skip
#: Bytes of a file that is dropped on the page.
_LARGEST_BODY: Final = 64 * 2**20
#: Seconds that requests in progress may take when the console ends.
_DRAIN: Final = 1.0

#: Scripts and styles are files of this package only. Pictures are in the data that the page fetches.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types console-graph"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Refusal(Exception):  # noqa: N818 - an answer, not an error
    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        self.status = status
        super().__init__(sentence)


class ConsoleServer:
    """Serves the page until it is closed; ``port`` 0 is any free one. Raises LaunchError for a port in use."""

    def __init__(self, served: ServedRepository, *, port: int = 0) -> None:
        self._served = served
        self._token = secrets.token_urlsafe(24)
        self._files = _read_static()
        try:
            self._socket = open_socket(_HOST, port)
        except OSError as error:
            raise port_in_use_error("ui", port) from error
        self.port = int(self._socket.getsockname()[1])
        self._listener = Listener(self._socket, self._answer, largest=_LARGEST_BODY, has_page=True)
        self._thread = threading.Thread(target=self._listener.run, name="console", daemon=True)
        self._thread.start()

    def __enter__(self) -> ConsoleServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The address to open in a browser, with the token."""
        return f"http://{_HOST}:{self.port}/#token={self._token}"

    def close(self) -> None:
        """Stop answering."""
        self._listener.stop(drain=_DRAIN)
        self._thread.join()
        self._served.close()

    def _answer(self, request: Request) -> Reply:
        try:
            reply = self._find_reply(request)
        except _Refusal as refusal:
            reply = _build_error(refusal.status, str(refusal))
        except ConnectError as error:
            reply = _build_error(HTTPStatus.BAD_GATEWAY, str(error))
        except TritonForgeError as error:
            reply = _build_error(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        return Reply(reply.status, reply.body, reply.content_type, {**_HEADERS, **reply.headers})

    def _find_reply(self, request: Request) -> Reply:
        if not request.path.startswith("/api/"):
            _check_method(request, "GET")
            if request.path not in self._files:
                raise _Refusal(HTTPStatus.NOT_FOUND, f"{request.path}: not found")
            content, media_type = self._files[request.path]
            return Reply(HTTPStatus.OK, content, media_type)
        self._check_token(request)
        query = {name: values[-1] for name, values in parse_qs(request.query).items()}
        return self._find_data(request, query)

    def _check_token(self, request: Request) -> None:
        given = request.headers.get("authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            raise _Refusal(
                HTTPStatus.UNAUTHORIZED, "the token is missing or wrong. Open the address that tritonforge printed"
            )

    def _find_data(self, request: Request, query: Mapping[str, str]) -> Reply:
        readers: dict[str, Callable[[], Any]] = {
            "/api/repository": self._served.describe,
            "/api/graph": lambda: self._served.describe_graph(query.get("model", "")),
            "/api/statistics": lambda: self._served.describe_load(query.get("model", "")),
        }
        if request.path in readers:
            _check_method(request, "GET")
            return _build_json(readers[request.path]())
        model = query.get("model", "")
        if request.path == "/api/pictures":
            _check_method(request, "GET")
            picture = self._served.read_picture(model, _read_number(query.get("sample", "")))
            return Reply(HTTPStatus.OK, picture, find_media_type(picture) or "application/octet-stream")
        if request.path == "/api/requests":
            _check_method(request, "POST")
            if "sample" in query:
                return _build_json(self._served.send_sample(model, _read_number(query["sample"])))
            name = unquote(request.headers.get("x-file-name", "")) or "file"
            return _build_json(self._served.send_file(model, name, request.body))
        raise _Refusal(HTTPStatus.NOT_FOUND, f"{request.path}: not found")


def _read_static() -> dict[str, tuple[bytes, str]]:
    """Return the files of the page by path; no other path reaches a directory."""
    files = {f"/{path.name}": (path.read_bytes(), _TYPES[path.suffix]) for path in sorted(_STATIC.iterdir())}
    files["/"] = files["/index.html"]
    files["/graph.css"] = (render_dark_style().encode(), _TYPES[".css"])
    return files


def _check_method(request: Request, method: str) -> None:
    if request.method != method:
        raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.path}: {request.method} (expected {method})")


def _read_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise _Refusal(HTTPStatus.BAD_REQUEST, f"sample: expected a number, got {text[:40]!a}")
    return int(text)


def _build_json(document: Any) -> Reply:
    return Reply(HTTPStatus.OK, json.dumps(document).encode())


def _build_error(status: HTTPStatus, sentence: str) -> Reply:
    return Reply(status, json.dumps({"error": sentence}).encode())
