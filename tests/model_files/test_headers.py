"""Readers of model files: what each format's own framework wrote is read without the framework."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.support import graphdefs
from tritonforge.model_files.header import read_header
from tritonforge.model_files.onnx_model import read_onnx
from tritonforge.model_files.openvino_ir import read_openvino_ir
from tritonforge.model_files.signature import UNSUPPORTED, TensorSpec
from tritonforge.model_files.source import HeaderTooLargeError, ModelFileError, Source
from tritonforge.model_files.tensorflow_graph import read_graphdef, read_saved_model
from tritonforge.model_files.tensorrt_plan import read_tensorrt_plan
from tritonforge.model_files.torch_archive import read_torch_archive
from tritonforge.model_files.tree_model import TreeModel, read_tree_model

FILES = Path(__file__).parents[1] / "fixtures" / "model_files"


def source_of(name: str) -> Source:
    return Source.from_bytes((FILES / name).read_bytes())


def make_graphdef() -> bytes:
    """Return a GraphDef with one layer of 2 MB."""
    return graphdefs.dense_layers([np.zeros((700, 700), np.float32)])


def make_onnx(**options: object) -> onnx.ModelProto:
    """Return a model that adds a weight to its input."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [3], bytes(12), raw=True)
    nodes = [
        helper.make_node("Add", ["x", "weight"], ["sum"]),
        helper.make_node("Mine", ["sum"], ["y"], domain="own.ops"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3]),
         helper.make_tensor_value_info("weight", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )  # fmt: skip
    opsets = [helper.make_opsetid("ai.onnx", 17), helper.make_opsetid("own.ops", 2)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="tests", producer_version="1.0")


def test_an_onnx_header_has_versions_opsets_and_tensors_without_the_weights() -> None:
    model = read_onnx(Source.from_bytes(make_onnx().SerializeToString()))
    assert (model.ir_version, dict(model.opsets)) == (8, {"": 17, "own.ops": 2})
    assert (model.producer, model.producer_version) == ("tests", "1.0")
    assert model.signature.inputs == (TensorSpec("x", "TYPE_FP32", (-1, 3)),)
    assert model.signature.outputs == (TensorSpec("y", "TYPE_FP32", None),)
    assert model.external_files == ()


def test_an_onnx_header_names_the_files_that_hold_weights(tmp_path: Path) -> None:
    model = make_onnx()
    onnx.save_model(
        model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    data = (tmp_path / "model.onnx").read_bytes()
    assert read_onnx(Source.from_bytes(data)).external_files == ("weights.bin",)


def test_an_onnx_header_names_inputs_that_are_not_tensors() -> None:
    model = make_onnx()
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [1]))
    model.graph.input.append(helper.make_value_info("many", sequence))
    assert read_onnx(Source.from_bytes(model.SerializeToString())).other_types == {"many": "sequence"}


def test_weights_of_an_onnx_file_are_not_read() -> None:
    model = make_onnx()
    model.graph.initializer.append(
        helper.make_tensor("large", TensorProto.FLOAT, [1_000_000], bytes(4_000_000), raw=True)
    )
    data = model.SerializeToString()
    reads: list[int] = []

    def read(offset: int, size: int) -> bytes:
        reads.append(size)
        return data[offset : offset + size]

    assert read_onnx(Source(read, len(data))).opsets[""] == 17
    assert sum(reads) < 10_000


def test_a_graphdef_header_has_versions_operations_and_placeholders() -> None:
    graph = read_graphdef(Source.from_bytes(make_graphdef(), budget=20_000))
    assert graph.placeholders == (TensorSpec("x", "TYPE_FP32", (-1, 700)),)
    assert graph.operations == {"Placeholder", "Const", "MatMul", "Relu"}
    assert (graph.producer, graph.min_consumer) == (1000, 0)


@pytest.mark.parametrize(
    ("name", "kind", "version"),
    [("scripted.pt", "torchscript", 3), ("weights.pt", "checkpoint", 3), ("exported.pt2", "pt2", 0)],
)
def test_a_torch_archive_states_what_it_is(name: str, kind: str, version: int) -> None:
    archive = read_torch_archive(source_of(name))
    assert (archive.kind, archive.version, archive.is_compiled) == (kind, version, False)


