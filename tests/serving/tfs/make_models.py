"""Writes SavedModels for the predictor's tests into a folder: ``python make_models.py FOLDER``. It needs TensorFlow."""

import sys
from pathlib import Path
from typing import Any

from tritonforge.tf_memory import import_tensorflow

tf = import_tensorflow()

from tensorflow.python.data.experimental.ops.testing import sleep  # noqa: E402 - after the line above

FOLDER = Path(sys.argv[1])


def save(name: str, module: tf.Module, version: int | str = 1, **signatures: Any) -> None:
    """Save one version with these signatures."""
    tf.saved_model.save(module, str(FOLDER / name / str(version)), signatures=signatures)


class Factor(tf.Module):
    """Multiplies by a variable."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def __call__(self, x: Any) -> Any:
        """``y``: x times the factor."""
        return {"y": x * self.factor}


for version, factor in ((2, 2.0), ("0010", 10.0)):
    module = Factor(factor)
    save("factor", module, version, serving_default=module.__call__)


class Several(tf.Module):
    """Several inputs and outputs, of several types."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="word"),
            tf.TensorSpec([None, 2], tf.int64, name="numbers"),
            tf.TensorSpec([None], tf.bool, name="flag"),
        ]
    )
    def all_of_them(self, word: Any, numbers: Any, flag: Any) -> Any:
        """Outputs of each type."""
        return {
            "upper": tf.strings.upper(word),
            "raw_bytes": word,
            "sum": tf.reduce_sum(numbers, axis=1),
            "flag": tf.logical_not(flag),
            "half": tf.cast(numbers, tf.float64) / 3.0,
            "size": tf.fill([tf.shape(word)[0]], tf.shape(word)[0]),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def narrow(self, x: Any) -> Any:
        """A type that JSON does not carry."""
        return {"y": tf.cast(x, tf.float16)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def picky(self, x: Any) -> Any:
        """Refuses what is not positive."""
        with tf.control_dependencies([tf.debugging.assert_positive(x, "only what is positive is taken")]):
            return {"y": tf.math.log(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="seconds")])
    def slow(self, seconds: Any) -> Any:
        """Sleeps for the given time: half of it before the only element, half before the end."""
        half = tf.cast(0.5e6 * tf.reduce_max(seconds), tf.int64)
        waited = tf.data.Dataset.range(1).apply(sleep(half)).reduce(tf.constant(0, tf.int64), tf.add)
        return {"late": tf.fill(tf.shape(seconds), tf.equal(waited, 0))}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def shaped(self, x: Any) -> Any:
        """Works on pairs only."""
        return {"y": tf.linalg.matvec(x, [1.0, 10.0])}


several = Several()
save(
    "several",
    several,
    serving_default=several.all_of_them,
    narrow=several.narrow,
    picky=several.picky,
    slow=several.slow,
    shaped=several.shaped,
)


class Examples(tf.Module):
    """Signatures that take tf.Example messages."""

    def _parsed(self, inputs: Any) -> Any:
        return tf.io.parse_example(inputs, {"value": tf.io.FixedLenFeature([], tf.float32)})["value"]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs: Any) -> Any:
        """Two classes: whether the value is below zero."""
        value = self._parsed(inputs)
        size = tf.shape(value)[0]
        classes = tf.tile(tf.constant([["below", "above"]]), [size, 1])
        below = tf.cast(value < 0.0, tf.float32)
        return {"classes": classes, "scores": tf.stack([below, 1.0 - below], axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs: Any) -> Any:
        """Half of the value."""
        return {"outputs": self._parsed(inputs) / 2.0}


examples = Examples()
save("examples", examples, serving_default=examples.classify, regress=examples.regress)

# A SavedModel as TensorFlow 1 wrote them, with a variable, a table, and names of its own for its tensors.
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    given = tf.compat.v1.placeholder(tf.float32, [None], name="input_tensor")
    offset = tf.compat.v1.get_variable("offset", initializer=5.0, use_resource=False)
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([6, 7], ["six", "seven"], tf.int64), "other")
    total = tf.identity(given + offset, name="total")
    named = table.lookup(tf.cast(total, tf.int64))
    session.run([tf.compat.v1.global_variables_initializer(), tf.compat.v1.tables_initializer()])
    info = tf.compat.v1.saved_model.build_tensor_info
    signature = tf.compat.v1.saved_model.build_signature_def(
        {"x": info(given)}, {"total": info(total), "name": info(named)}, "tensorflow/serving/predict"
    )
    builder = tf.compat.v1.saved_model.Builder(str(FOLDER / "old" / "1"))
    builder.add_meta_graph_and_variables(
        session,
        ["serve"],
        {"serving_default": signature},
        main_op=tf.compat.v1.tables_initializer(),
    )
    builder.save()
