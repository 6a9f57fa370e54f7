"""A worker of the container: the process that imports the package's code, and answers /ping and /invocations.

With code it is the container's Python service, a falcon application; without code its nginx, which converts JSON, JSON
lines and CSV to TensorFlow Serving's request by itself. These conversions are heuristics of the container, kept as they
are: a request is recognised by its keys' names, JSON lines by a bracket after a bracket. Started by `container`:
``python -m tritonforge.serving.tfs.worker JOB``. Source: aws/deep-learning-containers
scripts/docker/tensorflow/inference/sagemaker/python_service.py, nginx.conf.template, tensorflowServing.js.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypedDict

import urllib3

from tritonforge.errors import LaunchError
from tritonforge.serving.listener import Listener, Reply, Request, RequestHandler
from tritonforge.serving.tfs import handlers
from tritonforge.serving.tfs.handlers import CUSTOM_ATTRIBUTES, build_context, build_model_path

__all__ = ["Job", "convert_body", "create_proxy", "create_python_service", "flatten_response", "main",
           "parse_media_type"]  # fmt: skip


_JSON_TYPES: Final = ("application/json", "application/jsonlines", "application/jsons")
_REQUEST: Final = re.compile(r'"(instances|inputs|examples)"\s*:')
_LINES: Final = re.compile(r"[}\]]\s*[\[{]")
_NESTED: Final = re.compile(r"\s*\[\s*\[")
_LINE_BREAK: Final = re.compile(r"\r?\n")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def convert_body(body: bytes, content_type: str | None) -> bytes | None:
    r"""Return the body to post to TensorFlow Serving; None for a content type that the container answers with 415.

    >>> convert_body(b"1,2\n3,x", "text/csv")
    b'{"instances":[[1,2],[3,"x"]]}'
    """
    kind = parse_media_type(content_type)
    text = body.decode("utf-8", "replace")
    if kind in _JSON_TYPES:
        return _convert_json(text).encode()
    return _convert_csv(text).encode() if kind == "text/csv" else None


def parse_media_type(content_type: str | None) -> str:
    """Return a content type without its parameters, in lower case; "" for None."""
    return (content_type or "").partition(";")[0].strip().lower()


def flatten_response(body: bytes, accept: str | None) -> bytes:
    """Return TensorFlow Serving's answer, on one line where the Accept header lists JSON or JSON lines."""
    accepted = [part.strip() for part in (accept or "").split(",")]
    is_json = "application/json" in accepted or "application/jsonlines" in accepted
    return body.replace(b"\n", b"") if is_json else body


def _convert_json(text: str) -> str:
    if _REQUEST.search(text):
        return text
    if _LINES.search(text):
        return _convert_json_lines(text)
    return f'{{"instances":{text if _NESTED.match(text) else f"[{text}]"}}}'


def _convert_json_lines(text: str) -> str:
    lines = [line.strip() for line in _LINE_BREAK.split(text.strip())]
    joined = lines[0] + "".join(f",{line}" for line in lines[1:] if line)
    return f'{{"instances":{joined}}}' if len(lines) == 1 else f'{{"instances":[{joined}]}}'


def _convert_csv(text: str) -> str:
    lines = [line.strip() for line in _LINE_BREAK.split(text.strip())]
    rows = []
    for line in filter(None, lines):
        fields = _split_fields(line)
        values = ",".join(map(_convert_field, fields))
        rows.append(values if len(fields) == 1 else f"[{values}]")
    return f'{{"instances":[{",".join(rows)}]}}'


def _split_fields(line: str) -> list[str]:
    """Return the fields of a line of CSV; a quotation mark is doubled inside of quotes."""
    if '"' not in line:
        return line.split(",")
    fields, current, quoted, index = [], "", False, 0
    while index < len(line):
        character = line[index]
        if character == '"' and quoted and line[index + 1 : index + 2] == '"':
            current += '"'
            index += 1
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            fields.append(current)
            current = ""
        else:
            current += character
        index += 1
    return [*fields, current]


def _convert_field(field: str) -> str:
    """Return a field as JSON: a number where it reads as one, else a string."""
    number = field.strip()
    if _NUMBER.fullmatch(number):
        return number
    return '"' + field.replace("\\", "\\\\").replace('"', '\\"') + '"'


#: Seconds that requests in progress get when the worker ends.
_DRAIN: Final = 5.0

_JSON: Final = "application/json"
_CONVERTED: Final = ("application/json", "application/jsonlines", "application/jsons", "text/csv")


class Job(TypedDict):
    """What a worker is started with, as JSON."""

    listening: int  # the inherited socket
    report: int  # a pipe: one line of JSON is written, {"ready": true} or {"failed": sentence}
    inference: str | None  # code/inference.py, where the package has it
    python_service: bool
    predictors: list[tuple[str, str | None]]  # http://host:port, and the port of gRPC
    default_model: str
    timeout: int


def main() -> int:
    """Answer until SIGTERM."""
    job: Job = json.loads(sys.argv[1])
    with os.fdopen(job["report"], "w") as report:
        if job["python_service"]:
            _hide_tritonforge()
        try:
            answer = create_python_service(job) if job["python_service"] else create_proxy(job)
        except LaunchError as error:
            report.write(json.dumps({"failed": str(error)}) + "\n")
            return 1
        listener = Listener(socket.socket(fileno=job["listening"]), answer)
        threading.Thread(target=listener.run, daemon=True).start()
        report.write(json.dumps({"ready": True}) + "\n")
    signal.sigwait({signal.SIGTERM})
    listener.stop(drain=_DRAIN)
    return 0


