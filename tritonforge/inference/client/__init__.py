"""Ask a model: `Client` over a transport (Triton's HTTP, its SageMaker front end, gRPC, or one handed in)."""

from __future__ import annotations

from tritonforge.inference.client.client import Client
from tritonforge.inference.client.transports import (
    Answer,
    Call,
    FunctionTransport,
    ModelError,
    ModelMetadata,
    RelayError,
    TensorMetadata,
    Transport,
)

__all__ = [
    "Answer",
    "Call",
    "Client",
    "FunctionTransport",
    "ModelError",
    "ModelMetadata",
    "RelayError",
    "TensorMetadata",
    "Transport",
]
