"""The programs of an algorithm, `train` and `serve`, as SageMaker requires them, and its declaration loaded. An edge.

`run` reads and checks the job's settings, calls ``train``, and reports how it ended. Exit codes: 0 trained, or stopped
by SIGTERM; 1 the algorithm failed; 2 invalid input of the job (hyperparameters, channels, data); 130 interrupted from
the keyboard. A failure is one sentence, the same in /opt/ml/output/failure and as the last line of stderr.

`serve` is the HTTP server of an inference container: SageMaker's contract around a function that answers requests.
`GET /ping` returns 200 with an empty body once the model is loaded, 503 before; `POST /invocations` returns what
``answer`` returns; `GET /execution-parameters` the parameters for a transform job. Errors are ``{"error": sentence}``.
After SIGTERM current requests are completed, and the process exits with 0 within the 30 seconds that SageMaker waits
before SIGKILL. Source: SageMaker developer guide, "Use Your Own Inference Code with Hosting Services" and "... with
Batch Transform".
"""

from __future__ import annotations

import errno
import io
import json
import os
import socket
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

from tritonforge.errors import DefinitionError, LaunchError, RefusalError, ServerError, StoppedError, TritonForgeError
from tritonforge.files import describe_error
from tritonforge.module_loader import import_file
from tritonforge.serving.listener import Listener, Reply, Request, RequestHandler, open_socket
from tritonforge.training.algorithm.container import OPT_ML, Container
from tritonforge.training.algorithm.declaration import Algorithm
from tritonforge.training.algorithm.hyperparameters import HyperParameterValues
from tritonforge.training.algorithm.termination import FailureFile, Stopping, shorten_failure

__all__ = [
    "DECLARATION_FILE", "DEFAULT_PORT", "FAILED", "INTERRUPTED", "TRAINED", "Reply", "Request", "Train",
    "apply_contract", "choose_address", "describe_failure", "find_algorithm", "load_algorithm", "run", "serve",
]  # fmt: skip

#: The file of a program folder that declares its algorithm; optional, as `train` and `serve` may be of any language.
DECLARATION_FILE: Final = "algorithm.py"

#: A training program: it gets its container, its hyperparameters, and the flag that requests a stop.
Train: TypeAlias = Callable[[Container, HyperParameterValues, Stopping], None]

TRAINED: Final = 0
FAILED: Final = 1
INTERRUPTED: Final = 130

#: A full disk: the numbers of an OSError, and the messages of libraries that have errors of their own.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_FULL_MESSAGES: Final = ("No space left on device", "Disk quota exceeded")

#: Characters of a foreign error's message that are quoted, so that the place in the program fits in the file too.
_QUOTED: Final = 800


def load_algorithm(program: Path | str) -> Algorithm:
    """Load the algorithm that a program folder declares: the value of ``algorithm`` in ``algorithm.py``.

    Raises:
        DefinitionError: the file or the name is missing, or the import fails (with file and line).
    """
    file = (Path(program) / DECLARATION_FILE).resolve()
    if not file.is_file():
        raise DefinitionError(
            f"{program}: there is no {DECLARATION_FILE} in it; declare there what it takes: algorithm = Algorithm(...)"
        )
    algorithm = getattr(import_file(file, "it only declares an algorithm"), "algorithm", None)
    if not isinstance(algorithm, Algorithm):
        raise DefinitionError(f"{program}/{DECLARATION_FILE}: it binds no algorithm; write algorithm = Algorithm(...)")
    return algorithm


def find_algorithm(program: Path | str) -> Algorithm | None:
    """Load the algorithm of a program folder, None if it has no ``algorithm.py``. Errors as in `load_algorithm`."""
    return load_algorithm(program) if (Path(program) / DECLARATION_FILE).is_file() else None


