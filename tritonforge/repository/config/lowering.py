"""Definition to `ModelConfig`: each field to the proto's field of its name. This module does no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final

from google.protobuf import text_format

from tritonforge.errors import DefinitionError
from tritonforge.repository.definition.ensemble import Ensemble
from tritonforge.repository.definition.models import Model
from tritonforge.repository.definition.settings import All, Latest, VersionPolicy
from tritonforge.triton.schema import ModelConfig, new_model_config

__all__ = ["to_config"]

#: What a definition holds that is no field of `ModelConfig`: files and where they come from, and what is set by hand.
_ELSEWHERE: Final = frozenset(
    {"artifact", "data", "decoupled", "device", "files", "labels", "override", "pipeline", "version_policy"}
)


def to_config(model: Model | Ensemble) -> ModelConfig:
    """The `ModelConfig` of a model or an ensemble.

    Raises:
        DefinitionError: a value that the schema cannot hold (an unknown enum name, a number out of range), or an
            ``override`` that is no protobuf text; the message names the model and the field.
    """
    config: Any = new_model_config()
    _fill(model, config)
    lowered: ModelConfig = config
    return lowered


def _fill(model: Model | Ensemble, config: Any) -> None:
    if isinstance(model, Ensemble):
        _lower_ensemble(model, config)
    else:
        _lower(model, config, model.name)
        config.platform = model.platform
        config.backend = model.backend
        if model.decoupled:
            config.model_transaction_policy.decoupled = True
    if model.version_policy is not None:
        _lower_version_policy(model.version_policy, config.version_policy, model.name)
    if model.override:
        try:
            text_format.Merge(model.override, config)
        except text_format.ParseError as error:
            raise DefinitionError(f"{model.name}: override: {error}") from error


def _lower_ensemble(ensemble: Ensemble, config: Any) -> None:
    config.name = ensemble.name
    config.platform = "ensemble"
    config.max_batch_size = ensemble.max_batch_size
    for name in ("input", "output", "parameters", "response_cache"):
        _lower_field(getattr(ensemble, name), config, name, ensemble.name)
    # Presence of the message is what makes it an ensemble for the server, so it is set even before the first step.
    config.ensemble_scheduling.SetInParent()
    if ensemble.max_inflight_requests:
        _lower_field(ensemble.max_inflight_requests, config.ensemble_scheduling, "max_inflight_requests", ensemble.name)
    for wire in ensemble.steps:
        step = config.ensemble_scheduling.step.add()
        step.model_name = wire.model.name
        step.model_version = wire.model_version
        step.input_map.update(wire.input_map)
        step.output_map.update(wire.output_map)


def _lower_version_policy(policy: VersionPolicy, message: Any, where: str) -> None:
    choice = "latest" if isinstance(policy, Latest) else "all" if isinstance(policy, All) else "specific"
    chosen = getattr(message, choice)
    chosen.SetInParent()
    _lower(policy, chosen, f"{where}: version_policy")


def _lower(value: object, message: Any, where: str) -> None:
    """Copy every field of a dataclass to the message's field of that name."""
    assert is_dataclass(value)
    for each in fields(value):
        # A Python keyword takes a trailing underscore (`global_`).
        name = each.name.rstrip("_")
        if name and each.name not in _ELSEWHERE:
            _lower_field(getattr(value, each.name), message, name, where)


def _lower_field(content: Any, message: Any, name: str, where: str) -> None:
    if content is None or content == "":
        return
    if name not in message.DESCRIPTOR.fields_by_name:
        raise DefinitionError(
            f"{where}: this tritonclient's schema has no field {name}; run: pip install -U tritonclient"
        )
    field = message.DESCRIPTOR.fields_by_name[name]
    where = f"{where}: {name}"
    try:
        if isinstance(content, Mapping):
            for key, value in content.items():
                _lower_entry(value, getattr(message, name), key, where)
        elif field.message_type is None:
            _set_scalar(message, field, content)
        elif isinstance(content, Sequence) and not isinstance(content, str) and field.is_repeated:
            for each in content:
                _lower_message(each, getattr(message, name).add(), where)
        else:
            _lower_message(content, getattr(message, name), where)
    except DefinitionError:
        raise
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"{where} is {content!r:.80}: {error}") from error


def _lower_entry(value: Any, entries: Any, key: Any, where: str) -> None:
    if is_dataclass(value):
        _lower(value, entries[key], f"{where}[{key!r}]")
    elif hasattr(entries, "get_or_create"):
        _lower_message(_text(value), entries.get_or_create(key), where)
    else:
        entries[key] = _text(value)


def _lower_message(value: Any, message: Any, where: str) -> None:
    message.SetInParent()
    if is_dataclass(value):
        _lower(value, message, where)
        return
    # A message of a single field is given as that field's value: `reshape=[1]`, `response_cache=True`.
    (field,) = message.DESCRIPTOR.fields
    _set_scalar(message, field, value)


def _set_scalar(message: Any, field: Any, content: Any) -> None:
    if field.is_repeated:
        getattr(message, field.name).extend([_enum(field, each) for each in content])
    else:
        setattr(message, field.name, _enum(field, content))


def _enum(field: Any, content: Any) -> Any:
    if field.enum_type is None or not isinstance(content, str):
        return content
    value = field.enum_type.values_by_name.get(content)
    if value is None:
        raise ValueError(f"Triton knows {', '.join(field.enum_type.values_by_name)}")
    return value.number


def _text(value: Any) -> Any:
    """A parameter as Triton's backends read it: text, with ``true`` and ``false`` for truth values."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value