def _hide_tritonforge() -> None:
    """Prevent handlers from importing tritonforge, as in the container; what runs here is loaded already."""
    package = handlers.__name__.partition(".")[0]
    sys.path[:] = [path for path in sys.path if Path(path).name != handlers.PACKAGE_PATH]
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def create_proxy(job: Job) -> RequestHandler:
    """Return the front end of a package without code, over the container's predictors."""
    pool = urllib3.PoolManager(maxsize=64, retries=False)

    def ask(method: str, request: Request, *, body: bytes | None = None) -> tuple[int, bytes]:
        path = build_model_path(
            request.headers.get(CUSTOM_ATTRIBUTES), job["default_model"], with_method=method == "POST"
        )
        address, _ = random.choice(job["predictors"])  # noqa: S311 - any of them will do
        try:
            response = pool.request(method, address + path, body=body, headers={"Content-Type": _JSON})
        except urllib3.exceptions.HTTPError as error:
            return HTTPStatus.BAD_GATEWAY, json.dumps(
                {"error": f"TensorFlow Serving gives no answer: {error}"}
            ).encode()
        return response.status, response.data

    def ping(request: Request) -> Reply:
        status, body = ask("GET", request)
        available = status == HTTPStatus.OK and b'"AVAILABLE"' in body
        return Reply(HTTPStatus.OK if available else HTTPStatus.BAD_GATEWAY)

    def invocations(request: Request) -> Reply:
        converted = convert_body(request.body, request.headers.get("content-type"))
        if converted is None:
            kind = parse_media_type(request.headers.get("content-type")) or "Unknown"
            return _build_refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Unsupported Media Type: {kind}")
        status, body = ask("POST", request, body=converted)
        return Reply(status, flatten_response(body, request.headers.get("accept")))

    def answer(request: Request) -> Reply:
        try:
            return _route(request, ping, invocations)
        except ValueError as error:
            return _build_refusal(HTTPStatus.BAD_REQUEST, str(error))

    return answer


def create_python_service(job: Job) -> RequestHandler:
    """Return the container's Python service: the package's handlers in a falcon application.

    Raises:
        LaunchError: the handlers cannot be imported.
    """
    import falcon

    handler = handlers.post_unchanged if job["inference"] is None else handlers.load_handler(Path(job["inference"]))
    channels = {port: _open_channel(port) for _, port in job["predictors"]}

    class Ping:
        def on_get(self, _: Any, response: Any) -> None:
            response.status = falcon.HTTP_200

    class Invocations:
        def on_post(self, request: Any, response: Any) -> None:
            address, port = random.choice(job["predictors"])  # noqa: S311 - any of them will do
            plain_request: Request = request.env["tritonforge.request"]
            try:
                handler_context = build_context(
                    plain_request,
                    default_model=job["default_model"],
                    rest_address=address,
                    grpc_port=port or "",
                    channel=channels[port],
                    timeout=job["timeout"],
                )
            except ValueError as error:
                _set_refusal(response, falcon.HTTP_400, str(error))
                return
            kind = parse_media_type(plain_request.headers.get("content-type"))
            if job["inference"] is None and kind and kind not in _CONVERTED:
                _set_refusal(response, falcon.HTTP_415, f"Unsupported Media Type: {kind}")
                return
            try:
                _set_body(response, handler(request.stream, handler_context))
            except falcon.HTTPError:
                raise
            # The contract: whatever else a handler raises is answered with 500 and its text.
            except Exception as error:
                traceback.print_exc()
                _set_refusal(response, falcon.HTTP_500, str(error))

    application = falcon.App()
    application.add_route("/ping", Ping())
    application.add_route("/invocations", Invocations())

    def pass_on(request: Request) -> Reply:
        return _call_wsgi(application, request)

    return lambda request: _route(request, pass_on, pass_on)


def _route(request: Request, ping: RequestHandler, invocations: RequestHandler) -> Reply:
    """Choose by the locations of nginx, which are prefixes of paths."""
    if request.path.startswith("/ping"):
        return ping(request)
    if request.path.startswith("/invocations"):
        return invocations(request)
    return _build_refusal(HTTPStatus.NOT_FOUND, "Not Found")


def _build_refusal(status: int, sentence: str) -> Reply:
    return Reply(status, json.dumps({"error": sentence}).encode())


def _set_refusal(response: Any, status: str, sentence: str) -> None:
    response.status = status
    response.data = json.dumps({"error": sentence}).encode()


def _set_body(response: Any, handled: Any) -> None:
    body, content_type = handled
    if isinstance(body, str):
        body = body.encode()
    if body is not None and not isinstance(body, bytes):
        raise TypeError(f"the handler gave a {type(body).__name__} as the answer's body; give str or bytes")
    response.data = body
    response.content_type = content_type


def _open_channel(port: str | None) -> Any:
    """Return the gRPC channel of a predictor; None where it or this Python has no gRPC."""
    if port is None:
        return None
    try:
        import grpc
    except ImportError:
        return None
    return grpc.insecure_channel(f"localhost:{port}")


def _call_wsgi(application: Callable[..., Any], request: Request) -> Reply:
    """Call a WSGI application (PEP 3333)."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": handlers.RequestBody(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "tritonforge.request": request,
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    started: list[Any] = []
    pieces = application(environ, lambda status, headers, *_: started.extend((status, headers)))
    body = b"".join(pieces)
    status, headers = started
    code, _, reason = status.partition(" ")
    named = {name.title(): value for name, value in headers}
    named.pop("Content-Length", None)
    return Reply(int(code), body, named.pop("Content-Type", _JSON), named, reason)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before any thread, for `sigwait`
    sys.exit(main())
