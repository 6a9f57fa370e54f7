"""The conversion of TensorFlow models to ONNX, as values: jobs, results, configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from tritonforge.datatypes import TYPE_BF16, TYPE_FP16, TYPE_FP32, TYPE_FP64
from tritonforge.model_files.signature import ONNX, TensorSpec
from tritonforge.triton import CATALOGUE, Image
from tritonforge.triton.schema import ModelConfig, load_model_config_pb2, new_model_config

__all__ = ["TOLERANCES", "Conversion", "ConversionJob", "ConvertedModel", "ImagePipeline", "choose_opset",
           "convert_config", "find_sources", "list_inputs", "list_outputs", "read_parameter"]  # fmt: skip

#: The largest difference of an output that is allowed, as a fraction of its largest magnitude in the same batch, by
#: element type. Both runtimes compute in FP32, whose numbers are exact to 6e-8 of their size; a convolution that adds
#: its thousand products in another order, or a fused batch normalisation, changes a value by some 1e-7, and a hundred
#: layers add up: 1e-6 was measured on ResNet-50, 1.6e-5 on Inception V3 with random weights. A wrong
#: padding, layout, epsilon or resize shows above 1e-3. 1e-4 lies between. A graph with FP64 ends usually computes in
#: FP32. FP16 is exact to 5e-4, BF16 to 4e-3, of each value. All other types must be equal.
TOLERANCES: Final[Mapping[str, float]] = MappingProxyType(
    {TYPE_FP64: 1e-4, TYPE_FP32: 1e-4, TYPE_FP16: 1e-2, TYPE_BF16: 5e-2}
)


@dataclass(frozen=True, slots=True)
class ConvertedModel:
    """One version of one model, and how its ONNX file compares with the original.

    ``photographs`` and ``random`` count the inputs on which both ran. ``largest_difference`` is in the outputs' own
    unit, ``relative_difference`` the largest one as a fraction of the output's largest magnitude in its batch, which
    is compared with ``tolerance``. ``classes`` counts the rows whose largest value has the same position in both,
    ``converter`` names the program and its version, ``seconds`` is the time of conversion and comparison together.
    """

    model: str
    version: int
    opset: int
    converter: str
    photographs: int
    random: int
    largest_difference: float
    relative_difference: float
    tolerance: float
    classes: int
    seconds: float

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        inputs = f"{self.random} random inputs"
        if self.photographs:
            inputs = f"{self.photographs} photographs and {inputs}"
        classes = f", all {self.classes} classes agree" if self.classes else ""
        return (
            f"{self.model}/{self.version}: ONNX opset {self.opset} by {self.converter}; on {inputs} the largest "
            f"difference from TensorFlow is {self.largest_difference:.2g}, {self.relative_difference:.2g} of the "
            f"output's largest value ({self.tolerance:g} is allowed){classes}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the result as values of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ConvertedModel:
        """Return the result that `to_json` was called on."""
        return cls(**value)


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted repository: its path, its ``digest``, the result of each model, and notes for the user.

    ``rebuilt`` are the version directories that were converted now; ``changed`` is False if an equal repository was
    there. ``notes`` are whole sentences: settings that were left out, inputs that could not be compared.
    """

    repository: Path
    digest: str
    models: tuple[ConvertedModel, ...]
    notes: tuple[str, ...]
    rebuilt: tuple[str, ...]
    changed: bool


@dataclass(frozen=True, slots=True)
class ImagePipeline:
    """The DALI pipeline that makes an input from an encoded image: its file, and the position of the output."""

    path: str
    output: int


@dataclass(frozen=True, slots=True)
class ConversionJob:
    """One version of a model to convert.

    ``kind`` is the platform (`signature.GRAPHDEF`, `signature.SAVEDMODEL`), ``path`` its file or directory, ``target``
    the ONNX file to write. ``signature`` is "" where the configuration names none. ``inputs`` and ``outputs`` are those
    of the configuration, none where it leaves them to the file. ``max_batch_size`` is 0 for a model that does not
    batch, or leaves it out. ``pipelines`` are by the name of the input that they make.
    """

    model: str
    version: int
    kind: str
    path: str
    target: str
    opset: int
    max_batch_size: int = 0
    tag: str = "serve"
    signature: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    pipelines: Mapping[str, ImagePipeline] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model and its version, as errors name it."""
        return f"{self.model}/{self.version}"

    def to_json(self) -> dict[str, Any]:
        """Return the job as values of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ConversionJob:
        """Return the job that `to_json` was called on."""
        tensors = {key: tuple(TensorSpec(**tensor) for tensor in value[key]) for key in ("inputs", "outputs")}
        pipelines = {name: ImagePipeline(**pipeline) for name, pipeline in value["pipelines"].items()}
        return cls(**{**value, **tensors, "pipelines": pipelines})


#: What tf2onnx is tested with. Source: README of tf2onnx 1.17, "We support and test ONNX opset-14 to opset-18".
_OLDEST: Final = 14
_NEWEST: Final = 18

#: The first ONNX Runtime that runs opset 18 (ONNX 1.13). Source: onnxruntime docs/Versioning.md.
_FIRST_WITH_NEWEST: Final = (1, 14)


def choose_opset(image: Image) -> int:
    """Return the newest opset that both the converter writes and the image's ONNX Runtime runs.

    Where no source states the image's ONNX Runtime, that of the nearest known release before it counts: a later one
    runs all that an earlier one ran (docs/Versioning.md, "Backwards compatibility").
    """
    earlier = [entry.onnxruntime for entry in CATALOGUE.values() if entry.release <= image.release]
    known = [version for version in earlier if version is not None]
    if not known:
        return _OLDEST
    version = tuple(int(part) for part in known[-1].split(".")[:2])
    return _NEWEST if version >= _FIRST_WITH_NEWEST else _OLDEST


