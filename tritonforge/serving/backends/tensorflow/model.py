"""The ``tensorflow`` backend: a frozen GraphDef, or a SavedModel with one of its signatures.

Triton makes one `TritonPythonModel` for each instance of a model. Both kinds run in a session, as in Triton's own C++
backend: it loads a SavedModel's graph without making its Python objects again. A GraphDef on the CPU is loaded without
TensorFlow's Python (`c_api`); all else, and what that refuses, in a ``tf.compat.v1.Session``, where a callable made
once per set of outputs adds little to TensorFlow's own time.

In an image that this backend was added to (the Dockerfile's stage ``sagemaker-tensorflow``), what it imports lies in
the folder ``packages`` beside this file, and comes before the image's own packages, for this backend alone.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

# ruff: noqa: E402 - the imports below are found in this folder
_PACKAGES = Path(__file__).parent / "packages"
if _PACKAGES.is_dir():
    sys.path.insert(0, str(_PACKAGES))

from tritonforge import tf_memory
from tritonforge.datatypes import BY_CONFIG, TYPE_STRING, from_numpy
from tritonforge.errors import ArtifactError
from tritonforge.model_files.completion import complete_saved_model
from tritonforge.model_files.introspection import open_source
from tritonforge.model_files.signature import GRAPHDEF, SAVEDMODEL, UNSUPPORTED, Signature, TensorSpec
from tritonforge.model_files.tensorflow_graph import read_saved_model
from tritonforge.serving.backends import configuration, requests
from tritonforge.serving.backends.configuration import Configuration
from tritonforge.serving.backends.requests import Arrays, RequestError
from tritonforge.serving.backends.tensorflow import c_api

__all__ = ["GRAPHDEF", "SAVEDMODEL", "Graph", "TritonPythonModel", "load_graph", "read_signature"]


class TritonPythonModel:
    """One SavedModel or GraphDef in a session."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in what the configuration of a SavedModel leaves out; a GraphDef's must be whole."""
        if config.as_dict().get("platform") != GRAPHDEF:
            with configuration.report_errors():
                signature = read_signature(configuration.read_incomplete_config(config))
                complete_saved_model(config.as_dict(), signature)
        return config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the graph, run it once, so that no request waits for its optimisation, and free other memory."""
        with configuration.report_errors():
            stated = configuration.read_arguments(args)
            stated.refuse("TF_INIT_OPS_FILE")
            graph = load_graph(stated)
            warm_up(graph, stated)
            # TensorFlow's Python may feed a graph the memory of an array itself, and a variable may keep it.
            keeps_inputs = not isinstance(graph, c_api.FrozenGraph)
            self._runner = requests.BatchRunner(stated, graph.run, keeps_inputs=keeps_inputs)
        tf_memory.trim_heap()

    def execute(self, batch: Sequence[Any]) -> list[Any]:
        """Run the requests that Triton passes as one batch."""
        return self._runner.execute(batch)


#: Signatures that train or initialise and are never served. Source: tensorflow_backend_tf.cc.
_NOT_SERVED: Final = ("train_op", "__saved_model_init_op", "__saved_model_train_op")


@dataclass(slots=True)
class Graph:
    """Inputs and outputs by name with the graph's tensors they stand for, and the session that computes them."""

    session: Any
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    _callables: dict[tuple[tuple[str, ...], tuple[str, ...]], Callable[..., Any]] = field(default_factory=dict)

    def run(self, arrays: Arrays, names: Sequence[str]) -> Arrays:
        """Return the named outputs; raises RequestError with TensorFlow's own reason."""
        import tensorflow as tf

        key = (tuple(arrays), tuple(names))
        call = self._callables.get(key)
        if call is None:
            feeds = [self.inputs[name] for name in arrays]
            call = self.session.make_callable([self.outputs[name] for name in names], feed_list=feeds)
            self._callables[key] = call
        try:
            values = call(*arrays.values())
        except tf.errors.OpError as error:
            raise RequestError(_find_reason(error), caller=isinstance(error, tf.errors.InvalidArgumentError)) from error
        except (TypeError, ValueError) as error:
            raise RequestError(f"TensorFlow does not take the input: {error}") from error
        return dict(zip(names, values, strict=True))


