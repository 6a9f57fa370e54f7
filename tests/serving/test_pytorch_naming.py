"""Which tensor of a configuration is which argument or result of a TorchScript module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tritonforge.errors import ArtifactError
from tritonforge.serving.backends.configuration import Configuration, parse_config
from tritonforge.serving.backends.pytorch.naming import Argument, assign_names

SELF = Argument("self", "ClassType", "M")
X, Z = Argument("x", "TensorType", "Tensor"), Argument("z", "TensorType", "Tensor")
DICTIONARY = Argument("tensors", "DictType", "Dict[str, Tensor]")


def make_configuration(inputs: list[str], outputs: list[str], **rest: Any) -> Configuration:
    """A configuration named m; every tensor is one number."""
    tensors = [[{"name": name, "data_type": "TYPE_FP32", "dims": [1]} for name in names] for names in (inputs, outputs)]
    return parse_config(
        {"name": "m", "max_batch_size": 4, "input": tensors[0], "output": tensors[1], **rest}, Path("m", "1")
    )


@pytest.mark.parametrize(
    ("inputs", "places"),
    [
        (["z", "x"], {"z": 1, "x": 0}),
        (["INPUT__1", "INPUT__0"], {"INPUT__1": 1, "INPUT__0": 0}),
        (["b", "a"], {"b": 0, "a": 1}),
        (["x", "other"], {"x": 0, "other": 1}),
    ],
)
def test_inputs_are_named_after_arguments_or_indices_or_counted(inputs: list[str], places: dict[str, int]) -> None:
    names = assign_names(make_configuration(inputs, ["y"]), [SELF, X, Z])
    assert names.inputs == places
    assert names.warnings == ()
    values = {name: name for name in inputs}
    assert names.sort_inputs(values) == sorted(inputs, key=lambda name: places[name])


def test_outputs_have_indices_or_are_counted() -> None:
    """A name that looks like the convention and is not is warned of, in the words of the upstream backend."""
    assert assign_names(make_configuration(["x"], ["OUT__1", "OUT__0"]), [X]).outputs == {"OUT__1": 1, "OUT__0": 0}
    names = assign_names(make_configuration(["x"], ["OUT__1", "OUT__a"]), [X])
    assert names.outputs == {"OUT__1": 0, "OUT__a": 1}
    (warning,) = names.warnings
    assert warning == (
        "output 'OUT__a' or previous output(s) of the model 'm' do not follow the <name>__<index> naming convention. "
        "Falling back to enforcing strict ordering from model configuration."
    )
    (warning,) = assign_names(make_configuration(["in__a"], ["y"]), [X]).warnings
    assert warning.startswith("input 'in__a' or previous input(s) are neither an input argument to the model 'm' nor ")


def test_a_dictionary_takes_inputs_of_any_name() -> None:
    names = assign_names(make_configuration(["b", "a"], ["y"]), [SELF, DICTIONARY])
    assert names.is_dictionary
    assert set(names.inputs) == {"a", "b"}


def test_controls_and_states_have_indices() -> None:
    control = {"name": "START__1", "control": [{"kind": "CONTROL_SEQUENCE_START", "fp32_false_true": [0, 1]}]}
    state = {"input_name": "STATE__2", "output_name": "STATE__1", "data_type": "TYPE_FP32", "dims": [1]}
    sequence = {"sequence_batching": {"control_input": [control], "state": [state]}}
    arguments = [SELF, X, Z, Argument("s", "TensorType", "Tensor")]
    names = assign_names(make_configuration(["INPUT__0"], ["OUTPUT__0"], **sequence), arguments)
    assert names.inputs == {"INPUT__0": 0, "START__1": 1, "STATE__2": 2}
    assert names.outputs == {"OUTPUT__0": 0, "STATE__1": 1}
    convention = "is using sequence batching with state but not all inputs and outputs follow"
    with pytest.raises(ArtifactError, match=convention):
        assign_names(make_configuration(["x"], ["OUTPUT__0"], **sequence), arguments)
    state["input_name"] = "state"
    with pytest.raises(ArtifactError, match="but state 'state' does not follow the <name>__<index> naming convention"):
        assign_names(make_configuration(["INPUT__0"], ["OUTPUT__0"], **sequence), arguments)
    control["name"] = "start"
    with pytest.raises(ArtifactError, match="input 'start' does not follow <name>__<index>"):
        assign_names(make_configuration(["INPUT__0"], ["OUTPUT__0"], **sequence), arguments)


@pytest.mark.parametrize(
    ("inputs", "outputs", "arguments", "reason"),
    [
        (["x"], ["y"], [SELF, X, Z], "unable to load model 'm', configuration expects 1 inputs, model provides 2"),
        (["x"], ["y"], [SELF, Argument("n", "IntType", "int")], "An input of type 'int' was detected in the model."),
        (["x", "t"], ["y"], [SELF, X, DICTIONARY], "Multiple inputs of kind DictType were detected."),
        ([], ["y"], [SELF, DICTIONARY], "model configuration must contain at least one input, none were specified."),
        (["x"], [], [SELF, X], "model configuration must contain at least one output, none were specified."),
        (
            ["I__1"],
            ["y"],
            [X],
            "The input I__1 in the model configuration refers to an input index which doesn't exist",
        ),
        (["I__0", "J__0"], ["y"], [X, Z], "The inputs I__0 and J__0 in the model configuration refer to the same"),
    ],
)
def test_configurations_that_do_not_fit_the_module_are_refused(
    inputs: list[str], outputs: list[str], arguments: list[Argument], reason: str
) -> None:
    with pytest.raises(ArtifactError) as raised:
        assign_names(make_configuration(inputs, outputs), arguments)
    assert reason in str(raised.value)
