"""An ensemble of Python models that only wait, so that the time of every step is known; it needs no framework."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_MODEL = """\
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(request, "in").as_numpy() for request in requests]
        if any((tensor < 0).any() for tensor in tensors):
            raise pb_utils.TritonModelException("a negative number")
        time.sleep({seconds})
        return [pb_utils.InferenceResponse([pb_utils.Tensor("out", tensor)]) for tensor in tensors]
"""

_CONFIG = """\
backend: "python"
max_batch_size: 8
input {{ name: "in" data_type: TYPE_FP32 dims: [ 4 ] }}
output {{ name: "out" data_type: TYPE_FP32 dims: [ 4 ] }}
dynamic_batching {{ }}
{settings}
"""


_CALLER = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        tensor = pb_utils.Tensor("in", pb_utils.get_input_tensor_by_name(request, "in").as_numpy())
        for _ in range({times}):
            response = pb_utils.InferenceRequest(
                model_name="{called}", inputs=[tensor], requested_output_names=["out"]
            ).exec()
            if response.has_error():
                raise pb_utils.TritonModelException(response.error().message())
            tensor = pb_utils.Tensor("in", pb_utils.get_output_tensor_by_name(response, "out").as_numpy())
        return pb_utils.InferenceResponse([pb_utils.Tensor("out", tensor.as_numpy())])
"""


def write_caller(folder: Path, name: str, *, called: str, times: int = 2) -> None:
    """Write a Python model whose code requests another one, ``times`` times one after another (BLS)."""
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "1" / "model.py").write_text(_CALLER.format(called=called, times=times))
    (folder / name / "config.pbtxt").write_text(_CONFIG.format(settings=""))


def write_steps(folder: Path, seconds: Mapping[str, float], *, name: str = "both", settings: str = "") -> Path:
    """Write a repository: an ensemble of steps in this order, which wait for these seconds; return its folder.

    ``settings`` are further ones of every step.
    """
    steps = []
    source = "IN"
    for place, (step, wait) in enumerate(seconds.items(), 1):
        target = "OUT" if place == len(seconds) else f"t{place}"
        (folder / step / "1").mkdir(parents=True)
        (folder / step / "1" / "model.py").write_text(_MODEL.format(seconds=wait))
        (folder / step / "config.pbtxt").write_text(_CONFIG.format(settings=settings))
        steps.append(
            f'step {{ model_name: "{step}" model_version: -1 input_map {{ key: "in" value: "{source}" }} '
            f'output_map {{ key: "out" value: "{target}" }} }}'
        )
        source = target
    text = (
        'platform: "ensemble"\nmax_batch_size: 8\ninput { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] }\n'
        'output { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] }\n'
    )
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(f"{text}ensemble_scheduling {{ {' '.join(steps)} }}\n")
    return folder
