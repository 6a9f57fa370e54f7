"""Tests of `tritonforge.repository.signature_check`: what is stated against what a file has."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tritonforge.model_files.signature import Signature, TensorSpec
from tritonforge.repository.definition import (
    Control,
    ControlInput,
    Dali,
    Direct,
    Input,
    Onnx,
    Output,
    SequenceBatching,
    State,
    TensorFlow,
)
from tritonforge.repository.signature_check import check_signature, complete_model

FOUND = Signature(
    [TensorSpec("image", "TYPE_FP32", (-1, 224, 224, 3))],
    [TensorSpec("classes", "TYPE_INT64", (-1,)), TensorSpec("probabilities", "TYPE_FP32", (-1, 1001))],
)


def model(**stated: object) -> TensorFlow:
    """A batched model that states the input and one output of FOUND, with changes."""
    fields: dict[str, object] = {
        "max_batch_size": 8,
        "input": [Input("image", "TYPE_FP32", [224, 224, 3])],
        "output": [Output("probabilities", "TYPE_FP32", [1001])],
        **stated,
    }
    return TensorFlow("resnet", **fields)  # type: ignore[arg-type]  # the tests give the right types


def test_what_agrees_gives_nothing() -> None:
    """A model that states its file's tensors, or a part of its outputs, has no differences."""
    assert check_signature(model(), FOUND) == []
    assert check_signature(model(output=[]), FOUND) == []


@pytest.mark.parametrize("dims", [[-1, 224, 3], [-1, -1, -1]])
def test_a_variable_extent_agrees_with_any(dims: list[int]) -> None:
    """-1 in the definition agrees with a fixed extent of the file."""
    assert check_signature(model(input=[Input("image", "TYPE_FP32", dims)]), FOUND) == []


def test_a_variable_extent_of_the_file_agrees_with_any() -> None:
    """-1 in the file agrees with a fixed extent of the definition."""
    found = Signature([TensorSpec("image", "TYPE_FP32", (-1, -1, -1, 3))], FOUND.outputs)
    assert check_signature(model(), found) == []


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        (
            {"input": [Input("image", "TYPE_FP16", [224, 224, 3])]},
            "resnet: input 'image' is stated as TYPE_FP16, but its file has TYPE_FP32",
        ),
        (
            {"input": [Input("image", "TYPE_FP32", [3, 224, 224])]},
            (
                "resnet: input 'image' is stated with dims [3, 224, 224] (with the batch [-1, 3, 224, 224]), but its "
                "file has shape [-1, 224, 224, 3]"
            ),
        ),
        (
            {"input": [Input("image", "TYPE_FP32", [224, 224])]},
            (
                "resnet: input 'image' is stated with dims [224, 224] (with the batch [-1, 224, 224]), but its file "
                "has shape [-1, 224, 224, 3]"
            ),
        ),
        (
            {"max_batch_size": 0},
            "resnet: input 'image' is stated with dims [224, 224, 3], but its file has shape [-1, 224, 224, 3]",
        ),
        (
            {"output": [Output("softmax", "TYPE_FP32", [1001])]},
            "resnet: the definition states output 'softmax', but its file has classes, probabilities",
        ),
    ],
)
def test_each_difference_is_named_with_both_values(stated: dict[str, object], sentence: str) -> None:
    """The sentence names the model, the tensor, and what each side says."""
    assert check_signature(model(**stated), FOUND)[0] == sentence


def test_an_input_that_the_definition_forgot_is_named() -> None:
    """A SavedModel needs all its inputs; a GraphDef may have more placeholders."""
    inputs = [*FOUND.inputs, TensorSpec("scale", "TYPE_FP32", (-1, 1))]
    assert check_signature(model(), Signature(inputs, FOUND.outputs)) == [
        "resnet: its file needs input 'scale', but the definition states image"
    ]
    assert check_signature(model(), Signature(inputs, FOUND.outputs, all_inputs=False)) == []


