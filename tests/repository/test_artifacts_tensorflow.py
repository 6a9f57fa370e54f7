"""Tests of `tritonforge.repository.tensorflow_model` in this process: names, shapes, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tritonforge.errors import ArtifactError
from tritonforge.model_files.introspection import introspect
from tritonforge.model_files.signature import TensorSpec
from tritonforge.repository.definition import Input, Output, TensorFlow
from tritonforge.repository.tensorflow_model import write_graphdef, write_saved_model

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.framework


@pytest.fixture(scope="module")
def tf() -> Any:
    """TensorFlow, which the test extra always brings."""
    import tensorflow as tf

    return tf


def graphdef(*output: str, **fields: Any) -> TensorFlow:
    """A GraphDef model with one input of three numbers and these outputs."""
    stated: dict[str, Any] = {"max_batch_size": 2, "input": [Input("x", "TYPE_FP32", [3])], **fields}
    return TensorFlow("net", platform="tensorflow_graphdef", output=[Output(name) for name in output], **stated)


def run(tf: Any, path: Path, feeds: dict[str, Any], fetch: str) -> Any:
    """The value of one node of a GraphDef file."""
    graph = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    function = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    return function.prune([f"{name}:0" for name in feeds], f"{fetch}:0")(*feeds.values()).numpy()


def test_outputs_come_by_name_whatever_their_order(tf: Any, tmp_path: Path) -> None:
    """A mapping is matched by name, and what is not stated is left out of the graph."""
    path = tmp_path / "model.graphdef"
    write_graphdef(lambda x: {"z": x * 3.0, "unstated": tf.exp(x), "a": x * 2.0}, graphdef("z", "a"), path)
    data = {"x": tf.ones([2, 3])}
    assert run(tf, path, data, "z").max() == 3.0
    assert run(tf, path, data, "a").max() == 2.0
    assert not any(node.op == "Exp" for node in tf.compat.v1.GraphDef.FromString(path.read_bytes()).node)


def test_outputs_come_by_order_where_they_have_no_names(tf: Any, tmp_path: Path) -> None:
    """A sequence is matched in the order of the definition, also where that is not alphabetical."""
    path = tmp_path / "model.graphdef"
    write_graphdef(lambda x: (x * 3.0, x * 2.0), graphdef("z", "a"), path)
    assert run(tf, path, {"x": tf.ones([2, 3])}, "z").max() == 3.0
    assert run(tf, path, {"x": tf.ones([2, 3])}, "a").max() == 2.0


def test_an_inner_node_that_has_the_name_is_renamed(tf: Any, tmp_path: Path) -> None:
    """The output gets its stated name also where the function used that name for something else."""
    path = tmp_path / "model.graphdef"
    write_graphdef(lambda x: tf.add(x, 1.0, name="scores/out") * 10.0, graphdef("scores/out"), path)
    assert run(tf, path, {"x": tf.zeros([1, 3])}, "scores/out").tolist() == [[10.0, 10.0, 10.0]]


def test_an_input_that_is_an_output_too_has_both_names(tf: Any, tmp_path: Path) -> None:
    """Nothing is computed, and the graph still has two nodes."""
    path = tmp_path / "model.graphdef"
    write_graphdef(lambda x: x, graphdef("same"), path)
    assert introspect(path, "tensorflow_graphdef", outputs=["same"]).outputs == (
        TensorSpec("same", "TYPE_FP32", (-1, 3)),
    )


def test_what_a_keras_model_has_need_not_be_stated(tf: Any, tmp_path: Path) -> None:
    """Names, types and shapes of inputs are its own; a list goes into a model of several inputs."""
    left, right = tf.keras.Input((2,), name="left"), tf.keras.Input((2,), name="right", dtype="int32")
    out = tf.keras.layers.Add(name="total")([left, tf.keras.ops.cast(right, "float32")])
    write_saved_model(tf.keras.Model([left, right], out), TensorFlow("net", max_batch_size=2), tmp_path / "saved")
    found = introspect(tmp_path / "saved", "tensorflow_savedmodel")
    assert found.inputs == (TensorSpec("left", "TYPE_FP32", (-1, 2)), TensorSpec("right", "TYPE_INT32", (-1, 2)))
    assert [(tensor.data_type, tensor.shape) for tensor in found.outputs] == [("TYPE_FP32", (-1, 2))]


def test_without_batching_dims_are_the_whole_shape(tf: Any, tmp_path: Path) -> None:
    """With max_batch_size 0 nothing is put before the dims, and -1 stays open."""
    model = TensorFlow("net", input=[Input("x", "TYPE_INT64", [-1, 4])], output=[Output("y")])
    write_saved_model(lambda x: tf.reduce_sum(x), model, tmp_path / "saved")
    found = introspect(tmp_path / "saved", "tensorflow_savedmodel")
    assert found.inputs == (TensorSpec("x", "TYPE_INT64", (-1, 4)),)
    assert found.outputs == (TensorSpec("y", "TYPE_INT64", ()),)


@pytest.mark.parametrize(
    ("built", "model", "message"),
    [
        (lambda x: {"a": x}, graphdef("b"), "net: its function gives no output 'b'; it gives a"),
        (
            lambda x: [x, x],
            graphdef("b"),
            r"net: its function gives 2 tensors, but the definition states 1 outputs \(b\)",
        ),
        (5, graphdef("b"), "net: its function gave a int, which cannot be called"),
        (lambda x: x, graphdef("b", input=[]), "net: its function gave a function; state the model's inputs"),
        (lambda x: x, graphdef("b", input=[Input("x", "TYPE_FP32")]), "net: input 'x' needs data_type and dims"),
    ],
)
def test_what_does_not_fit_the_definition_is_reported(
    built: Any, model: TensorFlow, message: str, tmp_path: Path
) -> None:
    """Each mistake is one sentence with the model's name."""
    with pytest.raises(ArtifactError, match=message):
        write_graphdef(built, model, tmp_path / "model.graphdef")


def test_a_saved_model_holds_one_graph_of_the_function_and_no_gradients(tf: Any, tmp_path: Path) -> None:
    """A server runs it forwards, and once: neither a second trace nor the gradient of a silu is written."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = TensorFlow("net", max_batch_size=2, input=[Input("x", "TYPE_FP32", [3])], output=[Output("y")])
    weight = tf.Variable(2.0)
    write_saved_model(lambda x: {"y": tf.nn.silu(x * weight)}, model, tmp_path / "saved")
    (graph,) = saved_model_pb2.SavedModel.FromString((tmp_path / "saved/saved_model.pb").read_bytes()).meta_graphs
    names = [function.signature.name for function in graph.graph_def.library.function]
    assert len([name for name in names if name.startswith("__inference_serve_")]) == 1, names
    assert not [name for name in names if "grad" in name]
    answer = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"](x=tf.ones([1, 3]))["y"]
    assert float(answer[0, 0]) == pytest.approx(1.7616, abs=1e-4)
