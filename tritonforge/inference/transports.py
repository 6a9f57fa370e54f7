"""A transport: what carries the bytes of one inference there and back. This module does no I/O.

It is the one interface between the client and the network: `Call` in, `Answer` out. A transport raises ServerError for
an answer that is not a success, ConnectError if none arrives, and never sends an inference twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from tritonforge.errors import EncodeError, ServerError
from tritonforge.inference.wire import Payload, Response
from tritonforge.inference.wire.tensors import datatype_of

__all__ = ["Answer", "Call", "DecoupledError", "FunctionTransport", "InspectableTransport", "ModelError",
           "ModelMetadata", "RelayError",
           "StreamingTransport", "TensorMetadata", "Transport", "UnnamedModelError", "check_size", "choose_model",
           "describe_outputs", "refuse_options"]  # fmt: skip

#: How many models a message lists.
_SHOWN_MODELS: Final = 12


#: Bytes that a request may have: Triton counts them in 32 bits with a sign, and one of 2 GiB of JSON ends the server
#: (2.51, tried). Source: server/src/http_server.cc; protobuf has the same limit for gRPC.
_LARGEST: Final = 2**31 - 1


class ModelError(ServerError):
    """The model's own error, relayed by a service that keeps its log; ``log`` is its place, "" where it is unknown.

    ``status`` and ``message`` are those of the model's server.
    """

    def __init__(self, message: str, *, status: int, log: str = "") -> None:
        super().__init__(message, status=status)
        self.log = log
        if log:
            self.args = (f"{self} (its log: {log})",)


class RelayError(ServerError):
    """The service in front of the model answered with an error of its own; the model did not run.

    ``message`` is the service's own sentence, ``code`` its name of this error, ``advice`` what to do, if that is known.
    """

    def __init__(self, message: str, *, status: int, code: str = "", advice: str = "") -> None:
        super().__init__(message, status=status)
        self.code = code
        self.advice = advice
        if advice:
            self.args = (f"{self}; {advice}",)


class DecoupledError(ServerError):
    """The model is decoupled (a request has any number of responses), and this call has exactly one.

    The model did not run. ``advice`` says what to do instead.
    """

    def __init__(self, message: str, *, status: int, advice: str) -> None:
        super().__init__(message, status=status)
        self.advice = advice
        self.args = (f"{self}; {advice}",)


class UnnamedModelError(EncodeError):
    """A request names no model, and the server has several or none; ``models`` lists them, as far as is known."""

    def __init__(self, url: str, models: tuple[str, ...]) -> None:
        shown = f": {', '.join(models[:_SHOWN_MODELS])}" if models else ""
        more = f" and {len(models) - _SHOWN_MODELS} more" if len(models) > _SHOWN_MODELS else ""
        super().__init__(f"{url} serves models by name{shown}{more}. Name the model of the request")
        self.models = models


@dataclass(frozen=True, slots=True)
class Call:
    """One inference: the payload, and the model that it is for, where the address does not determine it.

    ``model_version`` empty means the version that the model's policy chooses. ``options`` are a transport's own, for
    this inference only; one that has none refuses them with `refuse_options`.
    """

    payload: Payload
    model: str | None = None
    model_version: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of a success, and the length of its JSON header, None where all of it is JSON.

    ``provenance`` is what the transport received beside it, such as the variant of an endpoint that answered.
    """

    body: bytes
    header_length: int | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """A tensor of a model: its KServe ``datatype``, and its ``shape``: -1 for what varies, batch dimension included."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """A model's tensors, and ``source``, a phrase that names where they are from.

    ``outputs`` is empty where the server does not report them before its first answer. The last three are of the
    model's configuration: ``max_batch_size`` (0: the model has no batch dimension), ``decoupled`` (a request has any
    number of responses), and ``labelled_outputs``, the outputs with a label file. They are None and empty where the
    server has no call for the configuration.
    """

    name: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    versions: tuple[str, ...] = field(default=(), kw_only=True)
    source: str = field(kw_only=True)
    max_batch_size: int | None = field(default=None, kw_only=True)
    decoupled: bool | None = field(default=None, kw_only=True)
    labelled_outputs: tuple[str, ...] = field(default=(), kw_only=True)


class Transport(Protocol):
    """What `Client` needs of an address; pass one as ``Client(url, transport=...)``."""

    def infer(self, call: Call) -> Answer:
        """Send one inference; it may reach the server once, never twice."""
        ...

    def ready(self, model: str | None) -> bool:
        """Return True if the server, or the model where one is named, is ready."""
        ...

    def metadata(self, model: str | None) -> ModelMetadata | None:
        """Return the model's tensors, None where the address has no call for that."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


@runtime_checkable
class StreamingTransport(Protocol):
    """A transport that can also carry a request with any number of responses."""

    def stream(self, call: Call) -> Iterator[Answer]:
        """Send the request, and yield its responses as they arrive."""
        ...


@runtime_checkable
class InspectableTransport(Protocol):
    """A transport to Triton's own front ends, which also report models, configurations and statistics."""

    def list_models(self) -> tuple[str, ...]:
        """Return the models that are ready; empty where the server has no call for them."""
        ...

    def read_config(self, model: str) -> bytes | str:
        """Return a model's configuration, as the server completed it, as JSON. Raises ServerError."""
        ...

    def read_statistics(self) -> bytes | str:
        """Return the statistics of all models as JSON (extension_statistics.md). Raises ServerError."""
        ...


@dataclass(frozen=True, slots=True)
class FunctionTransport:
    """A transport that calls a function instead of a server: for tests, and for models in the same process."""

    answer: Callable[[Call], Answer]
    about: ModelMetadata | None = None

    def infer(self, call: Call) -> Answer:
        """Call the function."""
        return self.answer(call)

    def ready(self, model: str | None) -> bool:
        """Return True."""
        return True

    def metadata(self, model: str | None) -> ModelMetadata | None:
        """Return ``about``."""
        return self.about

    def close(self) -> None:
        """Do nothing."""


def describe_outputs(response: Response) -> tuple[TensorMetadata, ...]:
    """Return the outputs of a response as metadata, with the shapes that they have there."""
    return tuple(
        TensorMetadata(name, datatype_of(name, array).wire, array.shape) for name, array in response.outputs.items()
    )


def check_size(payload: Payload) -> None:
    """Refuse a request that Triton cannot take. Raises EncodeError."""
    if payload.size > _LARGEST:
        raise EncodeError(
            f"the request has {payload.size} bytes, and Triton takes at most {_LARGEST}; send less at once"
        )


def refuse_options(call: Call, *, at: str) -> None:
    """Refuse a call's options, for a transport that has none; raises EncodeError."""
    if call.options:
        raise EncodeError(f"{at}: unknown option {sorted(call.options)[0]!r}; only SageMaker endpoints have options")


def choose_model(models: tuple[str, ...], *, url: str) -> str:
    """Return the only model of a server; raises UnnamedModelError where there are several or none."""
    if len(models) != 1:
        raise UnnamedModelError(url, models)
    return models[0]
