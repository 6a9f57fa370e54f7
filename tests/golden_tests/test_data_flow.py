"""The steps of ensembles in the order of their data flow."""

from __future__ import annotations

from typing import Any

import pytest

from tritonforge.errors import CaseError
from tritonforge.golden_tests.data_flow import find_outermost, list_steps, plan_data_flow
from tritonforge.serving.repository_overlay import parse_config


def ensemble(*steps: tuple[str, dict[str, str], dict[str, str]], outputs: tuple[str, ...] = ("OUT",)) -> Any:
    """An ensemble's configuration: (model, input map, output map) for each step."""
    text = "".join(f'output {{ name: "{name}" data_type: TYPE_FP32 dims: [1] }}' for name in outputs)
    parts: list[str] = []
    for model, inputs, made in steps:
        maps = "".join(f'input_map {{ key: "{key}" value: "{value}" }}' for key, value in inputs.items())
        maps += "".join(f'output_map {{ key: "{key}" value: "{value}" }}' for key, value in made.items())
        parts.append(f'step {{ model_name: "{model}" model_version: -1 {maps} }}')
    return parse_config(f"{text} ensemble_scheduling {{ {' '.join(parts)} }}".encode())


def plain(text: str = "") -> Any:
    """The configuration of a model that is not an ensemble."""
    return parse_config(text.encode())


def test_steps_are_in_the_order_of_the_data_flow() -> None:
    configs = {
        "all": ensemble(
            ("last", {"x": "b"}, {"y": "OUT"}), ("first", {"x": "IN"}, {"y": "a"}), ("first", {"x": "a"}, {"y": "b"})
        ),
        "first": plain(),
        "last": plain(),
    }
    flow = plan_data_flow(configs, "all")
    assert [(step.name, dict(step.sources)) for step in flow.steps] == [
        ("first", {"x": "IN"}),
        ("first#2", {"x": "first.y"}),
        ("last", {"x": "first#2.y"}),
    ]
    assert flow.sources == {"OUT": "last.y"}


def test_steps_of_a_nested_ensemble_are_steps() -> None:
    configs = {
        "all": ensemble(("inner", {"IN": "IMAGE"}, {"OUT": "mid"}), ("last", {"x": "mid"}, {"y": "OUT"})),
        "inner": ensemble(("first", {"x": "IN"}, {"y": "mid"}), ("last", {"x": "mid"}, {"y": "OUT"})),
        "first": plain(),
        "last": plain(),
    }
    flow = plan_data_flow(configs, "all")
    assert [(step.name, dict(step.sources)) for step in flow.steps] == [
        ("inner/first", {"x": "IMAGE"}),
        ("inner/last", {"x": "inner/first.y"}),
        ("last", {"x": "inner/last.y"}),
    ]
    assert find_outermost(configs) == ("all",)


def test_a_decoupled_step_keeps_an_ensemble_whole() -> None:
    configs = {
        "all": ensemble(("story", {"x": "IN"}, {"y": "OUT"})),
        "story": plain("model_transaction_policy { decoupled: true }"),
    }
    flow = plan_data_flow(configs, "all")
    assert flow.is_decoupled
    assert flow.steps == ()
    assert flow.reason == "all is not split into steps: story is decoupled and has any number of responses"


def test_an_ensemble_that_contains_itself_is_refused() -> None:
    configs = {"a": ensemble(("b", {}, {})), "b": ensemble(("a", {}, {}))}
    with pytest.raises(CaseError, match="a: the ensemble contains itself"):
        plan_data_flow(configs, "a")


def test_ensembles_that_contain_ensembles_twice_are_refused_in_bounded_time() -> None:
    """40 of them would be 2**40 steps."""
    configs = {
        f"e{depth}": ensemble((f"e{depth + 1}", {"x": "a"}, {"y": "b"}), (f"e{depth + 1}", {"x": "b"}, {"y": "c"}))
        for depth in range(40)
    }
    with pytest.raises(CaseError, match="its data flow has more than 1000 steps"):
        plan_data_flow({**configs, "e40": plain()}, "e0")


def test_a_step_that_is_not_in_the_repository_is_refused() -> None:
    with pytest.raises(CaseError, match="b: the repository has no such model"):
        plan_data_flow({"a": ensemble(("b", {}, {}))}, "a")


def test_the_outermost_model_is_an_ensemble_if_there_is_one() -> None:
    assert find_outermost({"a": plain(), "b": plain()}) == ("a", "b")
    assert find_outermost({"a": ensemble(("b", {}, {})), "b": plain(), "c": plain()}) == ("a",)


def test_the_steps_of_a_decoupled_model_are_listed_as_well() -> None:
    configs = {
        "all": ensemble(("first", {"x": "IN"}, {"y": "a"}), ("stream", {"x": "a"}, {"y": "OUT"})),
        "first": plain(),
        "stream": plain("model_transaction_policy { decoupled: true }"),
    }
    assert plan_data_flow(configs, "all").steps == ()
    assert [(step.name, dict(step.sources)) for step in list_steps(configs, "all")] == [
        ("first", {"x": "IN"}),
        ("stream", {"x": "first.y"}),
    ]
    assert [step.name for step in list_steps(configs, "stream")] == ["stream"]
    with pytest.raises(CaseError, match="the repository has no such model"):
        list_steps({"all": configs["all"]}, "all")
