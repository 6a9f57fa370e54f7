"""The ``pytorch`` backend: a TorchScript file on the CPU.

Triton makes one `TritonPythonModel` for each instance of a model. Names of tensors, parameters, checks and their words
follow pytorch_backend of r24.10 (src/libtorch.cc). Nothing is completed: that backend does not do it either. It has no
batch inputs and outputs here, and no PyTorch 2.0 models (``runtime: "model.py"``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tritonforge import datatypes
from tritonforge.errors import ArtifactError
from tritonforge.serving.backends import configuration, requests
from tritonforge.serving.backends.configuration import Configuration, Tensor
from tritonforge.serving.backends.pytorch.naming import Argument, Names, assign_names
from tritonforge.serving.backends.requests import Arrays, RequestError

__all__ = ["Script", "TritonPythonModel", "load_script"]


class TritonPythonModel:
    """One TorchScript module."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the file."""
        with configuration.report_errors():
            stated = configuration.read_arguments(args)
            self._runner = requests.BatchRunner(stated, load_script(stated).run)

    def execute(self, batch: Sequence[Any]) -> list[Any]:
        """Run the requests that Triton passes as one batch."""
        return self._runner.execute(batch)


#: Config names -> the names of torch's types. Source: libtorch_utils.cc `ModelConfigDataTypeToTorchType`.
_TYPES: Final[Mapping[str, str]] = {
    datatypes.TYPE_BOOL: "bool",
    datatypes.TYPE_UINT8: "uint8",
    datatypes.TYPE_INT8: "int8",
    datatypes.TYPE_INT16: "int16",
    datatypes.TYPE_INT32: "int32",
    datatypes.TYPE_INT64: "int64",
    datatypes.TYPE_FP16: "float16",
    datatypes.TYPE_FP32: "float32",
    datatypes.TYPE_FP64: "float64",
}
_CONFIG_TYPES: Final = {f"torch.{name}": data_type for data_type, name in _TYPES.items()}


@dataclass(frozen=True, slots=True)
class Script:
    """A loaded module, the places of its inputs and outputs, and how it is run."""

    module: Any
    names: Names
    data_types: Mapping[str, str]
    inference_mode: bool

    def run(self, arrays: Arrays, names: Sequence[str]) -> Arrays:
        """Return the named outputs; raises RequestError with PyTorch's own reason."""
        values = {name: _encode_array(name, array) for name, array in arrays.items()}
        arguments = [values] if self.names.is_dictionary else self.names.sort_inputs(values)
        outputs = self._forward(arguments)
        for name, place in self.names.outputs.items():
            if not 0 <= place < len(outputs):
                raise RequestError(
                    f"The output {name} in the model configuration refers to an output index which doesn't exist. This "
                    f"model has {len(outputs)} outputs"
                )
        return {name: self._decode_output(name, outputs[self.names.outputs[name]]) for name in names}

    def _forward(self, arguments: Sequence[Any]) -> Sequence[Any]:
        import torch

        try:
            with torch.inference_mode(self.inference_mode), torch.no_grad():
                return _list_outputs(self.module(*arguments))
        # TorchScript raises RuntimeError for most, and Python's own errors for a few.
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise RequestError(f"PyTorch execute failure: {error}", caller=False) from error

    def _decode_output(self, name: str, value: Any) -> np.ndarray[Any, Any]:
        stated = self.data_types[name]
        if isinstance(value, list):
            return np.array([text.encode() for text in value], dtype=object)
        data_type = _CONFIG_TYPES.get(str(value.dtype), "TYPE_<invalid>")
        if data_type != stated:
            raise RequestError(
                f"configuration expects datatype {stated} for output '{name}', model provides {data_type}"
            )
        if not value.ndim:
            raise RequestError(f"output '{name}' is a scalar which is not supported.")
        return np.asarray(value.detach().numpy())


def _list_outputs(result: Any) -> Sequence[Any]:
    """Return the outputs of a module: a tensor, a list of texts, or a tuple of these."""
    import torch

    if isinstance(result, tuple):
        for place, value in enumerate(result):
            if isinstance(value, list) and not _is_text(value):
                raise ValueError(f"output at index {place} must be of type Tensor or List[str], received List")
            if not isinstance(value, (list, torch.Tensor)):
                raise ValueError(f"output at index {place} must be of type Tensor or List[str]")
        return result
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, list):
        if not _is_text(result):
            raise ValueError("output must be of type Tensor or List[str], received List")
        return [result]
    raise ValueError(
        "output must be of type Tensor, List[str] or Tuple containing one of these two types. It should not be a List "
        "/ Dictionary of Tensors or a Scalar"
    )


