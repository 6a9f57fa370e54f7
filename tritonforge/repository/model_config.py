"""The `ModelConfig` of a definition, and its text: config.pbtxt. This module does no I/O.

Each field of a definition becomes the proto's field of its name. The text has the fields in the order of
model_config.proto, and only those that are set. The one exception is ``max_batch_size``, which is always written:
Triton's DALI backend reads it from the text, where absent means "as the pipeline says" and 0 means "unbatched"
(dali_backend config_tools.cc), a difference that protobuf itself cannot hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

from google.protobuf import text_format

from tritonforge import datatypes
from tritonforge.errors import DefinitionError, PbtxtError
from tritonforge.repository.definition.ensemble import Ensemble
from tritonforge.repository.definition.models import Model
from tritonforge.repository.definition.settings import All, Latest, VersionPolicy
from tritonforge.repository.definition.tensors import Input, Output
from tritonforge.triton.schema import ModelConfig, load_model_config_pb2, new_model_config

__all__ = ["SequenceTensors", "build_config", "format_config", "list_sequence_tensors", "parse_config"]


#: Fields of a definition that `ModelConfig` does not have: files and their sources, and what is lowered separately.
_ELSEWHERE: Final = frozenset(
    {"artifact", "data", "decoupled", "device", "files", "labels", "override", "pipeline", "version_policy"}
)


def build_config(model: Model | Ensemble) -> ModelConfig:
    """Return the `ModelConfig` of a model or an ensemble.

    Raises:
        DefinitionError: a value that the schema cannot hold (an unknown enum name, a number out of range), or an
            ``override`` that is not protobuf text; the message names the model and the field.
    """
    config: Any = new_model_config()
    _fill_config(model, config)
    lowered: ModelConfig = config
    return lowered


def _fill_config(model: Model | Ensemble, config: Any) -> None:
    if isinstance(model, Ensemble):
        _lower_ensemble(model, config)
    else:
        _lower_fields(model, config, model.name)
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
    for step in ensemble.steps:
        message = config.ensemble_scheduling.step.add()
        message.model_name = step.model.name
        message.model_version = step.model_version
        message.input_map.update(step.input_map)
        message.output_map.update(step.output_map)


def _lower_version_policy(policy: VersionPolicy, message: Any, where: str) -> None:
    choice = "latest" if isinstance(policy, Latest) else "all" if isinstance(policy, All) else "specific"
    chosen = getattr(message, choice)
    chosen.SetInParent()
    _lower_fields(policy, chosen, f"{where}: version_policy")


def _lower_fields(value: object, message: Any, where: str) -> None:
    """Copy every field of a dataclass to the message's field of that name."""
    assert is_dataclass(value)
    for field in fields(value):
        # A Python keyword takes a trailing underscore (`global_`).
        name = field.name.rstrip("_")
        if name and field.name not in _ELSEWHERE:
            _lower_field(getattr(value, field.name), message, name, where)


def _lower_field(content: Any, message: Any, name: str, where: str) -> None:
    if content is None or content == "":
        return
    if name not in message.DESCRIPTOR.fields_by_name:
        raise DefinitionError(
            f"{where}: Triton's schema has no field {name} in this version of tritonforge; use a newer one"
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
            for element in content:
                _lower_message(element, getattr(message, name).add(), where)
        else:
            _lower_message(content, getattr(message, name), where)
    except DefinitionError:
        raise
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"{where} is {content!r:.80}: {error}") from error


def _lower_entry(value: Any, entries: Any, key: Any, where: str) -> None:
    if is_dataclass(value):
        _lower_fields(value, entries[key], f"{where}[{key!r}]")
    elif hasattr(entries, "get_or_create"):
        _lower_message(_convert_parameter(value), entries.get_or_create(key), where)
    else:
        entries[key] = _convert_parameter(value)


def _lower_message(value: Any, message: Any, where: str) -> None:
    message.SetInParent()
    if is_dataclass(value):
        _lower_fields(value, message, where)
        return
    # A message of a single field is given as that field's value: `reshape=[1]`, `response_cache=True`.
    (field,) = message.DESCRIPTOR.fields
    _set_scalar(message, field, value)


