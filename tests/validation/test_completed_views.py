"""What backends complete from model files counts for the rules about ensembles, too."""

from __future__ import annotations

from typing import Any

from tritonforge.model_files.onnx_model import OnnxModel
from tritonforge.model_files.signature import Signature, TensorSpec
from tritonforge.validation.report import validate
from tritonforge.validation.tree import Entry, Tree

SIGNATURE = Signature([TensorSpec("x", "TYPE_FP32", (-1, 3))], [TensorSpec("y", "TYPE_FP32", (-1, 3))])


def find_codes(output: str, *, data_type: str = "TYPE_FP32", header: Any = None, size: int = 4) -> list[str]:
    """Return the findings on an ensemble of one ONNX model that has no configuration."""
    ensemble = f"""
platform: "ensemble"
max_batch_size: {size}
input [ {{ name: "I" data_type: {data_type} dims: [ 3 ] }} ]
output [ {{ name: "O" data_type: TYPE_FP32 dims: [ 3 ] }} ]
ensemble_scheduling {{ step [ {{
  model_name: "m" model_version: -1
  input_map {{ key: "x" value: "I" }} output_map {{ key: "{output}" value: "O" }}
}} ] }}
"""
    files = {"e/config.pbtxt": ensemble, "e/1/.gitkeep": "", "m/config.pbtxt": "", "m/1/": ""}
    tree = Tree.of({**files, "m/1/model.onnx": Entry("file", 100, header=header)})
    return [finding.code for finding in validate(tree) if finding.path.startswith("e/")]


def test_a_step_is_compared_with_what_its_file_states() -> None:
    header = OnnxModel(ir_version=8, opsets={"": 17}, signature=SIGNATURE)
    assert find_codes("y", header=header) == []
    assert find_codes("z", header=header) == ["W304", "E334"]
    assert find_codes("y", header=header, data_type="TYPE_INT8") == ["E336"]
    assert find_codes("y", header=header, size=8) == ["E330"]


def test_nothing_is_known_of_a_step_whose_file_was_not_read() -> None:
    for options in ({}, {"data_type": "TYPE_INT8"}, {"size": 8}):
        assert find_codes("z", **options) == []
