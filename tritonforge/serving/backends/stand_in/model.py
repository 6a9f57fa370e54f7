"""The stand-in backend's entry: it opens no model file and answers zeros, so that Triton's core alone judges a model.

It is the model of every stub while a repository is judged; so it imports nothing of tritonforge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """Whatever the configuration says it is."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the outputs' names, types and extents."""
        config = json.loads(args["model_config"])
        self._batched = int(config["max_batch_size"]) > 0
        self._decoupled = bool(config.get("model_transaction_policy", {}).get("decoupled"))
        self._outputs = config["output"]

    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        """Zeros, of extent 1 where an extent varies; warm-up requests are all that ever come."""
        answers = [self._answer(request) for request in requests]
        if not self._decoupled:
            return answers
        for request, answer in zip(requests, answers, strict=True):
            sender = request.get_response_sender()
            sender.send(answer)
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None

    def _answer(self, request: Any) -> Any:
        batch = [request.inputs()[0].shape()[0]] if self._batched and request.inputs() else []
        tensors = []
        for output in self._outputs:
            dims = output.get("reshape", {}).get("shape", output["dims"])
            shape = [*batch, *(max(1, int(extent)) for extent in dims)]
            tensors.append(pb_utils.Tensor(output["name"], _make_zeros(shape, output["data_type"])))
        return pb_utils.InferenceResponse(tensors)


def _make_zeros(shape: Sequence[int], data_type: str) -> Any:
    if data_type == "TYPE_STRING":
        return np.full(shape, b"", dtype=np.object_)
    # BF16 has no numpy type in Triton's own table; two bytes are two bytes to a warm-up that looks at nothing.
    return np.zeros(shape, np.float16 if data_type == "TYPE_BF16" else pb_utils.triton_string_to_numpy(data_type))
