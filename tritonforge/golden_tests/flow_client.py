"""Requests to the models of a data flow: single ones, streams of decoupled models, and sequences of one request."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from tritonforge.golden_tests.data_flow import DataFlow
from tritonforge.inference.client import Client

__all__ = ["FlowClient"]

Array = npt.NDArray[Any]


class FlowClient:
    """Requests the models of a server.

    ``client`` is one of Triton's own HTTP port. ``open_stream`` returns that of the gRPC port, which decoupled models
    need; None where the port is off.
    """

    def __init__(self, client: Client, open_stream: Callable[[], Client | None]) -> None:
        self._client = client
        self._open_stream = open_stream
        self._sequences = itertools.count(1)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        flow: DataFlow,
        *,
        version: str = "",
        outputs: tuple[str, ...] = (),
    ) -> dict[str, Array]:
        """Return the outputs of a model of a data flow; of a decoupled one, ``index/name`` of every response.

        Where the flow has a sequence model, every request is a sequence of its own.

        Raises:
            ServerError: the model refuses the request, or the server does not stream and the model is decoupled.
            EncodeError, ConnectError, DecodeError: as `Client.infer`.
        """
        arguments: dict[str, Any] = {"model": model, "model_version": version}
        if flow.is_sequence:
            arguments |= {"sequence_id": next(self._sequences), "sequence_start": True, "sequence_end": True}
        stream = self._open_stream() if flow.is_decoupled else None
        if stream is None:
            return dict(self._client.infer(inputs, outputs=outputs, **arguments).outputs)
        responses = enumerate(stream.infer_stream(inputs, **arguments))
        return {f"{index}/{name}": array for index, entry in responses for name, array in entry.outputs.items()}
