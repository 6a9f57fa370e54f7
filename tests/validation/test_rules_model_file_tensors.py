"""Rules about inputs and outputs that a configuration and its model file state otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf import json_format, text_format
from onnx import TensorProto, helper

from tests.support import graphdefs
from tritonforge.triton.schema import new_model_config
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import load_rules
from tritonforge.validation.report import validate

#: The rules under test.
OWN = re.compile(r"E82[0-4]")


def make_onnx(inputs: dict[str, Any], outputs: dict[str, Any], data_type: int = TensorProto.FLOAT) -> bytes:
    """Return an ONNX model whose outputs are its first input."""
    first = next(iter(inputs))
    graph = helper.make_graph(
        [helper.make_node("Identity", [first], [name]) for name in outputs],
        "graph",
        [helper.make_tensor_value_info(name, data_type, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, data_type, shape) for name, shape in outputs.items()],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


BATCHED = make_onnx({"A": ["N", 3]}, {"B": ["N", 3]})
FIXED = make_onnx({"A": [1, 3]}, {"B": [1, 3]})
TWO = make_onnx({"A": ["N", 3], "C": ["N", 3]}, {"B": ["N", 3]})
SCALAR = make_onnx({"A": []}, {"B": []})
STATES = make_onnx({"A": ["N", 3], "START": ["N", 1], "before": ["N", 3]}, {"B": ["N", 3], "after": ["N", 3]})


def make_config(
    *, size: int = 8, name: str = "A", output: str = "B", data_type: str = "TYPE_FP32", dims: str = "3", rest: str = ""
) -> str:
    return (
        f'platform: "onnxruntime_onnx" max_batch_size: {size} '
        f'input [{{ name: "{name}" data_type: {data_type} dims: [{dims}] }}] '
        f'output [{{ name: "{output}" data_type: TYPE_FP32 dims: [{dims}] }}] {rest}'
    )


SEQUENCES = """sequence_batching {
  control_input [{ name: "START" control [{ kind: CONTROL_SEQUENCE_START fp32_false_true: [0, 1] }] }]
  state [{ input_name: "before" output_name: "after" data_type: TYPE_FP32 dims: [3] }]
}"""
COMPLETED = 'platform: "onnxruntime_onnx" max_batch_size: %s'

#: Rule -> a bad and a good configuration, each with its file.
CASES: dict[str, list[tuple[tuple[str, bytes], tuple[str, bytes]]]] = {
    "E820": [
        ((make_config(name="image"), BATCHED), (make_config(), BATCHED)),
        ((make_config(output="scores"), BATCHED), (make_config(), BATCHED)),
    ],
    "E821": [
        ((make_config(), TWO), (make_config(), BATCHED)),
        ((make_config(), STATES), (make_config(rest=SEQUENCES), STATES)),
    ],
    "E822": [((make_config(data_type="TYPE_UINT8"), BATCHED), (make_config(), BATCHED))],
    "E823": [
        ((make_config(dims="4"), BATCHED), (make_config(), BATCHED)),
        ((make_config(), FIXED), (make_config(size=0, dims="1, 3"), FIXED)),
        ((make_config(size=0, dims="2, 4"), BATCHED), (make_config(size=0, dims="1"), SCALAR)),
    ],
    "E824": [((COMPLETED % 8, FIXED), (COMPLETED % 0, FIXED))],
}


def write_model(folder: Path, config: str, content: bytes) -> None:
    (folder / "m" / "1").mkdir(parents=True, exist_ok=True)
    (folder / "m" / "config.pbtxt").write_text(config)
    (folder / "m" / "1" / "model.onnx").write_bytes(content)


def find_own(folder: Path) -> list[Finding]:
    return [finding for finding in validate(folder) if OWN.match(finding.code)]


@pytest.mark.parametrize(
    ("code", "number"), [(code, number) for code, cases in CASES.items() for number in range(len(cases))]
)
def test_a_bad_configuration_gives_its_rule_and_a_good_one_nothing(code: str, number: int, tmp_path: Path) -> None:
    bad, good = CASES[code][number]
    write_model(tmp_path, *bad)
    findings = find_own(tmp_path)
    assert {finding.code for finding in findings} == {code}
    assert findings[0].help
    write_model(tmp_path, *good)
    assert find_own(tmp_path) == []


def test_every_rule_has_cases() -> None:
    assert set(CASES) == {code for code in load_rules() if OWN.match(code)}


def test_what_only_onnx_runtime_can_know_is_not_reported(tmp_path: Path) -> None:
    """It infers the shapes of outputs, whose -1 in the file may become a number."""
    write_model(tmp_path, make_config(), make_onnx({"A": ["N", 3]}, {"B": ["N", "M"]}))
    assert find_own(tmp_path) == []


def test_ragged_inputs_and_batch_inputs_are_not_compared(tmp_path: Path) -> None:
    ragged = make_config().replace("dims: [3] }] output", "dims: [-1] allow_ragged_batch: true }] output")
    write_model(tmp_path, ragged, make_onnx({"A": ["N"]}, {"B": ["N", 3]}))
    assert find_own(tmp_path) == []
    counted = 'batch_input [{ kind: BATCH_ELEMENT_COUNT target_name: "C" data_type: TYPE_FP32 source_input: "A" }]'
    write_model(tmp_path, make_config(rest=counted), TWO)
    assert find_own(tmp_path) == []


def test_a_scalar_of_the_file_takes_dims_of_ones_with_a_batch_too(tmp_path: Path) -> None:
    """onnxruntime.cc `ValidateInputs` compares no shape with a scalar's."""
    for size, dims in ((8, "1"), (0, "1"), (0, "1, 1")):
        write_model(tmp_path, make_config(size=size, dims=dims), SCALAR)
        assert find_own(tmp_path) == []


