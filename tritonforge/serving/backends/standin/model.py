"""The stand-in backend's entry: it opens no model file and answers zeros, so that Triton's core alone judges a model.

It is also laid in the place of a Python model's own ``model.py``; so it imports nothing of tritonforge.
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
        self._outputs = config["output"]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Zeros, of extent 1 where an extent varies; warm-up requests are all that ever come."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        batch = [request.inputs()[0].as_numpy().shape[0]] if self._batched and request.inputs() else []
        tensors = []
        for output in self._outputs:
            dims = output.get("reshape", {}).get("shape", output["dims"])
            shape = [*batch, *(max(1, int(extent)) for extent in dims)]
            tensors.append(pb_utils.Tensor(output["name"], np.zeros(shape, _numpy_type(output["data_type"]))))
        return pb_utils.InferenceResponse(tensors)


def _numpy_type(data_type: str) -> Any:
    # BF16 has no numpy type in Triton's own table; two bytes are two bytes to a warm-up that looks at nothing.
    return np.float16 if data_type == "TYPE_BF16" else pb_utils.triton_string_to_numpy(data_type)
