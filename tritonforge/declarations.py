"""Python files that declare something: each is imported by itself, with the files beside it. An edge: it runs them."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from tritonforge.errors import DefinitionError, TritonForgeError

__all__ = ["declared"]


def declared(file: Path, only: str) -> ModuleType:
    """The module of a file, given with its whole path; ``only`` says what such a file is for, where it does more.

    While it is imported, its folder comes first on ``sys.path``, so that it can import the files beside it; those are
    forgotten afterwards, so that two files with neighbours of the same name do not meet.

    Raises:
        DefinitionError: an error while it is imported, with file and line.
    """
    name = f"tritonforge_definition_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    sys.path.insert(0, str(file.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except DefinitionError as error:
        raise DefinitionError(f"{_where(file, error)}: {error}") from error
    except TritonForgeError:
        raise
    except SystemExit as error:
        raise DefinitionError(f"{_where(file, error)}: it calls exit; {only}") from error
    # A declaration is the user's program: whatever it raises is told in one line, with the place.
    except Exception as error:
        raise DefinitionError(f"{_where(file, error)}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(file.parent))
        for neighbour in set(sys.modules) - before:
            origin = getattr(sys.modules[neighbour], "__file__", None)
            if origin and Path(origin).is_relative_to(file.parent) and "site-packages" not in origin:
                del sys.modules[neighbour]
    return module


def _where(file: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(Path(error.filename))}:{error.lineno}"
    frames = [each for each in traceback.extract_tb(error.__traceback__) if Path(each.filename).parent == file.parent]
    return f"{_short(Path(frames[-1].filename))}:{frames[-1].lineno}" if frames else str(_short(file))


def _short(file: Path) -> Path:
    try:
        return file.relative_to(Path.cwd())
    except ValueError:
        return file
