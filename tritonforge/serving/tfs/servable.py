"""A servable: one version of a model, loaded with TensorFlow, and its predict, classify and regress functions.

TensorFlow Serving's batching session and TensorFlow's ``BatchFunction`` operator queue requests with the same C++ class
(tensorflow core/kernels/batching_util/shared_batch_scheduler.h), so limits and messages are the same. Source of
classify and regress: tensorflow/serving tensorflow_serving/util/json_tensor.cc (`FillClassifyRegressRequestFromJson`),
servables/tensorflow/classifier.cc, regressor.cc.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from tritonforge.serving.tfs.predict_request import (
    INVALID_ARGUMENT,
    UNKNOWN,
    Arrays,
    StatusError,
    is_binary,
    shorten,
)
from tritonforge.triton.tfs_container import Batching

__all__ = ["DEFAULT_SIGNATURE", "Servable", "Signature", "classify", "load_servable", "regress", "serialise_examples"]


DEFAULT_SIGNATURE: Final = "serving_default"

_TAG: Final = "serve"
#: TensorFlow Serving's names of types where Python's TensorFlow has others.
_NAMES: Final = {"float32": "float", "float64": "double", "float16": "half"}

_NODES: Final = re.compile(r"\{\{[^{}]*\}\} ?|\[\[[^\]]*\]\]|\[Op:[^\]]*\].*")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: the types of its inputs by name ("float", "string" ...), and a function for its outputs."""

    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    compute: Any = field(repr=False)

    def run(self, arrays: Arrays) -> Arrays:
        """Run a request and return its outputs; raises StatusError with TensorFlow's own reason."""
        import tensorflow as tf

        try:
            tensors = [
                tf.constant(arrays[name], tf.string if kind == "string" else None) for name, kind in self.inputs.items()
            ]
            results = self.compute(*tensors)
        except tf.errors.OpError as error:
            raise StatusError(_find_reason(error.message), code=int(error.error_code)) from error
        except (TypeError, ValueError) as error:  # a shape that the signature does not take
            raise StatusError(_find_reason(str(error)), code=INVALID_ARGUMENT) from error
        return {name: result.numpy() for name, result in zip(self.outputs, results, strict=True)}


@dataclass(frozen=True, slots=True)
class Servable:
    """One version of a model; ``error`` is why it could not be loaded, "" if it is.

    ``definitions`` are its SignatureDefs as JSON by name, as the API's metadata show them.
    """

    name: str
    version: int
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    definitions: Mapping[str, Any] = field(default_factory=dict, repr=False)
    error: str = ""
    code: int = 0
    loaded: Any = field(default=None, repr=False)  # keeps the variables alive


def load_servable(name: str, version: int, folder: Path, batching: Batching | None) -> Servable:
    """Load a SavedModel; the servable has the error of one that fails, as TensorFlow Serving runs without it."""
    import tensorflow as tf

    try:
        definitions = _read_definitions(folder)
        loaded = tf.saved_model.load(str(folder), tags=[_TAG])
        signatures = {
            signature: _build_signature(function, batching, f"{name}/{version}/{signature}")
            for signature, function in loaded.signatures.items()
        }
    except tf.errors.OpError as error:
        return Servable(name, version, error=_find_reason(error.message), code=int(error.error_code))
    # A damaged SavedModel makes TensorFlow raise errors of many kinds.
    except Exception as error:
        return Servable(name, version, error=_find_reason(str(error)), code=UNKNOWN)
    return Servable(name, version, signatures, definitions, loaded=loaded)


def _build_signature(function: Any, batching: Batching | None, shared_name: str) -> Signature:
    """Return a signature with a function over tensors in the order of its inputs' names."""
    import tensorflow as tf

    specs = function.structured_input_signature[1]
    inputs = {name: _NAMES.get(specs[name].dtype.name, specs[name].dtype.name) for name in sorted(specs)}
    outputs = tuple(sorted(function.structured_outputs))

    def compute(*tensors: Any) -> list[Any]:
        results = function(**dict(zip(inputs, tensors, strict=True)))
        return [results[name] for name in outputs]

    if batching is None:
        return Signature(inputs, outputs, compute)
    named = [specs[name] for name in inputs]
    whole = tf.function(compute, autograph=False).get_concrete_function(*named)

    def run_batched(*tensors: Any) -> Any:
        return tf.raw_ops.BatchFunction(
            in_tensors=list(tensors),
            captured_tensors=whole.captured_inputs,
            f=whole,
            num_batch_threads=batching.num_batch_threads,
            max_batch_size=batching.max_batch_size,
            batch_timeout_micros=batching.batch_timeout_micros,
            max_enqueued_batches=batching.max_enqueued_batches,
            Tout=[output.dtype for output in whole.outputs],
            shared_name=shared_name,  # the queue's; a default name would be that of another model's, too
        )

    return Signature(inputs, outputs, tf.function(run_batched, input_signature=named, autograph=False))


