"""A TensorFlow model's configuration, read for its conversion and written anew for ONNX Runtime. No I/O here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tritonforge.model_files.signature import ONNX, TensorSpec
from tritonforge.triton.schema import ModelConfig, load_model_config_pb2, new_model_config

__all__ = ["Source", "for_onnxruntime", "inputs", "outputs", "parameter", "sources"]

#: Parameters that only the TensorFlow backend reads. Source: tensorflow_backend src/tensorflow.cc and its README.
_PARAMETERS: Final = frozenset(
    {
        "MAX_SESSION_SHARE_COUNT",
        "TF_GRAPH_TAG",
        "TF_INIT_OPS_FILE",
        "TF_NUM_INTER_THREADS",
        "TF_NUM_INTRA_THREADS",
        "TF_SIGNATURE_DEF",
        "TF_USE_PER_SESSION_THREADS",
    }
)
_THREADS: Final = frozenset({"TF_NUM_INTER_THREADS", "TF_NUM_INTRA_THREADS"})

#: Parts of ``optimization`` whose values mean something of TensorFlow's (XLA levels, its accelerators and their
#: parameters, CUDA graphs of its sessions); the others are read by Triton's core alike for every backend.
_OPTIMIZATION: Final = ("graph", "cuda", "execution_accelerators")

#: Where an input comes from: a model, and the place of its output in its configuration.
Source = tuple[str, int]


def for_onnxruntime(config: ModelConfig) -> tuple[ModelConfig, tuple[str, ...]]:
    """The same model for ONNX Runtime's backend, and a sentence for each setting that has no meaning there."""
    made: Any = new_model_config()
    made.CopyFrom(config)
    name = made.name or "the model"
    made.platform = ONNX
    if made.backend:
        made.backend = "onnxruntime"
    made.ClearField("default_model_filename")
    said = []
    dropped = sorted(_PARAMETERS & set(made.parameters))
    if dropped:
        for key in dropped:
            del made.parameters[key]
        instead = ""
        if not _THREADS.isdisjoint(dropped):
            instead = "; ONNX Runtime's threads are set by intra_op_thread_count and inter_op_thread_count"
        said.append(f"{name}: left out TensorFlow's parameters {', '.join(dropped)}{instead}")
    if made.HasField("optimization"):
        set_parts = [part for part in _OPTIMIZATION if made.optimization.HasField(part)]
        for part in set_parts:
            made.optimization.ClearField(part)
        if set_parts:
            said.append(
                f"{name}: left out optimization {{ {' '.join(set_parts)} }}: its values are TensorFlow's; ONNX Runtime "
                "has accelerators of its own"
            )
        if not made.optimization.ListFields():
            made.ClearField("optimization")
    if made.cc_model_filenames:
        made.ClearField("cc_model_filenames")
        said.append(f"{name}: left out cc_model_filenames: one ONNX file serves every GPU")
    if made.HasField("model_operations"):
        made.ClearField("model_operations")
        said.append(f"{name}: left out model_operations: the libraries in it are TensorFlow's")
    converted: ModelConfig = made
    return converted, tuple(said)


def parameter(config: ModelConfig, key: str, default: str = "") -> str:
    """The text of one of the model's parameters."""
    parameters: Any = config.parameters  # type: ignore[attr-defined]  # protobuf makes the class at run time
    return str(parameters[key].string_value) if key in parameters else default


def inputs(config: ModelConfig) -> tuple[TensorSpec, ...]:
    """Every input that the server feeds the model: those of ``input``, and what its schedulers add."""
    return tuple(_inputs(config))


def outputs(config: ModelConfig) -> tuple[TensorSpec, ...]:
    """Every output that the server reads from the model: those of ``output``, and the states it keeps."""
    return tuple(_outputs(config))


def _inputs(config: Any) -> Iterator[TensorSpec]:
    for each in config.input:
        yield _tensor(config, each)
    for control in config.sequence_batching.control_input:
        yield TensorSpec(control.name)
    for state in config.sequence_batching.state:
        yield _state(config, state.input_name, state)
    for added in config.batch_input:
        for name in added.target_name:
            yield TensorSpec(name, _type(added.data_type))


def _outputs(config: Any) -> Iterator[TensorSpec]:
    for each in config.output:
        yield _tensor(config, each)
    for state in config.sequence_batching.state:
        yield _state(config, state.output_name, state)


def _tensor(config: Any, tensor: Any) -> TensorSpec:
    if tensor.HasField("reshape"):
        dims = tuple(tensor.reshape.shape)
    elif tensor.dims:
        dims = tuple(tensor.dims)
    else:
        return TensorSpec(tensor.name, _type(tensor.data_type))
    return TensorSpec(tensor.name, _type(tensor.data_type), _whole(config, dims))


def _state(config: Any, name: str, state: Any) -> TensorSpec:
    return TensorSpec(name, _type(state.data_type), _whole(config, tuple(state.dims)))


def _whole(config: Any, dims: tuple[int, ...]) -> tuple[int, ...]:
    return (-1, *dims) if config.max_batch_size > 0 else dims


def _type(number: int) -> str | None:
    names = load_model_config_pb2().DataType
    return str(names.Name(number)) if number else None


def sources(configs: Mapping[str, ModelConfig], model: str) -> dict[str, Source]:
    """For each input of a model the step that makes it in an ensemble, where one does: the first ensemble's by name."""
    found: dict[str, Source] = {}
    for _, ensemble in sorted(configs.items()):
        steps = list(ensemble.ensemble_scheduling.step)  # type: ignore[attr-defined]  # as above
        makers = {tensor: (step.model_name, key) for step in steps for key, tensor in step.output_map.items()}
        for step in steps:
            if step.model_name != model:
                continue
            for name, tensor in step.input_map.items():
                maker, output = makers.get(tensor, ("", ""))
                places = {each.name: place for place, each in enumerate(_output_list(configs.get(maker)))}
                if output in places:
                    found.setdefault(name, (maker, places[output]))
    return found


def _output_list(config: Any) -> Any:
    return () if config is None else config.output
