"""Read a definition file: import it and collect the models and ensembles that it binds.

It reads and runs the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TypeAlias

from tritonforge.errors import DefinitionError
from tritonforge.module_loader import import_file
from tritonforge.repository.definition.ensemble import Ensemble
from tritonforge.repository.definition.models import Model, TensorFlowServing

__all__ = ["Definitions", "load"]

Servable: TypeAlias = Model | Ensemble


@dataclass(frozen=True, slots=True)
class Definitions:
    """The models and ensembles of one definition, by name and sorted; files are relative to its ``folder``.

    ``bound`` is everything that the file binds to a name, a deployment for example. ``package`` is the package for
    TensorFlow Serving that it declares, which has these models; None for a model repository.
    """

    path: Path
    models: Mapping[str, Servable]
    bound: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    package: TensorFlowServing | None = None

    @property
    def folder(self) -> Path:
        """The directory of the definition file."""
        return self.path.parent


def load(path: Path | str) -> Definitions:
    """Import ``definition.py`` (or the one in this folder) and collect its models, also those only an ensemble uses.

    See `module_loader.import_file` for the files beside it.

    Raises:
        DefinitionError: no such file, an error while it is imported (with file and line), no models, or two models of
            one name.
    """
    given = Path(path)
    file = (given / "definition.py" if given.is_dir() else given).resolve()
    if not file.is_file():
        raise DefinitionError(f"{given}: definition not found (expected a definition.py, or its directory)")
    module = import_file(file, "a definition only declares models")
    models: dict[str, Servable] = {}
    for model in _list_servables(module):
        if models.setdefault(model.name, model) is not model:
            raise DefinitionError(f"{given}: two models are named {model.name!r}")
    if not models and not any(isinstance(value, TensorFlowServing) for value in vars(module).values()):
        raise DefinitionError(f"{given}: no models found; bind one to a name at the top level: model = TensorFlow(...)")
    bound = {name: value for name, value in vars(module).items() if not name.startswith("__")}
    package = _find_package(bound, models, given)
    if package is not None:
        models = {model.name: model for model in package.models}
    ordered = MappingProxyType({name: models[name] for name in sorted(models)})
    return Definitions(file, ordered, MappingProxyType(bound), package)


def _find_package(bound: Mapping[str, object], models: Mapping[str, Servable], given: Path) -> TensorFlowServing | None:
    """Return the package that a definition binds, None without one; it is all that the definition declares."""
    packages = {id(value): value for value in bound.values() if isinstance(value, TensorFlowServing)}
    if not packages:
        return None
    if len(packages) > 1:
        raise DefinitionError(f"{given}: it declares two packages for TensorFlow Serving; give each a file of its own")
    (package,) = packages.values()
    others = sorted(set(models) - {model.name for model in package.models})
    if others:
        raise DefinitionError(
            f"{given}: {others[0]!r} is not in the package for TensorFlow Serving that it declares; a model repository "
            "has a definition of its own"
        )
    return package


def _list_servables(module: ModuleType) -> Iterator[Servable]:
    pending: list[object] = list(vars(module).values())
    seen: set[int] = set()
    while pending:
        value = pending.pop(0)
        if id(value) in seen:
            continue
        if isinstance(value, Model | Ensemble):
            seen.add(id(value))
            yield value
            if isinstance(value, Ensemble):
                pending += [step.model for step in value.steps]
        elif isinstance(value, list | tuple):
            pending += value
