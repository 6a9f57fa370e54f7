"""A worker of the container: the process that imports the package's code, and answers /ping and /invocations.

With code it is the container's Python service, a falcon application; without code its nginx, which converts JSON, JSON
lines and CSV by itself. Started by `container`: ``python -m tritonforge.serving.tfs.worker JOB``. Source:
aws/deep-learning-containers scripts/docker/tensorflow/inference/sagemaker/python_service.py, nginx.conf.template.
"""

from __future__ import annotations

import json
import os
import random
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
from tritonforge.serving.listener import Answering, Listener, Reply, Request
from tritonforge.serving.tfs import conversion, handlers, python_environment
from tritonforge.serving.tfs.contract import CUSTOM_ATTRIBUTES, context, model_path

__all__ = ["Job", "main", "proxy", "python_service"]

#: Seconds that the requests under way get when the worker is told to end.
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
            answer = python_service(job) if job["python_service"] else proxy(job)
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
    """Make tritonforge impossible to import by handlers, as in the container; what runs here is loaded already."""
    package = handlers.__name__.partition(".")[0]
    sys.path[:] = [path for path in sys.path if Path(path).name != python_environment.PACKAGE_PATH]
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def proxy(job: Job) -> Answering:
    """The front end of a package without code, over the container's predictors."""
    pool = urllib3.PoolManager(maxsize=64, retries=False)

    def ask(method: str, request: Request, *, body: bytes | None = None) -> tuple[int, bytes]:
        path = model_path(request.headers.get(CUSTOM_ATTRIBUTES), job["default_model"], with_method=method == "POST")
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
        converted = conversion.convert(request.body, request.headers.get("content-type"))
        if converted is None:
            kind = conversion.media_type(request.headers.get("content-type")) or "Unknown"
            return _refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Unsupported Media Type: {kind}")
        status, body = ask("POST", request, body=converted)
        return Reply(status, conversion.flattened(body, request.headers.get("accept")))

    def answer(request: Request) -> Reply:
        try:
            return _routed(request, ping, invocations)
        except ValueError as error:
            return _refused(HTTPStatus.BAD_REQUEST, str(error))

    return answer


def python_service(job: Job) -> Answering:
    """The container's Python service: the package's handlers in a falcon application.

    Raises:
        LaunchError: the handlers cannot be imported.
    """
    import falcon

    handler = handlers.default if job["inference"] is None else handlers.load(Path(job["inference"]))
    channels = {port: _channel(port) for _, port in job["predictors"]}

    class Ping:
        def on_get(self, _: Any, response: Any) -> None:
            response.status = falcon.HTTP_200

    class Invocations:
        def on_post(self, request: Any, response: Any) -> None:
            address, port = random.choice(job["predictors"])  # noqa: S311 - any of them will do
            plain: Request = request.env["tritonforge.request"]
            try:
                told = context(
                    plain,
                    default_model=job["default_model"],
                    rest_address=address,
                    grpc_port=port or "",
                    channel=channels[port],
                    timeout=job["timeout"],
                )
            except ValueError as error:
                _refuse(response, falcon.HTTP_400, str(error))
                return
            kind = conversion.media_type(plain.headers.get("content-type"))
            if job["inference"] is None and kind and kind not in _CONVERTED:
                _refuse(response, falcon.HTTP_415, f"Unsupported Media Type: {kind}")
                return
            try:
                _fill(response, handler(request.stream, told))
            except falcon.HTTPError:
                raise
            # The contract: whatever else a handler raises is answered with 500 and its text.
            except Exception as error:
                traceback.print_exc()
                _refuse(response, falcon.HTTP_500, str(error))

    application = falcon.App()
    application.add_route("/ping", Ping())
    application.add_route("/invocations", Invocations())

    def pass_on(request: Request) -> Reply:
        return _through_wsgi(application, request)

    return lambda request: _routed(request, pass_on, pass_on)


def _routed(request: Request, ping: Answering, invocations: Answering) -> Reply:
    """The locations of nginx, which are prefixes of paths."""
    if request.path.startswith("/ping"):
        return ping(request)
    if request.path.startswith("/invocations"):
        return invocations(request)
    return _refused(HTTPStatus.NOT_FOUND, "Not Found")


def _refused(status: int, sentence: str) -> Reply:
    return Reply(status, json.dumps({"error": sentence}).encode())


def _refuse(response: Any, status: str, sentence: str) -> None:
    response.status = status
    response.data = json.dumps({"error": sentence}).encode()


def _fill(response: Any, handled: Any) -> None:
    body, content_type = handled
    if isinstance(body, str):
        body = body.encode()
    if body is not None and not isinstance(body, bytes):
        raise TypeError(f"the handler gave a {type(body).__name__} as the answer's body; give str or bytes")
    response.data = body
    response.content_type = content_type


def _channel(port: str | None) -> Any:
    """The gRPC channel of a predictor; None where it has no gRPC, or this Python has not."""
    if port is None:
        return None
    try:
        import grpc
    except ImportError:
        return None
    return grpc.insecure_channel(f"localhost:{port}")


def _through_wsgi(application: Callable[..., Any], request: Request) -> Reply:
    """One call of a WSGI application (PEP 3333)."""
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
        "wsgi.input": handlers.Body(request.body),
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