#: Parameters that only the TensorFlow backend reads. Source: tensorflow_backend src/tensorflow.cc and its README.
_THREADS: Final = frozenset({"TF_NUM_INTER_THREADS", "TF_NUM_INTRA_THREADS"})
_PARAMETERS: Final = _THREADS | {
    "MAX_SESSION_SHARE_COUNT",
    "TF_GRAPH_TAG",
    "TF_INIT_OPS_FILE",
    "TF_SIGNATURE_DEF",
    "TF_USE_PER_SESSION_THREADS",
}

#: Parts of ``optimization`` that are specific to TensorFlow (XLA levels, its accelerators and their parameters, CUDA
#: graphs of its sessions); the others are read by Triton's core for every backend.
_OPTIMIZATION: Final = ("graph", "cuda", "execution_accelerators")

#: The source of an input: a model, and the position of its output in its configuration.
TensorSource: TypeAlias = tuple[str, int]


def convert_config(config: ModelConfig) -> tuple[ModelConfig, tuple[str, ...]]:
    """Return a model's configuration for ONNX Runtime's backend, and a sentence for each setting that is left out."""
    target: Any = new_model_config()
    target.CopyFrom(config)
    name = target.name or "the model"
    target.platform = ONNX
    if target.backend:
        target.backend = "onnxruntime"
    target.ClearField("default_model_filename")
    notes = []
    dropped = sorted(_PARAMETERS & set(target.parameters))
    for key in dropped:
        del target.parameters[key]
    if dropped:
        instead = ""
        if not _THREADS.isdisjoint(dropped):
            instead = "; ONNX Runtime's threads are set by intra_op_thread_count and inter_op_thread_count"
        notes.append(f"{name}: left out TensorFlow's parameters {', '.join(dropped)}{instead}")
    if target.HasField("optimization"):
        parts = [part for part in _OPTIMIZATION if target.optimization.HasField(part)]
        for part in parts:
            target.optimization.ClearField(part)
        if parts:
            notes.append(
                f"{name}: left out optimization {{ {' '.join(parts)} }}: its values are TensorFlow's; ONNX Runtime "
                "has accelerators of its own"
            )
        if not target.optimization.ListFields():
            target.ClearField("optimization")
    if target.cc_model_filenames:
        target.ClearField("cc_model_filenames")
        notes.append(f"{name}: left out cc_model_filenames: one ONNX file serves every GPU")
    if target.HasField("model_operations"):
        target.ClearField("model_operations")
        notes.append(f"{name}: left out model_operations: the libraries in it are TensorFlow's")
    converted: ModelConfig = target
    return converted, tuple(notes)


def read_parameter(config: ModelConfig, key: str, default: str = "") -> str:
    """Return the text of one of the model's parameters."""
    parameters: Any = config.parameters  # type: ignore[attr-defined]  # protobuf makes the class at run time
    return str(parameters[key].string_value) if key in parameters else default


def list_inputs(config: Any) -> Iterator[TensorSpec]:
    """Yield every input that the server feeds the model: those of ``input``, and what its schedulers add."""
    for tensor in config.input:
        yield _build_spec(config, tensor)
    for control in config.sequence_batching.control_input:
        yield TensorSpec(control.name)
    for state in config.sequence_batching.state:
        yield _build_state_spec(config, state.input_name, state)
    for batch_input in config.batch_input:
        for name in batch_input.target_name:
            yield TensorSpec(name, _data_type_name(batch_input.data_type))


def list_outputs(config: Any) -> Iterator[TensorSpec]:
    """Yield every output that the server reads from the model: those of ``output``, and the states."""
    for tensor in config.output:
        yield _build_spec(config, tensor)
    for state in config.sequence_batching.state:
        yield _build_state_spec(config, state.output_name, state)


def _build_spec(config: Any, tensor: Any) -> TensorSpec:
    dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims or None
    shape = None if dims is None else _add_batch(config, tuple(dims))
    return TensorSpec(tensor.name, _data_type_name(tensor.data_type), shape)


def _build_state_spec(config: Any, name: str, state: Any) -> TensorSpec:
    return TensorSpec(name, _data_type_name(state.data_type), _add_batch(config, tuple(state.dims)))


def _add_batch(config: Any, dims: tuple[int, ...]) -> tuple[int, ...]:
    return (-1, *dims) if config.max_batch_size > 0 else dims


def _data_type_name(number: int) -> str | None:
    return str(load_model_config_pb2().DataType.Name(number)) if number else None


def find_sources(configs: Mapping[str, ModelConfig], model: str) -> dict[str, TensorSource]:
    """Return for each input of a model the output that feeds it in an ensemble: the first ensemble's by name."""
    sources: dict[str, TensorSource] = {}
    for _, ensemble in sorted(configs.items()):
        steps = list(ensemble.ensemble_scheduling.step)  # type: ignore[attr-defined]  # as above
        writers = {tensor: (step.model_name, key) for step in steps for key, tensor in step.output_map.items()}
        for step in steps:
            if step.model_name != model:
                continue
            for name, tensor in step.input_map.items():
                writer, output = writers.get(tensor, ("", ""))
                config: Any = configs.get(writer)
                outputs = [] if config is None else [entry.name for entry in config.output]
                if output in outputs:
                    sources.setdefault(name, (writer, outputs.index(output)))
    return sources