def run(algorithm: Algorithm, train: Train, *, base: Path | None = None) -> NoReturn:
    """Train as SageMaker requires, and end the process: ``run(algorithm, train)`` is the last line of a program.

    ``train`` writes to ``container.model_dir``. Once ``stopping`` is set it has 120 seconds to save a checkpoint and
    return; further SIGTERMs are ignored. It raises InputError for invalid data. A TritonForgeError is reported by its
    message alone, any other error with its traceback on stderr before the message.

    Import large frameworks inside ``train``: SIGTERM is handled only from here on, and process 1 of a container ignores
    a signal without a handler (pid_namespaces(7)).
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # metrics are read from these lines while the job runs
    stopping = Stopping()
    stopping.listen()
    container = Container.here(base, stopping=stopping)
    with FailureFile(container.failure_file) as failure:
        try:
            values = algorithm.read(container.hyperparameters)
            if algorithm.channels or container.has_channels:
                algorithm.check(container.channels.values())
            container.make_folders()
            train(container, values, stopping)
            code = TRAINED
        except BaseException as error:
            code = _report(error, failure, stopping)
        finally:
            stopping.set()  # ends the threads that still wait for data
    sys.exit(code)


def describe_failure(error: BaseException) -> str:
    """Describe an error in one sentence: tritonforge's own message, or the type, message and place of another error."""
    if isinstance(error, TritonForgeError):
        return str(error)
    text = " ".join(str(error).split())
    is_full = isinstance(error, OSError) and error.errno in _FULL
    if is_full or any(message in text for message in _FULL_MESSAGES):
        path = getattr(error, "filename", None)
        where = f" while {path} was written" if path else f" ({text[:_QUOTED]})"
        return f"the disk is full{where}; give the job a larger volume (VolumeSizeInGB), or let it write less"
    place = _describe_place(error)
    if isinstance(error, MemoryError):
        return f"the memory is full{place}; choose an instance type with more of it, or a smaller batch size"
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, str) else f"the program exited with code {error.code}{place}"
    quoted = text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."
    return f"the algorithm failed with {type(error).__name__}{': ' if quoted else ''}{quoted}{place}"


def _report(error: BaseException, failure: FailureFile, stopping: Stopping) -> int:
    """Report on stderr and in the failure file what ended the program; return the exit code."""
    if isinstance(error, StoppedError) and stopping.is_set():
        _write_stderr(str(error))
        return TRAINED
    if isinstance(error, KeyboardInterrupt):
        _write_stderr("interrupted")
        return INTERRUPTED
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return TRAINED
    if not isinstance(error, TritonForgeError | SystemExit):
        traceback.print_exception(error)
    sentence = shorten_failure(describe_failure(error))
    try:
        failure.write(sentence)
    except OSError as write_error:
        _write_stderr(f"{failure.path}: cannot write: {describe_error(write_error)}")
    _write_stderr(sentence)
    if isinstance(error, TritonForgeError):
        return error.exit_code
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else FAILED


def _write_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _describe_place(error: BaseException) -> str:
    """Return the last line of the program, outside of libraries, that the error passed, as the end of a sentence."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = (str(Path(__file__).parents[2]), *(sysconfig.get_paths()[name] for name in ("stdlib", "purelib")))
    own = [frame for frame in frames if not frame.filename.startswith((*libraries, "<"))]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


#: Source: SageMaker developer guide, "Use Your Own Inference Code with Hosting Services".
DEFAULT_PORT: Final = 8080

#: Seconds to complete current requests; SageMaker's SIGKILL comes 30 seconds after SIGTERM.
_DRAIN_SECONDS: Final = 25.0

#: Bytes of the largest body: a payload of a transform job, 100 MB, and a margin for clients that count differently.
_MAX_BODY: Final = 128 * 2**20

#: Seconds of one wait for SIGTERM.
_WAIT_SECONDS: Final = 3600.0

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

    Args:
        answer: called from many threads at once. It raises RefusalError to reject a request; a TritonForgeError for
        invalid
            input becomes status 400, an error of a server behind has its own status, any other error becomes 500.
        load: loads the model while the port is already open, as SageMaker requires; pings get 503 until it returns.
        ready: if given, pings get 503 until it returns True.
        close: called at the end.
        execution_parameters: the response to `GET /execution-parameters`.
        host: the address to listen on; None for the default of `choose_address`.
        port: the port; None for the default of `choose_address`.

    Exit codes: 0 after SIGTERM; that of the error that ``load`` raised, 1 if it is not a TritonForgeError.
    """
    stopping = Stopping()
    stopping.listen()
    loading = _Loading(load, stopping)
    try:
        opened = _open(*choose_address(os.environ, host=host, port=port))
    except LaunchError as error:
        _fail(error)
    is_ready = loading.is_done if ready is None else lambda: loading.is_done() and ready()
    answering = apply_contract(answer, ready=is_ready, execution_parameters=execution_parameters)
    listener = Listener(opened, answering, largest=_MAX_BODY)
    threading.Thread(target=listener.run, daemon=True).start()
    _write_stderr("serving on {}:{}".format(*opened.getsockname()))
    loading.start()
    while not stopping.wait(_WAIT_SECONDS):
        pass
    listener.stop(drain=_DRAIN_SECONDS)
    if close is not None:
        close()
    if loading.error is not None:
        _fail(loading.error)
    sys.exit(0)