def _set_scalar(message: Any, field: Any, content: Any) -> None:
    if field.is_repeated:
        getattr(message, field.name).extend([_convert_enum(field, element) for element in content])
    else:
        setattr(message, field.name, _convert_enum(field, content))


def _convert_enum(field: Any, content: Any) -> Any:
    if field.enum_type is None or not isinstance(content, str):
        return content
    value = field.enum_type.values_by_name.get(content)
    if value is None:
        raise ValueError(f"expected {', '.join(field.enum_type.values_by_name)}")
    return value.number


def _convert_parameter(value: Any) -> Any:
    """Return a parameter as Triton's backends read it: text, with ``true`` and ``false`` for booleans."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


#: The value pairs of a control and their element types. Source: model_config_utils.cc
#: `GetBooleanSequenceControlProperties`.
_PAIR_TYPES: Final = (
    ("int32_false_true", datatypes.TYPE_INT32),
    ("fp32_false_true", datatypes.TYPE_FP32),
    ("bool_false_true", datatypes.TYPE_BOOL),
)


@dataclass(frozen=True, slots=True)
class SequenceTensors:
    """What ``sequence_batching`` adds to the inputs and outputs of a model's file.

    ``controls`` have one element a request; ``state_inputs`` and ``state_outputs`` are in the order of the states.
    """

    controls: tuple[Input, ...] = ()
    state_inputs: tuple[Input, ...] = ()
    state_outputs: tuple[Output, ...] = ()

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The controls, then the state inputs."""
        return (*self.controls, *self.state_inputs)


def list_sequence_tensors(model: Model) -> SequenceTensors:
    """Return the control inputs and states of a model, from its ``sequence_batching`` or its ``override``."""
    if model.sequence_batching is None and "sequence_batching" not in model.override:
        return SequenceTensors()
    config: Any = build_config(model)
    sequence_batching = config.sequence_batching

    def data_type(number: int) -> str | None:
        return None if number == 0 else str(load_model_config_pb2().DataType.Name(number))

    controls = []
    for tensor in sequence_batching.control_input:
        for control in tensor.control:
            stated = [name for pair, name in _PAIR_TYPES if getattr(control, pair)]
            controls.append(Input(tensor.name, stated[0] if stated else data_type(control.data_type), [1]))
    states = [(state, data_type(state.data_type), list(state.dims) or None) for state in sequence_batching.state]
    return SequenceTensors(
        tuple(controls),
        tuple(Input(state.input_name, kind, dims) for state, kind, dims in states),
        tuple(Output(state.output_name, kind, dims) for state, kind, dims in states),
    )


def format_config(config: ModelConfig) -> str:
    """Return the text of a `ModelConfig`; `parse_config` returns an equal message."""
    if "max_batch_size" in {field.name for field, _ in config.ListFields()}:
        return _print_config(config)
    before, after = new_model_config(), new_model_config()
    before.CopyFrom(config)
    after.CopyFrom(config)
    here = config.DESCRIPTOR.fields_by_name["max_batch_size"].index
    for field in config.DESCRIPTOR.fields:
        (after if field.index < here else before).ClearField(field.name)
    return f"{_print_config(before)}max_batch_size: 0\n{_print_config(after)}"


def _print_config(config: ModelConfig) -> str:
    return text_format.MessageToString(config, use_index_order=True, use_short_repeated_primitives=True)


def parse_config(text: str) -> ModelConfig:
    """Return the `ModelConfig` of a text.

    Raises:
        PbtxtError: the text is invalid, with the line and column where protobuf's parser stopped.
    """
    config = new_model_config()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        where = re.match(r"(?:(\d+):(\d+) : )?(.*)", str(error), flags=re.DOTALL)
        assert where is not None
        line, column = error.GetLine(), error.GetColumn()
        place = "" if line is None else f"line {line}, column {column}: "
        raise PbtxtError(f"{place}{where[3]}", line=line, column=column) from error
    except (RecursionError, UnicodeError, ValueError, TypeError) as error:
        raise PbtxtError(f"this is not protobuf text: {error}") from error
    return config