def test_an_optional_input_may_be_an_initializer(tmp_path: Path) -> None:
    """Such a model is triton-inference-server's qa/L0_initializer_as_input."""
    extra = '}, { name: "WEIGHT" data_type: TYPE_FP32 dims: [2, 3] optional: true }] output'
    write_model(tmp_path, make_config(size=0, dims="2, 3").replace("}] output", extra), BATCHED)
    assert find_own(tmp_path) == []


def test_a_saved_model_is_compared_by_its_signature(tmp_path: Path) -> None:
    (tmp_path / "m" / "1" / "model.savedmodel").mkdir(parents=True)
    content = graphdefs.serialize_saved_model({"A": (-1, 3)}, {"B": (-1, 3)})
    (tmp_path / "m" / "1" / "model.savedmodel" / "saved_model.pb").write_bytes(content)
    config = make_config(data_type="TYPE_INT32").replace("onnxruntime_onnx", "tensorflow_savedmodel")
    (tmp_path / "m" / "config.pbtxt").write_text(config)
    (finding,) = find_own(tmp_path)
    assert (finding.code, finding.line) == ("E822", 1)
    assert "configuration expects datatype TYPE_INT32 for input 'A', model provides TYPE_FP32" in finding.message


@pytest.mark.framework
@pytest.mark.parametrize("code", ["E820", "E821", "E822", "E823"])
def test_the_backend_refuses_in_the_same_words(code: str, tmp_path: Path) -> None:
    """The local backend with ONNX Runtime loads the good file, and raises the first finding's message for the bad."""
    from tritonforge.errors import ArtifactError
    from tritonforge.serving.backends.configuration import parse_config
    from tritonforge.serving.backends.onnxruntime.model import check_session, load_session

    def load(config: str) -> None:
        message = text_format.Parse(config, new_model_config())
        document = json.loads(json_format.MessageToJson(message, preserving_proto_field_name=True))
        for tensor in (*document["input"], *document["output"]):
            tensor["dims"] = [int(extent) for extent in tensor["dims"]]
        stated = parse_config({"name": "m", "max_batch_size": 0, **document}, tmp_path / "m" / "1")
        check_session(stated, load_session(stated))

    for bad, good in CASES[code]:
        write_model(tmp_path, *bad)
        messages = [finding.message for finding in find_own(tmp_path)]
        with pytest.raises(ArtifactError) as refused:
            load(bad[0])
        assert str(refused.value) in messages
        write_model(tmp_path, *good)
        load(good[0])
