import xml.etree.ElementTree as ET

import pytest
from google.protobuf import text_format

from tests.support.graph_repositories import CALLING, HOSTILE, NESTED, PASSING
from tests.support.rule_repositories import e
from tests.support.rule_repositories import step as build_step
from tritonforge.golden_tests.data_flow import plan_data_flow
from tritonforge.graph.graph_reader import read_graph
from tritonforge.graph.svg import render_dark_style
from tritonforge.triton.schema import new_model_config
from tritonforge.validation.tree import Tree
from tritonforge.web_console.graph_view import build_graph_view


def read_configs(files):
    """The configurations of a repository, with the names that a build gives them."""
    configs = {}
    for path, text in files.items():
        if path.endswith("config.pbtxt"):
            name = path.split("/")[0]
            configs[name] = text_format.Parse(text, new_model_config())
            configs[name].name = name
    return configs


@pytest.mark.parametrize("files", [NESTED, PASSING], ids=["nested", "passing"])
def test_every_step_and_tensor_of_the_data_flow_has_a_box(files) -> None:
    flow = plan_data_flow(read_configs(files), "outer")
    view = build_graph_view(read_graph(Tree.of(files)), "outer")
    keys = {space["key"] for space in view.spaces}
    assert len(keys) == len(view.spaces)
    for step in flow.steps:
        assert view.steps[step.name] in keys
        assert view.models[view.steps[step.name]] == step.model
        assert {*step.inputs.values(), *step.outputs.values()} <= set(view.tensors.values())
    assert view.tensors.keys() | view.models.keys() >= keys


def test_the_spaces_are_inside_their_boxes_and_apart() -> None:
    view = build_graph_view(read_graph(Tree.of(NESTED)), "outer")
    spaces = [
        (space["x"], space["y"], space["x"] + space["width"], space["y"] + space["height"]) for space in view.spaces
    ]
    for number, (left, top, right, bottom) in enumerate(spaces):
        assert left >= 0 <= top
        assert right <= view.width
        assert bottom <= view.height
        for other in spaces[number + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_models_that_code_requests_have_boxes_that_are_no_steps() -> None:
    graph = read_graph(Tree.of(CALLING))
    view = build_graph_view(graph, graph.diagrams[0].name)
    assert sorted(view.calls.values()) == ["absent", "scorer"]
    assert {space["key"] for space in view.spaces} >= view.calls.keys()
    assert not view.calls.keys() & set(view.steps.values())


def test_a_called_ensemble_has_the_boxes_of_its_steps() -> None:
    code = CALLING["caller/1/model.py"].replace('"scorer"', '"chain"')
    chain = e(build_step("scorer", {"A": "I"}, {"B": "O"}), name="chain")
    graph = read_graph(Tree.of({**CALLING, "caller/1/model.py": code, **chain}))
    view = build_graph_view(graph, next(diagram.name for diagram in graph.diagrams if diagram.name != "chain"))
    assert sorted(view.calls.values()) == ["absent", "chain", "chain/scorer"]
    assert {space["key"] for space in view.spaces} <= view.models.keys() | view.tensors.keys()
    assert {key for key, name in view.calls.items() if name == "chain/scorer"} <= {
        space["key"] for space in view.spaces
    }


def test_a_graph_in_the_page_has_no_style_and_no_script() -> None:
    """The page's policy allows style sheets and scripts of its own files only."""
    graph = read_graph(Tree.of(HOSTILE))
    svg = build_graph_view(graph, graph.diagrams[0].name).svg
    tags = {node.tag.partition("}")[2] for node in ET.fromstring(svg).iter()}
    assert tags <= {"svg", "title", "rect", "path", "text", "a"}
    assert "prefers-color-scheme:dark" in render_dark_style()
