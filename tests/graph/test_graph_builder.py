"""The graph of a repository: nodes, tensors, edges, requests of code, and the findings at their places."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.graph_repositories import CALLING, NESTED, WRONG, build_chain, build_doubling
from tests.support.rule_repositories import INHERITED, e, m, step, x
from tritonforge.errors import DefinitionError
from tritonforge.graph.diagram import Diagram, Graph, describe_tensor, list_diagrams
from tritonforge.graph.graph_reader import read_graph
from tritonforge.validation.tree import Tree


def read(files: dict[str, Any], *models: str) -> Graph:
    """The graph of a repository."""
    return read_graph(Tree.of(files), models=models)


def place_codes(diagram: Diagram, graph: Graph) -> dict[str, list[str]]:
    """The codes of the findings at each part of a diagram that has some."""
    parts = {"": diagram.findings}
    parts |= {model.key: model.findings for model in diagram.models}
    parts |= {tensor.key: tensor.findings for tensor in diagram.tensors}
    parts |= {f"{edge.source} > {edge.target}": edge.findings for edge in diagram.edges}
    return {key: [graph.findings[number].code for number in numbers] for key, numbers in parts.items() if numbers}


def test_an_ensemble_has_its_steps_with_settings_and_its_tensors_with_types() -> None:
    (diagram,) = read({**NESTED}, "inner").diagrams
    assert (diagram.name, diagram.details) == ("inner", ("version 1", "max_batch_size 8"))
    assert [(model.step, model.name, model.inputs, model.outputs) for model in diagram.models] == [
        (0, "x", ("A",), ("B",)),
        (1, "y", ("A", "C"), ("B", "D")),
    ]
    assert diagram.models[0].details == (
        "identity, version 1",
        "max_batch_size 8, dynamic batching (preferred 4, 8, delay 100 µs)",
        "instances: 2 on GPU 0, 1; 1 on CPU",
    )
    assert {tensor.name: describe_tensor(tensor) for tensor in diagram.tensors} == dict.fromkeys(
        "IJTOP", "FP32 [4], batch ≤ 8"
    )
    assert [(edge.source, edge.target, edge.port) for edge in diagram.edges if edge.kind == "input"] == [
        ("tensor:I", "step:0", "A"),
        ("tensor:T", "step:1", "A"),
        ("tensor:J", "step:1", "C"),
    ]


def test_a_nested_ensemble_is_inside_its_step_and_only_models_that_no_other_uses_are_diagrams() -> None:
    graph = read(NESTED)
    assert [diagram.name for diagram in list_diagrams(graph.diagrams)] == ["outer", "inner"]
    (outer,) = graph.diagrams
    assert outer.models[1].inner is not None


def test_an_ensemble_that_is_used_often_is_drawn_once() -> None:
    graph = read(build_doubling(30))
    assert len(list(list_diagrams(graph.diagrams))) == 16
    again = graph.diagrams[0].models[1]
    assert "steps: drawn once" in again.details
    assert (again.is_ensemble, again.inner) == (True, None)


def test_an_ensemble_that_contains_itself_ends() -> None:
    graph = read({**e(step("e", {"I": "I"}, {"O": "O"}))})
    (diagram,) = graph.diagrams
    assert "contains itself" in diagram.models[0].details
    assert place_codes(diagram, graph)["step:0"] == ["E321"]


def test_requests_that_code_sends_are_edges_and_their_findings_are_on_them() -> None:
    graph = read(CALLING)
    (diagram,) = graph.diagrams
    calls = [(edge.source, edge.target, edge.port) for edge in diagram.edges if edge.kind == "call"]
    assert calls == [("step:0", "call:scorer", "A → B"), ("step:0", "call:absent", "? → S")]
    assert [model.is_missing for model in diagram.models] == [False, False, True]
    assert place_codes(diagram, graph) == {"step:0 > call:absent": ["E851"]}


def test_findings_are_on_the_edge_the_model_or_the_tensor_that_they_are_about() -> None:
    graph = read(WRONG)
    ensemble, alone = graph.diagrams
    assert place_codes(ensemble, graph) == {
        "step:2": ["W348"],
        "tensor:T > step:1": ["E337"],
        "tensor:U > step:2": ["E337"],
    }
    assert place_codes(alone, graph) == {"model": ["W209"]}
    assert "E101" in [finding.code for finding in graph.findings]  # in the list alone: it is about no model
    unused = read({**x(), **e(inputs="IJ")})
    assert place_codes(unused.diagrams[0], unused) == {"tensor:J": ["E307"]}


def test_a_finding_on_an_input_of_a_model_is_on_the_edge_to_it() -> None:
    files = {**x(config='max_batch_size: 0 input [{ name: "C" data_type: 99 dims: [1] }]'), **e()}
    graph = read({**files, **e(step("x", {"A": "I", "C": "J"}, {"B": "O"}), inputs="IJ")})
    assert "W310" in place_codes(graph.diagrams[0], graph)["tensor:J > step:0"]
    alone = read(m('input [{ name: "C" data_type: 99 dims: [1] }]'))
    assert place_codes(alone.diagrams[0], alone) == {"input:C": ["W310"]}


def test_what_a_backend_completes_is_completed() -> None:
    (diagram,) = read({**INHERITED, **e(step("m", {"A": "I"}, {"B": "T"}), step("m", {"A": "T"}, {"B": "O"}))}).diagrams
    assert [describe_tensor(tensor) for tensor in diagram.tensors if tensor.name == "T"] == ["FP32 [4], no batch"]


def test_what_is_unknown_is_stated_as_unknown() -> None:
    (diagram,) = read({**e(step("absent", {"A": "I"}, {"B": "T"}), step("absent", {"A": "T"}, {"B": "O"}))}).diagrams
    assert [describe_tensor(tensor) for tensor in diagram.tensors if tensor.name == "T"] == ["? [?]"]
    assert diagram.models[0].is_missing


def test_a_model_that_is_not_there_and_a_graph_that_is_too_large_are_refused() -> None:
    with pytest.raises(DefinitionError, match=r"model 'nosuch' not found \(the repository has e, x\)"):
        read({**x(), **e()}, "nosuch")
    with pytest.raises(
        DefinitionError, match=r"more than 20 models and tensors\. Choose what to draw with --model NAME"
    ):
        read_graph(Tree.of(build_chain(50)), max_nodes=20)
    reads = {f"A{number}": "I" for number in range(90)}
    with pytest.raises(DefinitionError, match="more than 80 edges"):
        read_graph(Tree.of({**x(), **e(step("x", reads, {"B": "O"}))}), max_nodes=20)


def test_with_models_only_their_findings_are_kept() -> None:
    graph = read(WRONG, "stale")
    assert [finding.code for finding in graph.findings] == ["W209"]