def _is_text(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _encode_array(name: str, array: np.ndarray[Any, Any]) -> Any:
    """Return an array for PyTorch, which has lists of text instead of tensors of bytes."""
    import torch

    if array.dtype != object:
        return torch.from_numpy(np.ascontiguousarray(array))
    try:
        return [element if isinstance(element, str) else element.decode() for element in array.ravel()]
    except UnicodeDecodeError as error:
        raise RequestError(
            f"input '{name}' is not UTF-8 text, which is all that PyTorch's Python package takes: {error}"
        ) from error


def load_script(config: Configuration) -> Script:
    """Load the model in a version's folder.

    Raises:
        ArtifactError: the file is missing, not TorchScript, or differs from the configuration; a parameter is invalid.
    """
    path = config.get_path("model.pt")
    if not path.is_file():
        if (config.folder / "model.py").is_file():
            raise ArtifactError(
                f"model '{config.name}': PyTorch 2.0 models (runtime \"model.py\") are not supported by tritonforge's "
                "backend; save it as TorchScript, or serve it on Triton's own"
            )
        raise ArtifactError(f"unable to find '{path}' for model instance '{config.name}'")
    import torch

    inference_mode = _read_flag(config, "INFERENCE_MODE", default=True)
    _apply_parameters(config)
    with _report_as(f"failed to load model '{config.name}'"), torch.inference_mode(inference_mode):
        module = torch.jit.load(str(path), map_location="cpu")
    schema = module.forward.schema.arguments
    arguments = [Argument(argument.name, argument.type.kind(), str(argument.type)) for argument in schema]
    names = assign_names(config, arguments)
    for warning in names.warnings:
        _log_warning(warning)
    _check_types(config)
    outputs = [*config.outputs, *(state.output for state in config.states)]
    return Script(module, names, {tensor.name: tensor.data_type for tensor in outputs}, inference_mode)


def _apply_parameters(config: Configuration) -> None:
    """Set what ``parameters`` change of PyTorch in this process, which runs this model alone."""
    import torch

    optimizes = not _read_flag(config, "DISABLE_OPTIMIZED_EXECUTION", default=False)
    torch._C._set_graph_executor_optimize(optimizes)
    for parameter, function in (
        ("ENABLE_TENSOR_FUSER", torch._C._jit_set_texpr_fuser_enabled),
        ("ENABLE_JIT_PROFILING", torch._C._jit_set_profiling_mode),
        ("ENABLE_JIT_EXECUTOR", torch._C._jit_set_profiling_executor),
    ):
        if parameter in config.parameters:
            function(_read_flag(config, parameter, default=True))
    for parameter, function in (
        ("INTRA_OP_THREAD_COUNT", torch.set_num_threads),
        ("INTER_OP_THREAD_COUNT", torch.set_num_interop_threads),
    ):
        if (count := _read_integer(config, parameter)) > 0:
            function(count)
    # Those that matter on GPUs and between instances only are read, so that a mistake is reported.
    for parameter in ("DISABLE_CUDNN", "ENABLE_CACHE_CLEANING", "ENABLE_WEIGHT_SHARING"):
        _read_flag(config, parameter, default=False)


def _read_flag(config: Configuration, parameter: str, *, default: bool) -> bool:
    """Return a Boolean parameter (backend_common.cc `ParseBoolValue`); raises ArtifactError."""
    text = config.parameters.get(parameter)
    if text is None:
        return default
    if text.lower() not in ("true", "on", "1", "false", "off", "0"):
        raise ArtifactError(f"failed to convert '{text}' to boolean")
    return text.lower() in ("true", "on", "1")


def _read_integer(config: Configuration, parameter: str) -> int:
    text = config.parameters.get(parameter, "-1")
    try:
        return int(text)
    except ValueError:
        raise ArtifactError(f"failed to convert '{text}' to integral number") from None


def _check_types(config: Configuration) -> None:
    """Raise ArtifactError for an element type that torch does not have, or strings of more than one dimension."""
    kinds: list[tuple[str, str, Sequence[Tensor]]] = [
        ("input", "input", config.inputs),
        ("input", "input state", [state.input for state in config.states]),
        ("output", "output", config.outputs),
        ("output", "state", [state.output for state in config.states]),
    ]
    for direction, kind, tensors in kinds:
        for tensor in tensors:
            if tensor.data_type == datatypes.TYPE_STRING:
                if len(tensor.shape) > 1:
                    raise ArtifactError(
                        f"Triton only supports 1 dimensional List of String as {direction} for '{tensor.name}' for "
                        f"model '{config.name}'"
                    )
            elif tensor.data_type not in _TYPES:
                raise ArtifactError(
                    f"unsupported datatype {tensor.data_type} for {kind} '{tensor.name}' for model '{config.name}'"
                )
    for tensor in config.controls:
        if tensor.data_type not in _TYPES:
            raise ArtifactError(f"input '{tensor.name}' type '{tensor.data_type}' is not supported by PyTorch.")


def _log_warning(sentence: str) -> None:
    import triton_python_backend_utils as pb_utils

    pb_utils.Logger.log_warn(sentence)


@contextmanager
def _report_as(what: str) -> Iterator[None]:
    """Raise errors of reading a file as ArtifactError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # what PyTorch raises for every damage
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{what}: {reason}") from error
