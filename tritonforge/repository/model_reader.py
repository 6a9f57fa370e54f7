"""The model of a definition from a `ModelConfig`: the inverse of `model_config`. This module does no I/O.

A field of the configuration becomes the definition's field of its name where the two are equal: the field is built back
and compared. What has no typed field, or does not come back equal, is the model's ``override``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final, TypeAlias

from google.protobuf import text_format

from tritonforge.errors import DefinitionError
from tritonforge.repository.definition import (
    All,
    BatchInput,
    BatchOutput,
    Control,
    ControlInput,
    Dali,
    Direct,
    DynamicBatching,
    File,
    InitialState,
    Input,
    InstanceGroup,
    Latest,
    Model,
    Oldest,
    Onnx,
    Output,
    Python,
    PyTorch,
    QueuePolicy,
    RateLimiter,
    Resource,
    SecondaryDevice,
    SequenceBatching,
    Specific,
    State,
    TensorFlow,
    TensorRT,
    Warmup,
    WarmupInput,
)
from tritonforge.repository.definition.sources import Artifact
from tritonforge.repository.model_config import build_config
from tritonforge.triton.schema import ModelConfig, new_model_config

__all__ = ["MAXIMAL_ELEMENTS", "FileAt", "ModelFiles", "format_override", "read_fields", "read_model", "split_config"]

#: Returns the source of a file by its path in the model's directory.
FileAt: TypeAlias = Callable[[str], File]

#: Elements of one field that are stated one by one, a bound on time; a field with more is an override.
MAXIMAL_ELEMENTS: Final = 1000

#: The class of a definition by the message's name, without its package.
_CLASSES: Final[Mapping[str, Any]] = {
    "BatchInput": BatchInput,
    "BatchOutput": BatchOutput,
    "ModelDynamicBatching": DynamicBatching,
    "ModelInput": Input,
    "ModelInstanceGroup": InstanceGroup,
    "ModelInstanceGroup.SecondaryDevice": SecondaryDevice,
    "ModelOutput": Output,
    "ModelQueuePolicy": QueuePolicy,
    "ModelRateLimiter": RateLimiter,
    "ModelRateLimiter.Resource": Resource,
    "ModelSequenceBatching": SequenceBatching,
    "ModelSequenceBatching.Control": Control,
    "ModelSequenceBatching.ControlInput": ControlInput,
    "ModelSequenceBatching.InitialState": InitialState,
    "ModelSequenceBatching.State": State,
    "ModelSequenceBatching.StrategyDirect": Direct,
    "ModelSequenceBatching.StrategyOldest": Oldest,
    "ModelVersionPolicy.All": All,
    "ModelVersionPolicy.Latest": Latest,
    "ModelVersionPolicy.Specific": Specific,
    "ModelWarmup": Warmup,
    "ModelWarmup.Input": WarmupInput,
}

#: Characters of an override on one line.
_SHORT_OVERRIDE: Final = 72

#: Messages of one field that a definition states by that field's value.
_UNWRAPPED: Final = frozenset({"ModelOperations", "ModelParameter", "ModelResponseCache", "ModelTensorReshape"})

#: The kinds of models by their backend.
_KINDS: Final = {
    kind.kind.name: kind for kind in (Dali, Onnx, PyTorch, Python, TensorFlow, TensorRT) if kind.kind is not None
}

#: What a model states in the protobuf's form but not under its name, and what is read apart.
_APART: Final = frozenset({"name", "platform", "backend", "ensemble_scheduling", "model_transaction_policy"})

_ZEROS: Final = (0, 0.0, False, "", None)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model: the source of each version, and the further ones by their path in its directory."""

    artifact: Artifact | Mapping[int, Artifact | None] | None = None
    files: Mapping[str, File | bytes] = field(default_factory=dict)


class _UntypedError(Exception):
    """A message has a field that the definition's class does not have."""


def read_model(config: ModelConfig, *, name: str, backend: str, files: ModelFiles, file_at: FileAt) -> Model:
    """Return the model of a configuration.

    ``backend`` is the backend that the server finds for it; ``file_at`` names the data of warm-up requests.

    Raises:
        DefinitionError: the model's name is not one that a definition can have.
    """
    message: Any = config
    kind: Any = _KINDS.get(backend, Model)
    identity = {"platform": str(message.platform), "backend": str(message.backend)}
    try:
        kind(name, **identity)
    except DefinitionError:
        kind = Model
    stated = {**read_fields(config, kind, name, file_at), **_read_rest(message)}
    parts = split_config(config)
    try:
        typed = kind(name, **identity, **stated)
        rebuilt = split_config(build_config(typed))
    except DefinitionError:
        stated, rebuilt = {}, {}
    known = {"name", "platform", "backend", *(f for f in parts if rebuilt.get(f) == parts[f])}
    stated = {key: value for key, value in stated.items() if _PROTO_NAMES.get(key, key) in known}
    override = format_override({name: part for name, part in parts.items() if name not in known})
    return kind(  # type: ignore[no-any-return]  # a kind of Model, chosen at run time
        name, **identity, **stated, artifact=files.artifact, files=files.files, override=override
    )


#: Fields of a definition whose message in the proto has another name.
_PROTO_NAMES: Final = {"decoupled": "model_transaction_policy"}