def test_a_file_with_a_fixed_batch_cannot_be_batched() -> None:
    """max_batch_size above 0 needs an open first extent."""
    found = Signature([TensorSpec("image", "TYPE_FP32", (1, 224, 224, 3))], FOUND.outputs)
    assert check_signature(model(), found) == [
        (
            "resnet: input 'image' cannot be batched: max_batch_size is 8, but its file has shape [1, 224, 224, 3], "
            "whose first extent is not open"
        )
    ]


def test_all_differences_come_at_once() -> None:
    """The first difference does not hide the second."""
    wrong = model(input=[Input("image", "TYPE_INT8", [3])], output=[Output("softmax")])
    assert len(check_signature(wrong, FOUND)) == 3


def test_a_reshape_is_what_the_file_sees() -> None:
    """Dims [1] with reshape [] is a scalar in each row of the batch."""
    assert check_signature(model(output=[Output("classes", "TYPE_INT64", [1], reshape=[])]), FOUND) == []
    assert check_signature(model(output=[Output("classes", "TYPE_INT64", [1])]), FOUND) != []


def test_dali_outputs_are_matched_by_their_order() -> None:
    """DALI names its outputs itself; number, type and rank are compared."""
    found = Signature(
        [TensorSpec("IN", "TYPE_UINT8", (-1, -1))],
        [TensorSpec("__Resize_1", "TYPE_FP32", (-1, -1, -1, -1))],
        positional_outputs=True,
    )
    dali = Dali(
        "pre",
        max_batch_size=4,
        input=[Input("IN", "TYPE_UINT8", [-1])],
        output=[Output("OUT", "TYPE_FP32", [8, 8, 3])],
    )
    assert check_signature(dali, found) == []
    two = Dali("pre", max_batch_size=4, output=[Output("A"), Output("B")])
    assert check_signature(two, found) == [
        "pre: the definition states 2 outputs, but its file has 1; they are matched by their order"
    ]
    flat = Dali("pre", max_batch_size=4, output=[Output("OUT", "TYPE_FP32", [8, 8])])
    assert "shape [-1, -1, -1, -1]" in check_signature(flat, found)[0]


def test_complete_fills_in_what_is_left_out() -> None:
    """Types and dims come from the file, without the batch dimension; what is stated stays."""
    stated = model(input=[Input("image", dims=[-1, -1, 3], format="FORMAT_NHWC")], output=[])
    filled = complete_model(stated, FOUND)
    assert filled.input == (Input("image", "TYPE_FP32", [-1, -1, 3], format="FORMAT_NHWC"),)
    assert filled.output[1] == Output("probabilities", "TYPE_FP32", (1001,))
    assert filled.name == "resnet"


def test_complete_takes_whole_shapes_without_batching() -> None:
    """With max_batch_size 0 the first extent of the file is one of the dims."""
    filled = complete_model(Onnx("net"), FOUND)
    assert filled.input == (Input("image", "TYPE_FP32", (-1, 224, 224, 3)),)
    assert filled.output[0] == Output("classes", "TYPE_INT64", (-1,))


def test_complete_gives_a_batched_scalar_its_reshape() -> None:
    """One number for each row is dims [1] with reshape [] in config.pbtxt, which has no empty dims."""
    filled = complete_model(model(output=[]), FOUND)
    assert filled.output[0] == Output("classes", "TYPE_INT64", (1,), reshape=())
    assert check_signature(filled, FOUND) == []


def test_complete_leaves_open_what_the_file_leaves_open() -> None:
    """An undeclared type or rank stays None, for the caller to ask about."""
    filled = complete_model(Onnx("net"), Signature([TensorSpec("x")], [TensorSpec("y", "TYPE_FP32")]))
    assert (filled.input[0].data_type, filled.input[0].dims) == (None, None)
    assert (filled.output[0].data_type, filled.output[0].dims) == ("TYPE_FP32", None)


def test_a_signature_survives_json() -> None:
    """Parent and child hand signatures over as JSON."""
    assert Signature.from_json(FOUND.to_json()) == FOUND


