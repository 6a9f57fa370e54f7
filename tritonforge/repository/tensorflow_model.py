"""TensorFlow models: made from a function of the definition, or the original of a conversion in a session.

A function becomes a frozen GraphDef or a SavedModel, always the same bytes. Its model is wrapped into one `tf.function`
whose inputs have the names, types and shapes that the definition states. Node names come out as stated, also where
TensorFlow would have put its own.

The original, with which a conversion is compared, is loaded as Triton's own backend loads it (tensorflow_backend
src/tensorflow.cc), not as the converter does, so that a mistake in one of the two shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tritonforge.errors import ArtifactError, MissingExtraError
from tritonforge.model_files.introspection import read_graph_tensor
from tritonforge.model_files.signature import GRAPHDEF
from tritonforge.model_files.tensorflow_graph import DATA_TYPES
from tritonforge.repository.definition.models import Model
from tritonforge.repository.definition.tensors import Input
from tritonforge.repository.model_config import list_sequence_tensors
from tritonforge.repository.onnx_conversion import ConversionJob

__all__ = ["InputRejectedError", "Original", "load_original", "seed_frameworks", "write_graphdef", "write_saved_model"]


def seed_frameworks(seed: int) -> None:
    """Seed Python, numpy and TensorFlow, and make results independent of the order of threads.

    This changes the whole process, which is why each artifact is built in one of its own.
    """
    tf = _import_tensorflow()
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def write_graphdef(built: Any, model: Model, path: Path) -> None:
    """Freeze what a function of the definition built into a GraphDef file.

    ``built`` is a ``keras.Model``, a ``tf.Module`` or any callable. Its variables become constants. The nodes of inputs
    and outputs have exactly the names of ``model.input`` and ``model.output``.
    """
    tf = _import_tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = _trace(built, model).get_concrete_function()
    names = sorted(concrete.structured_outputs)
    arguments = [str(spec.name) for spec in concrete.structured_input_signature[0]]
    frozen = convert_variables_to_constants_v2(concrete)
    graph = frozen.graph.as_graph_def()
    # The frozen function keeps the order of inputs and outputs; outputs are flattened by sorted key, as names is.
    wanted = {tensor.op.name: name for tensor, name in zip(frozen.inputs, arguments, strict=True)}
    for tensor, name in zip(frozen.outputs, names, strict=True):
        if tensor.op.type != "Identity":  # tf.function ends each output in an Identity of its own
            raise ArtifactError(f"{model.name}: output {name!r} ends in a {tensor.op.type}, which cannot be renamed")
        wanted[tensor.op.name] = name
    kept = [tensor.op.name for tensor in (*frozen.inputs, *frozen.outputs)]
    graph = tf.compat.v1.graph_util.extract_sub_graph(graph, kept)
    _rename_nodes(graph, wanted)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def write_saved_model(built: Any, model: Model, folder: Path) -> None:
    """Save what a function of the definition built as a SavedModel with the signature ``serving_default``.

    TensorFlow gives each SavedModel a random number (``uuid`` in ``fingerprint.pb``, fingerprint.proto); here it is
    derived from the content, so that the same model gives the same files.
    """
    tf = _import_tensorflow()
    from tensorflow.core.protobuf import fingerprint_pb2

    concrete = _trace(built, model).get_concrete_function()
    module = tf.Module()
    # Not the tf.function itself: saving would trace it again, in a context of its own, and write both.
    module.weights = _list_variables(concrete)
    if isinstance(built, tf.Module) and not isinstance(built, tf.keras.Model):
        module.source = built  # a lookup table, for example, is saved through the module that owns it
    # A server computes no gradients; tracing and writing custom ones takes a third of the time.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": concrete}, options=options)
    with suppress(OSError):  # not empty, or not there
        (folder / "assets").rmdir()  # an empty folder, which neither archives nor git would keep
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "fingerprint.pb":
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    fingerprint = folder / "fingerprint.pb"
    if fingerprint.is_file():
        message = fingerprint_pb2.FingerprintDef.FromString(fingerprint.read_bytes())
        message.uuid = str(int.from_bytes(digest.digest()[:16], "big"))
        fingerprint.write_bytes(message.SerializeToString(deterministic=True))


def _trace(built: Any, model: Model) -> Any:
    """Return a `tf.function` of the model whose arguments and results have the definition's names."""
    tf = _import_tensorflow()
    specs = _build_specs(built, model)
    keras = isinstance(built, tf.keras.Model)
    if not callable(built):
        raise ArtifactError(f"{model.name}: its function gave a {type(built).__name__}, which cannot be called")

    def serve(*tensors: Any) -> dict[str, Any]:
        if keras:
            results = built(tensors[0] if len(tensors) == 1 else list(tensors), training=False)
        else:
            results = built(*tensors)
        return _name_results(results, built, model)

    # autograph off: the function is called as it is; keras and user code decide on their own control flow.
    return tf.function(serve, input_signature=specs, autograph=False)


