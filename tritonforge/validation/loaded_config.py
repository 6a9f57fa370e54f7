"""The configuration that the server makes of a model: with what core and the backend fill in. No I/O.

It equals the answer to ``GET /v2/models/<model>/config``. Source: core model_config_utils.cc
`GetNormalizedModelConfig`, `NormalizeModelConfig`, `NormalizeInstanceGroup`, `SetDefaultInstanceCount`;
backend_model.cc `UpdateModelConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tritonforge.triton.backends import BACKENDS
from tritonforge.triton.schema import ModelConfig, load_model_config_pb2, new_model_config
from tritonforge.validation.rules.ensemble_models import EnsembleChecker
from tritonforge.validation.rules.ensemble_tensors import trace_decoupled_flow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tritonforge.validation.context import Context, ModelView

__all__ = ["LoadedConfig", "apply_completion", "build_loaded_configs", "move_instances_to_cpu", "render_json"]

#: constants.h `SEQUENCE_IDLE_DEFAULT_MICROSECONDS`.
_SEQUENCE_IDLE_MICROSECONDS: Final = 1_000_000
#: The backends of which `SetDefaultInstanceCount` makes two instances on a CPU.
_TWO_ON_CPU: Final = ("tensorflow", "onnxruntime")
#: The backends whose preferred kind of instance is the CPU (openvino.cc `TRITONBACKEND_GetBackendAttribute`).
_ON_CPU: Final = ("openvino",)


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A model's configuration as the server has it after loading.

    ``message`` is None, and ``reason`` says why, if the file cannot be read. ``reason`` also states what the backend
    fills in that is not known here; then these fields are as in the file.
    """

    message: ModelConfig | None
    reason: str = ""


def build_loaded_configs(context: Context) -> dict[str, LoadedConfig]:
    """Return the configurations of all models after core and the backends have completed them, by model."""
    decoupled = {name: model.decoupled for name, model in context.models.items() if not model.is_ensemble}
    for name in EnsembleChecker(context, {}).sort_ensembles():
        ensemble = context.models[name]
        decoupled[name] = trace_decoupled_flow(ensemble, ensemble.steps, decoupled).decoupled
    return {
        name: _build_config(context, model, is_decoupled=decoupled.get(name, False))
        for name, model in context.models.items()
    }


def _build_config(context: Context, model: ModelView, *, is_decoupled: bool) -> LoadedConfig:
    from google.protobuf import text_format

    message: Any = new_model_config()
    if not model.parsed:
        return LoadedConfig(None, f"{model.config_or_directory} cannot be parsed")
    try:
        text_format.Parse(model.document.source, message)
    except (text_format.ParseError, UnicodeError) as error:
        return LoadedConfig(None, f"{model.config_path} has fields that this tritonforge does not know: {error}")
    message.name = model.name
    message.platform, message.backend = model.platform, model.backend
    message.default_model_filename = model.default_model_filename
    _normalize(message)
    if model.is_completed:
        apply_completion(message, model)
        _normalize(message)
    reason = _describe_unknown(model) if model.completes and not model.is_ensemble else ""
    if message.HasField("ensemble_scheduling"):
        # ensemble_utils.cc `ValidateEnsembleConfig`
        message.model_transaction_policy.decoupled = is_decoupled
    else:
        if context.image is None and not context.options.gpus:
            move_instances_to_cpu(message)
        _normalize_instances(message, context.options.gpus or 0)
    backend = BACKENDS.get(model.backend)
    if context.image is None and backend is not None and backend.is_local and not message.runtime:
        message.runtime = "model.py"  # the local server's backends are Python (backend_model.cc)
    return LoadedConfig(message, reason)


def _normalize(message: Any) -> None:
    if not message.HasField("version_policy"):
        message.version_policy.latest.num_versions = 1
    size = message.max_batch_size
    if message.HasField("dynamic_batching") and not message.dynamic_batching.preferred_batch_size and size > 0:
        message.dynamic_batching.preferred_batch_size.append(size)
    if message.HasField("sequence_batching"):
        batching = message.sequence_batching
        if not batching.max_sequence_idle_microseconds:
            batching.max_sequence_idle_microseconds = _SEQUENCE_IDLE_MICROSECONDS
        if batching.HasField("oldest") and not batching.oldest.preferred_batch_size and size > 0:
            batching.oldest.preferred_batch_size.append(size)
    if not message.HasField("ensemble_scheduling"):
        for memory in ("input_pinned_memory", "output_pinned_memory"):
            if not message.optimization.HasField(memory):
                getattr(message.optimization, memory).enable = True


