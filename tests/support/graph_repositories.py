"""Repositories that show what a graph can hold: many steps, nested ensembles, requests of code, findings."""

from __future__ import annotations

import json
from typing import Any

from tests.support.rule_repositories import e, step, x
from tritonforge.validation.tree import link

__all__ = ["CALLING", "HOSTILE", "HOSTILE_NAME", "NESTED", "PASSING", "WRONG", "build_chain", "build_doubling", "quote"]

_CODE = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "A")
            call = pb_utils.InferenceRequest(
                model_name="scorer", inputs=[pb_utils.Tensor("A", tensor.as_numpy())], requested_output_names=["B"]
            )
            call.exec()
            other = pb_utils.InferenceRequest(model_name="absent", inputs=[], requested_output_names=["S"])
            other.exec()
            responses.append(pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("B", tensor.as_numpy())]))
        return responses
"""

#: An ensemble whose second step is an ensemble of two models, of which one has settings.
NESTED: dict[str, Any] = {
    **x(config="max_batch_size: 8 dynamic_batching { preferred_batch_size: [4, 8] max_queue_delay_microseconds: 100 } "
        "instance_group [{ count: 2 kind: KIND_GPU gpus: [0, 1] }, { count: 1 kind: KIND_CPU }]"),
    **x("y", inputs="AC", outputs="BD", config="max_batch_size: 8"),
    **x("z", config="max_batch_size: 4 instance_group [{ kind: KIND_CPU count: 3 }]"),
    **e(step("x", {"A": "I"}, {"B": "T"}), step("y", {"A": "T", "C": "J"}, {"B": "O", "D": "P"}), name="inner",
        inputs="IJ", outputs="OP", config="max_batch_size: 8"),
    **e(step("z", {"A": "I"}, {"B": "M"}), step("inner", {"I": "M", "J": "I"}, {"O": "N", "P": "P"}),
        step("z", {"A": "N"}, {"B": "O"}), name="outer", outputs="OP", config="max_batch_size: 4"),
}  # fmt: skip

#: A nested ensemble with an output that a step reads, and with one that is its input.
PASSING: dict[str, Any] = {
    **x(),
    **x("y"),
    **e(step("x", {"A": "I"}, {"B": "P"}), step("y", {"A": "P"}, {"B": "O"}), name="inner", outputs="OPI"),
    **e(step("inner", {"I": "I"}, {"O": "O", "P": "P", "I": "R"}), name="outer", outputs="OPR"),
}

#: A Python model whose code sends requests to a model of the repository and to one that is not there.
CALLING: dict[str, Any] = {
    **x("scorer"),
    **{path: text.replace('"identity"', '"python"') if isinstance(text, str) else text
       for path, text in x("caller").items()},
    "caller/1/model.py": _CODE,
    **e(step("caller", {"A": "I"}, {"B": "O"})),
}  # fmt: skip

#: Findings on an edge, a step, a tensor, a model's file, and the repository.
WRONG: dict[str, Any] = {
    **x(),
    **x("y", dims="[5]"),
    **x("late", config="max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 5000000 }"),
    **e(step("x", {"A": "I"}, {"B": "T"}), step("y", {"A": "T"}, {"B": "U"}), step("late", {"A": "U"}, {"B": "O"})),
    **x("stale", config='parameters { key: "a" value { string_value: "${a}" } }'),
    "gone": link("/nowhere"),
}  # fmt: skip

#: A name with what each format would read as markup, as a command or as control of a terminal.
HOSTILE_NAME = '"/><script>alert(1)</script>&amp;`#<b>%%{init}}%% \\N ]]> \x1b[2J\u202e;] end\n::error::x'


def quote(text: str) -> str:
    """Return a text as a string of protobuf's text format."""
    return json.dumps(text)[1:-1]


#: An ensemble whose tensors and step have that name; the model of that name is not there.
HOSTILE: dict[str, Any] = e(
    step(quote(HOSTILE_NAME), {quote(HOSTILE_NAME): "I"}, {"B": quote(HOSTILE_NAME)}),
    step("x", {"A": quote(HOSTILE_NAME)}, {"B": "O"}),
)


def build_chain(count: int) -> dict[str, Any]:
    """Return an ensemble of many steps: a chain with branches, and one input that many steps read."""
    models: dict[str, Any] = {}
    steps = []
    for number in range(count):
        name = f"model_{number:02}"
        reads = {"A": "I" if not number else f"T{number - 1}"}
        letters = "A"
        if number % 3 == 2:
            letters, reads["C"] = "AC", f"T{number - 3}" if number > 3 else "I"
        if number % 7 == 6:
            letters, reads["D"] = letters + "D", "I"
        models |= x(name, inputs=letters, config="max_batch_size: 8 dynamic_batching { }")
        steps.append(step(name, reads, {"B": "O" if number == count - 1 else f"T{number}"}))
    return {**models, **e(*steps, config="max_batch_size: 8")}


def build_doubling(depth: int) -> dict[str, Any]:
    """Return ensembles each of which has two steps of the next one: 2 ** depth steps if all were drawn."""
    repository: dict[str, Any] = {**x("e0")}
    for number in range(1, depth + 1):
        inner = f"e{number - 1}"
        names = ("A", "B") if number == 1 else ("I", "O")
        steps = step(inner, {names[0]: "I"}, {names[1]: "T"}), step(inner, {names[0]: "T"}, {names[1]: "O"})
        repository |= e(*steps, name=f"e{number}")
    return repository
