"""What a notebook shows for an ensemble and a repository."""

import base64
import re
from pathlib import Path

from tests.support.checkout import ROOT
from tritonforge import TYPE_FP32, Ensemble, Input, Onnx, Output, Python, Tensor
from tritonforge.repository.definition.loading import load
from tritonforge.repository.resolve import resolve


def build(dims: list[int] | None, name: str = "double") -> Ensemble:
    """An ensemble of one model."""
    model = Python(name, input=[Input("x", TYPE_FP32, dims)], output=[Output("y", TYPE_FP32, dims)])
    return Ensemble("both", outputs={"OUT": model(Tensor("IN"))})


def test_an_ensemble_shows_its_graph_and_its_findings_as_a_table() -> None:
    html = build([4])._repr_html_()
    data = re.search(r'src="data:image/svg\+xml;base64,([^"]*)"', html)
    assert data is not None
    assert ">double</text>" in base64.b64decode(data[1]).decode()
    assert "<table>" in html
    assert "<td>E122</td>" in html  # the model has no model.py
    assert html.count("<script") == 0


def test_an_ensemble_shows_itself_only_and_a_repository_everything() -> None:
    definitions = load(ROOT / "repos/detector/definition.py")
    repository = resolve(definitions.models)
    alone = definitions.models["detect"]
    assert isinstance(alone, Ensemble)
    picture, all_ = alone._repr_svg_(), repository._repr_svg_()
    assert picture is not None
    assert all_ is not None
    assert "detector_image_bytes" not in picture
    assert "detector_image_bytes" in all_
    assert "No findings." in repository._repr_html_()


def test_a_definition_that_is_not_complete_is_a_sentence(tmp_path: Path) -> None:
    model = Onnx("m", input=[Input("<x>")], output=[Output("y")], artifact=tmp_path / "absent.onnx")
    ensemble = Ensemble("e", outputs=[model(Tensor("IN"), to="OUT")])
    assert ensemble._repr_svg_() is None
    assert ensemble._repr_html_().startswith("<pre>e: no graph: m: input &quot;&lt;x&gt;&quot; must specify")
