"""What backends fill in from a model's file."""

from __future__ import annotations

from typing import Any

import pytest

from tritonforge.errors import ArtifactError
from tritonforge.model_files.completion import complete_onnx, complete_pipeline, complete_saved_model
from tritonforge.model_files.signature import Signature, TensorSpec

FP32 = "TYPE_FP32"
SIGNATURE = Signature([TensorSpec("x", FP32, (-1, 2))], [TensorSpec("y", FP32, (-1, 2)), TensorSpec("z", FP32, (-1,))])

#: What is written for an output of one number a request.
SCALARS = {"name": "z", "data_type": FP32, "dims": [1], "reshape": {"shape": []}}


def make_config(max_batch_size: int = 0, **tensors: list[tuple[str, str, list[int]]]) -> dict[str, Any]:
    """Return a configuration in its JSON form."""
    config: dict[str, Any] = {"name": "m", "max_batch_size": max_batch_size, "input": [], "output": []}
    for kind, listed in tensors.items():
        config[kind] = [{"name": name, "data_type": data_type, "dims": dims} for name, data_type, dims in listed]
    return config


def test_absent_tensors_are_those_of_the_file() -> None:
    config = make_config()
    complete_saved_model(config, SIGNATURE)
    assert config == {
        "name": "m",
        "max_batch_size": 4,
        "input": [{"name": "x", "data_type": FP32, "dims": [2]}],
        "output": [
            {"name": "y", "data_type": FP32, "dims": [2]},
            {"name": "z", "data_type": FP32, "dims": [1], "reshape": {"shape": []}},
        ],
        "dynamic_batching": {},
    }


def test_stated_outputs_are_the_only_ones() -> None:
    config = make_config(8, output=[("y", "TYPE_INVALID", [])])
    complete_saved_model(config, SIGNATURE)
    assert config["output"] == [{"name": "y", "data_type": FP32, "dims": [2]}]


@pytest.mark.parametrize(
    ("config", "batched"),
    [
        (make_config(0), True),
        (make_config(8), True),
        (make_config(0, input=[("x", FP32, [2])]), True),
        (make_config(0, input=[("x", FP32, [5, 2])]), False),
    ],
)
def test_dims_with_a_batch_dimension_are_not_batched(config: dict[str, Any], batched: bool) -> None:
    before = config["max_batch_size"]
    complete_saved_model(config, SIGNATURE)
    assert config["max_batch_size"] == ((before or 4) if batched else 0)
    assert ("dynamic_batching" in config) is batched


def test_sequences_get_no_dynamic_batcher() -> None:
    config = {**make_config(), "sequence_batching": {}}
    complete_saved_model(config, SIGNATURE)
    assert config["max_batch_size"] == 4
    assert "dynamic_batching" not in config


def test_batching_that_the_file_cannot_do_is_refused() -> None:
    with pytest.raises(ArtifactError, match="specified max-batch 8 but model signature does not support batching"):
        complete_saved_model(make_config(8), Signature([TensorSpec("x", FP32, (1, 2))], []))
    mixed = make_config(0, input=[("x", FP32, [2])], output=[("y", FP32, [5, 2])])
    with pytest.raises(ArtifactError, match="are contradicting each other"):
        complete_saved_model(mixed, SIGNATURE)


def test_a_pipeline_completes_its_outputs_by_position() -> None:
    config = make_config(output=[("first", "TYPE_INVALID", [])])
    complete_pipeline(config, SIGNATURE, 16)
    assert config == {
        "name": "m",
        "max_batch_size": 16,
        "input": [{"name": "x", "data_type": FP32, "dims": [2], "allow_ragged_batch": True}],
        "output": [{"name": "first", "data_type": FP32, "dims": [2]}, {"name": "z", "data_type": FP32, "dims": []}],
        "dynamic_batching": {},
    }


def test_onnx_runtime_completes_what_is_absent_altogether() -> None:
    config = make_config(8, output=[("y", FP32, [2])])
    complete_onnx(config, SIGNATURE)
    assert config["input"] == [{"name": "x", "data_type": FP32, "dims": [2]}]
    assert config["output"] == [{"name": "y", "data_type": FP32, "dims": [2]}]
    assert config["dynamic_batching"] == {}
    stated = make_config(input=[("x", FP32, [])], output=[("y", FP32, [2])])
    complete_onnx(stated, SIGNATURE)
    assert stated == make_config(input=[("x", FP32, [])], output=[("y", FP32, [2])])
    with pytest.raises(ArtifactError, match="model does not support batching while non-zero max_batch_size"):
        complete_onnx(make_config(8), Signature([TensorSpec("x", FP32, (1, 2))], []))


def test_onnx_runtime_looks_at_no_dims_to_decide_on_batching() -> None:
    config = make_config(input=[("x", FP32, [5, 2])])
    complete_onnx(config, SIGNATURE)
    assert config["max_batch_size"] == 4
    assert config["output"][1] == {"name": "z", "data_type": FP32, "dims": [1], "reshape": {"shape": []}}
