"""A servable: one version of a model, loaded with TensorFlow, its requests batched by TensorFlow's own scheduler.

TensorFlow Serving's batching session and TensorFlow's ``BatchFunction`` operator queue requests with the same C++ class
(tensorflow core/kernels/batching_util/shared_batch_scheduler.h), so limits and sentences are the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tritonforge.serving.tfs.predictor.configuration import Batching
from tritonforge.serving.tfs.predictor.reading import Arrays
from tritonforge.serving.tfs.predictor.refusals import INVALID_ARGUMENT, UNKNOWN, Refusal

__all__ = ["DEFAULT_SIGNATURE", "Servable", "Signature", "load"]

DEFAULT_SIGNATURE: Final = "serving_default"

_TAG: Final = "serve"
#: TensorFlow Serving's names of types where Python's TensorFlow has others.
_NAMES: Final = {"float32": "float", "float64": "double", "float16": "half"}

_NODES: Final = re.compile(r"\{\{[^{}]*\}\} ?|\[\[[^\]]*\]\]|\[Op:[^\]]*\].*")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: the types of its inputs by name ("float", "string" ...), and what computes its outputs."""

    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    compute: Any = field(repr=False)

    def run(self, arrays: Arrays) -> Arrays:
        """The outputs of a request; raises Refusal with TensorFlow's own reason."""
        import tensorflow as tf

        try:
            tensors = [
                tf.constant(arrays[name], tf.string if kind == "string" else None) for name, kind in self.inputs.items()
            ]
            results = self.compute(*tensors)
        except tf.errors.OpError as error:
            raise Refusal(_reason(error.message), code=int(error.error_code)) from error
        except (TypeError, ValueError) as error:  # a shape that the signature does not take
            raise Refusal(_reason(str(error)), code=INVALID_ARGUMENT) from error
        return {name: result.numpy() for name, result in zip(self.outputs, results, strict=True)}


@dataclass(frozen=True, slots=True)
class Servable:
    """One version of a model; ``error`` says why it could not be loaded, "" when it could.

    ``definitions`` are its SignatureDefs as JSON by name, as the API's metadata show them.
    """

    name: str
    version: int
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    definitions: Mapping[str, Any] = field(default_factory=dict, repr=False)
    error: str = ""
    code: int = 0
    loaded: Any = field(default=None, repr=False)  # keeps the variables alive


def load(name: str, version: int, folder: Path, batching: Batching | None) -> Servable:
    """Load a SavedModel; what is wrong with it is told by the servable, as TensorFlow Serving goes on without it."""
    import tensorflow as tf

    try:
        definitions = _definitions(folder)
        loaded = tf.saved_model.load(str(folder), tags=[_TAG])
        signatures = {
            signature: _signature(function, batching, f"{name}/{version}/{signature}")
            for signature, function in loaded.signatures.items()
        }
    except tf.errors.OpError as error:
        return Servable(name, version, error=_reason(error.message), code=int(error.error_code))
    # A damaged SavedModel makes TensorFlow raise errors of many kinds.
    except Exception as error:
        return Servable(name, version, error=_reason(str(error)), code=UNKNOWN)
    return Servable(name, version, signatures, definitions, loaded=loaded)


def _signature(function: Any, batching: Batching | None, shared_name: str) -> Signature:
    """A signature's function over tensors in the order of its inputs' names."""
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

    def batched(*tensors: Any) -> Any:
        return tf.raw_ops.BatchFunction(
            in_tensors=list(tensors),
            captured_tensors=whole.captured_inputs,
            f=whole,
            num_batch_threads=batching.num_batch_threads,
            max_batch_size=batching.max_batch_size,
            batch_timeout_micros=batching.batch_timeout_micros,
            max_enqueued_batches=batching.max_enqueued_batches,
            Tout=[each.dtype for each in whole.outputs],
            shared_name=shared_name,  # the queue's; a default name would be that of another model's, too
        )

    return Signature(inputs, outputs, tf.function(batched, input_signature=named, autograph=False))


def _definitions(folder: Path) -> dict[str, Any]:
    from google.protobuf import json_format
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return {
        name: json_format.MessageToDict(definition, preserving_proto_field_name=True)
        for meta in message.meta_graphs
        if _TAG in meta.meta_info_def.tags
        for name, definition in meta.signature_def.items()
    }


def _reason(message: str | None) -> str:
    """TensorFlow's sentence without the names of nodes, and without the trace of where the graph was made."""
    lines = [line.strip() for line in _NODES.sub("", message or "").splitlines() if line.strip()]
    if lines and lines[0].startswith("Graph execution error"):
        # The sentence stands after the trace, the last line but what names the node.
        return lines[-1]
    return lines[0] if lines else "TensorFlow gives no reason"
