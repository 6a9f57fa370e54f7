"""Every protocol and encoding that carries images to an ensemble on a real server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tritonforge.inference.client import Client
from tritonforge.inference.wire import pad_batch
from tritonforge.serving.server import Server

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Ensemble:
    """An ensemble on a server: it takes encoded images as one input, and has one output."""

    server: Server
    model: str
    input: str
    output: str

    def url(self, front_end: str) -> str:
        """The URL of one of the server's front ends."""
        url = getattr(self.server, f"{front_end}_url")
        assert isinstance(url, str)
        return url


def sagemaker_json(ensemble: Ensemble, images: list[bytes]) -> Array:
    """As JSON through the SageMaker front end."""
    with Client(ensemble.url("sagemaker")) as client:
        return client.infer({ensemble.input: pad_batch(images)}, binary=False)[ensemble.output]


def sagemaker_binary(ensemble: Ensemble, images: list[bytes]) -> Array:
    """As binary+json through the SageMaker front end."""
    with Client(ensemble.url("sagemaker")) as client:
        return client.infer({ensemble.input: pad_batch(images)})[ensemble.output]


def sagemaker_raw(ensemble: Ensemble, images: list[bytes]) -> Array:
    """Each JPEG as the whole body, with header size 0."""
    with Client(ensemble.url("sagemaker")) as client:
        return np.concatenate([client.infer_raw(image)[ensemble.output] for image in images])


def sagemaker_padded_header(ensemble: Ensemble, images: list[bytes]) -> Array:
    """As binary+json whose header is padded to a constant size."""
    with Client(ensemble.url("sagemaker")) as client:
        return client.infer({ensemble.input: pad_batch(images)}, header_size=512)[ensemble.output]


def triton_http(ensemble: Ensemble, images: list[bytes]) -> Array:
    """As binary+json through Triton's own HTTP front end."""
    with Client(ensemble.url("http"), model=ensemble.model) as client:
        return client.infer({ensemble.input: pad_batch(images)})[ensemble.output]


def triton_grpc(ensemble: Ensemble, images: list[bytes]) -> Array:
    """Through gRPC."""
    with Client(ensemble.url("grpc"), model=ensemble.model) as client:
        return client.infer({ensemble.input: pad_batch(images)})[ensemble.output]


def nvidia_http(ensemble: Ensemble, images: list[bytes]) -> Array:
    """Through NVIDIA's own HTTP client."""
    import tritonclient.http

    return _nvidia(tritonclient.http, ensemble, "http", images)


def nvidia_grpc(ensemble: Ensemble, images: list[bytes]) -> Array:
    """Through NVIDIA's own gRPC client."""
    import tritonclient.grpc

    return _nvidia(tritonclient.grpc, ensemble, "grpc", images)


def _nvidia(module: Any, ensemble: Ensemble, front_end: str, images: list[bytes]) -> Array:
    batch = pad_batch(images)
    tensor = module.InferInput(ensemble.input, list(batch.shape), "UINT8")
    tensor.set_data_from_numpy(batch)
    with module.InferenceServerClient(ensemble.url(front_end).partition("://")[2]) as client:
        found: Array = client.infer(ensemble.model, [tensor]).as_numpy(ensemble.output)
    return found


REQUESTS: list[Callable[[Ensemble, list[bytes]], Array]] = [
    sagemaker_json,
    sagemaker_binary,
    sagemaker_raw,
    sagemaker_padded_header,
    triton_http,
    triton_grpc,
    nvidia_http,
    nvidia_grpc,
]
