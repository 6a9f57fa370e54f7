"""Read a definition file: import it and collect the models and ensembles that it binds.

An edge: it reads and runs the file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TypeAlias

from tritonforge.errors import DefinitionError, TritonForgeError
from tritonforge.repository.definition.ensemble import Ensemble
from tritonforge.repository.definition.models import Model

__all__ = ["Definitions", "load"]

Servable: TypeAlias = Model | Ensemble


@dataclass(frozen=True, slots=True)
class Definitions:
    """The models and ensembles of one definition, by name and sorted; files are relative to its ``folder``."""

    path: Path
    models: Mapping[str, Servable]

    @property
    def folder(self) -> Path:
        """The folder of the definition file."""
        return self.path.parent


def load(path: Path | str) -> Definitions:
    """Import ``definition.py`` (or the one in this folder) and collect its models, also those only an ensemble uses.

    While it is imported, its folder comes first on ``sys.path``, so that it can import the files beside it; those are
    forgotten afterwards, so that two definitions with neighbours of the same name do not meet.

    Raises:
        DefinitionError: no such file, an error while it is imported (with file and line), no models, or two models of
            one name.
    """
    given = Path(path)
    file = (given / "definition.py" if given.is_dir() else given).resolve()
    if not file.is_file():
        raise DefinitionError(
            f"{given}: there is no definition here; give a definition.py, or the folder that holds it"
        )
    module = _import(file)
    models: dict[str, Servable] = {}
    for each in _found(module):
        known = models.setdefault(each.name, each)
        if known is not each:
            raise DefinitionError(f"{given}: two models are named {each.name!r}")
    if not models:
        raise DefinitionError(f"{given}: there are no models in it; bind one to a name: model = TensorFlow(...)")
    return Definitions(file, MappingProxyType({name: models[name] for name in sorted(models)}))


def _import(file: Path) -> ModuleType:
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
        raise DefinitionError(f"{_where(file, error)}: it calls exit; a definition only declares models") from error
    # A definition is the user's program: whatever it raises is told in one line, with the place.
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


def _found(module: ModuleType) -> Iterator[Servable]:
    waiting: list[object] = list(vars(module).values())
    seen: set[int] = set()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        if isinstance(each, Model | Ensemble):
            seen.add(id(each))
            yield each
            if isinstance(each, Ensemble):
                waiting += [step.model for step in each.steps]
        elif isinstance(each, list | tuple):
            waiting += each