def _build_specs(built: Any, model: Model) -> list[Any]:
    tf = _import_tensorflow()
    own = _list_own_inputs(built) if isinstance(built, tf.keras.Model) else []
    # TensorFlow keeps no implicit state, so controls are all that Triton adds (see `signature_check`).
    controls = list_sequence_tensors(model).controls
    names = {control.name for control in controls}
    inputs = model.input or [Input(str(tensor.name)) for tensor in own if str(tensor.name) not in names]
    stated = [*inputs, *controls]
    if not stated:
        raise ArtifactError(f"{model.name}: its function gave a {type(built).__name__}; state the model's inputs")
    specs = []
    numbers = {name: number for number, name in DATA_TYPES.items()}
    for index, tensor in enumerate(stated):
        dims = tensor.reshape if tensor.reshape is not None else tensor.dims
        if (dims is None or tensor.data_type is None) and index >= len(own):
            raise ArtifactError(
                f"{model.name}: input {tensor.name!r} needs data_type and dims to call its function with"
            )
        if dims is not None:
            shape = [None if extent == -1 else extent for extent in dims]
            shape = [None, *shape] if model.max_batch_size > 0 else shape
        else:
            shape = list(own[index].shape)
        dtype = tf.as_dtype(own[index].dtype if tensor.data_type is None else numbers[tensor.data_type])
        specs.append(tf.TensorSpec(shape, dtype, name=tensor.name))
    return specs


def _list_own_inputs(built: Any) -> list[Any]:
    """Return the symbolic inputs of a Keras model; none where it was never called or built."""
    try:
        return list(built.inputs or ())
    except (AttributeError, ValueError):  # a subclassed model has none
        return []


def _name_results(results: Any, built: Any, model: Model) -> dict[str, Any]:
    tf = _import_tensorflow()
    stated = [output.name for output in model.output]
    if isinstance(results, Mapping):
        given = {str(name): tensor for name, tensor in results.items()}
        missing = [name for name in stated if name not in given]
        if missing:
            known = ", ".join(given)
            raise ArtifactError(f"{model.name}: its function gives no output {missing[0]!r}; it gives {known}")
        chosen = {name: given[name] for name in stated} if stated else given
    else:
        tensors = list(results) if isinstance(results, (list, tuple)) else [results]
        names = stated or list(getattr(built, "output_names", ())) or [f"output_{n}" for n in range(len(tensors))]
        if len(names) != len(tensors):
            raise ArtifactError(
                f"{model.name}: its function gives {len(tensors)} tensors, but the definition states {len(names)} "
                f"outputs ({', '.join(names)})"
            )
        chosen = dict(zip(names, tensors, strict=True))
    return {name: tf.convert_to_tensor(tensor) for name, tensor in chosen.items()}


def _list_variables(concrete: Any) -> list[Any]:
    """Return the variables of a function in the order of its first reads; TensorFlow's own list has no order."""
    by_handle = {id(variable.handle): variable for variable in concrete.graph.variables}
    return [by_handle[id(tensor)] for tensor in concrete.captured_inputs if id(tensor) in by_handle]


def _rename_nodes(graph: Any, wanted: Mapping[str, str]) -> None:
    """Rename nodes in place by ``wanted`` (old -> new); another node that has a new name gets a free one."""
    names = {node.name for node in graph.node}
    renamed = dict(wanted)
    for new in wanted.values():
        if new in names and new not in wanted:
            free = f"{new}/inner"
            while free in names or free in wanted.values():
                free += "_"
            renamed[new] = free
    for node in graph.node:
        node.name = renamed.get(node.name, node.name)
        for index, reference in enumerate(node.input):
            node.input[index] = _rename_reference(reference, renamed)
        if "_class" in node.attr:
            places = node.attr["_class"].list.s
            for index, place in enumerate(places):
                prefix, _, name = place.decode().rpartition("@")
                if prefix == "loc:":
                    places[index] = f"loc:@{renamed.get(name, name)}".encode()


def _rename_reference(reference: str, renamed: Mapping[str, str]) -> str:
    """Rename ``name``, ``name:1`` or ``^name``, as node.input writes them (graph.proto `NodeDef.input`)."""
    control = "^" if reference.startswith("^") else ""
    name, colon, port = reference[len(control) :].partition(":")
    return f"{control}{renamed.get(name, name)}{colon}{port}"


def _import_tensorflow() -> Any:
    try:
        import tensorflow as tf
    except ImportError as error:
        raise MissingExtraError("tensorflow", extra="local") from error
    return tf


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
