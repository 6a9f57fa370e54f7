"""The classify and regress requests: JSON examples to ``tf.Example``, and a signature's outputs to results.

Source: tensorflow/serving tensorflow_serving/util/json_tensor.cc (`FillClassifyRegressRequestFromJson`),
servables/tensorflow/classifier.cc, regressor.cc.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from tritonforge.serving.tfs.predictor.reading import is_binary, shown
from tritonforge.serving.tfs.predictor.refusals import Refusal
from tritonforge.serving.tfs.predictor.servable import Signature

__all__ = ["classify", "regress", "serialised"]

_INPUTS: Final = "inputs"
_CLASSES, _SCORES, _OUTPUTS = "classes", "scores", "outputs"


def serialised(document: Mapping[str, Any], method: str) -> list[bytes]:
    """The examples of a request, each serialised with the context that they share."""
    if "examples" not in document:
        raise Refusal(
            f"JSON Value: {shown(document)} When method is {method}, key 'examples' is expected and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise Refusal(f"JSON Value: {shown(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise Refusal(f"JSON Value: {shown(document)} 'examples' value is an empty array")
    context = _example(document["context"]) if "context" in document else b""
    return [context + _example(each) for each in examples]


def classify(signature: Signature, examples: Sequence[bytes]) -> list[list[tuple[bytes, float]]]:
    """The (label, score) pairs of each example; a missing label is empty, a missing score 0."""
    _check(signature, "classification")
    if not 1 <= len(signature.outputs) <= 2:
        raise Refusal(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if not {_CLASSES, _SCORES} & set(signature.outputs):
        raise Refusal('Expected classification signature outputs to contain at least one of "classes" or "scores".')
    outputs = _run(signature, examples)
    for name in (_CLASSES, _SCORES):
        if name in outputs and (outputs[name].ndim != 2 or len(outputs[name]) != len(examples)):
            raise Refusal(f"Expected Tensor shape: [batch_size num_classes] but got {list(outputs[name].shape)}")
    labels, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    if labels is not None and scores is not None and labels.shape != scores.shape:
        raise Refusal(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    present = outputs[_SCORES if labels is None else _CLASSES]
    every_label = np.full(present.shape, b"", dtype=object) if labels is None else labels
    every_score = np.zeros(present.shape, np.float32) if scores is None else scores
    return [list(zip(row, score, strict=True)) for row, score in zip(every_label, every_score, strict=True)]


def regress(signature: Signature, examples: Sequence[bytes]) -> np.ndarray[Any, Any]:
    """The value of each example, float32."""
    _check(signature, "regression")
    if signature.outputs != (_OUTPUTS,):
        raise Refusal("No regression outputs found in SignatureDef")
    values = _run(signature, examples)[_OUTPUTS]
    if values.dtype != np.float32:
        raise Refusal(f"Expected output Tensor of DT_FLOAT.  Got: {values.dtype.name}")
    if values.shape not in ((len(examples),), (len(examples), 1)):
        raise Refusal(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {list(values.shape)}"
        )
    return values


def _check(signature: Signature, kind: str) -> None:
    if len(signature.inputs) != 1:
        raise Refusal("Expected one input Tensor.")
    if signature.inputs != {_INPUTS: "string"}:
        raise Refusal(f"No {kind} inputs found in SignatureDef")


def _run(signature: Signature, examples: Sequence[bytes]) -> dict[str, np.ndarray[Any, Any]]:
    array = np.empty(len(examples), dtype=object)
    array[:] = list(examples)
    return signature.run({_INPUTS: array})


def _example(value: Any) -> bytes:
    """One example, serialised."""
    import tensorflow as tf

    if not isinstance(value, dict):
        raise Refusal(f"Example must be JSON object but got JSON {shown(value)}")
    made = tf.train.Example()
    for name, content in value.items():
        feature = made.features.feature[name]
        for each in content if isinstance(content, list) else [content]:
            _add(feature, name, each)
    return bytes(made.SerializeToString())


def _add(feature: Any, name: str, value: Any) -> None:
    """Add a value to a feature, whose kind the first one decides."""
    stored: int | float | bytes
    if isinstance(value, bool):
        kind, stored = "int64_list", int(value)
    elif isinstance(value, int):
        kind, stored = "int64_list", value
    elif isinstance(value, float):
        kind, stored = "float_list", value
    elif isinstance(value, str):
        kind, stored = "bytes_list", value.encode()
    elif is_binary(value):
        try:
            kind, stored = "bytes_list", base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise Refusal("Unable to base64 decode") from error
    else:
        raise Refusal(f"Feature: {name} has element with unexpected JSON type: {shown(value)}")
    if feature.WhichOneof("kind") not in (None, kind):
        known = feature.WhichOneof("kind").removesuffix("_list")
        raise Refusal(f"Unexpected element type in feature: {name} expecting type: {known}")
    try:
        getattr(feature, kind).value.append(stored)
    except ValueError as error:  # an integer beyond int64
        raise Refusal(f"Feature: {name} has uint64_t element. Only int64_t is supported.") from error
