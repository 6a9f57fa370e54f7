"""Whether a server still answers as before: settings must change how fast answers come, not what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from tritonforge.golden_tests.cases import Tolerance
from tritonforge.golden_tests.comparison import compare_tensor
from tritonforge.golden_tests.tensor_record import TensorRecord, record_tensor
from tritonforge.inference.client import Client

__all__ = ["Answers", "Inputs", "compare_answers", "read_answers"]

#: The arrays of one request by input.
Inputs = Mapping[str, npt.NDArray[Any]]
#: The outputs of requests by name, in the order of the requests.
Answers = Sequence[Mapping[str, TensorRecord]]


def read_answers(client: Client, model: str, inputs: Sequence[Inputs]) -> Answers:
    """Return the records of a model's answers.

    Raises:
        ServerError, ConnectError, DecodeError: the server gives no valid answer.
    """
    answers = []
    for arrays in inputs:
        outputs = client.infer(arrays, model=model).outputs
        answers.append({name: record_tensor(array) for name, array in outputs.items()})
    return answers


def compare_answers(
    before: Answers, client: Client, model: str, inputs: Sequence[Inputs], *, ignored: Sequence[str] = ()
) -> dict[str, str]:
    """Return how answers differ from those before, by output; empty if they are equal within golden tests' tolerance.

    Args:
        before: the answers of `read_answers`.
        client: of the server.
        model: the model.
        inputs: what the answers before were to.
        ignored: outputs that are not compared.

    Raises:
        ServerError, ConnectError, DecodeError: the server gives no valid answer.
    """
    differences: dict[str, str] = {}
    for arrays, records in zip(inputs, before, strict=True):
        outputs = client.infer(arrays, model=model).outputs
        for name, record in records.items():
            if name not in outputs or name in ignored:
                continue
            if difference := compare_tensor(record, outputs[name], Tolerance()):
                differences.setdefault(name, difference)
    return differences
