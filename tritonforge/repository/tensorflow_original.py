"""The original TensorFlow model in a session, with which a conversion is compared.

It is loaded as Triton's own backend loads it (tensorflow_backend src/tensorflow.cc), not as the converter does, so that
a mistake in one of the two shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tritonforge.errors import ArtifactError
from tritonforge.model_files.introspection import read_graph_tensor
from tritonforge.model_files.signature import GRAPHDEF
from tritonforge.repository.onnx_conversion import ConversionJob

__all__ = ["InputRejectedError", "Original", "load_original"]

#: Signatures that are never served. Source: tensorflow_backend src/tensorflow_backend_tf.cc.
_NOT_SERVED = ("train_op", "__saved_model_init_op", "__saved_model_train_op")

#: TensorFlow ops without an equal in any ONNX opset: they read encoded files and records, or run Python. They are
#: looked for first, because a conversion takes long to fail.
_UNSUPPORTED_OPS = frozenset({"DecodeAndCropJpeg", "DecodeBase64", "DecodeBmp", "DecodeCSV", "DecodeCompressed",
                              "DecodeGif", "DecodeImage", "DecodeJSONExample", "DecodeJpeg", "DecodePng", "DecodeRaw",
                              "DecodeWav", "DecodeWebP", "EagerPyFunc", "ParseExample", "ParseExampleV2",
                              "ParseSequenceExample", "ParseSequenceExampleV2", "ParseSingleExample", "ParseTensor",
                              "PyFunc", "PyFuncStateless", "ReadFile"})  # fmt: skip


class InputRejectedError(Exception):
    """TensorFlow rejects an input."""


class Original:
    """The graph's tensors by the names that Triton uses, and the session that computes them.

    ``signature`` is the name of the SavedModel's signature, "" for a GraphDef. ``unsupported_ops`` are the ops of
    the graph without an equal in ONNX.
    """

    def __init__(
        self, session: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any], *, signature: str = ""
    ) -> None:
        self.signature = signature
        self.tensors = inputs
        self.results = outputs
        self.inputs = tuple(read_graph_tensor(name, tensor) for name, tensor in inputs.items())
        self.outputs = tuple(read_graph_tensor(name, tensor) for name, tensor in outputs.items())
        self.unsupported_ops = tuple(sorted(_list_ops(session.graph, list(outputs.values())) & _UNSUPPORTED_OPS))
        self._call: Callable[..., Any] = session.make_callable(list(outputs.values()), feed_list=list(inputs.values()))

    def run(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return all outputs; raise InputRejectedError with TensorFlow's own sentence."""
        import tensorflow as tf

        try:
            values = self._call(*(arrays[tensor.name] for tensor in self.inputs))
        except (tf.errors.OpError, TypeError, ValueError) as error:
            text = str(getattr(error, "message", None) or error).split("[[")[0].strip()
            raise InputRejectedError(text.splitlines()[-1].strip() if text else type(error).__name__) from error
        return {tensor.name: value for tensor, value in zip(self.outputs, values, strict=True)}


def load_original(job: ConversionJob) -> Original:
    """Load the model of a job.

    Raises:
        ArtifactError: TensorFlow cannot read it, or it lacks what the configuration states.
    """
    import tensorflow as tf

    # Otherwise the graph that ran is kept with all weights, for a RunMetadata that is not used.
    options = tf.compat.v1.ConfigProto()
    options.experimental.disable_output_partition_graphs = True
    session = tf.compat.v1.Session(graph=tf.Graph(), config=options)
    with session.graph.as_default():
        return _load_graphdef(job, session) if job.kind == GRAPHDEF else _load_savedmodel(job, session)


def _load_graphdef(job: ConversionJob, session: Any) -> Original:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(Path(job.path).read_bytes())
        tf.import_graph_def(definition, name="")
    except (DecodeError, ValueError, OSError) as error:
        raise ArtifactError(f"{job.name}: TensorFlow cannot read its GraphDef: {_get_first_line(error)}") from error
    nodes = {operation.name: operation.outputs[0] for operation in session.graph.get_operations() if operation.outputs}
    for tensor in (*job.inputs, *job.outputs):
        if tensor.name not in nodes:
            raise ArtifactError(f"{job.name}: its graph has no node {tensor.name!r}, which config.pbtxt names")
    inputs, outputs = ({tensor.name: nodes[tensor.name] for tensor in tensors} for tensors in (job.inputs, job.outputs))
    return Original(session, inputs, outputs)


def _load_savedmodel(job: ConversionJob, session: Any) -> Original:
    import tensorflow as tf

    try:
        meta = tf.compat.v1.saved_model.load(session, [job.tag], job.path)
    except (RuntimeError, OSError, tf.errors.OpError) as error:
        raise ArtifactError(f"{job.name}: TensorFlow cannot read its SavedModel: {_get_first_line(error)}") from error
    name = _choose_signature(job, meta.signature_def)
    chosen = meta.signature_def[name]
    graph = session.graph
    inputs = {key: graph.get_tensor_by_name(info.name) for key, info in sorted(chosen.inputs.items())}
    outputs = {key: graph.get_tensor_by_name(info.name) for key, info in sorted(chosen.outputs.items())}
    for kind, stated, tensors in (("input", job.inputs, inputs), ("output", job.outputs, outputs)):
        for tensor in stated:
            if tensor.name not in tensors:
                raise ArtifactError(
                    f"{job.name}: signature {name!r} has no {kind} {tensor.name!r}, which config.pbtxt names; it has "
                    f"{', '.join(tensors)}"
                )
    names = [tensor.name for tensor in job.outputs] or list(outputs)
    return Original(session, inputs, {key: outputs[key] for key in names}, signature=name)


def _choose_signature(job: ConversionJob, signatures: Mapping[str, Any]) -> str:
    """Return the signature that Triton serves: the named one, else ``serving_default``, else the first one."""
    served = [name for name in sorted(signatures) if name not in _NOT_SERVED]
    wanted = job.signature or ("serving_default" if "serving_default" in signatures else "".join(served[:1]))
    if wanted not in signatures:
        raise ArtifactError(
            f"{job.name}: its SavedModel has no signature {wanted!r}; it has {', '.join(served) or 'none'}"
        )
    return wanted


def _list_ops(graph: Any, ends: Sequence[Any]) -> set[str]:
    """Return the types of all ops that the given tensors depend on, also those in functions."""
    ops: set[str] = set()
    pending = [tensor.op for tensor in ends]
    seen = {op.name for op in pending}
    functions: set[str] = set()
    library = {function.signature.name: function for function in graph.as_graph_def().library.function}
    while pending:
        op = pending.pop()
        ops.add(op.type)
        functions |= _list_functions(op.node_def)
        for source in (*(tensor.op for tensor in op.inputs), *op.control_inputs):
            if source.name not in seen:
                seen.add(source.name)
                pending.append(source)
    waiting = sorted(functions & library.keys())
    known = set(waiting)
    while waiting:
        for node in library[waiting.pop()].node_def:
            ops.add(node.op)
            new = ((_list_functions(node) | {node.op}) & library.keys()) - known
            known |= new
            waiting += sorted(new)
    return ops


def _list_functions(node: Any) -> set[str]:
    """Return the functions in a node's attributes: bodies, branches, calls."""
    names: set[str] = set()
    for value in node.attr.values():
        functions = [*([value.func] if value.HasField("func") else ()), *value.list.func]
        names.update(str(function.name) for function in functions)
    return names


def _get_first_line(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
