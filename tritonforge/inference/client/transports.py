"""A transport: what carries the bytes of one inference there and back. This module does no I/O.

It is the one seam between the client and the world: `Call` in, `Answer` out. A transport raises ServerError for an
answer that is no success, ConnectError where there is no answer, and never sends an inference twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tritonforge.errors import EncodeError, ServerError
from tritonforge.inference.wire import Payload

__all__ = [
    "Answer",
    "Call",
    "FunctionTransport",
    "ModelError",
    "ModelMetadata",
    "RelayError",
    "TensorMetadata",
    "Transport",
    "no_options",
]


class ModelError(ServerError):
    """The model's own error, brought by a service that keeps its log; ``log`` says where, empty where it is not told.

    ``status`` and ``message`` are those of the model's server.
    """

    def __init__(self, message: str, *, status: int, log: str = "") -> None:
        super().__init__(message, status=status)
        self.log = log
        if log:
            self.args = (f"{self} (its log: {log})",)


class RelayError(ServerError):
    """The service before the model answered with an error of its own, so that the model was not heard.

    ``message`` is the service's own sentence, ``code`` its word for this error, ``advice`` what to do, where that is
    known.
    """

    def __init__(self, message: str, *, status: int, code: str = "", advice: str = "") -> None:
        super().__init__(message, status=status)
        self.code = code
        self.advice = advice
        if advice:
            self.args = (f"{self}; {advice}",)


@dataclass(frozen=True, slots=True)
class Call:
    """One inference to be carried: the payload, and the model that it is for, where the address does not tell.

    ``model_version`` empty means the version that the model's policy chooses. ``options`` are a transport's own, for
    this inference only; one that has none refuses them with `no_options`.
    """

    payload: Payload
    model: str | None = None
    model_version: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of a success, and the length of its JSON header, None where all of it is JSON.

    ``provenance`` is what the transport was told beside it, such as which variant of an endpoint answered.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetadata:
    """A model's tensors, and ``source``, one phrase on where this knowledge is from.

    ``outputs`` is empty where the server does not tell them before its first answer.
    """

    name: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    versions: tuple[str, ...] = ()
    source: str


class Transport(Protocol):
    """What `Client` needs of an address; hand one in as ``Client(url, transport=...)``."""

    def infer(self, call: Call) -> Answer:
        """Carry one inference; it may reach the server once, never twice."""
        ...

    def ready(self, model: str | None) -> bool:
        """Whether the server, or the model where one is named, says that it is ready."""
        ...

    def metadata(self, model: str | None) -> ModelMetadata | None:
        """The model's tensors, None where the address has no call for that."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


@dataclass(frozen=True, slots=True)
class FunctionTransport:
    """A transport that asks a function in place of a server: for tests, and for models in the same process."""

    answer: Callable[[Call], Answer]
    about: ModelMetadata | None = None

    def infer(self, call: Call) -> Answer:
        """What the function gives."""
        return self.answer(call)

    def ready(self, model: str | None) -> bool:
        """Always."""
        return True

    def metadata(self, model: str | None) -> ModelMetadata | None:
        """What was handed in as ``about``."""
        return self.about

    def close(self) -> None:
        """Nothing is held."""


def no_options(call: Call, *, at: str) -> None:
    """Refuse a call's options, for a transport that has none; raises EncodeError."""
    if call.options:
        raise EncodeError(f"{at} knows no option {sorted(call.options)[0]!r}; those are SageMaker's")
