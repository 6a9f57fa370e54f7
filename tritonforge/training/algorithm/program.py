"""A program folder: its declaration is loaded, and its training is run as SageMaker requires. An edge.

`run` reads and checks the job's settings, calls ``train``, and reports how it ended. Exit codes: 0 trained, or stopped
by SIGTERM; 1 the algorithm failed; 2 invalid input of the job (hyperparameters, channels, data); 130 interrupted from
the keyboard. A failure is one sentence, the same in /opt/ml/output/failure and as the last line of stderr.
"""

from __future__ import annotations

import errno
import io
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from tritonforge.errors import DefinitionError, StoppedError, TritonForgeError
from tritonforge.files import describe_error
from tritonforge.module_loader import import_file
from tritonforge.training.algorithm.container import Container
from tritonforge.training.algorithm.declaration import Algorithm
from tritonforge.training.algorithm.hyperparameters import HyperParameterValues
from tritonforge.training.algorithm.termination import FailureFile, Stopping, shorten_failure

__all__ = [
    "DECLARATION_FILE", "FAILED", "INTERRUPTED", "TRAINED", "Train", "describe_failure", "find_algorithm",
    "load_algorithm", "run",
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