def _read_rest(message: Any) -> dict[str, Any]:
    return {"decoupled": True} if message.model_transaction_policy.decoupled else {}


def read_fields(config: ModelConfig, kind: type, name: str, file_at: FileAt) -> dict[str, Any]:
    """Return the fields that a class of models can state, by name; those that it refuses are left out."""
    known = {entry.name for entry in fields(kind) if entry.init}
    stated = {}
    for descriptor, content in config.ListFields():
        if descriptor.name in _APART or descriptor.name not in known:
            continue
        if descriptor.is_repeated and len(content) > MAXIMAL_ELEMENTS:
            continue
        try:
            value = _read_field(descriptor, content, file_at)
            if kind is not object and issubclass(kind, Model):
                kind(name, **{descriptor.name: value})
        except (DefinitionError, TypeError, _UntypedError):
            continue
        stated[descriptor.name] = value
    return stated


def _read_field(descriptor: Any, content: Any, file_at: FileAt) -> Any:
    """Return a field of a message as the definition states it."""
    message = descriptor.message_type
    if message is not None and message.GetOptions().map_entry:
        value = message.fields_by_name["value"]
        return {key: _read_value(value, content[key], file_at) for key in sorted(content)}
    if descriptor.is_repeated:
        return [_read_value(descriptor, element, file_at) for element in content]
    return _read_value(descriptor, content, file_at)


def _read_value(descriptor: Any, value: Any, file_at: FileAt) -> Any:
    if descriptor.enum_type is not None:
        if value not in descriptor.enum_type.values_by_number:
            raise _UntypedError(descriptor.name)  # protobuf accepts any number
        return descriptor.enum_type.values_by_number[value].name
    if descriptor.message_type is None:
        return _shorten_float(value) if descriptor.cpp_type == descriptor.CPPTYPE_FLOAT else value
    name = descriptor.message_type.full_name.removeprefix(f"{descriptor.message_type.file.package}.")
    if name == "ModelVersionPolicy":
        chosen = value.ListFields()
        if len(chosen) != 1:
            raise _UntypedError(name)
        policy, content = chosen[0]
        return _read_value(policy, content, file_at)
    if name in _UNWRAPPED:
        (only,) = descriptor.message_type.fields
        content = getattr(value, only.name)
        if only.is_repeated:
            return list(content)
        return _read_parameter(content) if name == "ModelParameter" else content
    if name not in _CLASSES:
        raise _UntypedError(name)
    return _read_message(value, _CLASSES[name], file_at)


def _read_message(message: Any, kind: Any, file_at: FileAt) -> Any:
    """Return a message as a value of its class."""
    entries = {entry.name.rstrip("_"): entry for entry in fields(kind) if entry.init}
    values = {}
    for descriptor, content in message.ListFields():
        if descriptor.name not in entries:
            raise _UntypedError(descriptor.name)
        values[entries[descriptor.name].name] = _read_field(descriptor, content, file_at)
    for name, entry in entries.items():
        has_zero = entry.default is MISSING or entry.default not in _ZEROS
        descriptor = message.DESCRIPTOR.fields_by_name.get(name)
        if entry.name not in values and has_zero and entry.default_factory is MISSING and descriptor is not None:
            values[entry.name] = _read_field(descriptor, getattr(message, name), file_at)
    if kind is WarmupInput and "input_data_file" in values:
        values["data"] = file_at(f"warmup/{values['input_data_file']}")
    return kind(**values)


def _read_parameter(text: str) -> str | int | float | bool:
    """Return a parameter as the value that is written as this text.

    >>> [_read_parameter(text) for text in ("12", "0.5", "true", "012", "1e5")]
    [12, 0.5, True, '012', '1e5']
    """
    if text in ("true", "false"):
        return text == "true"
    if len(text) > 17 or not text.isascii():
        return text
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text and text.strip("-") not in ("inf", "nan"):
            return value
    return text


def _shorten_float(value: float) -> float:
    """Return the shortest decimal that is the same 32-bit number."""
    for digits in range(6, 10):
        shorter = float(f"{value:.{digits}g}")
        if struct.pack("<f", shorter) == struct.pack("<f", value):
            return shorter
    return value


def split_config(config: ModelConfig) -> dict[str, ModelConfig]:
    """Return each field that is set, alone in a message, by its name."""
    parts: dict[str, ModelConfig] = {}
    for descriptor, content in config.ListFields():
        part: Any = new_model_config()
        if descriptor.is_repeated:
            getattr(part, descriptor.name).MergeFrom(content)
        elif descriptor.message_type is not None:
            getattr(part, descriptor.name).CopyFrom(content)
        else:
            setattr(part, descriptor.name, content)
        parts[descriptor.name] = part
    return parts


def format_override(parts: Mapping[str, ModelConfig]) -> str:
    """Return the protobuf text of fields, in ASCII: on one line where that is short."""
    line = " ".join(_print_text(part, as_one_line=True) for part in parts.values())
    if len(line) <= _SHORT_OVERRIDE:
        return line
    return "".join(_print_text(part, as_one_line=False) for part in parts.values())


def _print_text(part: ModelConfig, *, as_one_line: bool) -> str:
    return text_format.MessageToString(
        part, as_utf8=False, as_one_line=as_one_line, use_index_order=True, use_short_repeated_primitives=True
    )