def warm_up(graph: Graph | c_api.FrozenGraph, config: Configuration) -> None:
    """Run the graph once on zeros, where its inputs have a size: TensorFlow optimises it on the first run.

    For Inception V3 that is 3 s on two cores, and then 0.07 s a run. A model of sequences is not run: it may keep state
    in its variables.
    """
    import numpy as np

    if config.sequence or any(tensor.data_type == TYPE_STRING or -1 in tensor.dims for tensor in config.inputs):
        return
    arrays = {
        tensor.name: np.zeros((1, *tensor.dims) if config.batched else tensor.dims, BY_CONFIG[tensor.data_type].dtype)
        for tensor in config.inputs
    }
    # Zeros may be invalid input for the model: then the first request is slow, and nothing else.
    with contextlib.suppress(RequestError):
        graph.run(arrays, [tensor.name for tensor in config.outputs])


def load_graph(config: Configuration) -> Graph | c_api.FrozenGraph:
    """Load the model in a version's folder.

    ``parameters``: ``TF_NUM_INTRA_THREADS``, ``TF_NUM_INTER_THREADS`` (default 0: one per core), ``TF_GRAPH_TAG``,
    ``TF_SIGNATURE_DEF``.

    Raises:
        ArtifactError: the file is missing, not a model, or differs from the configuration.
    """
    if config.states:
        raise ArtifactError(
            f"model '{config.name}' has the implicit state '{config.states[0].input.name}', which Triton's TensorFlow "
            "backend does not keep; keep it in a variable of the model, or convert the model to ONNX"
        )
    # A missing file is reported before TensorFlow is loaded, which takes seconds.
    place = _find_graphdef(config) if config.platform == GRAPHDEF else _find_savedmodel(config)
    intra_threads = config.read_number("TF_NUM_INTRA_THREADS", 0)
    inter_threads = config.read_number("TF_NUM_INTER_THREADS", 0)
    if config.platform == GRAPHDEF and config.device is None and not _has_texts(config):
        frozen = _load_frozen_graph(config, place, intra_threads=intra_threads, inter_threads=inter_threads)
        if frozen is not None:
            return frozen
    tf = tf_memory.import_tensorflow()
    options = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=intra_threads,
        inter_op_parallelism_threads=inter_threads,
        allow_soft_placement=True,  # a graph that was placed on a GPU runs on a machine without one
    )
    # Without this, TensorFlow keeps the graph with its weights for a RunMetadata that is not used.
    options.experimental.disable_output_partition_graphs = True
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=options)
    loading = _load_graphdef if config.platform == GRAPHDEF else _load_savedmodel
    with graph.as_default():
        return loading(config, session, place)


def _has_texts(config: Configuration) -> bool:
    return any(tensor.data_type == TYPE_STRING for tensor in (*config.all_inputs, *config.outputs))


def _load_frozen_graph(
    config: Configuration, path: Path, *, intra_threads: int, inter_threads: int
) -> c_api.FrozenGraph | None:
    """Return the graph on TensorFlow's C API; None where that lacks something, or refuses the file."""
    folder = c_api.find_library()
    if folder is None:
        return None
    try:
        graph = c_api.load_frozen_graph(folder, path, intra_threads=intra_threads, inter_threads=inter_threads)
    except c_api.CApiError:
        return None
    nodes = graph.nodes
    graph.inputs = {name: node for name, node in nodes.items() if node.operation.startswith("Placeholder")}
    graph.outputs = {tensor.name: nodes[tensor.name] for tensor in config.outputs if tensor.name in nodes}
    ends = [name for name, node in nodes.items() if name not in graph.inputs and not graph.has_consumers(node)]
    found = Signature(
        [node.spec for node in graph.inputs.values()],
        [nodes[name].spec for name in dict.fromkeys((*ends, *graph.outputs))],
        all_inputs=False,
    )
    configuration.check_tensors(config, found, shapes=False)
    return graph


def read_signature(config: Configuration) -> Signature:
    """Return the inputs and outputs of a SavedModel's signature, read from its header; the graph is not loaded."""
    folder, tag = _find_savedmodel(config), _get_tag(config)
    with open_source(folder / "saved_model.pb", budget=sys.maxsize, fields=sys.maxsize) as source:
        graphs = read_saved_model(source, has_graphs=False).graphs
    for graph in graphs:
        if tag in graph.tags:
            signature: Signature = _choose_signature(config, graph.signatures)
            return signature
    raise ArtifactError(f"{folder}: expected '{tag}' tag")


