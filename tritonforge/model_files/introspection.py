"""The inputs and outputs of a model file on disk, read without running it.

A SavedModel, an ONNX file and a DALI pipeline are read without their frameworks; a GraphDef requires TensorFlow, which
infers the shapes of its outputs.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tritonforge.errors import ArtifactError, MissingExtraError
from tritonforge.files import describe_error, open_descriptor, read_at
from tritonforge.model_files import dali_pipeline
from tritonforge.model_files.onnx_model import read_onnx
from tritonforge.model_files.signature import DALI, KINDS, ONNX, SAVEDMODEL, UNSUPPORTED, Signature, TensorSpec
from tritonforge.model_files.source import BUDGET, FIELDS, Source
from tritonforge.model_files.tensorflow_graph import DATA_TYPES, read_saved_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["introspect", "open_source", "read_graph_tensor"]


def introspect(
    path: Path, kind: str, *, outputs: Sequence[str] = (), tag: str = "serve", signature: str = "serving_default"
) -> Signature:
    """Return the inputs and outputs of the model file at ``path``.

    ``kind`` is one of `signature.KINDS`. ``outputs`` are the nodes of a GraphDef that are its outputs, which
    the file does not state. ``tag`` and ``signature`` choose in a SavedModel (Triton's parameters
    ``TF_GRAPH_TAG`` and ``TF_SIGNATURE_DEF``).

    Raises:
        ArtifactError: the file is missing, or is not of that kind.
        MissingExtraError: the package that reads it is not installed.
    """
    if kind not in KINDS:
        raise ArtifactError(f"{path}: inputs and outputs can be read from {', '.join(KINDS)}, not from {kind!r}")
    file = path / "saved_model.pb" if kind == SAVEDMODEL else path
    try:
        if kind in (SAVEDMODEL, ONNX):
            # The builder made or chose the file: it is read whatever the size of its header.
            with open_source(file, budget=sys.maxsize, fields=sys.maxsize) as source:
                if kind == ONNX:
                    model = read_onnx(source)
                    return _check_types(model.signature, model.other_types)
                saved_model = read_saved_model(source, has_graphs=False)
                return _check_types(saved_model.find_signature(tag=tag, signature=signature))
        data = file.read_bytes()
        return dali_pipeline.read_signature(data) if kind == DALI else _read_graphdef(data, outputs)
    except OSError as error:
        raise ArtifactError(f"{file}: cannot read: {describe_error(error)}") from error
    except ArtifactError as error:
        raise ArtifactError(f"{file}: {error}") from error


def _check_types(signature: Signature, other_types: Mapping[str, str] = MappingProxyType({})) -> Signature:
    """Return the signature if Triton carries all its tensors."""
    for tensor in (*signature.inputs, *signature.outputs):
        if tensor.name in other_types:
            raise ArtifactError(f"{tensor.name!r} is a {other_types[tensor.name]}; Triton carries tensors only")
        if tensor.data_type == UNSUPPORTED:
            raise ArtifactError(f"tensor {tensor.name!r} has an element type that Triton does not have")
    return signature


@contextmanager
def open_source(
    path: Path | str, *, budget: int = BUDGET, fields: int = FIELDS, follow_links: bool = True
) -> Iterator[Source]:
    """Open a file for the readers of headers. Raises OSError: it cannot be opened, or is not a regular file."""
    descriptor = open_descriptor(path, follow_links=follow_links)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield Source(
            lambda offset, size: read_at(descriptor, offset, size), status.st_size, budget=budget, fields=fields
        )
    finally:
        os.close(descriptor)


def _read_graphdef(data: bytes, outputs: Sequence[str]) -> Signature:
    try:
        import tensorflow as tf
        from google.protobuf.message import DecodeError as ProtobufDecodeError
    except ImportError as error:
        raise MissingExtraError("tensorflow", extra="local") from error
    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(data)
    except ProtobufDecodeError as error:
        raise ArtifactError(f"this is not a GraphDef: {error}") from error
    if not definition.node:
        raise ArtifactError("this is not a GraphDef: it has no nodes")
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.import_graph_def(definition, name="")
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise ArtifactError(f"TensorFlow cannot import this graph: {str(error).splitlines()[0]}") from error
    nodes = {operation.name: operation for operation in graph.get_operations()}
    for name in outputs:
        if name not in nodes:
            closest = _list_closest(name, list(nodes))
            raise ArtifactError(f"the graph has no node {name!r} for an output; the closest names are {closest}")
    placeholders = [operation for operation in nodes.values() if operation.type == "Placeholder"]
    return Signature(
        [_read_node(operation) for operation in placeholders],
        [_read_node(nodes[name]) for name in outputs],
        all_inputs=False,
    )


def _read_node(operation: Any) -> TensorSpec:
    if not operation.outputs:
        raise ArtifactError(f"node {operation.name!r} is a {operation.type}, which gives no tensor")
    return read_graph_tensor(operation.name, operation.outputs[0])


def read_graph_tensor(name: str, tensor: Any) -> TensorSpec:
    """Return the name, type and shape of a tensor of a TensorFlow graph; a reference type is its base type."""
    number = int(tensor.dtype.base_dtype.as_datatype_enum)
    if number not in DATA_TYPES:
        raise ArtifactError(f"tensor {name!r} is {tensor.dtype.name}, which Triton cannot carry")
    shape = None if tensor.shape.rank is None else [-1 if dim is None else int(dim) for dim in tensor.shape.as_list()]
    return TensorSpec(name, DATA_TYPES[number], shape)


def _list_closest(name: str, names: list[str]) -> str:
    import difflib

    return ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.0))
