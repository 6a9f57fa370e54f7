"""An inference container's frame: SageMaker's contract over HTTP, around a function that answers. An edge.

`GET /ping` gives 200 with an empty body once the model is loaded, 503 before; `POST /invocations` gives what ``answer``
says; `GET /execution-parameters` what a transform job may ask of it. Errors are ``{"error": sentence}``. SIGTERM lets
the requests under way end, and the process ends with 0, within the 30 seconds that SageMaker waits before SIGKILL.
Source: SageMaker developer guide, "Use Your Own Inference Code with Hosting Services" and "... with Batch Transform".
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, NoReturn

from tritonforge.errors import LaunchError, RefusalError, ServerError, TritonForgeError
from tritonforge.serving.listener import Listener, Reply, Request, RequestHandler, open_socket
from tritonforge.training.algorithm.container import OPT_ML
from tritonforge.training.algorithm.termination import Stopping

__all__ = ["DEFAULT_PORT", "Reply", "Request", "apply_contract", "choose_address", "serve"]

#: Source: SageMaker developer guide, "Use Your Own Inference Code with Hosting Services".
DEFAULT_PORT: Final = 8080

#: Seconds that requests under way get; SageMaker's SIGKILL comes 30 seconds after SIGTERM.
_DRAIN: Final = 25.0

#: Bytes of the largest body: a payload of a transform job, 100 MB, and what a client may count differently.
_LARGEST: Final = 128 * 2**20

#: Seconds of one wait for SIGTERM.
_LONG: Final = 3600.0

_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - in a container, SageMaker comes from outside of it
_LOOPBACK: Final = "127.0.0.1"


def serve(
    answer: RequestHandler,
    *,
    load: Callable[[], None] | None = None,
    ready: Callable[[], bool] | None = None,
    close: Callable[[], None] | None = None,
    execution_parameters: Mapping[str, Any] | None = None,
    host: str | None = None,
    port: int | None = None,
) -> NoReturn:
    """Serve until SIGTERM, and end the process: ``serve(answer)`` is the last line of a program.

    ``answer`` is called from many threads at once. The port is open at once, as SageMaker wants it; ``load`` runs
    meanwhile, and until it has returned, and ``ready`` says so where it is given, pings get 503. ``close`` is called at
    the end. ``host`` and ``port`` are `address`'s where they are None.

    ``answer`` raises RefusalError for a request that it does not take; a TritonForgeError for invalid input is
    answered with 400, an error of a server behind with its status, everything else with 500.

    Exit codes: 0 after SIGTERM; what ``load`` raised has its own, 1 where it is no TritonForgeError.
    """
    stopping = Stopping()
    stopping.listen()
    loading = _Loading(load, stopping)
    try:
        opened = _opened(*choose_address(os.environ, host=host, port=port))
    except LaunchError as error:
        _end(error)
    is_ready = loading.done if ready is None else lambda: loading.done() and ready()
    answering = apply_contract(answer, ready=is_ready, execution_parameters=execution_parameters)
    listener = Listener(opened, answering, largest=_LARGEST)
    threading.Thread(target=listener.run, daemon=True).start()
    _say("serving on {}:{}".format(*opened.getsockname()))
    loading.start()
    while not stopping.wait(_LONG):
        pass
    listener.stop(drain=_DRAIN)
    if close is not None:
        close()
    if loading.error is not None:
        _end(loading.error)
    sys.exit(0)


def apply_contract(
    answer: RequestHandler,
    *,
    ready: Callable[[], bool] = lambda: True,
    execution_parameters: Mapping[str, Any] | None = None,
) -> RequestHandler:
    """SageMaker's contract around a function that answers: what a listener asks for every request."""
    methods = {"/ping": "GET", "/invocations": "POST"}
    if execution_parameters is not None:
        methods["/execution-parameters"] = "GET"

    def held(request: Request) -> Reply:
        method = methods.get(request.path)
        if method is None:
            return _refused(HTTPStatus.NOT_FOUND, f"there is no {request.path}; there are {', '.join(methods)}")
        if request.method != method:
            sentence = f"{request.path} takes {method}, found {request.method}"
            return _refused(HTTPStatus.METHOD_NOT_ALLOWED, sentence, headers={"Allow": method})
        if request.path == "/execution-parameters":
            return Reply(HTTPStatus.OK, json.dumps(dict(execution_parameters or {})).encode())
        if not ready():
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, "the model is not loaded yet; ask again soon")
        return Reply(HTTPStatus.OK, content_type="text/plain") if request.path == "/ping" else answer(request)

    return lambda request: _answered(held, request)


def choose_address(
    environment: Mapping[str, str], *, host: str | None = None, port: int | None = None
) -> tuple[str, int]:
    """Where to listen: 8080 or SAGEMAKER_BIND_TO_PORT; on loopback alone, but in a container on every address.

    A container is where /opt/ml is there and SAGEMAKER_BASE_DIR is not set. Raises LaunchError for what is no port.
    """
    text = environment.get("SAGEMAKER_BIND_TO_PORT") or str(DEFAULT_PORT)
    if port is None and not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise LaunchError(f"SAGEMAKER_BIND_TO_PORT is {text!r}; write a port from 0 to 65535")
    inside = not environment.get("SAGEMAKER_BASE_DIR") and OPT_ML.is_dir()
    return host or (_EVERYWHERE if inside else _LOOPBACK), int(text) if port is None else port


class _Loading:
    """What loads the model, in a thread of its own; when it fails, the program is told to stop."""

    def __init__(self, load: Callable[[], None] | None, stopping: Stopping) -> None:
        self.error: BaseException | None = None
        self._load = load
        self._stopping = stopping
        self._done = load is None

    def done(self) -> bool:
        return self._done

    def start(self) -> None:
        if self._load is not None:
            threading.Thread(target=self._run, args=(self._load,), daemon=True).start()

    def _run(self, load: Callable[[], None]) -> None:
        try:
            load()
        except BaseException as error:
            self.error = error
            self._stopping.set()
        else:
            self._done = True


def _opened(host: str, port: int) -> socket.socket:
    try:
        return open_socket(host, port)
    except OSError as error:
        sentence = f"{host}:{port} cannot be opened: {error.strerror}; choose another port with SAGEMAKER_BIND_TO_PORT"
        raise LaunchError(sentence) from error


def _answered(answer: RequestHandler, request: Request) -> Reply:
    """The answer, or the error that it came to."""
    try:
        return answer(request)
    except RefusalError as error:
        return _refused(error.status, str(error))
    except ServerError as error:
        return _refused(error.status, error.message or str(error))
    except TritonForgeError as error:
        unfit = error.exit_code == 2  # invalid input
        return _refused(HTTPStatus.BAD_REQUEST if unfit else HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
    except Exception as error:
        traceback.print_exception(error)
        text = " ".join(str(error).split())
        sentence = f"the algorithm failed with {type(error).__name__}{': ' if text else ''}{text}"
        return _refused(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)


def _refused(status: int, sentence: str, *, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps({"error": sentence}).encode(), headers=headers or {})


def _end(error: BaseException) -> NoReturn:
    """End the process with one sentence."""
    if isinstance(error, TritonForgeError):
        _say(str(error))
        sys.exit(error.exit_code)
    traceback.print_exception(error)
    text = " ".join(str(error).split())
    _say(f"the model could not be loaded: {type(error).__name__}{': ' if text else ''}{text}")
    sys.exit(1)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
