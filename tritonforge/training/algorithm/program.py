"""The declaration of a program folder: its algorithm.py is imported, and the Algorithm that it binds is found. An edge.

A program folder need not have one: its `train` and `serve` may be of any language.

A training program's frame: what the job says is read and checked, `train` runs, and how it ended is told. An edge.

Exit codes: 0 trained, or stopped by SIGTERM in good order; 1 the algorithm failed; 2 invalid input of the
job (hyperparameters, channels, data); 130 interrupted from the keyboard. What failed is one sentence, the same in
/opt/ml/output/failure and as the last line of stderr.
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
from tritonforge.module_loader import declared
from tritonforge.training.algorithm.container import Container
from tritonforge.training.algorithm.declaration import Algorithm
from tritonforge.training.algorithm.hyperparameters import Values
from tritonforge.training.algorithm.termination import FailureFile, Stopping, shorten_failure

__all__ = [
    "DECLARATION_FILE",
    "FAILED",
    "INTERRUPTED",
    "TRAINED",
    "Train",
    "describe_failure",
    "find_algorithm",
    "load_algorithm",
    "run",
]

#: The file of a program folder that declares its algorithm.
DECLARATION_FILE: Final = "algorithm.py"


def load_algorithm(program: Path | str) -> Algorithm:
    """The algorithm that a program folder declares: what ``algorithm.py`` binds to the name ``algorithm``.

    Raises:
        DefinitionError: there is no such file or no such name, or an error while it is imported (with file and line).
    """
    file = (Path(program) / DECLARATION_FILE).resolve()
    if not file.is_file():
        raise DefinitionError(
            f"{program}: there is no {DECLARATION_FILE} in it; declare there what it takes: algorithm = Algorithm(...)"
        )
    found = getattr(declared(file, "it only declares an algorithm"), "algorithm", None)
    if not isinstance(found, Algorithm):
        raise DefinitionError(f"{program}/{DECLARATION_FILE}: it binds no algorithm; write algorithm = Algorithm(...)")
    return found


def find_algorithm(program: Path | str) -> Algorithm | None:
    """The algorithm that a program folder declares, None where it has no ``algorithm.py``; errors as of `load`."""
    return load_algorithm(program) if (Path(program) / DECLARATION_FILE).is_file() else None


#: A training program: it gets its container, its hyperparameters, and the flag that tells it to stop.
Train: TypeAlias = Callable[[Container, Values, Stopping], None]

TRAINED: Final = 0
FAILED: Final = 1
INTERRUPTED: Final = 130

#: How a full disk looks from here: as an OSError's number, and in the words of libraries that have errors of their own.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_FULL_WORDS: Final = ("No space left on device", "Disk quota exceeded")

#: Characters of a foreign error's text that a sentence quotes, so that the place in the program fits too.
_QUOTED: Final = 800


def run(algorithm: Algorithm, train: Train, *, base: Path | None = None) -> NoReturn:
    """Train as SageMaker wants it, and end the process: ``run(algorithm, train)`` is the last line of a program.

    ``train`` writes to ``container.model_dir``. When ``stopping`` is set it has 120 seconds to save a checkpoint and
    return; further SIGTERMs change nothing. It raises InputError for what is wrong with the data. A TritonForgeError is
    told by its sentence alone, everything else with its traceback on stderr before the sentence.

    Large frameworks are best imported inside ``train``: SIGTERM is heard from here on, and process 1 of a container
    ignores a signal that it has no handler for (pid_namespaces(7)).
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # metrics are read off these lines while the job runs
    stopping = Stopping()
    stopping.listen()
    container = Container.here(base, stopping=stopping)
    with FailureFile(container.failure_file) as failure:
        try:
            _train(algorithm, train, container)
            code = TRAINED
        except BaseException as error:
            code = _told(error, failure, stopping)
        finally:
            stopping.set()  # threads that still wait for data end
    sys.exit(code)


def describe_failure(error: BaseException) -> str:
    """What one error comes to, for people: its own sentence where it is ours, else its kind, its text and its place."""
    if isinstance(error, TritonForgeError):
        return str(error)
    text = " ".join(str(error).split())
    full = isinstance(error, OSError) and error.errno in _FULL
    if full or any(words in text for words in _FULL_WORDS):
        named = getattr(error, "filename", None)
        where = f" while {named} was written" if named else f" ({text[:_QUOTED]})"
        return f"the disk is full{where}; give the job a larger volume (VolumeSizeInGB), or let it write less"
    if isinstance(error, MemoryError):
        return f"the memory is full{_place(error)}; choose an instance type with more of it, or a smaller batch size"
    if isinstance(error, SystemExit):
        ended = error.code if isinstance(error.code, str) else f"the program ended itself with exit code {error.code}"
        return f"{ended}{'' if isinstance(error.code, str) else _place(error)}"
    quoted = text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."
    return f"the algorithm failed with {type(error).__name__}{': ' if quoted else ''}{quoted}{_place(error)}"


def _train(algorithm: Algorithm, train: Train, container: Container) -> None:
    values = algorithm.read(container.hyperparameters)
    if algorithm.channels or container.has_channels:
        algorithm.check(container.channels.values())
    container.make_folders()
    train(container, values, container.stopping)


def _told(error: BaseException, failure: FailureFile, stopping: Stopping) -> int:
    """Tell what ended the program, on stderr and in the failure file; the exit code that it comes to."""
    if isinstance(error, StoppedError) and stopping.is_set():
        _say(str(error))
        return TRAINED
    if isinstance(error, KeyboardInterrupt):
        _say("interrupted")
        return INTERRUPTED
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return TRAINED
    if not isinstance(error, TritonForgeError | SystemExit):
        traceback.print_exception(error)
    told = shorten_failure(describe_failure(error))
    try:
        failure.write(told)
    except OSError as broken:
        _say(f"{failure.path} could not be written: {broken.strerror}")
    _say(told)
    if isinstance(error, TritonForgeError):
        return error.exit_code
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else FAILED


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _place(error: BaseException) -> str:
    """The line of the program that failed: the last one that is of no library, as the end of a sentence."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = (str(Path(__file__).parents[2]), *(sysconfig.get_paths()[name] for name in ("stdlib", "purelib")))
    own = [each for each in frames if not each.filename.startswith((*libraries, "<"))]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