def move_instances_to_cpu(message: Any) -> None:
    """Make instances of a GPU those of the CPU, as `tritonforge serve` does on a machine without GPUs.

    Each group keeps its count; without a count it has one instance per GPU, so one.
    """
    kinds = load_model_config_pb2().ModelInstanceGroup
    for group in message.instance_group:
        if group.kind == kinds.KIND_GPU or group.gpus:
            group.kind = kinds.KIND_CPU
            group.count = max(group.count, 1)
            for field in ("gpus", "secondary_devices", "profile"):
                group.ClearField(field)


def _normalize_instances(message: Any, gpus: int) -> None:
    kinds = load_model_config_pb2().ModelInstanceGroup
    if not message.instance_group:
        group = message.instance_group.add(name=message.name)
        if message.backend in _ON_CPU:
            group.kind = kinds.KIND_CPU
    for place, group in enumerate(message.instance_group):
        group.name = group.name or f"{message.name}_{place}"
        if group.kind == kinds.KIND_AUTO:
            has_all = gpus > 0 and all(gpu < gpus for gpu in group.gpus)
            group.kind = kinds.KIND_GPU if has_all else kinds.KIND_CPU
        if group.count < 1:
            group.count = 2 if group.kind == kinds.KIND_CPU and message.backend in _TWO_ON_CPU else 1
        if group.kind == kinds.KIND_GPU and not group.gpus:
            group.gpus.extend(range(gpus))


def apply_completion(message: Any, model: ModelView) -> None:
    """Write what the backend fills in into the configuration."""
    data_types = load_model_config_pb2().DataType
    message.max_batch_size = model.max_batch_size
    for tensors, views in ((message.input, model.inputs), (message.output, model.outputs)):
        for place, view in enumerate(views):
            tensor = tensors[place] if place < len(tensors) else tensors.add()
            number = view.data_type
            tensor.name = view.name
            tensor.data_type = int(number) if number.isdecimal() else data_types.Value(number)
            tensor.dims[:] = view.dims
            if view.reshape is not None:
                tensor.reshape.shape[:] = view.reshape
                tensor.reshape.SetInParent()
    for place, view in enumerate(model.inputs):
        message.input[place].optional = view.optional
        message.input[place].allow_ragged_batch |= model.backend == "dali" and model.max_batch_size > 0
    if model.decoupled:
        message.model_transaction_policy.decoupled = True
    if model.adds_dynamic_batching and not message.WhichOneof("scheduling_choice"):
        message.dynamic_batching.SetInParent()


def _describe_unknown(model: ModelView) -> str:
    """Return what the backend may fill in that is not known here, "" if there is nothing."""
    backend = BACKENDS.get(model.backend)
    completion = backend.completion if backend is not None else "unknown"
    tensors = (*model.inputs, *model.outputs)
    has_all = all(tensor.data_type != "TYPE_INVALID" and (tensor.dims or tensor.reshape) for tensor in tensors)
    if completion == "never" or (completion not in ("code", "file") and has_all and model.inputs and model.outputs):
        return ""
    what = "code of the model" if completion == "code" else f"{model.backend} backend"
    return f"the {what} may fill in inputs, outputs and max_batch_size when it loads"


def render_json(message: ModelConfig) -> dict[str, Any]:
    """Return a configuration as the server's HTTP API does: every field, integers as numbers."""
    from google.protobuf import json_format

    document: Any = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return dict(_read_integers(document, message.DESCRIPTOR))


#: FieldDescriptor.CPPTYPE_INT64 and CPPTYPE_UINT64, which protobuf's JSON has as strings.
_LONG: Final = (2, 4)


def _read_integers(document: dict[str, Any], descriptor: Any) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        field = descriptor.fields_by_name[name]
        if field.cpp_type in _LONG:
            yield name, [int(item) for item in value] if isinstance(value, list) else int(value)
        elif field.message_type is None:
            yield name, value
        elif field.message_type.GetOptions().map_entry:
            entry = field.message_type
            yield name, {key: dict(_read_integers({"value": item}, entry))["value"] for key, item in value.items()}
        elif isinstance(value, list):
            yield name, [dict(_read_integers(item, field.message_type)) for item in value]
        else:
            yield name, dict(_read_integers(value, field.message_type))
