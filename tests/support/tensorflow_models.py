"""TensorFlow repositories for the tests of conversion: of models that ONNX can hold, and of models that it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

SOFTMAX = "InceptionV3/Predictions/Softmax"


def put(path: Path, content: str | bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def graph(seed: int) -> bytes:
    """A convolution with padding and strides in NHWC, and a node's name with slashes for its output."""
    import tensorflow as tf

    random = np.random.default_rng(seed)
    made = tf.Graph()
    with made.as_default():
        pixels = tf.compat.v1.placeholder(tf.float32, [None, 15, 17, 3], name="input")
        kernel = tf.constant(random.normal(size=(3, 3, 3, 8)).astype("f4") / 5)
        layer = tf.nn.relu(tf.nn.conv2d(pixels, kernel, strides=2, padding="SAME"))
        layer = tf.nn.max_pool2d(layer, 3, 2, padding="SAME")
        flat = tf.reshape(layer, [-1, 4 * 5 * 8])
        tf.nn.softmax(flat @ tf.constant(random.normal(size=(160, 10)).astype("f4") / 5), name=SOFTMAX)
        tf.identity(tf.reduce_mean(flat, axis=1, keepdims=True), name="average")
    return made.as_graph_def().SerializeToString()


def save_model(folder: Path, function: object, specs: list[tf.TensorSpec]) -> None:
    """A SavedModel of one function."""
    import tensorflow as tf

    module = tf.Module()
    module.serve = tf.function(function, input_signature=specs, autograph=False)
    tf.saved_model.save(module, str(folder), signatures=module.serve)


