"""Rules about model files: what their headers state against the backend and the image that load them.

Files are those that the frameworks wrote (`tests/fixtures/make_model_files.py`), or small patches of them, which are
stated beside each; the plans of TensorRT are headers, since building a plan needs a GPU.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.support import graphdefs
from tests.support.rule_repositories import IO, m
from tritonforge.triton import CATALOGUE, model_formats
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import load_rules
from tritonforge.validation.report import validate
from tritonforge.validation.tree import Entry, Tree

FILES = Path(__file__).parents[1] / "fixtures" / "model_files"
#: The rules under test.
OWN = re.compile(r"[EW]80\d|E810")

TORCH = (
    'input [{ name: "x__0" data_type: TYPE_FP32 dims: [4] }] output [{ name: "y__0" data_type: TYPE_FP32 dims: [3] }]'
)
FIL = 'backend: "fil" parameters { key: "model_type" value { string_value: "%s" } }'


def read(name: str) -> bytes:
    return (FILES / name).read_bytes()


def make_onnx(*, ir_version: int = 8, opset: int = 17, ml_opset: int = 0, location: str = "") -> bytes:
    """Return an ONNX model; ``location`` is the file of its weight."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [3], bytes(12), raw=True)
    if location:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)
    graph = helper.make_graph(
        [helper.make_node("Add", ["A", "weight"], ["B"])],
        "graph",
        [helper.make_tensor_value_info("A", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("B", TensorProto.FLOAT, [3])],
        [weight],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid("ai.onnx.ml", ml_opset)] if ml_opset else [])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    return model.SerializeToString()


