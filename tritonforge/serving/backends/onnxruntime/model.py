"""The ``onnxruntime`` backend: an ONNX file in a session of ONNX Runtime.

Triton makes one `TritonPythonModel` for each instance of a model.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from tritonforge import datatypes
from tritonforge.errors import ArtifactError
from tritonforge.model_files.completion import complete_onnx
from tritonforge.model_files.signature import UNSUPPORTED, Signature, TensorSpec
from tritonforge.serving.backends import configuration, dlpack, requests
from tritonforge.serving.backends.configuration import Configuration
from tritonforge.serving.backends.requests import Arrays, RequestError

__all__ = ["Session", "TritonPythonModel", "load_session"]


class TritonPythonModel:
    """One ONNX file in a session."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in what the configuration leaves out."""
        parts = config.as_dict()
        if not parts.get("input") or not parts.get("output"):  # reading the file takes as long as loading it
            with configuration.report_errors():
                signature = load_session(configuration.read_incomplete_config(config)).signature
                complete_onnx(parts, signature)
        return config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the file."""
        with configuration.report_errors():
            stated = configuration.read_arguments(args)
            session = load_session(stated)
            check_session(stated, session)
            self._runner = requests.BatchRunner(stated, session.run)

    def execute(self, batch: Sequence[Any]) -> list[Any]:
        """Run the requests that Triton passes as one batch."""
        return self._runner.execute(batch)


#: ONNX Runtime's names of element types -> config names. Source: onnxruntime `DataTypeImpl::ToString`.
_DATA_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "tensor(bool)": datatypes.TYPE_BOOL,
        "tensor(uint8)": datatypes.TYPE_UINT8,
        "tensor(uint16)": datatypes.TYPE_UINT16,
        "tensor(uint32)": datatypes.TYPE_UINT32,
        "tensor(uint64)": datatypes.TYPE_UINT64,
        "tensor(int8)": datatypes.TYPE_INT8,
        "tensor(int16)": datatypes.TYPE_INT16,
        "tensor(int32)": datatypes.TYPE_INT32,
        "tensor(int64)": datatypes.TYPE_INT64,
        "tensor(float16)": datatypes.TYPE_FP16,
        "tensor(float)": datatypes.TYPE_FP32,
        "tensor(double)": datatypes.TYPE_FP64,
        "tensor(string)": datatypes.TYPE_STRING,
        "tensor(bfloat16)": datatypes.TYPE_BF16,
    }
)

_ONNX_BFLOAT16: Final = 16  # onnx.TensorProto.BFLOAT16


@dataclass(frozen=True, slots=True)
class Session:
    """A loaded file: its inputs and outputs, and the session that runs it."""

    session: Any
    signature: Signature

    def run(self, arrays: Arrays, names: Sequence[str]) -> Arrays:
        """Return the named outputs; raises RequestError with ONNX Runtime's own reason."""
        try:
            # With BF16 on either side the tensors go as OrtValues, since numpy has no such type.
            if any(self._is_bfloat16(name) for name in (*arrays, *names)):
                values = [_read_value(value) for value in self._run_values(arrays, names)]
            else:
                values = self.session.run(
                    list(names), {name: _encode_array(name, array) for name, array in arrays.items()}
                )
        except RequestError:
            raise
        # ONNX Runtime's errors derive from Exception itself and are made at run time; each is this request's answer.
        except Exception as error:
            refused = type(error).__name__ in ("InvalidArgument", "ValueError")
            raise RequestError(_find_reason(error), caller=refused) from error
        return {name: _decode_array(array) for name, array in zip(names, values, strict=True)}

    def _run_values(self, arrays: Arrays, names: Sequence[str]) -> list[Any]:
        from onnxruntime import OrtValue

        values = {}
        for name, array in arrays.items():
            if self._is_bfloat16(name):
                bits = np.ascontiguousarray(array).view(np.uint16)
                values[name] = OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _ONNX_BFLOAT16)
            else:
                values[name] = OrtValue.ortvalue_from_numpy(_encode_array(name, array))
        return list(self.session.run_with_ort_values(list(names), values))

    def _is_bfloat16(self, name: str) -> bool:
        tensors = (*self.signature.inputs, *self.signature.outputs)
        return any(tensor.name == name and tensor.data_type == datatypes.TYPE_BF16 for tensor in tensors)