def write_convertible(folder: Path) -> None:
    """Write a repository of models that ONNX can hold, beside some of other backends."""
    import tensorflow as tf

    put(
        folder / "named/config.pbtxt",
        f"""
        name: "named"  # written by hand
        platform: "tensorflow_graphdef"
        max_batch_size: 8
        input {{ name: "input" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [ 15, 17, 3 ] }}
        output {{ name: "{SOFTMAX}" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "names.txt" }}
        output {{ name: "average" data_type: TYPE_FP32 dims: [ 1 ] }}
        instance_group {{ count: 1 kind: KIND_CPU }}
        dynamic_batching {{ max_queue_delay_microseconds: 100 }}
        version_policy {{ all {{}} }}
        default_model_filename: "net.pb"
        parameters {{ key: "TF_NUM_INTRA_THREADS" value {{ string_value: "1" }} }}
        parameters {{ key: "owner" value {{ string_value: "us" }} }}
        optimization {{ graph {{ level: 1 }} input_pinned_memory {{ enable: false }} }}
        model_warmup {{
          name: "one" batch_size: 1
          inputs {{ key: "input" value {{ data_type: TYPE_FP32 dims: [ 15, 17, 3 ] input_data_file: "pixels" }} }}
        }}
        """,
    )
    put(folder / "named/names.txt", "".join(f"name {n}\n" for n in range(10)))
    put(folder / "named/warmup/pixels", np.zeros((15, 17, 3), "f4").tobytes())
    for version in (1, 3):
        put(folder / f"named/{version}/net.pb", graph(version))

    weights = tf.constant(np.random.default_rng(5).normal(size=(16 * 16 * 3, 5)).astype("f4") / 20)

    def classify(pixels: tf.Tensor, unused: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = tf.nn.softmax(tf.reshape(pixels, [-1, 16 * 16 * 3]) @ weights)
        return {"scores": scores, "classes": tf.argmax(scores, axis=1)}

    put(
        folder / "saved/config.pbtxt",
        """
        backend: "tensorflow" platform: "tensorflow_savedmodel" max_batch_size: 3
        input { name: "pixels" data_type: TYPE_FP32 dims: [ 16, 16, 3 ] }
        input { name: "unused" data_type: TYPE_INT32 dims: [ 1 ] }
        output { name: "classes" data_type: TYPE_INT64 dims: [ 1 ] reshape { } }
        output { name: "scores" data_type: TYPE_FP32 dims: [ 5 ] }
        instance_group { count: 1 kind: KIND_CPU }
        """,
    )
    save_model(
        folder / "saved/1/model.savedmodel",
        classify,
        [tf.TensorSpec([None, 16, 16, 3], tf.float32, "pixels"), tf.TensorSpec([None, 1], tf.int32, "unused")],
    )
    save_model(
        folder / "unconfigured/1/model.savedmodel",
        lambda numbers: {"double": 2 * numbers},
        [tf.TensorSpec([None, 4], tf.float32, "numbers")],
    )
    texts = tf.Graph()
    with texts.as_default():
        tf.identity(tf.compat.v1.placeholder(tf.string, [None], name="text"), name="same")
    put(
        folder / "texts/config.pbtxt",
        'platform: "tensorflow_graphdef" input { name: "text" data_type: TYPE_STRING dims: [ -1 ] } '
        'output { name: "same" data_type: TYPE_STRING dims: [ -1 ] } instance_group { count: 1 kind: KIND_CPU }',
    )
    put(folder / "texts/1/model.graphdef", texts.as_graph_def().SerializeToString())
    others(folder)


def others(folder: Path) -> None:
    """Models that are not TensorFlow's."""
    put(
        folder / "prepare/config.pbtxt",
        'backend: "python" max_batch_size: 8 '
        'input { name: "RAW" data_type: TYPE_FP32 dims: [ 15, 17, 3 ] } '
        'output { name: "PIXELS" data_type: TYPE_FP32 dims: [ 15, 17, 3 ] }',
    )
    put(folder / "prepare/1/model.py", "class TritonPythonModel:\n    def execute(self, requests): ...\n")
    put(folder / "prepare/1/tables/one.txt", "1\n")
    (folder / "prepare/1/empty").mkdir()
    put(
        folder / "whole/config.pbtxt",
        f"""
        # an ensemble with a comment
        platform: "ensemble" max_batch_size: 8
        input {{ name: "IN" data_type: TYPE_FP32 dims: [ 15, 17, 3 ] }}
        output {{ name: "OUT" data_type: TYPE_FP32 dims: [ 10 ] }}
        ensemble_scheduling {{
          step {{
            model_name: "prepare" model_version: -1
            input_map {{ key: "RAW" value: "IN" }} output_map {{ key: "PIXELS" value: "pixels" }}
          }}
          step {{
            model_name: "named" model_version: 3
            input_map {{ key: "input" value: "pixels" }} output_map {{ key: "{SOFTMAX}" value: "OUT" }}
          }}
        }}
        """,
    )
    (folder / "whole/1").mkdir()


def write_refused(folder: Path) -> None:
    """Write what ONNX cannot hold: a decoder of images, a regular expression, and an answer that differs each time."""
    import tensorflow as tf

    def decode(image: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = tf.map_fn(
            lambda one: tf.image.resize(tf.io.decode_jpeg(one, channels=3), [8, 8]),
            image,
            fn_output_signature=tf.float32,
        )
        return {"mean": tf.reduce_mean(pixels, axis=[1, 2, 3])}

    put(
        folder / "images/config.pbtxt",
        'platform: "tensorflow_savedmodel" max_batch_size: 4 '
        'input { name: "image" data_type: TYPE_STRING dims: [ 1 ] reshape { } } '
        'output { name: "mean" data_type: TYPE_FP32 dims: [ 1 ] reshape { } }',
    )
    save_model(folder / "images/1/model.savedmodel", decode, [tf.TensorSpec([None], tf.string, "image")])
    dice = tf.Graph()
    with dice.as_default():
        given = tf.compat.v1.placeholder(tf.float32, [None, 3], name="x")
        tf.add(given, tf.random.uniform(tf.shape(given), seed=1), name="y")
    put(
        folder / "dice/config.pbtxt",
        'platform: "tensorflow_graphdef" max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } '
        'output { name: "y" data_type: TYPE_FP32 dims: [ 3 ] }',
    )
    put(folder / "dice/1/model.graphdef", dice.as_graph_def().SerializeToString())
    letters = tf.Graph()
    with letters.as_default():
        tf.strings.regex_replace(tf.compat.v1.placeholder(tf.string, [None], name="text"), "a+", "b", name="other")
    put(
        folder / "letters/config.pbtxt",
        'platform: "tensorflow_graphdef" input { name: "text" data_type: TYPE_STRING dims: [ -1 ] } '
        'output { name: "other" data_type: TYPE_STRING dims: [ -1 ] }',
    )
    put(folder / "letters/1/model.graphdef", letters.as_graph_def().SerializeToString())