SEQUENCE = SequenceBatching(
    direct=Direct(),
    control_input=[
        ControlInput("start", [Control(kind="CONTROL_SEQUENCE_START", fp32_false_true=[0, 1])]),
        ControlInput("id", [Control(kind="CONTROL_SEQUENCE_CORRID", data_type="TYPE_UINT64")]),
    ],
    state=[State(input_name="before", output_name="after", data_type="TYPE_INT32", dims=[2])],
)
OF_SEQUENCES = Signature(
    [
        TensorSpec("x", "TYPE_FP32", (-1, 3)),
        TensorSpec("start", "TYPE_FP32", (-1, 1)),
        TensorSpec("id", "TYPE_UINT64", (-1, 1)),
        TensorSpec("before", "TYPE_INT32", (-1, 2)),
    ],
    [TensorSpec("y", "TYPE_FP32", (-1, 3)), TensorSpec("after", "TYPE_INT32", (-1, 2))],
)


def without(name: str, *, changed: TensorSpec | None = None) -> Signature:
    """The file of sequences without a tensor, or with another one instead."""

    def tensors(given: Sequence[TensorSpec]) -> list[TensorSpec]:
        kept = [changed if tensor.name == name else tensor for tensor in given]
        return [tensor for tensor in kept if tensor is not None]

    return Signature(tensors(OF_SEQUENCES.inputs), tensors(OF_SEQUENCES.outputs))


def test_controls_and_states_belong_to_the_file() -> None:
    """They are not missing from the definition's inputs, and completion does not take them for inputs."""
    stated = Onnx("m", max_batch_size=4, input=[Input("x")], output=[Output("y")], sequence_batching=SEQUENCE)
    assert check_signature(stated, OF_SEQUENCES) == []
    completed = complete_model(Onnx("m", max_batch_size=4, sequence_batching=SEQUENCE), OF_SEQUENCES)
    assert completed.input == (Input("x", "TYPE_FP32", [3]),)
    assert completed.output == (Output("y", "TYPE_FP32", [3]),)
    override = 'sequence_batching { control_input { name: "start" control { fp32_false_true: [ 0, 1 ] } } }'
    by_hand = Onnx("m", max_batch_size=4, input=[Input("x")], override=override)
    assert [line.split("input ")[1] for line in check_signature(by_hand, OF_SEQUENCES)] == [
        "'id', but the definition states x, start",
        "'before', but the definition states x, start",
    ]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (without("start"), "m: the definition states control input 'start', but its file has x, id, before"),
        (
            without("id", changed=TensorSpec("id", "TYPE_INT64", (-1, 1))),
            "m: control input 'id' is stated as TYPE_UINT64, but its file has TYPE_INT64",
        ),
        (
            without("start", changed=TensorSpec("start", "TYPE_FP32", (-1, 2))),
            "m: control input 'start' is stated with dims [1] (with the batch [-1, 1]), but its file has shape [-1, 2]",
        ),
        (without("after"), "m: the definition states state output 'after', but its file has y"),
        (
            without("before", changed=TensorSpec("before", "TYPE_INT32", (-1, 3))),
            "m: state input 'before' is stated with dims [2] (with the batch [-1, 2]), but its file has shape [-1, 3]",
        ),
    ],
)
def test_a_control_or_state_that_is_not_the_files_is_named(found: Signature, sentence: str) -> None:
    """By its kind."""
    stated = Onnx("m", max_batch_size=4, input=[Input("x")], output=[Output("y")], sequence_batching=SEQUENCE)
    assert check_signature(stated, found) == [sentence]


def test_tensorflow_has_no_implicit_state() -> None:
    """Triton's backend keeps none, so a model that needs it would always see its initial value."""
    stated = TensorFlow("m", max_batch_size=4, input=[Input("x")], output=[Output("y")], sequence_batching=SEQUENCE)
    (sentence,) = check_signature(stated, OF_SEQUENCES)
    assert sentence.startswith("m: Triton's TensorFlow backend does not keep the implicit state 'before'; ")
