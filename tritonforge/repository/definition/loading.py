"""Read a definition file: import it and collect the models and ensembles that it binds.

An edge: it reads and runs the file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TypeAlias

from tritonforge.errors import DefinitionError, TritonForgeError
from tritonforge.repository.definition.ensemble import Ensemble
from tritonforge.repository.definition.models import Model
from tritonforge.repository.definition.package import TensorFlowServing

__all__ = ["Definitions", "load"]

Servable: TypeAlias = Model | Ensemble


@dataclass(frozen=True, slots=True)
class Definitions:
    """The models and ensembles of one definition, by name and sorted; files are relative to its ``folder``.

    ``bound`` is everything that the file binds to a name, for other wings: a deployment, say. ``package`` is the
    package for TensorFlow Serving that it declares, whose models ``models`` are then; None for a model repository.
    """

    path: Path
    models: Mapping[str, Servable]
    bound: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    package: TensorFlowServing | None = None

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
    if not models and not any(isinstance(each, TensorFlowServing) for each in vars(module).values()):
        raise DefinitionError(f"{given}: there are no models in it; bind one to a name: model = TensorFlow(...)")
    bound = {name: value for name, value in vars(module).items() if not name.startswith("__")}
    package = _package(bound, models, given)
    if package is not None:
        models = {model.name: model for model in package.models}
    ordered = MappingProxyType({name: models[name] for name in sorted(models)})
    return Definitions(file, ordered, MappingProxyType(bound), package)


def _package(bound: Mapping[str, object], models: Mapping[str, Servable], given: Path) -> TensorFlowServing | None:
    """The package that a definition binds, if it does; it is all that the definition declares."""
    found = {id(each): each for each in bound.values() if isinstance(each, TensorFlowServing)}
    if not found:
        return None
    if len(found) > 1:
        raise DefinitionError(f"{given}: it declares two packages for TensorFlow Serving; give each a file of its own")
    (package,) = found.values()
    others = sorted(set(models) - {model.name for model in package.models})
    if others:
        raise DefinitionError(
            f"{given}: {others[0]!r} is not in the package for TensorFlow Serving that it declares; a model repository "
            "has a definition of its own"
        )
    return package


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