def make_custom_onnx(*, has_function: bool) -> bytes:
    """Return an ONNX model with a node of another domain, and the function that defines it if asked."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own.ops", 1)]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "AB"]
    node = helper.make_node("Mine", ["A"], ["B"], domain="own.ops")
    function = helper.make_function(
        "own.ops", "Mine", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], opsets[:1]
    )
    graph = helper.make_graph([node], "graph", tensors[:1], tensors[1:])
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=opsets, ir_version=8, functions=[function] if has_function else []
    )
    return model.SerializeToString()


def make_plan(*version: int) -> bytes:
    """Return the header of a plan."""
    return b"ftrt" + bytes(20) + bytes(version) + bytes(64)


def make_ir(*, version: int = 11, opset: int = 1) -> bytes:
    """Return the IR of the fixtures, with the version of its format and the opset of its ReLU changed."""
    text = read("openvino.xml").decode()
    text = re.sub(r'<net name="model" version="11">', f'<net name="model" version="{version}">', text)
    return re.sub(r'type="ReLU" version="opset1"', f'type="ReLU" version="opset{opset}"', text).encode()


def make_graphdef(min_consumer: int) -> bytes:
    return graphdefs.dense_layers([np.zeros((2, 2))], min_consumer=min_consumer)


def validate_files(folder: Path, head: str, files: Mapping[str, bytes], **options: Any) -> list[Finding]:
    """Return the findings of the rules under test about a model on disk."""
    shutil.rmtree(folder / "m", ignore_errors=True)
    (folder / "m" / "1").mkdir(parents=True)
    (folder / "m" / "config.pbtxt").write_text(f"{head}\n")
    for path, content in files.items():
        (folder / "m" / "1" / path).parent.mkdir(exist_ok=True, parents=True)
        (folder / "m" / "1" / path).write_bytes(content)
    return [finding for finding in validate(folder, **options) if OWN.match(finding.code)]


ONNX = f'platform: "onnxruntime_onnx" {IO}'
GRAPHDEF = f'platform: "tensorflow_graphdef" {IO}'
SAVED_MODEL = f'platform: "tensorflow_savedmodel" {IO}'
PLAN = f'platform: "tensorrt_plan" {IO}'
LIBTORCH = f'platform: "pytorch_libtorch" {TORCH}'
AOTI = f'platform: "torch_aoti" {TORCH}'
OPENVINO = f'backend: "openvino" {IO}'
XGBOOST_JSON = f"{FIL % 'xgboost_json'} {IO}"
XGBOOST_UBJ = f"{FIL % 'xgboost_ubj'} {IO}"
LIGHTGBM = f"{FIL % 'lightgbm'} {IO}"
TREELITE = f"{FIL % 'treelite_checkpoint'} {IO}"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1000\n"
SAVED = graphdefs.serialize_saved_model({"A": (4,)}, {"B": (4,)})


class Case(NamedTuple):
    """A configuration, the files of its version, and the image; without one no version is compared."""

    head: str
    files: dict[str, bytes]
    image: str | None = None


def pair(head: str, name: str, bad: bytes, good: bytes, image: str | None = None) -> tuple[Case, Case]:
    """A bad and a good file of one name."""
    return Case(head, {name: bad}, image), Case(head, {name: good}, image)


def images(head: str, name: str, content: bytes, bad: str, good: str) -> tuple[Case, Case]:
    """One file in an image that refuses it, and in one that reads it."""
    return Case(head, {name: content}, bad), Case(head, {name: content}, good)


#: Rule -> pairs of a bad and a good case.
CASES: dict[str, list[tuple[Case, Case]]] = {
    "E801": [
        pair(ONNX, "model.onnx", b"", make_onnx()),
        pair(ONNX, "model.onnx", make_onnx()[:-20], make_onnx(), "24.09"),
        pair(GRAPHDEF, "model.graphdef", b"text", make_graphdef(12), "24.09"),
        pair(SAVED_MODEL, "model.savedmodel/saved_model.pb", b"<html>", SAVED, "24.09"),
        pair(LIBTORCH, "model.pt", read("scripted.pt")[:3000], read("scripted.pt"), "24.09"),
        pair(PLAN, "model.plan", make_onnx(), make_plan(8, 6, 1, 6)),
        pair(OPENVINO, "model.xml", read("openvino.xml")[:900], read("openvino.xml"), "24.09"),
        pair(XGBOOST_JSON, "xgboost.json", read("xgboost.json")[:-500], read("xgboost.json")),
    ],
    "E802": [
        pair(ONNX, "model.onnx", make_onnx(ir_version=10), make_onnx(ir_version=9), "24.01"),
        pair(ONNX, "model.onnx", make_onnx(opset=22), make_onnx(opset=21), "24.09"),
        pair(ONNX, "model.onnx", make_onnx(ml_opset=4), make_onnx(ml_opset=3), "24.01"),
        images(ONNX, "model.onnx/model.onnx", make_onnx(ir_version=13), "25.12", "26.02"),
    ],
    "E803": [
        pair(PLAN, "model.plan", make_plan(10, 4, 0, 26), make_plan(8, 6, 1, 6), "24.01"),
        pair(
            f'{PLAN} default_model_filename: "a.bin"', "a.bin", make_plan(8, 6, 1, 6), make_plan(11, 0, 0, 1), "26.03"
        ),
    ],
    "E804": [
        pair(LIBTORCH, "model.pt", read("weights.pt"), read("scripted.pt")),
        pair(AOTI, "model.pt2", read("exported.pt2"), read("compiled.pt2"), "26.05"),
        (
            Case(f'backend: "pytorch" {TORCH}', {"model.pt": read("exported.pt2")}, "26.05"),
            Case(f'backend: "pytorch" runtime: "model.py" {TORCH}', {"model.pt": read("exported.pt2")}, "26.05"),
        ),
    ],
    "E805": [
        pair(OPENVINO, "model.xml", make_ir(opset=15), make_ir(opset=14), "24.09"),
        pair(OPENVINO, "model.xml", make_ir(version=7), make_ir(version=10), "24.09"),
    ],
    "E806": [
        (
            Case(f'backend: "fil" {IO}', {"xgboost.model": read("xgboost.ubj")}),
            Case(f'{XGBOOST_UBJ} default_model_filename: "xgboost.model"', {"xgboost.model": read("xgboost.ubj")}),
        ),
        pair(LIGHTGBM, "model.txt", read("treelite.tl"), read("lightgbm.txt")),
    ],
    "E807": [
        images(XGBOOST_JSON, "xgboost.json", read("xgboost.json"), "25.12", "26.01"),
        images(XGBOOST_UBJ, "xgboost.ubj", read("xgboost.ubj"), "24.10", "26.06"),
        images(TREELITE, "checkpoint.tl", read("treelite.tl"), "24.02", "24.03"),
    ],
    "E808": [pair(GRAPHDEF, "model.graphdef", make_graphdef(1995), make_graphdef(1994), "24.09")],
    "E809": [(Case(XGBOOST_UBJ, {}, "24.09"), Case(XGBOOST_UBJ, {}, "24.10"))],
    "E810": [
        pair(ONNX, "model.onnx", make_custom_onnx(has_function=False), make_custom_onnx(has_function=True)),
        (
            Case(ONNX, {"model.onnx": make_custom_onnx(has_function=False)}),
            Case(
                f'{ONNX} model_operations {{ op_library_filename: ["/opt/libmine.so"] }}',
                {"model.onnx": make_custom_onnx(has_function=False)},
            ),
        ),
    ],
    "W801": [pair(ONNX, "model.onnx", LFS, make_onnx())],
    "W802": [
        (
            Case(ONNX, {"model.onnx": make_onnx(location="weights.bin")}),
            Case(ONNX, {"model.onnx": make_onnx(location="weights.bin"), "weights.bin": bytes(12)}),
        )
    ],
}


@pytest.mark.parametrize(
    ("code", "number"), [(code, number) for code, cases in CASES.items() for number in range(len(cases))]
)
def test_a_bad_file_gives_exactly_its_rule_and_a_good_one_nothing(code: str, number: int, tmp_path: Path) -> None:
    bad, good = CASES[code][number]
    findings = validate_files(tmp_path, bad.head, bad.files, image=bad.image)
    assert [finding.code for finding in findings] == [code]
    assert findings[0].help
    assert validate_files(tmp_path, good.head, good.files, image=good.image) == []


def test_every_rule_has_cases() -> None:
    assert set(CASES) == {code for code in load_rules() if OWN.match(code)}


@pytest.mark.parametrize("code", ["E802", "E803", "E805", "E807", "E808"])
def test_without_an_image_no_version_is_judged(code: str, tmp_path: Path) -> None:
    head, files, _ = CASES[code][0][0]
    assert validate_files(tmp_path, head, files) == []


def test_the_findings_state_both_versions_and_a_way_out(tmp_path: Path) -> None:
    (finding,) = validate_files(tmp_path, ONNX, {"model.onnx": make_onnx(ir_version=10)}, image="24.01")
    assert finding.message == (
        "Unsupported model IR version: 10, max supported IR version: 9 (ONNX Runtime 1.16.3 of 24.01-py3)"
    )
    assert "image 24.05 or later" in finding.help
    (finding,) = validate_files(
        tmp_path, f"{FIL % 'xgboost_json'} {IO}", {"xgboost.json": read("xgboost.json")}, image="25.04"
    )
    assert "XGBoost 3.2.0, which treelite 4.4.1 of 25.04-py3 cannot read" in finding.message


def test_an_image_of_a_release_without_known_borders_gives_nothing(tmp_path: Path) -> None:
    """26.09 is provisional: no source states its runtimes."""
    assert CATALOGUE["26.09"].onnxruntime is None
    assert validate_files(tmp_path, ONNX, {"model.onnx": make_onnx(ir_version=99)}, image="26.09") == []


def test_a_runtime_of_the_users_own_has_no_borders(tmp_path: Path) -> None:
    files = {"model.graphdef": make_graphdef(1995)}
    assert validate_files(tmp_path, GRAPHDEF, files, image="25.04+tensorflow") == []


def test_files_that_are_not_built_yet_have_no_header() -> None:
    tree = Tree.of({**m("", io=IO, head='platform: "onnxruntime_onnx"'), "m/1/model.onnx": Entry("file", -1)})
    assert [finding.code for finding in validate(tree, image="24.01") if OWN.match(finding.code)] == []


def test_every_release_from_23_12_with_a_known_runtime_has_borders() -> None:
    for release, image in CATALOGUE.items():
        if release < "23.12":
            continue
        for version, find in (
            (image.onnxruntime, model_formats.find_onnx_limits),
            (image.openvino, model_formats.find_openvino_opset),
            (image.treelite, model_formats.find_treelite_limits),
            (image.tensorrt, model_formats.find_tensorrt_majors),
        ):
            assert (find(version) is None) == (version is None), (release, version)


def test_a_header_is_read_where_a_configuration_names_the_file(tmp_path: Path) -> None:
    head = f'platform: "pytorch_libtorch" default_model_filename: "net.bin" {TORCH}'
    (finding,) = validate_files(tmp_path, head, {"net.bin": read("weights.pt")})
    assert finding.code == "E804"


def test_a_file_of_ten_gigabytes_costs_a_few_kilobytes(tmp_path: Path) -> None:
    """The weight of a sparse file is 10 GB long; only its header is read."""
    weight = b"\x42\x06weight" + b"\x4a" + _varint(10 * 2**30)
    graph = b"\x2a" + _varint(len(weight) + 10 * 2**30) + weight
    output = b"\x62\x03\x0a\x01B"
    head = b"\x08\x0a" + b"\x3a" + _varint(len(output) + len(graph) + 10 * 2**30) + output + graph
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "config.pbtxt").write_text(ONNX)
    with (tmp_path / "m" / "1" / "model.onnx").open("wb") as file:
        file.write(head)
        file.truncate(len(head) + 10 * 2**30)
    findings = [finding for finding in validate(tmp_path, image="24.01") if OWN.match(finding.code)]
    assert [finding.code for finding in findings] == ["E802"]


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def test_fields_that_the_configuration_skips_are_not_reported(tmp_path: Path) -> None:
    """Treelite 4.0 and 4.1 read newer files of XGBoost so, and 4.3 does not (`make borders`)."""
    head = f'{XGBOOST_JSON} parameters {{ key: "xgboost_allow_unknown_field" value {{ string_value: "true" }} }}'
    files = {"xgboost.json": read("xgboost.json")}
    assert validate_files(tmp_path, head, files, image="24.08") == []
    assert [finding.code for finding in validate_files(tmp_path, head, files, image="24.09")] == ["E807"]
