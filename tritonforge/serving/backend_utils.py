"""What Triton's python stub adds to ``triton_python_backend_utils`` in C++, as plain Python values.

Names, arguments and defaults are those of python_backend/src/pb_stub.cc (PYBIND11_EMBEDDED_MODULE). Metrics, traces,
shared memory and loading of models are not here: a model that uses them needs the server.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from tritonforge.datatypes import from_numpy

__all__ = ["TRITONSERVER_REQUEST_FLAG_SEQUENCE_END", "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START",
           "TRITONSERVER_RESPONSE_COMPLETE_FINAL", "InferenceRequest", "InferenceResponse", "InferenceResponseSender",
           "Logger", "Tensor", "TritonError", "TritonModelException"]  # fmt: skip

Array = npt.NDArray[Any]

#: Source: triton/core/tritonserver.h.
TRITONSERVER_REQUEST_FLAG_SEQUENCE_START: Final = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END: Final = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL: Final = 1


class TritonModelException(Exception):  # noqa: N818 - the backend's own name
    """A model breaks a rule of the backend."""


class _Code(enum.Enum):
    """The codes of errors."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7


class TritonError:
    """The error of a response."""

    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG = _Code.UNKNOWN, _Code.INTERNAL, _Code.NOT_FOUND, _Code.INVALID_ARG
    UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS = _Code.UNAVAILABLE, _Code.UNSUPPORTED, _Code.ALREADY_EXISTS
    CANCELLED = _Code.CANCELLED

    def __init__(self, message: str, code: _Code = _Code.INTERNAL) -> None:
        self._message = message
        self._code = code

    def message(self) -> str:
        """Return the sentence."""
        return self._message

    def code(self) -> _Code:
        """Return the code."""
        return self._code


class Tensor:
    """A named tensor; an array of text becomes one of ``bytes``, as in the stub."""

    def __init__(self, name: str, array: Array) -> None:
        row = from_numpy(np.asarray(array).dtype)
        if not isinstance(array, np.ndarray) or row is None or array.dtype.kind == "U":
            given = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise TritonModelException(f"Tensor {name!r}: expected an array of a datatype of Triton, got {given}")
        self._name = name
        self._array = np.ascontiguousarray(array).reshape(array.shape)
        if row.wire == "BYTES":
            texts = [text if isinstance(text, bytes) else str(text).encode() for text in array.reshape(-1).tolist()]
            self._array = np.array([*texts, None], dtype=object)[:-1].reshape(array.shape)

    @classmethod
    def from_dlpack(cls, name: str, tensor: Any) -> Tensor:
        """Return the tensor of an object that has DLPack."""
        return cls(name, np.from_dlpack(tensor))

    def name(self) -> str:
        """Return the name."""
        return self._name

    def as_numpy(self) -> Array:
        """Return the array."""
        return self._array

    def shape(self) -> list[int]:
        """Return the shape."""
        return list(self._array.shape)

    def is_cpu(self) -> bool:
        """Return True: a tensor in this process is always in the CPU's memory."""
        return True

    def to_dlpack(self) -> Any:
        """Return the DLPack capsule of the array."""
        return self._array.__dlpack__()

    def __dlpack__(self, *, stream: Any = None) -> Any:
        return self._array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._array.__dlpack_device__()
        return device


class InferenceResponse:
    """A response: tensors, or an error."""

    def __init__(
        self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None, parameters: Any = None
    ) -> None:
        self._tensors = list(output_tensors)
        self._error = error
        self._parameters = parameters

    def output_tensors(self) -> list[Tensor]:
        """Return the outputs."""
        return self._tensors

    def has_error(self) -> bool:
        """Return True if the response is an error."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """Return the error."""
        return self._error

    def parameters(self) -> str:
        """Return the parameters."""
        return self._parameters or "{}"


class InferenceResponseSender:
    """Collects the responses of a decoupled model."""

    def __init__(self) -> None:
        self.responses: list[InferenceResponse] = []
        self._is_closed = False

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Send a response; with the flag of the final one, the last. Raises TritonModelException after the last."""
        if self._is_closed:
            raise TritonModelException("Unable to send response. Response sender has been closed.")
        if response is not None:
            self.responses.append(response)
        self._is_closed = bool(flags & TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def is_cancelled(self) -> bool:
        """Return False: nothing cancels here."""
        return False


class InferenceRequest:
    """A request: one that the model gets, or one that it sends to another model (BLS)."""

    #: What answers the requests to other models, by their names.
    responders: ClassVar[Mapping[str, Callable[[Mapping[str, Array]], Mapping[str, Array]]]] = {}

    def __init__(
        self,
        request_id: str = "",
        correlation_id: int | str = 0,
        inputs: Sequence[Tensor] = (),
        requested_output_names: Sequence[str] = (),
        model_name: str = "",
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: Any = None,
        trace: Any = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        del preferred_memory, trace
        self._inputs = list(inputs)
        self._outputs = list(requested_output_names)
        self._values = (request_id, correlation_id, flags, timeout)
        self._model = (model_name, model_version)
        self._parameters = dict(parameters or {})
        self._sender = InferenceResponseSender()

    def inputs(self) -> list[Tensor]:
        """Return the inputs."""
        return self._inputs

    def request_id(self) -> str:
        """Return the id."""
        return self._values[0]

    def correlation_id(self) -> int | str:
        """Return the id of the sequence."""
        return self._values[1]

    def flags(self) -> int:
        """Return the flags of a sequence."""
        return self._values[2]

    def timeout(self) -> int:
        """Return the timeout in microseconds."""
        return self._values[3]

    def parameters(self) -> str:
        """Return the parameters as JSON."""
        import json

        return json.dumps(self._parameters)

    def requested_output_names(self) -> list[str]:
        """Return the names of the outputs."""
        return self._outputs

    def model_name(self) -> str:
        """Return the model."""
        return self._model[0]

    def model_version(self) -> int:
        """Return the version."""
        return self._model[1]

    def is_cancelled(self) -> bool:
        """Return False: nothing cancels here."""
        return False

    def get_response_sender(self) -> InferenceResponseSender:
        """Return where a decoupled model sends its responses."""
        return self._sender

    def exec(self, decoupled: bool = False) -> Any:
        """Send the request to another model, and return its response; with ``decoupled`` an iterator of it."""
        name = self._model[0]
        if name not in self.responders:
            message = f"Failed for execute the inference request. Model '{name}' is not ready."
            response = InferenceResponse(error=TritonError(message, _Code.NOT_FOUND))
        else:
            answer = self.responders[name]({tensor.name(): tensor.as_numpy() for tensor in self._inputs})
            tensors = [Tensor(key, array) for key, array in answer.items() if key in self._outputs]
            response = InferenceResponse(tensors)
        return _iterate(response) if decoupled else response

    async def async_exec(self, decoupled: bool = False) -> Any:
        """Send the request as `exec` does."""
        return self.exec(decoupled)


class Logger:
    """The server's log, here Python's."""

    @staticmethod
    def log_info(message: str) -> None:
        """Log for information."""
        logging.getLogger(__name__).info(message)

    @staticmethod
    def log_warn(message: str) -> None:
        """Log a warning."""
        logging.getLogger(__name__).warning(message)

    @staticmethod
    def log_error(message: str) -> None:
        """Log an error."""
        logging.getLogger(__name__).error(message)

    @staticmethod
    def log_verbose(message: str) -> None:
        """Log a detail."""
        logging.getLogger(__name__).debug(message)


def _iterate(response: InferenceResponse) -> Iterator[InferenceResponse]:
    yield response