def apply_contract(
    answer: RequestHandler,
    *,
    ready: Callable[[], bool] = lambda: True,
    execution_parameters: Mapping[str, Any] | None = None,
) -> RequestHandler:
    """Return a handler for all requests of SageMaker's contract, around a function that answers invocations."""
    methods = {"/ping": "GET", "/invocations": "POST"}
    if execution_parameters is not None:
        methods["/execution-parameters"] = "GET"

    def route(request: Request) -> Reply:
        method = methods.get(request.path)
        if method is None:
            return _build_error(HTTPStatus.NOT_FOUND, f"{request.path} not found; the paths are {', '.join(methods)}")
        if request.method != method:
            sentence = f"{request.path} takes {method}, found {request.method}"
            return _build_error(HTTPStatus.METHOD_NOT_ALLOWED, sentence, headers={"Allow": method})
        if request.path == "/execution-parameters":
            return Reply(HTTPStatus.OK, json.dumps(dict(execution_parameters or {})).encode())
        if not ready():
            return _build_error(HTTPStatus.SERVICE_UNAVAILABLE, "the model is not loaded yet; retry later")
        return Reply(HTTPStatus.OK, content_type="text/plain") if request.path == "/ping" else answer(request)

    return lambda request: _handle(route, request)


def choose_address(
    environment: Mapping[str, str], *, host: str | None = None, port: int | None = None
) -> tuple[str, int]:
    """Return where to listen: port SAGEMAKER_BIND_TO_PORT or 8080; all addresses in a container, else loopback.

    A process is in a container if /opt/ml exists and SAGEMAKER_BASE_DIR is not set. Raises LaunchError for an invalid
    port.
    """
    text = environment.get("SAGEMAKER_BIND_TO_PORT") or str(DEFAULT_PORT)
    if port is None and not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise LaunchError(f"SAGEMAKER_BIND_TO_PORT is {text!r}; write a port from 0 to 65535")
    inside = not environment.get("SAGEMAKER_BASE_DIR") and OPT_ML.is_dir()
    return host or (_EVERYWHERE if inside else _LOOPBACK), int(text) if port is None else port


class _Loading:
    """Loads the model in a thread; a failure requests the stop of the program."""

    def __init__(self, load: Callable[[], None] | None, stopping: Stopping) -> None:
        self.error: BaseException | None = None
        self._load = load
        self._stopping = stopping
        self._is_done = load is None

    def is_done(self) -> bool:
        return self._is_done

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
            self._is_done = True


def _open(host: str, port: int) -> socket.socket:
    try:
        return open_socket(host, port)
    except OSError as error:
        sentence = (
            f"{host}:{port}: cannot listen: {describe_error(error)}; choose another port with SAGEMAKER_BIND_TO_PORT"
        )
        raise LaunchError(sentence) from error


def _handle(answer: RequestHandler, request: Request) -> Reply:
    """Return the reply of a handler, or that of the error that it raised."""
    try:
        return answer(request)
    except RefusalError as error:
        return _build_error(error.status, str(error))
    except ServerError as error:
        return _build_error(error.status, error.message or str(error))
    except TritonForgeError as error:
        is_invalid = error.exit_code == 2
        return _build_error(HTTPStatus.BAD_REQUEST if is_invalid else HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
    except Exception as error:
        traceback.print_exception(error)
        text = " ".join(str(error).split())
        sentence = f"the algorithm failed with {type(error).__name__}{': ' if text else ''}{text}"
        return _build_error(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)


def _build_error(status: int, sentence: str, *, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps({"error": sentence}).encode(), headers=headers or {})


def _fail(error: BaseException) -> NoReturn:
    """End the process with one sentence."""
    if isinstance(error, TritonForgeError):
        _write_stderr(str(error))
        sys.exit(error.exit_code)
    traceback.print_exception(error)
    text = " ".join(str(error).split())
    _write_stderr(f"cannot load the model: {type(error).__name__}{': ' if text else ''}{text}")
    sys.exit(1)
