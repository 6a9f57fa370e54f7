"""The ``openvino`` backend: an OpenVINO IR, or another file that OpenVINO reads, compiled for the CPU.

Triton makes one `TritonPythonModel` for each instance of a model. What is checked, completed and refused, and its
words, follow openvino_backend of r24.10 (src/openvino.cc, src/openvino_utils.cc). As there, a model that batches is
compiled for batches of exactly ``max_batch_size``: a smaller one is refused without ``ENABLE_BATCH_PADDING``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np

from tritonforge import datatypes
from tritonforge.errors import ArtifactError
from tritonforge.model_files.completion import DEFAULT_MAX_BATCH_SIZE
from tritonforge.model_files.config_check import describe_unknown_name, format_shape
from tritonforge.serving.backends import configuration, requests
from tritonforge.serving.backends.configuration import Configuration, Tensor
from tritonforge.serving.backends.requests import Arrays, BackendRequest, RequestError, Result

__all__ = ["CompiledModel", "TritonPythonModel", "compile_model", "complete_config", "read_properties"]


class TritonPythonModel:
    """One compiled model."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in absent inputs and outputs, and max_batch_size where the layouts have a batch."""
        with configuration.report_errors():
            stated = configuration.read_incomplete_config(config)
            complete_config(config, _read_model(_make_core(stated), stated))
        return config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read and compile the model."""
        with configuration.report_errors():
            self._configuration = configuration.read_arguments(args)
            self._model = compile_model(self._configuration)
            self._run_time = requests.RunTime()

    def execute(self, batch: Sequence[Any]) -> list[Any]:
        """Run the requests that Triton passes as one batch."""
        return requests.run_batch(batch, self._configuration, self._compute, run_time=self._run_time)

    def _compute(self, batch: Sequence[BackendRequest]) -> list[Result]:
        # Without padding the upstream backend refuses requests that fill the batch only together.
        return requests.run_in_groups(batch, self._model.run, batched=self._model.pads)


#: OpenVINO's names of element types -> config names. Source: openvino_utils.cc `OpenVINOElementToModelConfigDataType`,
#: which has neither BF16 nor FP64 nor strings.
_DATA_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "boolean": datatypes.TYPE_BOOL,
        "u8": datatypes.TYPE_UINT8,
        "u16": datatypes.TYPE_UINT16,
        "u32": datatypes.TYPE_UINT32,
        "u64": datatypes.TYPE_UINT64,
        "i8": datatypes.TYPE_INT8,
        "i16": datatypes.TYPE_INT16,
        "i32": datatypes.TYPE_INT32,
        "i64": datatypes.TYPE_INT64,
        "f16": datatypes.TYPE_FP16,
        "f32": datatypes.TYPE_FP32,
    }
)
_ELEMENT_TYPES: Final = {data_type: name for name, data_type in _DATA_TYPES.items()}


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """A model that is ready to run: its inference request, and the batch size that it was compiled for.

    ``batch_size`` is 0 for a model that does not batch; ``pads`` is True where smaller batches are filled with zeros.
    """

    request: Any
    batch_size: int
    pads: bool

    def run(self, arrays: Arrays, names: Sequence[str]) -> Arrays:
        """Return the named outputs; raises RequestError with OpenVINO's own reason."""
        import openvino

        size = next(iter(arrays.values())).shape[0] if self.batch_size else 0
        if size != self.batch_size and not self.pads:
            raise RequestError(
                f"expected requests with batch size '{self.batch_size}', got '{size}'... this error can be avoided by "
                "setting 'ENABLE_BATCH_PADDING' parameter in model configuration to 'YES' at a performance cost.",
                caller=False,
            )
        try:
            for name, array in arrays.items():
                self.request.set_tensor(name, openvino.Tensor(_pad(array, self.batch_size)))
            self.request.infer()
            outputs = {name: np.array(self.request.get_tensor(name).data) for name in names}
        except RuntimeError as error:  # what OpenVINO raises for everything
            raise RequestError(f"openvino error in running inference : {_find_reason(error)}", caller=False) from error
        return {name: array[:size] for name, array in outputs.items()} if self.batch_size else outputs


def _pad(array: np.ndarray[Any, Any], batch_size: int) -> np.ndarray[Any, Any]:
    if not batch_size or array.shape[0] == batch_size:
        return np.ascontiguousarray(array)
    padded = np.zeros((batch_size, *array.shape[1:]), array.dtype)
    padded[: array.shape[0]] = array
    return padded


