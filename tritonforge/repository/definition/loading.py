"""Read a definition file: import it and collect the models and ensembles that it binds.

An edge: it reads and runs the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TypeAlias

from tritonforge.errors import DefinitionError
from tritonforge.module_loader import declared
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
    module = declared(file, "a definition only declares models")
    models: dict[str, Servable] = {}
    for each in _found(module):
        known = models.setdefault(each.name, each)
        if known is not each:
            raise DefinitionError(f"{given}: two models are named {each.name!r}")
    if not models and not any(isinstance(each, TensorFlowServing) for each in vars(module).values()):
        raise DefinitionError(
            f"{given}: there are no models in it; bind one to a name at the top level: model = TensorFlow(...)"
        )
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