def _load_graphdef(config: Configuration, session: Any, path: Any) -> Graph:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(path.read_bytes())
        tf.import_graph_def(definition, name="")
    except (DecodeError, ValueError) as error:
        raise ArtifactError(
            f"{path} is not a GraphDef that this TensorFlow can run: {_get_first_line(error)}"
        ) from error
    operations = session.graph.get_operations()
    placeholders = {
        operation.name: operation.outputs[0] for operation in operations if operation.type.startswith("Placeholder")
    }
    tensors = {operation.name: operation.outputs[0] for operation in operations if operation.outputs}
    # Any node can be an output; a wrong name is answered with the nodes that nothing else uses.
    outputs = {tensor.name: tensors[tensor.name] for tensor in config.outputs if tensor.name in tensors}
    ends = {name: tensor for name, tensor in tensors.items() if not tensor.consumers() and name not in placeholders}
    found = Signature(_specs(placeholders), _specs({**ends, **outputs}), all_inputs=False)
    configuration.check_tensors(config, found, shapes=False)
    return Graph(session, placeholders, outputs)


def _load_savedmodel(config: Configuration, session: Any, folder: Any) -> Graph:
    import tensorflow as tf

    tag = _get_tag(config)
    try:
        meta = tf.compat.v1.saved_model.load(session, [tag], str(folder))
    except RuntimeError as error:
        raise ArtifactError(f"{folder}: expected '{tag}' tag; {_get_first_line(error)}") from error
    except (OSError, tf.errors.OpError) as error:
        raise ArtifactError(
            f"{folder} is not a SavedModel that this TensorFlow can run: {_get_first_line(error)}"
        ) from error
    chosen = _choose_signature(config, meta.signature_def)
    graph = session.graph
    inputs = {name: graph.get_tensor_by_name(info.name) for name, info in chosen.inputs.items()}
    outputs = {name: graph.get_tensor_by_name(info.name) for name, info in chosen.outputs.items()}
    configuration.check_tensors(config, _read_saved_signature(chosen))
    return Graph(session, inputs, outputs)


def _choose_signature(config: Configuration, signatures: Mapping[str, Any]) -> Any:
    """Return the signature of ``TF_SIGNATURE_DEF``, else ``serving_default``, else the first that can be served."""
    name = config.parameters.get("TF_SIGNATURE_DEF")
    if name is not None:
        if name not in signatures:
            raise ArtifactError(f"model '{config.name}': expected '{name}' signature")
        return signatures[name]
    if "serving_default" in signatures:
        return signatures["serving_default"]
    served = [candidate for candidate in sorted(signatures) if candidate not in _NOT_SERVED]
    if not served:
        raise ArtifactError(f"model '{config.name}': the SavedModel has no signature that can be served")
    return signatures[served[0]]


def _find_graphdef(config: Configuration) -> Any:
    path = config.get_path("model.graphdef")
    _check_exists(config, path.is_file(), str(path))
    return path


def _find_savedmodel(config: Configuration) -> Any:
    folder = config.get_path("model.savedmodel")
    _check_exists(config, folder.is_dir(), str(folder))
    return folder


def _check_exists(config: Configuration, exists: bool, path: str) -> None:
    if not exists:
        raise ArtifactError(f"unable to find '{path}' for model instance '{config.name}'")


def _get_tag(config: Configuration) -> str:
    return config.parameters.get("TF_GRAPH_TAG", "serve")


def _read_saved_signature(chosen: Any) -> Signature:
    import tensorflow as tf

    # Sorted, since the order of a protobuf map is not defined.
    def specs(infos: Any) -> list[TensorSpec]:
        return [
            _spec(name, tf.dtypes.as_dtype(info.dtype), tf.TensorShape(info.tensor_shape))
            for name, info in sorted(infos.items())
        ]

    return Signature(specs(chosen.inputs), specs(chosen.outputs))


def _specs(tensors: Mapping[str, Any]) -> list[TensorSpec]:
    return [_spec(name, tensor.dtype, tensor.shape) for name, tensor in tensors.items()]


def _spec(name: str, dtype: Any, shape: Any) -> TensorSpec:
    """Return a tensor with Triton's element type; reference types of old graphs are their base types."""
    datatype = None
    if dtype.base_dtype.is_numpy_compatible and dtype.base_dtype.name not in ("resource", "variant"):
        datatype = from_numpy(_find_numpy_type(dtype.base_dtype))
    extents = None if shape.rank is None else [-1 if extent is None else int(extent) for extent in shape.as_list()]
    return TensorSpec(name, UNSUPPORTED if datatype is None else datatype.config, extents)


def _find_numpy_type(dtype: Any) -> Any:
    import numpy as np

    return np.dtype(dtype.as_numpy_dtype)


def _find_reason(error: Exception) -> str:
    return c_api.find_reason(str(getattr(error, "message", None) or error)) or type(error).__name__


def _get_first_line(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error)
    return text.splitlines()[0] if text else type(error).__name__
