"""The configuration that the server makes of a model, from values."""

from __future__ import annotations

from typing import Any

import pytest

from tritonforge.model_files.onnx_model import OnnxModel
from tritonforge.model_files.signature import Signature, TensorSpec
from tritonforge.validation.context import Options
from tritonforge.validation.loaded_config import LoadedConfig, build_loaded_configs, render_json
from tritonforge.validation.model_views import build_context
from tritonforge.validation.tree import Entry, Tree

SIGNATURE = Signature([TensorSpec("x", "TYPE_FP32", (-1, 3))], [TensorSpec("y", "TYPE_INT64", (-1,))])


def load(config: str, files: dict[str, str | bytes | Entry] | None = None, **options: Any) -> LoadedConfig:
    """Return the configuration of a model ``m``."""
    tree = Tree.of({"m/config.pbtxt": config, "m/1/": "", **(files or {})})
    return build_loaded_configs(build_context(tree, Options(**options)))["m"]


def onnx(signature: Signature = SIGNATURE) -> dict[str, str | bytes | Entry]:
    """Return the files of an ONNX model."""
    header = OnnxModel(ir_version=8, opsets={"": 17}, signature=signature)
    return {"m/1/model.onnx": Entry("file", 100, header=header)}


def test_an_onnx_model_without_a_configuration_is_completed() -> None:
    config = load("", onnx(), image="24.10")
    assert config.reason == ""
    document = render_json(config.message)
    assert document["input"][0]["dims"] == [3]
    assert document["output"][0]["data_type"] == "TYPE_INT64"
    assert document["max_batch_size"] == 4
    assert document["dynamic_batching"]["preferred_batch_size"] == [4]
    assert document["instance_group"] == [
        {**document["instance_group"][0], "name": "m", "kind": "KIND_CPU", "count": 2, "gpus": []}
    ]


def test_instances_are_on_the_gpus_of_the_host() -> None:
    [group] = render_json(load("", onnx(), image="24.10", gpus=2).message)["instance_group"]
    assert (group["kind"], group["count"], group["gpus"]) == ("KIND_GPU", 1, [0, 1])


def test_nothing_is_completed_where_the_server_must_not() -> None:
    config = load('backend: "onnxruntime"', onnx(), auto_complete=False)
    assert render_json(config.message)["input"] == []


@pytest.mark.parametrize(
    ("config", "files", "reason"),
    [
        ('backend: "tensorrt"', {"m/1/model.plan": b"x"}, "the tensorrt backend may fill in inputs"),
        (
            'backend: "python"',
            {"m/1/model.py": "from x import *\nclass TritonPythonModel(Base): ..."},
            "the code of the model may fill in inputs",
        ),
        (
            "max_batch_size: 8",
            onnx(Signature(SIGNATURE.inputs, [TensorSpec("y", "TYPE_FP32", (2,))])),
            "the onnxruntime backend may fill in inputs",
        ),
    ],
)
def test_what_is_unknown_is_stated(config: str, files: dict[str, str | bytes | Entry], reason: str) -> None:
    loaded = load(config, files)
    assert reason in loaded.reason
    assert loaded.message is not None


def test_a_file_that_cannot_be_parsed_has_no_configuration() -> None:
    assert load("max_batch_size: [") == LoadedConfig(None, "m/config.pbtxt cannot be parsed")
