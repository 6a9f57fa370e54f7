"""A package for SageMaker's TensorFlow Serving containers, as a definition declares it. This module does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, MISSING, Field, dataclass, fields, replace
from typing import Any, Final

from tritonforge.errors import DefinitionError
from tritonforge.field_types import check_fields
from tritonforge.repository.definition.models import Model, TensorFlow
from tritonforge.repository.definition.tensors import frozen
from tritonforge.triton.tfs_layout import CODE

__all__ = ["VERSION_FOLDER", "TensorFlowServing"]

#: The file name of a model that is the folder of its version itself, as TensorFlow Serving has it.
VERSION_FOLDER: Final = "."

#: What a model of a package may state; everything else is a setting of Triton's.
_STATED: Final = frozenset({"name", "max_batch_size", "input", "output", "artifact", "platform", "backend"})


@dataclass(frozen=True, slots=True)
class TensorFlowServing:
    """A package: SavedModels in numbered folders, and the Python of their handlers.

    Each of ``models`` is a `TensorFlow` model whose versions become ``<name>/<version>/saved_model.pb``; its inputs and
    outputs are those of the signature ``serving_default``. ``code`` is the folder beside the definition that becomes
    ``code/``: ``inference.py`` with the handlers, ``requirements.txt``, ``lib/`` with the modules that they need. A
    definition that binds a package to a name declares that alone, and no model repository.

    Raises:
        DefinitionError: no models, one that is no SavedModel, two of one name, or a setting that only Triton has.
    """

    models: Sequence[TensorFlow]
    _: KW_ONLY
    code: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        given = self.models
        if not given:
            raise DefinitionError("TensorFlowServing: it has no models")
        for model in given:
            _check(model)
        names = [model.name for model in given]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DefinitionError(f"TensorFlowServing: two models are named {twice[0]!r}")
        frozen(self, "models", tuple(replace(model, default_model_filename=VERSION_FOLDER) for model in given))


def _check(model: Model) -> None:
    if not isinstance(model, TensorFlow) or model.platform != "tensorflow_savedmodel":
        raise DefinitionError(f"TensorFlowServing: {model.name} is no SavedModel; give TensorFlow models")
    if model.name == CODE:
        raise DefinitionError(f"TensorFlowServing: a model cannot be named {CODE!r}, the folder of the handlers")
    for field in fields(model):
        if field.name not in _STATED and getattr(model, field.name) != _default(field):
            raise DefinitionError(
                f"TensorFlowServing: {model.name}: {field.name} is a setting of Triton's; TensorFlow Serving is set by "
                "the container's environment (SAGEMAKER_TFS_ENABLE_BATCHING and the like)"
            )


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default
