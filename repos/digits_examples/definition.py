"""The digits of `repos/digits` behind tf.train.Examples: the first step takes the image out of a TFRecord's record.

A transform job with SplitType TFRecord and SingleRecord sends each Example as it is; ``digits`` takes the bare images.
"""

from network import LABELS, SIDE, network, preprocess

from tritonforge import (
    TYPE_FP32,
    TYPE_STRING,
    TYPE_UINT8,
    Dali,
    DynamicBatching,
    Ensemble,
    File,
    Function,
    Input,
    Output,
    Python,
    Tensor,
    TensorFlow,
)

example = Python(
    "example",
    max_batch_size=64,
    input=[Input("example", TYPE_STRING, [1])],
    output=[Output("encoded", TYPE_UINT8, [-1])],
    dynamic_batching=DynamicBatching(),
    parameters={"feature": "image/encoded"},
    artifact=File(path="example.py"),
)

decode = Dali(
    "decode",
    max_batch_size=64,
    input=[Input("encoded", TYPE_UINT8, [-1], allow_ragged_batch=True)],
    output=[Output("pixels", TYPE_FP32, [SIDE, SIDE, 3])],
    dynamic_batching=DynamicBatching(),
    parameters={"num_threads": 2},
    pipeline=preprocess,
)

classify = TensorFlow(
    "classify",
    platform="tensorflow_graphdef",
    max_batch_size=64,
    input=[Input("pixels", TYPE_FP32, [SIDE, SIDE, 3])],
    output=[Output("probabilities", TYPE_FP32, [len(LABELS)], label_filename="labels.txt", labels=LABELS)],
    dynamic_batching=DynamicBatching(),
    artifact=Function(build=network),
)

digits = Ensemble("digits", outputs={"PROBABILITIES": classify(decode(Tensor("IMAGE"), to="pixels"))})

digits_examples = Ensemble(
    "digits_examples",
    outputs={"PROBABILITIES": classify(decode(example(Tensor("EXAMPLE"), to="encoded"), to="pixels"))},
)
