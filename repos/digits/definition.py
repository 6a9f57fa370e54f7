"""Handwritten digits in colour: DALI decoding, a small network that is trained at build time, and their ensemble."""

from network import LABELS, SIDE, network, preprocess

from tritonforge import (
    TYPE_FP32,
    TYPE_UINT8,
    Dali,
    DynamicBatching,
    Ensemble,
    Function,
    Input,
    Output,
    Tensor,
    TensorFlow,
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
