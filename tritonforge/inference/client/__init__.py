"""Ask a model: `Client` over a transport (Triton's HTTP, its SageMaker front end, gRPC, or one handed in)."""

from __future__ import annotations

from tritonforge.inference.client.client import Client
from tritonforge.inference.client.transports import (
    Answer,
    Call,
    DecoupledError,
    FunctionTransport,
    ModelError,
    ModelMetadata,
    RelayError,
    StreamingTransport,
    TensorMetadata,
    Transport,
    UnnamedModelError,
)

__all__ = [
    "Answer",
    "Call",
    "Client",
    "DecoupledError",
    "FunctionTransport",
    "ModelError",
    "ModelMetadata",
    "RelayError",
    "StreamingTransport",
    "TensorMetadata",
    "Transport",
    "UnnamedModelError",
]
