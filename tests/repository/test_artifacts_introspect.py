"""Tests of `tritonforge.model_files.introspection`: what each kind of file says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tritonforge.errors import ArtifactError
from tritonforge.model_files import tensorflow_graph
from tritonforge.model_files.introspection import introspect
from tritonforge.model_files.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.framework


@pytest.fixture(scope="module")
def tf() -> Any:
    """TensorFlow, which the test extra always brings."""
    import tensorflow as tf

    return tf


@pytest.fixture(scope="module")
def saved(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with two inputs, two outputs, and a second signature."""
    path = tmp_path_factory.mktemp("saved") / "model.savedmodel"
    module = tf.Module()
    module.scale = tf.Variable(2.0)

    @tf.function(
        input_signature=[tf.TensorSpec([None, 4], tf.float32, "b"), tf.TensorSpec([None], tf.string, "a")],
        autograph=False,
    )
    def serve(b: Any, a: Any) -> dict[str, Any]:
        return {"sum": tf.reduce_sum(b, axis=1) * module.scale, "length": tf.strings.length(a)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float16, "any")], autograph=False)
    def other(any: Any) -> dict[str, Any]:  # noqa: A002 - the input is called so
        return {"same": any}

    module.serve, module.other = serve, other
    tf.saved_model.save(module, str(path), signatures={"serving_default": serve, "other": other})
    return path


def test_a_saved_model_is_read_without_tensorflow(saved: Path) -> None:
    """Inputs and outputs of serving_default, sorted by name, with their full shapes."""
    assert introspect(saved, "tensorflow_savedmodel") == Signature(
        [TensorSpec("a", "TYPE_STRING", (-1,)), TensorSpec("b", "TYPE_FP32", (-1, 4))],
        [TensorSpec("length", "TYPE_INT32", (-1,)), TensorSpec("sum", "TYPE_FP32", (-1,))],
    )


def test_another_signature_can_be_chosen(saved: Path) -> None:
    """TF_SIGNATURE_DEF names it; an unknown rank is None."""
    found = introspect(saved, "tensorflow_savedmodel", signature="other")
    assert found.inputs == (TensorSpec("any", "TYPE_FP16", None),)


def test_what_a_saved_model_has_not_is_reported(saved: Path) -> None:
    """A missing signature or tag comes with those there are."""
    with pytest.raises(ArtifactError, match=r"no signature 'x'; it has .*other, serving_default$"):
        introspect(saved, "tensorflow_savedmodel", signature="x")
    with pytest.raises(ArtifactError, match=r"no graph tagged 'gpu'; its graphs are tagged \['serve'\]"):
        introspect(saved, "tensorflow_savedmodel", tag="gpu")


def test_the_type_numbers_are_those_of_tensorflow(tf: Any) -> None:
    """The table agrees with the installed TensorFlow's own numbers and names."""
    names = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "bfloat16": "BF16"}
    for number, name in tensorflow_graph.DATA_TYPES.items():
        own = tf.as_dtype(number).name
        assert name == f"TYPE_{names.get(own, own.upper())}"


def test_a_graphdef_gives_placeholders_and_the_outputs_asked_for(tf: Any, tmp_path: Path) -> None:
    """Shapes of outputs are inferred by TensorFlow; nothing is run."""
    graph = tf.Graph()
    with graph.as_default():
        data = tf.compat.v1.placeholder(tf.float32, [None, 6], name="input")
        tf.compat.v1.placeholder(tf.bool, [], name="training")
        tf.nn.softmax(tf.matmul(data, tf.ones([6, 3])), name="Predictions/Softmax")
    path = tmp_path / "model.graphdef"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    found = introspect(path, "tensorflow_graphdef", outputs=["Predictions/Softmax"])
    assert found == Signature(
        [TensorSpec("input", "TYPE_FP32", (-1, 6)), TensorSpec("training", "TYPE_BOOL", ())],
        [TensorSpec("Predictions/Softmax", "TYPE_FP32", (-1, 3))],
        all_inputs=False,
    )
    with pytest.raises(
        ArtifactError, match=r"no node 'Softmax' for an output; the closest names are .*Predictions/Sof"
    ):
        introspect(path, "tensorflow_graphdef", outputs=["Softmax"])


def test_an_onnx_file_gives_its_graph(tmp_path: Path) -> None:
    """Weights that old files list as inputs are none; symbolic extents are -1."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((4, 2), np.float32), "w")],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph), path)
    assert introspect(path, "onnxruntime_onnx") == Signature(
        [TensorSpec("x", "TYPE_FP32", (-1, 4))], [TensorSpec("y", "TYPE_FP32", None)]
    )


def test_a_dali_pipeline_has_the_batch_before_its_dimensions(tmp_path: Path) -> None:
    """DALI declares one sample; the shape has the batch before it."""
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    pipe = Pipeline(batch_size=2, num_threads=1, device_id=None, output_dtype=[types.FLOAT], output_ndim=[1])
    with pipe:
        pipe.set_outputs(fn.cast(fn.external_source(name="IN", dtype=types.UINT8, ndim=1), dtype=types.FLOAT))
    path = tmp_path / "model.dali"
    path.write_bytes(pipe.serialize())
    found = introspect(path, "dali")
    assert found.inputs == (TensorSpec("IN", "TYPE_UINT8", (-1, -1)),)
    assert [(tensor.data_type, tensor.shape) for tensor in found.outputs] == [("TYPE_FP32", (-1, -1))]
    assert found.positional_outputs


@pytest.mark.parametrize("kind", ["tensorflow_savedmodel", "tensorflow_graphdef", "onnxruntime_onnx", "dali"])
@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff", b"this is a text file, not a model\n" * 9])
def test_what_is_not_of_its_kind_is_reported_with_its_path(kind: str, content: bytes, tmp_path: Path) -> None:
    """Empty, damaged and foreign files give one sentence that begins with the path."""
    path = tmp_path / "model"
    file = path
    if kind == "tensorflow_savedmodel":
        path.mkdir()
        file = path / "saved_model.pb"
    file.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        introspect(path, kind)
    assert str(caught.value).startswith(f"{file}: this is not a")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    """The system's own word is in the sentence."""
    with pytest.raises(ArtifactError, match=r"none\.onnx: cannot read: No such file or directory"):
        introspect(tmp_path / "none.onnx", "onnxruntime_onnx")
    with pytest.raises(ArtifactError, match="not from 'pytorch_libtorch'"):
        introspect(tmp_path / "model.pt", "pytorch_libtorch")