def test_a_compiled_program_of_torch_is_recognised() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/archive_format", "pt2")
        archive.writestr("model/archive_version", "0")
        archive.writestr("model/data/aotinductor/model/model.so", b"")
    assert read_torch_archive(Source.from_bytes(file.getvalue())).is_compiled


def test_an_openvino_ir_has_the_names_of_its_tensors() -> None:
    model = read_openvino_ir(source_of("openvino.xml"))
    assert (model.version, model.opsets) == (11, {"opset1"})
    assert model.signature.inputs == (TensorSpec("image", "TYPE_FP32", (-1, 3)), TensorSpec("mask", "TYPE_INT64", (1,)))
    assert model.signature.outputs == (
        TensorSpec("scores", "TYPE_FP32", (-1, 3)),
        TensorSpec("mask", "TYPE_INT64", (1,)),
    )


@pytest.mark.parametrize("edge", [b'from-layer="3" from-port="7"', b'from-layer="9" from-port="1"'])
def test_an_output_of_an_openvino_ir_that_nothing_leads_to_is_unknown(edge: bytes) -> None:
    content = (FILES / "openvino.xml").read_bytes()
    damaged = content.replace(b'from-layer="3" from-port="1"', edge)
    assert damaged != content
    outputs = read_openvino_ir(Source.from_bytes(damaged)).signature.outputs
    assert [(output.data_type, output.shape) for output in outputs if output.name != "mask"] == [(UNSUPPORTED, None)]


def test_an_openvino_ir_with_a_document_type_is_refused() -> None:
    bomb = b'<!DOCTYPE net [<!ENTITY a "aaaa">]><net version="11"><layers/></net>'
    with pytest.raises(ModelFileError, match="document type"):
        read_openvino_ir(Source.from_bytes(bomb))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("xgboost.json", TreeModel("xgboost_json", "3.2.0", 5, 3, "multi:softprob")),
        ("xgboost.ubj", TreeModel("xgboost_ubj", "3.2.0", 5, 3, "multi:softprob")),
        ("lightgbm.txt", TreeModel("lightgbm", "v4", 5, 3, "multiclass")),
        ("treelite.tl", TreeModel("treelite_checkpoint", "4.8.1", 5, 3)),
    ],
)
def test_a_tree_model_states_format_version_features_and_classes(name: str, expected: TreeModel) -> None:
    assert read_tree_model(source_of(name)) == expected


def test_a_tensorrt_plan_states_the_version_that_built_it() -> None:
    plan = read_tensorrt_plan(Source.from_bytes(b"ftrt" + bytes(20) + bytes([10, 5, 0, 18]) + bytes(100)))
    assert plan.version_text == "10.5.0.18"


READERS: dict[str, Callable[[Source], object]] = {
    "onnx": read_onnx,
    "graphdef": read_graphdef,
    "saved model": read_saved_model,
    "torch": read_torch_archive,
    "openvino": read_openvino_ir,
    "trees": read_tree_model,
    "tensorrt": read_tensorrt_plan,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\x0a\xff\xff\xff\xff\x0f", b"PK\x05\x06" + bytes(18), b"<net", b"{" * 100_000]
)
def test_what_is_not_a_model_is_refused_with_one_type_of_error(reader: Callable[[Source], object], data: bytes) -> None:
    with pytest.raises(ModelFileError):
        reader(Source.from_bytes(data))


def samples() -> list[bytes]:
    files = [path.read_bytes() for path in sorted(FILES.iterdir())]
    return [*files, make_onnx().SerializeToString(), graphdefs.dense_layers([np.zeros((2, 2))]), b"ftrt" + bytes(60)]


SAMPLES = samples()
#: A name for each reader, and one that has none.
NAMES = ("model.onnx", "model.graphdef", "saved_model.pb", "model.pt", "model.xml", "model.plan", "model.ubj", "other")


@pytest.mark.slow
@given(st.sampled_from(SAMPLES), st.data())
def test_damaged_files_give_a_result_or_one_type_of_error(sample: bytes, data: st.DataObject) -> None:
    """Bytes are changed, inserted, doubled and cut off."""
    damaged = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(damaged) - 1, 0)))
        kind = data.draw(st.sampled_from(("change", "insert", "cut", "double")))
        if kind == "change" and damaged:
            damaged[place] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            damaged[place:place] = data.draw(st.binary(max_size=12))
        elif kind == "cut":
            del damaged[place:]
        else:
            damaged += damaged[place : place + 64]
    for reader in READERS.values():
        with contextlib.suppress(ModelFileError):
            reader(Source.from_bytes(bytes(damaged)))


