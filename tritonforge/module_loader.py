"""Import a Python file by its path, with the files beside it."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import re
import sys
import traceback
import types
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType

from tritonforge.errors import DefinitionError, TritonForgeError

__all__ = ["import_file"]


def import_file(file: Path, purpose: str) -> ModuleType:
    """Import a file by its absolute path, and return its module.

    Meanwhile its directory comes first on ``sys.path``, so that it can import the files beside it. Those are removed
    from ``sys.modules`` afterwards, so that they cannot be taken for files of the same names beside another file.
    ``purpose`` ends the message on a file that does something else, such as to exit.

    Raises:
        DefinitionError: an error while it is imported, with file and line.
    """
    name = f"tritonforge_definition_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or file.suffix != ".py":
        raise DefinitionError(
            f"{_relative_path(file)}: this is not a Python file (expected a name that ends in .py); {purpose}"
        )
    module = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    sys.path.insert(0, str(file.parent))
    sys.modules[name] = module
    # The directory is the user's, and may be a repository to package: no __pycache__ is left in it.
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except DefinitionError as error:
        raise DefinitionError(f"{_locate(file, error)}: {error}") from error
    except TritonForgeError:
        raise
    except SystemExit as error:
        raise DefinitionError(f"{_locate(file, error)}: it calls exit; {purpose}") from error
    # The file is the user's program: whatever it raises is reported in one line, with the place.
    except Exception as error:
        raise DefinitionError(f"{_locate(file, error)}: {_describe_error(error)}") from error
    finally:
        sys.dont_write_bytecode = writes_bytecode
        sys.path.remove(str(file.parent))
        for neighbour in set(sys.modules) - before:
            origin = getattr(sys.modules[neighbour], "__file__", None)
            if origin and Path(origin).is_relative_to(file.parent) and "site-packages" not in origin:
                del sys.modules[neighbour]
    return module


def _describe_error(error: Exception) -> str:
    """Return an exception's message in one line; for wrong arguments of a constructor, with those it takes."""
    text = " ".join(str(error).split())
    wrong = re.fullmatch(r"(\w+)\.__init__\(\) (.*)", text) if isinstance(error, TypeError) else None
    if wrong is None:
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    name, reason = wrong.groups()
    called = _find_class(name, error.__traceback__)
    known = [field.name for field in fields(called) if field.init] if called is not None else []
    unknown = re.fullmatch(r"got an unexpected keyword argument '(\w+)'.*", reason)
    if unknown is not None:
        close = difflib.get_close_matches(unknown[1], known, n=1)
        advice = f" Did you mean {close[0]}?" if close else f" Its fields are {', '.join(known)}." if known else ""
        return f"{name} has no field {unknown[1]!r}.{advice}"
    positional = re.fullmatch(r"takes (?:from \d+ to )?(\d+) positional arguments? but (\d+) were given", reason)
    if positional is not None:
        return (
            f"{name} takes {int(positional[1]) - 1} values by position, got {int(positional[2]) - 1}. Name the others: "
            "field=value."
        )
    missing = re.fullmatch(r"missing \d+ required (?:positional|keyword-only) arguments?: (.*)", reason)
    return f"{name}: {missing[1]} must be given." if missing is not None else f"{name}: {reason}"


def _find_class(name: str, trace: types.TracebackType | None) -> type | None:
    """Return the dataclass of a name in the frame that raised."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return None
    frame = trace.tb_frame
    reached = [*frame.f_locals.values(), *frame.f_globals.values()]
    modules = [value for value in reached if isinstance(value, ModuleType)]
    candidates = [*reached, *(getattr(module, name, None) for module in modules)]
    return next(
        (value for value in candidates if isinstance(value, type) and value.__name__ == name and is_dataclass(value)),
        None,
    )


def _locate(file: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative_path(Path(error.filename))}:{error.lineno}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == file.parent
    ]
    return f"{_relative_path(Path(frames[-1].filename))}:{frames[-1].lineno}" if frames else str(_relative_path(file))


def _relative_path(file: Path) -> Path:
    try:
        return file.relative_to(Path.cwd())
    except ValueError:
        return file