def compile_model(config: Configuration) -> CompiledModel:
    """Load the model in a version's folder and compile it as its configuration says.

    Raises:
        ArtifactError: the file is missing, not a model, or differs from the configuration; a parameter is invalid.
    """
    core = _make_core(config)
    model = _read_model(core, config)
    model = _set_inputs(config, model)
    model = _set_outputs(config, model)
    properties = read_properties(config.parameters)
    batches = config.batched and not _is_yes(config, "SKIP_OV_DYNAMIC_BATCHSIZE")
    _call("configuring openvino core", core.set_property, "CPU", properties)
    compiled = _call("loading model", core.compile_model, model, "CPU", {"ALLOW_AUTO_BATCHING": batches})
    request = _call("creating infer request object", compiled.create_infer_request)
    return CompiledModel(request, config.max_batch_size, config.batched and _is_yes(config, "ENABLE_BATCH_PADDING"))


def read_properties(parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the properties of OpenVINO's CPU device that ``parameters`` set.

    Raises:
        ArtifactError: a value is invalid.
    """
    properties: dict[str, Any] = {}
    for name, expected in _EXPECTED.items():
        value = parameters.get(name, "").lower()
        if not value:
            continue
        if not (value in _WORDS[name] or (expected.endswith(_NUMBERS) and value.isascii() and value.isdigit())):
            raise ArtifactError(f"expected the parameter '{name}' to be {expected}, got {value}")
        if name == "HINT_BF16":
            properties["INFERENCE_PRECISION_HINT"] = "bf16"
        else:
            properties[name] = value.upper()
    return properties


_NUMBERS: Final = ("number", "<int_value>")
_EXPECTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "INFERENCE_NUM_THREADS": "a non-negative number",
        "COMPILATION_NUM_THREADS": "a non-negative number",
        "HINT_BF16": "YES",
        "NUM_STREAMS": "either AUTO/NUMA/<int_value>",
        "PERFORMANCE_HINT": "LATENCY/THROUGHPUT/CUMULATIVE_THROUGHPUT",
    }
)
#: The words of a value among those in `_EXPECTED`.
_WORDS: Final = {name: text.lower().split(" ")[-1].split("/") for name, text in _EXPECTED.items()}


def _is_yes(config: Configuration, parameter: str) -> bool:
    return config.parameters.get(parameter, "").lower() == "yes"


def _make_core(config: Configuration) -> Any:
    import openvino

    core = openvino.Core()
    if extension := config.parameters.get("CPU_EXTENSION_PATH"):
        _call("loading custom CPU extensions", core.add_extension, extension)
    return core


def _read_model(core: Any, config: Configuration) -> Any:
    path = config.get_path("model.xml")
    if not path.exists():
        raise ArtifactError(f"unable to find '{path}' for model '{config.name}'")
    return _call("reading model", core.read_model, str(path))


def _set_inputs(config: Configuration, model: Any) -> Any:
    """Return the model with inputs of the configured types; batches have exactly ``max_batch_size``."""
    import openvino

    provided = {port.get_any_name(): port for port in model.inputs}
    if len(provided) != len(config.inputs):
        raise ArtifactError(
            f"unable to load model '{config.name}', configuration expects {len(config.inputs)} inputs, model provides "
            f"{len(provided)}"
        )
    processor = openvino.preprocess.PrePostProcessor(model)
    for tensor in config.inputs:
        if tensor.name not in provided:
            raise ArtifactError(describe_unknown_name("input", tensor.name, provided))
        port = processor.input(tensor.name).tensor()
        _call(f"setting precision for {tensor.name}", port.set_element_type, _get_type(config, tensor, "input"))
        shape = provided[tensor.name].get_partial_shape()
        if _is_yes(config, "RESHAPE_IO_LAYERS"):
            extents = [*list(shape)[: int(config.batched)], *(openvino.Dimension(extent) for extent in tensor.dims)]
            extents += list(shape)[len(extents) :]
            _call(f"setting shape for {tensor.name}", port.set_shape, openvino.PartialShape(extents))
        else:
            _check_shape(config, tensor, shape, is_output=False)
        if config.batched:
            _call(f"setting layout for {tensor.name}", port.set_layout, openvino.Layout("N..."))
    model = _call("apply model input preprocessing", processor.build)
    if config.batched:
        _call("setting max batch size", openvino.set_batch, model, config.max_batch_size)
    return model


def _set_outputs(config: Configuration, model: Any) -> Any:
    import openvino

    provided = {port.get_any_name(): port for port in model.outputs}
    processor = openvino.preprocess.PrePostProcessor(model)
    for tensor in config.outputs:
        if tensor.name not in provided:
            raise ArtifactError(describe_unknown_name("output", tensor.name, provided))
        port = processor.output(tensor.name).tensor()
        _call(f"setting precision for {tensor.name}", port.set_element_type, _get_type(config, tensor, "output"))
        _check_shape(config, tensor, provided[tensor.name].get_partial_shape(), is_output=True)
    return _call("apply model output preprocessing", processor.build)


def _get_type(config: Configuration, tensor: Tensor, kind: str) -> Any:
    import openvino

    name = _ELEMENT_TYPES.get(tensor.data_type)
    if name is None:
        raise ArtifactError(
            f"unsupported datatype {tensor.data_type} for {kind} '{tensor.name}' for model '{config.name}'"
        )
    return getattr(openvino.Type, name)


def _check_shape(config: Configuration, tensor: Tensor, shape: Any, *, is_output: bool) -> None:
    """Compare the shape of the file with the one of the configuration (openvino_utils.cc `CompareDimsSupported`)."""
    stated = (config.max_batch_size, *tensor.dims) if config.batched else tensor.dims
    compared = [
        place for place, extent in enumerate(stated) if is_output or not config.batched or (place > 0 and extent != -1)
    ]
    if len(stated) == len(shape) and all(_matches(shape[place], stated[place]) for place in compared):
        return
    found = format_shape([extent.get_length() if extent.is_static else -1 for extent in shape])
    given = format_shape(stated)
    how = (
        "an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making complete "
        f"shape {given}"
        if config.batched
        else f"shape {given}"
    )
    raise ArtifactError(
        f"model '{config.name}', tensor '{tensor.name}': the model expects {len(shape)} dimensions (shape {found}) but "
        f"the model configuration specifies {len(stated)} dimensions ({how})"
    )


def _matches(extent: Any, stated: int) -> bool:
    if extent.is_static:
        return bool(extent.get_length() == stated)
    largest = extent.get_max_length()  # -1 without a bound
    return bool(largest == -1 or extent.get_min_length() < stated < largest)


def complete_config(config: Any, model: Any) -> None:
    """Fill in what a configuration leaves out.

    The model batches where every layout has a batch. Inputs are completed where the configuration has none, and so are
    outputs; one varying extent makes all dims of a tensor -1.
    """
    import openvino

    layouts = openvino.layout_helpers
    parts = config.as_dict()
    if all(layouts.has_batch(layouts.get_layout(port)) for port in (*model.inputs, *model.outputs)):
        if not parts["max_batch_size"]:
            config.set_max_batch_size(DEFAULT_MAX_BATCH_SIZE)
        if parts["max_batch_size"] > 1 and not {"dynamic_batching", "sequence_batching"} & parts.keys():
            config.set_dynamic_batching()
    first = int(parts["max_batch_size"] > 0)
    for key, add, ports in (("input", config.add_input, model.inputs), ("output", config.add_output, model.outputs)):
        for tensor in () if parts.get(key) else _describe_ports(ports, first):
            add(tensor)


def _describe_ports(ports: Sequence[Any], first: int) -> Iterator[dict[str, Any]]:
    for port in ports:
        shape = port.get_partial_shape()
        dims = [extent.get_length() if shape.is_static else -1 for extent in list(shape)[first:]]
        data_type = _DATA_TYPES.get(port.get_element_type().get_type_name(), "TYPE_INVALID")
        yield {"name": port.get_any_name(), "data_type": data_type, "dims": dims}


_Function: TypeAlias = Callable[..., Any]


def _call(what: str, function: _Function, *arguments: Any) -> Any:
    """Call a function of OpenVINO; raises ArtifactError with its reason."""
    try:
        return function(*arguments)
    except RuntimeError as error:  # what OpenVINO raises for everything
        raise ArtifactError(f"openvino error in {what} : {_find_reason(error)}") from error


def _find_reason(error: Exception) -> str:
    """Return an error of OpenVINO in one line, without the places of its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Exception from src/", "Check '"))]
    return " ".join(kept or lines)