def load_session(config: Configuration) -> Session:
    """Load the model in a version's folder; nothing is compared with the configuration yet.

    ``parameters``: ``intra_op_thread_count``, ``inter_op_thread_count`` (default 0: ONNX Runtime decides),
    ``execution_mode`` (0 sequential, 1 parallel).

    Raises:
        ArtifactError: the file is missing or not a model.
    """
    import onnxruntime

    path = config.get_path("model.onnx")
    if path.is_dir():  # a model with external data may be a folder
        path = path / "model.onnx"
    if not path.is_file():
        raise ArtifactError(f"unable to find '{path}' for model instance '{config.name}'")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.read_number("intra_op_thread_count", 0)
    options.inter_op_num_threads = config.read_number("inter_op_thread_count", 0)
    mode = config.read_number("execution_mode", 0)
    if mode not in (0, 1):
        raise ArtifactError(
            f"Invalid configuration value provided. Expected values for execution_mode are 0 or 1 but got {mode} ."
        )
    options.execution_mode = (
        onnxruntime.ExecutionMode.ORT_PARALLEL if mode else onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    )
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's errors derive from Exception itself and are made at run time.
    except Exception as error:
        raise ArtifactError(f"{path} is not a model that this ONNX Runtime can run: {_find_reason(error)}") from error
    return Session(session, Signature(_specs(session.get_inputs()), _specs(session.get_outputs())))


def check_session(config: Configuration, session: Session) -> None:
    """Compare a model with its configuration; raises ArtifactError with the first disagreement."""
    if config.batched:
        for tensor in config.inputs:
            if tensor.optional:
                raise ArtifactError(f"optional input '{tensor.name}' is not supported for models that support batching")
    signature = session.signature
    types = {tensor.data_type for tensor in (*signature.inputs, *signature.outputs)}
    texts = [tensor.name for tensor in signature.inputs if tensor.data_type == datatypes.TYPE_STRING]
    if datatypes.TYPE_BF16 in types and texts:
        raise ArtifactError(
            f"model '{config.name}' has BF16 tensors and the string input '{texts[0]}': ONNX Runtime's Python package "
            "does not carry both in one request"
        )
    configuration.check_tensors(config, signature)


def _specs(tensors: Sequence[Any]) -> list[TensorSpec]:
    specs = []
    for tensor in tensors:
        shape = None if tensor.shape is None else [size if isinstance(size, int) else -1 for size in tensor.shape]
        specs.append(TensorSpec(tensor.name, _DATA_TYPES.get(tensor.type, UNSUPPORTED), shape))
    return specs


def _encode_array(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array for ONNX Runtime, whose Python package has text, not bytes."""
    if array.dtype != object:
        return np.ascontiguousarray(array)
    try:
        texts = [element if isinstance(element, str) else element.decode() for element in array.ravel()]
    except UnicodeDecodeError as error:
        raise RequestError(
            f"input '{name}' is not UTF-8 text, which is all that ONNX Runtime takes: {error}"
        ) from error
    return np.array(texts, dtype=object).reshape(array.shape)


def _decode_array(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype != object:
        return array
    return np.array([str(element).encode() for element in array.ravel()], dtype=object).reshape(array.shape)


def _read_value(value: Any) -> np.ndarray[Any, Any]:
    if value.element_type() != _ONNX_BFLOAT16:
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    size = int(np.prod(shape, dtype=np.int64)) * dlpack.BFLOAT16.itemsize
    content = ctypes.string_at(value.data_ptr(), size) if size else b""
    return np.frombuffer(content, dlpack.BFLOAT16).reshape(shape)


def _find_reason(error: Exception) -> str:
    """Return an error of ONNX Runtime in one line, without its prefix ``[ONNXRuntimeError] : 2 : INVALID_ARGUMENT``."""
    text = str(error)
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(" : ", 3)[-1]
    return " ".join(text.split())