def _read_definitions(folder: Path) -> dict[str, Any]:
    from google.protobuf import json_format
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return {
        name: json_format.MessageToDict(definition, preserving_proto_field_name=True)
        for meta in message.meta_graphs
        if _TAG in meta.meta_info_def.tags
        for name, definition in meta.signature_def.items()
    }


def _find_reason(message: str | None) -> str:
    """Return TensorFlow's sentence without the names of nodes and the trace of the graph's creation."""
    lines = [line.strip() for line in _NODES.sub("", message or "").splitlines() if line.strip()]
    if lines and lines[0].startswith("Graph execution error"):
        # The sentence is after the trace, the last line except the node's name.
        return lines[-1]
    return lines[0] if lines else "TensorFlow gives no reason"


_INPUTS: Final = "inputs"
_CLASSES, _SCORES, _OUTPUTS = "classes", "scores", "outputs"


def serialise_examples(document: Mapping[str, Any], method: str) -> list[bytes]:
    """Return the examples of a request, each serialised with the context that they share."""
    if "examples" not in document:
        raise StatusError(
            f"JSON Value: {shorten(document)} When method is {method}, key 'examples' is expected and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise StatusError(f"JSON Value: {shorten(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise StatusError(f"JSON Value: {shorten(document)} 'examples' value is an empty array")
    context = _serialise_example(document["context"]) if "context" in document else b""
    return [context + _serialise_example(example) for example in examples]


def classify(signature: Signature, examples: Sequence[bytes]) -> list[list[tuple[bytes, float]]]:
    """Return the (label, score) pairs of each example; a missing label is empty, a missing score 0."""
    _check_signature(signature, "classification")
    if not 1 <= len(signature.outputs) <= 2:
        raise StatusError(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if not {_CLASSES, _SCORES} & set(signature.outputs):
        raise StatusError('Expected classification signature outputs to contain at least one of "classes" or "scores".')
    outputs = _run_examples(signature, examples)
    for name in (_CLASSES, _SCORES):
        if name in outputs and (outputs[name].ndim != 2 or len(outputs[name]) != len(examples)):
            raise StatusError(f"Expected Tensor shape: [batch_size num_classes] but got {list(outputs[name].shape)}")
    labels, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    if labels is not None and scores is not None and labels.shape != scores.shape:
        raise StatusError(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    either = outputs[_SCORES if labels is None else _CLASSES]
    every_label = np.full(either.shape, b"", dtype=object) if labels is None else labels
    every_score = np.zeros(either.shape, np.float32) if scores is None else scores
    return [list(zip(row, score, strict=True)) for row, score in zip(every_label, every_score, strict=True)]


def regress(signature: Signature, examples: Sequence[bytes]) -> np.ndarray[Any, Any]:
    """Return the value of each example, float32."""
    _check_signature(signature, "regression")
    if signature.outputs != (_OUTPUTS,):
        raise StatusError("No regression outputs found in SignatureDef")
    values = _run_examples(signature, examples)[_OUTPUTS]
    if values.dtype != np.float32:
        raise StatusError(f"Expected output Tensor of DT_FLOAT.  Got: {values.dtype.name}")
    if values.shape not in ((len(examples),), (len(examples), 1)):
        raise StatusError(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {list(values.shape)}"
        )
    return values


def _check_signature(signature: Signature, kind: str) -> None:
    if len(signature.inputs) != 1:
        raise StatusError("Expected one input Tensor.")
    if signature.inputs != {_INPUTS: "string"}:
        raise StatusError(f"No {kind} inputs found in SignatureDef")


def _run_examples(signature: Signature, examples: Sequence[bytes]) -> dict[str, np.ndarray[Any, Any]]:
    array = np.empty(len(examples), dtype=object)
    array[:] = list(examples)
    return signature.run({_INPUTS: array})


def _serialise_example(value: Any) -> bytes:

    import tensorflow as tf

    if not isinstance(value, dict):
        raise StatusError(f"Example must be JSON object but got JSON {shorten(value)}")
    message = tf.train.Example()
    for name, content in value.items():
        feature = message.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            _add_value(feature, name, item)
    return bytes(message.SerializeToString())


def _add_value(feature: Any, name: str, value: Any) -> None:
    """Add a value to a feature; the first one decides its kind."""
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
            raise StatusError("Unable to base64 decode") from error
    else:
        raise StatusError(f"Feature: {name} has element with unexpected JSON type: {shorten(value)}")
    if feature.WhichOneof("kind") not in (None, kind):
        known = feature.WhichOneof("kind").removesuffix("_list")
        raise StatusError(f"Unexpected element type in feature: {name} expecting type: {known}")
    try:
        getattr(feature, kind).value.append(stored)
    except ValueError as error:  # an integer beyond int64
        raise StatusError(f"Feature: {name} has uint64_t element. Only int64_t is supported.") from error
