"""The TensorFlow model as it is, in a session: what the conversion is held against.

It is loaded as Triton's own backend loads it (tensorflow_backend src/tensorflow.cc), not as the converter does, so that
a mistake in one of the two ways shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tritonforge.errors import ArtifactError
from tritonforge.model_files import saved_model
from tritonforge.model_files.signature import GRAPHDEF, TensorSpec
from tritonforge.repository.conversion.job import Job

__all__ = ["Original", "RefusedError", "load"]

#: Signatures that are never served. Source: tensorflow_backend src/tensorflow_backend_tf.cc.
_NOT_SERVED = ("train_op", "__saved_model_init_op", "__saved_model_train_op")

#: TensorFlow ops that no ONNX opset has an equal of: they read encoded files and records, or run Python. They are
#: looked for before the conversion, which would work on for long before it said so.
_NEVER = frozenset(
    {
        "DecodeAndCropJpeg",
        "DecodeBase64",
        "DecodeBmp",
        "DecodeCSV",
        "DecodeCompressed",
        "DecodeGif",
        "DecodeImage",
        "DecodeJSONExample",
        "DecodeJpeg",
        "DecodePng",
        "DecodeRaw",
        "DecodeWav",
        "DecodeWebP",
        "EagerPyFunc",
        "ParseExample",
        "ParseExampleV2",
        "ParseSequenceExample",
        "ParseSequenceExampleV2",
        "ParseSingleExample",
        "ParseTensor",
        "PyFunc",
        "PyFuncStateless",
        "ReadFile",
    }
)


class RefusedError(Exception):
    """TensorFlow does not take an input that was tried."""


class Original:
    """The graph's tensors by the names that Triton uses, and the session that computes them.

    ``signature`` is the name of the SavedModel's signature, "" for a GraphDef. ``closed`` are the ops in the graph that
    ONNX has no equal of.
    """

    def __init__(
        self,
        session: Any,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        *,
        signature: str = "",
    ) -> None:
        self.signature = signature
        self.tensors = inputs
        self.results = outputs
        self.inputs = tuple(_info(name, tensor) for name, tensor in inputs.items())
        self.outputs = tuple(_info(name, tensor) for name, tensor in outputs.items())
        self.closed = tuple(sorted(_ops(session.graph, list(outputs.values())) & _NEVER))
        self._call: Callable[..., Any] = session.make_callable(list(outputs.values()), feed_list=list(inputs.values()))

    def run(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """All outputs; raises RefusedError with TensorFlow's own sentence."""
        import tensorflow as tf

        try:
            values = self._call(*(arrays[each.name] for each in self.inputs))
        except (tf.errors.OpError, TypeError, ValueError) as error:
            text = str(getattr(error, "message", None) or error).split("[[")[0].strip()
            raise RefusedError(text.splitlines()[-1].strip() if text else type(error).__name__) from error
        return {each.name: value for each, value in zip(self.outputs, values, strict=True)}


def load(job: Job) -> Original:
    """The model of a job.

    Raises:
        ArtifactError: TensorFlow cannot read it, or it has not what the configuration states.
    """
    import tensorflow as tf

    # The graph that was run, weights and all, would be kept for a RunMetadata that nobody asks for.
    options = tf.compat.v1.ConfigProto()
    options.experimental.disable_output_partition_graphs = True
    session = tf.compat.v1.Session(graph=tf.Graph(), config=options)
    with session.graph.as_default():
        return _graphdef(job, session) if job.kind == GRAPHDEF else _savedmodel(job, session)


def _graphdef(job: Job, session: Any) -> Original:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(Path(job.path).read_bytes())
        tf.import_graph_def(definition, name="")
    except (DecodeError, ValueError, OSError) as error:
        raise ArtifactError(f"{job.name}: TensorFlow cannot read its GraphDef: {_first_line(error)}") from error
    tensors = {each.name: each.outputs[0] for each in session.graph.get_operations() if each.outputs}
    placed = {each.name: tensors[each.name] for each in job.inputs if each.name in tensors}
    results = {each.name: tensors[each.name] for each in job.outputs if each.name in tensors}
    for each in (*job.inputs, *job.outputs):
        if each.name not in tensors:
            raise ArtifactError(f"{job.name}: its graph has no node {each.name!r}, which config.pbtxt names")
    return Original(session, placed, results)


def _savedmodel(job: Job, session: Any) -> Original:
    import tensorflow as tf

    try:
        meta = tf.compat.v1.saved_model.load(session, [job.tag], job.path)
    except (RuntimeError, OSError, tf.errors.OpError) as error:
        raise ArtifactError(f"{job.name}: TensorFlow cannot read its SavedModel: {_first_line(error)}") from error
    name = _chosen(job, meta.signature_def)
    chosen = meta.signature_def[name]
    graph = session.graph
    placed = {key: graph.get_tensor_by_name(info.name) for key, info in sorted(chosen.inputs.items())}
    results = {key: graph.get_tensor_by_name(info.name) for key, info in sorted(chosen.outputs.items())}
    for kind, stated, there in (("input", job.inputs, placed), ("output", job.outputs, results)):
        for each in stated:
            if each.name not in there:
                raise ArtifactError(
                    f"{job.name}: signature {name!r} has no {kind} {each.name!r}, which config.pbtxt names; it has "
                    f"{', '.join(there)}"
                )
    wanted = [each.name for each in job.outputs] or list(results)
    return Original(session, placed, {key: results[key] for key in wanted}, signature=name)


def _chosen(job: Job, signatures: Mapping[str, Any]) -> str:
    """The signature that Triton serves: the one named, else ``serving_default``, else the first that can be."""
    served = [name for name in sorted(signatures) if name not in _NOT_SERVED]
    wanted = job.signature or ("serving_default" if "serving_default" in signatures else "".join(served[:1]))
    if wanted not in signatures:
        raise ArtifactError(
            f"{job.name}: its SavedModel has no signature {wanted!r}; it has {', '.join(served) or 'none'}"
        )
    return wanted


def _ops(graph: Any, ends: Sequence[Any]) -> set[str]:
    """The types of all ops that the given tensors depend on, those in functions among them."""
    found: set[str] = set()
    pending = [tensor.op for tensor in ends]
    seen = {op.name for op in pending}
    functions: set[str] = set()
    library = {each.signature.name: each for each in graph.as_graph_def().library.function}
    while pending:
        op = pending.pop()
        found.add(op.type)
        functions |= _called(op.node_def)
        for source in (*(tensor.op for tensor in op.inputs), *op.control_inputs):
            if source.name not in seen:
                seen.add(source.name)
                pending.append(source)
    waiting = sorted(functions & library.keys())
    known = set(waiting)
    while waiting:
        for node in library[waiting.pop()].node_def:
            found.add(node.op)
            new = ((_called(node) | {node.op}) & library.keys()) - known
            known |= new
            waiting += sorted(new)
    return found


def _called(node: Any) -> set[str]:
    """The functions in a node's attributes: bodies, branches, calls."""
    return set(_names(node))


def _names(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield str(value.func.name)
        for each in value.list.func:
            yield str(each.name)


def _info(name: str, tensor: Any) -> TensorSpec:
    number = int(tensor.dtype.base_dtype.as_datatype_enum)
    if number not in saved_model.DATA_TYPES:
        raise ArtifactError(f"tensor {name!r} is {tensor.dtype.name}, which Triton cannot carry")
    shape = (
        None if tensor.shape.rank is None else [-1 if each is None else int(each) for each in tensor.shape.as_list()]
    )
    return TensorSpec(name, saved_model.DATA_TYPES[number], shape)


def _first_line(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
