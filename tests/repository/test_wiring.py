"""Ensembles as data flow: what calling a model on tensors gives, and what it refuses on that very line."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tritonforge import (
    TYPE_FP16,
    TYPE_FP32,
    TYPE_INT64,
    TYPE_UINT8,
    Ensemble,
    Input,
    Onnx,
    Output,
    Tensor,
)
from tritonforge.errors import DefinitionError
from tritonforge.repository.definition import rebind_models
from tritonforge.repository.model_config import build_config


def model(
    name: str,
    takes: dict[str, tuple[str | None, list[int] | None]] | None = None,
    gives: dict[str, tuple[str | None, list[int] | None]] | None = None,
    *,
    batch: int = 8,
    optional: tuple[str, ...] = (),
) -> Onnx:
    """A model with these inputs and outputs."""
    takes = {"x": (TYPE_FP32, [4])} if takes is None else takes
    gives = {"y": (TYPE_FP32, [4])} if gives is None else gives
    return Onnx(
        name,
        max_batch_size=batch,
        input=[Input(key, *value, optional=key in optional) for key, value in takes.items()],
        output=[Output(key, *value) for key, value in gives.items()],
    )


def steps(ensemble: Ensemble) -> list[tuple[str, dict[str, str], dict[str, str]]]:
    """The steps as config.pbtxt has them."""
    return [(step.model.name, dict(step.input_map), dict(step.output_map)) for step in ensemble.steps]


def test_a_chain_takes_its_inputs_outputs_and_batch_from_its_steps() -> None:
    """What the ensemble takes and gives, and how large a batch, follows from the first and the last model."""
    first = model("first", {"a": (TYPE_UINT8, [-1])}, {"b": (TYPE_FP32, [4])}, batch=16)
    last = model("last", {"x": (TYPE_FP32, [-1])}, {"y": (TYPE_INT64, [1])}, batch=16)
    ensemble = Ensemble("chain", outputs=[last(first(Tensor("IN"), to="between"), to="OUT")])
    assert ensemble.max_batch_size == 16
    assert ensemble.input == (Input("IN", TYPE_UINT8, [-1]),)
    assert ensemble.output == (Output("OUT", TYPE_INT64, [1]),)
    assert steps(ensemble) == [
        ("first", {"a": "IN"}, {"b": "between"}),
        ("last", {"x": "between"}, {"y": "OUT"}),
    ]


def test_one_tensor_feeds_two_models() -> None:
    """A tensor may be read by several steps, and an ensemble may have several outputs."""
    source, left, right = model("source"), model("left"), model("right")
    shared = source(Tensor("IN"))
    ensemble = Ensemble("fan", outputs={"L": left(shared), "R": right(shared)})
    assert steps(ensemble) == [
        ("source", {"x": "IN"}, {"y": "source.y"}),
        ("left", {"x": "source.y"}, {"y": "L"}),
        ("right", {"x": "source.y"}, {"y": "R"}),
    ]


def test_several_inputs_and_outputs_are_wired_by_position_keyword_and_name() -> None:
    """Inputs come by order, as keywords, or as a mapping; outputs are unpacked or taken by name."""
    two = model(
        "two",
        {"p": (TYPE_FP32, [4]), "q/0": (TYPE_INT64, [1])},
        {"r": (TYPE_FP32, [4]), "s": (TYPE_INT64, [1])},
    )
    r, s = two(Tensor("P"), Tensor("Q"), to=["R", "S"])
    again = two({"p": r, "q/0": s})
    ensemble = Ensemble("both", outputs={"LAST": again["r"], "S2": again[1]})
    assert [tensor.name for tensor in ensemble.input] == ["P", "Q"]
    assert steps(ensemble) == [
        ("two", {"p": "P", "q/0": "Q"}, {"r": "R", "s": "S"}),
        ("two", {"p": "R", "q/0": "S"}, {"r": "LAST", "s": "S2"}),
    ]


def test_outputs_that_no_step_reads_stay_unmapped() -> None:
    """The server refuses an ensemble with an unused tensor, so an unread output is not mapped."""
    two = model("two", gives={"r": (TYPE_FP32, [4]), "s": (TYPE_INT64, [1])})
    ensemble = Ensemble("half", outputs={"R": two(Tensor("IN"))["r"]})
    assert steps(ensemble) == [("two", {"x": "IN"}, {"r": "R"})]


def test_the_same_model_works_in_two_steps() -> None:
    """A model called twice is two steps with tensors of their own."""
    same = model("same")
    ensemble = Ensemble("twice", outputs={"OUT": same(same(same(Tensor("IN"))))})
    assert steps(ensemble) == [
        ("same", {"x": "IN"}, {"y": "same.y"}),
        ("same", {"x": "same.y"}, {"y": "same.y.2"}),
        ("same", {"x": "same.y.2"}, {"y": "OUT"}),
    ]


def test_an_ensemble_is_a_step_of_another() -> None:
    """An ensemble is called as a model is."""
    inner = Ensemble("inner", outputs={"O": model("leaf")(Tensor("I"))})
    outer = Ensemble("outer", outputs={"OUT": inner(Tensor("IN"))})
    assert steps(outer) == [("inner", {"I": "IN"}, {"O": "OUT"})]
    assert outer.input == (Input("IN", TYPE_FP32, [4]),)


def test_optional_inputs_may_stay_unmapped() -> None:
    """Only required inputs must be given."""
    maybe = model("maybe", {"x": (TYPE_FP32, [4]), "hint": (TYPE_FP32, [1])}, optional=("hint",))
    assert steps(Ensemble("e", outputs={"OUT": maybe(Tensor("IN"))})) == [("maybe", {"x": "IN"}, {"y": "OUT"})]


def test_a_whole_batch_may_reach_an_unbatched_model() -> None:
    """An unbatched model whose first extent is open takes the batch as data; the ensemble is then unbatched itself."""
    whole = model("whole", {"x": (TYPE_FP32, [-1, 4])}, {"y": (TYPE_FP32, [-1, 2])}, batch=0)
    ensemble = Ensemble("mixed", outputs={"OUT": whole(model("batched")(Tensor("IN")))})
    assert ensemble.max_batch_size == 0
    assert ensemble.input == (Input("IN", TYPE_FP32, [-1, 4]),)
    assert ensemble.output == (Output("OUT", TYPE_FP32, [-1, 2]),)


def test_a_stated_batch_makes_a_mixed_ensemble_batched() -> None:
    """With a stated max_batch_size the open first extent of the unbatched step is the batch."""
    whole = model("whole", {"x": (TYPE_FP32, [-1, 4])}, {"y": (TYPE_FP32, [-1, 2])}, batch=0)
    ensemble = Ensemble("mixed", outputs={"OUT": whole(model("batched")(Tensor("IN")))}, max_batch_size=4)
    assert ensemble.output == (Output("OUT", TYPE_FP32, [2]),)


def test_a_smaller_batch_can_be_stated_on_the_input() -> None:
    """A step with a smaller max_batch_size fits where the input says that no larger batch comes."""
    wide, narrow = model("wide", batch=64), model("narrow", batch=4)
    ensemble = Ensemble("e", outputs={"OUT": narrow(wide(Tensor("IN", max_batch_size=4)))})
    assert ensemble.max_batch_size == 4


def test_what_is_left_to_introspection_fits_anything_until_it_is_known() -> None:
    """Open types and dims wire; once the models are completed, the same wiring is held against what was found."""
    open_ = model("open", {"x": (None, None)}, {"y": (None, None)})
    ensemble = Ensemble("e", outputs={"OUT": model("fixed")(open_(Tensor("IN")))})
    found = model("open", {"x": (TYPE_UINT8, [7])}, {"y": (TYPE_FP32, [4])})
    assert rebind_models(ensemble, {"open": found}).input == (Input("IN", TYPE_UINT8, [7]),)
    wrong = model("open", {"x": (TYPE_UINT8, [7])}, {"y": (TYPE_FP32, [5])})
    with pytest.raises(DefinitionError, match=r"dims \[-1, 5\].*dims \[-1, 4\]"):
        rebind_models(ensemble, {"open": wrong})


def test_rewiring_over_the_same_models_changes_nothing() -> None:
    """An ensemble wired anew over equal models has an equal configuration."""
    two = model("two", gives={"r": (TYPE_FP32, [4]), "s": (TYPE_FP32, [4])})
    r, s = two(Tensor("IN", TYPE_FP32, [-1], max_batch_size=2), to=["R", "S"])
    leaf = model("leaf")
    ensemble = Ensemble("e", outputs={"A": leaf(r), "B": leaf(leaf(s)), "R": r})
    assert build_config(rebind_models(ensemble, {})) == build_config(ensemble)


REFUSED: dict[str, tuple[Callable[[], object], list[str]]] = {
    "unknown input": (
        lambda: model("m")(bad=Tensor("IN")),
        ['model "m" has no input "bad" for ensemble input "IN"', '"x"'],
    ),
    "missing input": (
        lambda: model("m", {"x": (TYPE_FP32, [4]), "z": (TYPE_FP32, [4])})(Tensor("IN")),
        ['input "z" of model "m" is not mapped', 'ensemble input "IN" as input "x"'],
    ),
    "given twice": (
        lambda: model("m")(Tensor("A"), x=Tensor("B")),
        ['input "x" of model "m" is given twice', '"A"', '"B"'],
    ),
    "too many": (lambda: model("m")(Tensor("A"), Tensor("B")), ['model "m" has 1 inputs ("x") and is given 2']),
    "dtype": (
        lambda: model("right")(model("left", gives={"out": (TYPE_FP16, [4])})(Tensor("IN"), to="t")),
        ['"t" (output "out" of model "left") is TYPE_FP16', 'input "x" of model "right" is TYPE_FP32'],
    ),
    "dims": (
        lambda: model("right")(model("left", gives={"out": (TYPE_FP32, [5])})(Tensor("IN"))),
        ['output "out" of model "left" has dims [-1, 5]', 'input "x" of model "right" has dims [-1, 4]'],
    ),
    "rank": (
        lambda: model("right")(model("left", gives={"out": (TYPE_FP32, [-1, -1])})(Tensor("IN"))),
        ['output "out" of model "left" has dims [-1, -1, -1]', 'input "x" of model "right" has dims [-1, 4]'],
    ),
    "smaller batch": (
        lambda: model("right", batch=2)(model("left", batch=8)(Tensor("IN"))),
        ['output "y" of model "left" has batches of up to 8', 'input "x" of model "right" takes at most 2'],
    ),
    "batched feeding unbatched": (
        lambda: model("right", batch=0)(model("left", batch=8)(Tensor("IN"))),
        ['output "y" of model "left" is batched (max_batch_size 8', 'input "x" of model "right" is not', "[-1, 4]"],
    ),
    "batched feeding a fixed count": (
        lambda: model("right", {"x": (TYPE_FP32, [3, 4])}, batch=0)(model("left", batch=8)(Tensor("IN"))),
        ['output "y" of model "left" is batched', 'input "x" of model "right" is not'],
    ),
    "not a tensor": (lambda: model("m")(3), ['input "x" of model "m" is given int 3']),  # type: ignore[arg-type]
    "no such output": (lambda: model("m")(Tensor("IN"), to={"nope": "T"}), ['has no output "nope"', '"y"']),
    "unlisted inputs": (lambda: model("m", {})(Tensor("IN")), ['model "m" states no inputs']),
    "stated batch too large": (
        lambda: Ensemble("e", outputs={"O": model("m", batch=4)(Tensor("IN"))}, max_batch_size=8),
        ['"e" allows a maximum batch size of 8', 'model "m" has at most 4'],
    ),
    "two tensors of one name": (
        lambda: Ensemble("e", outputs=[model("a")(model("b")(Tensor("IN"), to="T"), to="IN")]),
        ['two tensors are named "IN"'],
    ),
    "an input that no step reads": (
        lambda: Ensemble("e", outputs={"O": model("m")(Tensor("IN"))}, inputs=[Tensor("OTHER")]),
        ['ensemble input "OTHER" is not used'],
    ),
    "an output that is not a tensor": (lambda: Ensemble("e", outputs={"O": model("m")}), ["Onnx", "expected Tensor"]),
}  # type: ignore[dict-item]  # two rows pass on purpose what no type checker would let through


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_wiring_is_refused_with_both_sides_named(case: str) -> None:
    """Each mistake raises on its line and names both tensors, both models, both values."""
    wire, parts = REFUSED[case]
    with pytest.raises(DefinitionError) as raised:
        wire()
    for part in parts:
        assert part in str(raised.value)


def test_the_second_reader_of_an_untyped_input_is_held_against_the_first() -> None:
    """An input without a type takes it from its first reader; the line of a contradicting second reader raises."""
    shared = Tensor("IN")
    model("first")(shared)
    other = model("second", {"z": (TYPE_INT64, [4])})
    with pytest.raises(DefinitionError) as raised:
        other(shared)
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert (Path(frames[0].filename).name, frames[0].line) == (Path(__file__).name, "other(shared)")
    assert 'typed by input "x" of model "first"' in str(raised.value)
    assert 'input "z" of model "second" is TYPE_INT64' in str(raised.value)


def optional_reader(name: str = "m", *, optional: bool = True) -> Onnx:
    """A model of a required and another input."""
    inputs = [Input("a", TYPE_FP32, [1]), Input("b", TYPE_FP32, [1], optional=optional)]
    return Onnx(name, max_batch_size=4, input=inputs, output=[Output("y", TYPE_FP32, [1])])


def test_an_ensembles_input_is_optional_where_every_reader_is() -> None:
    """As Triton runs it: a step then gets nothing for it; one that requires it would fail at request time."""
    a, b = Tensor("A"), Tensor("B")
    inner = Ensemble("inner", outputs={"Y": optional_reader()(a, b)})
    assert [tensor.optional for tensor in inner.input] == [False, True]
    outer = Ensemble("outer", outputs={"Y": inner(Tensor("A"), Tensor("B"))})
    assert [tensor.optional for tensor in outer.input] == [False, True]
    assert build_config(outer).input[1].optional  # type: ignore[attr-defined]  # a field made at run time
    a, b = Tensor("A"), Tensor("B")
    first = optional_reader("first")(a, b)
    both = Ensemble("both", outputs={"Y": optional_reader("second", optional=False)(first, b)})
    assert [tensor.optional for tensor in both.input] == [False, False]


@pytest.mark.parametrize("stated", [True, False])
def test_a_tensor_says_whether_it_is_optional(stated: bool) -> None:
    """What is stated counts, and stays when the ensemble is wired anew over completed models."""
    ensemble = Ensemble("e", outputs={"Y": optional_reader()(Tensor("A"), Tensor("B", optional=stated))})
    assert [tensor.optional for tensor in rebind_models(ensemble, {"m": optional_reader()}).input] == [False, stated]


def test_an_optional_input_cannot_reach_what_requires_it() -> None:
    """The reader is named, or the output that the input itself is."""
    required = optional_reader(optional=False)
    with pytest.raises(DefinitionError, match='cannot be optional: input "b" of model "m" requires it'):
        Ensemble("e", outputs={"Y": required(Tensor("A"), Tensor("B", optional=True))})
    b = Tensor("B", optional=True)
    with pytest.raises(DefinitionError, match="cannot be optional: output 'B' is that input itself"):
        Ensemble("e", outputs={"Y": optional_reader()(Tensor("A"), b), "B": b})


def wire_chain(**stated: Any) -> Ensemble:
    """Two steps; ``stated`` gets the results of both and gives further arguments."""
    first = model("first")(Tensor("I"))
    second = model("second")(first)
    return Ensemble("e", outputs={"O": second}, **stated.pop("of", lambda *_: {})(first, second), **stated)


def test_the_order_of_the_steps_can_be_stated() -> None:
    ensemble = wire_chain(of=lambda first, second: {"step_order": [second, first]})
    assert [step.model.name for step in ensemble.steps] == ["second", "first"]
    assert build_config(rebind_models(ensemble, {})) == build_config(ensemble)


def test_inputs_and_outputs_can_be_stated() -> None:
    """As config.pbtxt states them, also where the steps give more exact dims; they stay when a model is completed."""
    stated = {"input": [Input("I", TYPE_FP32, [-1])], "output": [Output("O", TYPE_FP32, [-1], label_filename="l.txt")]}
    ensemble = wire_chain(**stated)
    assert list(ensemble.input) == stated["input"]
    assert list(rebind_models(ensemble, {}).output) == stated["output"]
    assert rebind_models(wire_chain(), {"second": model("second", gives={"y": (TYPE_FP32, [2])})}).output == (
        Output("O", TYPE_FP32, [2]),
    )


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ({"of": lambda first, _: {"step_order": [first]}}, "step_order is not one result of every step"),
        ({"of": lambda a, b: {"step_order": [a, b, a]}}, "step_order has a step twice"),
        ({"of": lambda a, b: {"step_order": [a, b, Tensor("I")]}}, "step_order is not one result of every step"),
        ({"input": [Input("J", TYPE_FP32, [4])]}, "input states J, but the steps give it I"),
        ({"output": [Output("O", TYPE_INT64, [4])]}, 'output "O" is stated as TYPE_INT64, but the steps give it'),
        ({"files": {"../x": b""}}, "files: '../x' is not a path inside the model's directory"),
    ],
)
def test_what_contradicts_the_steps_is_refused(stated: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        wire_chain(**stated)
    assert sentence in str(raised.value)