def damage(sample: bytes, random: Random) -> bytes:
    """Return bytes that were changed, inserted, removed, doubled or set to the ends of a number's range."""
    data = bytearray(sample)
    for _ in range(random.randint(1, 6)):
        place, kind = random.randrange(len(data) + 1), random.randrange(5)
        if kind == 0:
            data[place : place + 1] = random.randbytes(1)
        elif kind == 1:
            data[place:place] = random.randbytes(random.randint(1, 12))
        elif kind == 2:
            del data[place : place + random.randint(1, 40)]
        elif kind == 3:
            data += data[place : place + 64]
        else:
            data[place : place + 1] = bytes([random.choice([0, 255, 0x7F, 0x80])])
    return bytes(data)


def test_seeded_damage_gives_a_header_or_none() -> None:
    """`read_header` raises nothing, whatever the name; TRITONFORGE_FUZZ is the number of files (default 150)."""
    for seed in range(int(os.environ.get("TRITONFORGE_FUZZ", "150"))):
        random = Random(seed)
        data = damage(random.choice(SAMPLES), random)
        for name in NAMES:
            read_header(Source.from_bytes(data), name)


@pytest.mark.slow
def test_a_header_beyond_the_budget_is_not_read() -> None:
    node = b"\x0a\x06\x0a\x01n\x12\x01O"
    with pytest.raises(HeaderTooLargeError, match="fields"):
        read_graphdef(Source.from_bytes(node * 500_000))
    with pytest.raises(HeaderTooLargeError, match="bytes"):
        read_graphdef(Source.from_bytes(node * 50_000, budget=100_000))


def test_a_zip_directory_beyond_the_limit_is_not_read() -> None:
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, 0x7FFF_FFFF, 0, 0)
    with pytest.raises(HeaderTooLargeError, match="4 MiB"):
        read_torch_archive(Source.from_bytes(b"PK\x03\x04" + bytes(100) + end))


def test_an_ir_beyond_the_limit_is_not_read() -> None:
    with pytest.raises(HeaderTooLargeError, match="1 MiB"):
        read_openvino_ir(Source(lambda offset, size: b"<" * size, 2**30))


@pytest.mark.parametrize("reader", [read_torch_archive, read_tree_model, read_tensorrt_plan])
def test_formats_with_weights_before_or_after_the_header_are_read_from_both_ends(
    reader: Callable[[Source], object],
) -> None:
    """Of a file with 10 GB in the middle, or behind its header, at most 200 KB are read."""
    scripted, trees = (FILES / "scripted.pt").read_bytes(), (FILES / "xgboost.json").read_bytes()
    start, end = {
        read_torch_archive: (scripted[:-1500], scripted[-1500:]),
        read_tree_model: (trees[:100], trees[-3000:]),
        read_tensorrt_plan: (b"ftrt" + bytes(20) + bytes([10, 5, 0, 18]), b""),
    }[reader]  # type: ignore[index]  # a reader is a key
    size, used = 10 * 2**30, [0]

    def read(offset: int, length: int) -> bytes:
        used[0] += length
        data = bytearray(length)
        for at, part in ((0, start), (size - len(end), end)):
            first, last = max(at, offset), min(at + len(part), offset + length)
            if first < last:
                data[first - offset : last - offset] = part[first - at : last - at]
        return bytes(data)

    with contextlib.suppress(ModelFileError):  # the members of a ZIP file lie elsewhere than its directory states
        reader(Source(read, size))
    assert used[0] < 200_000
