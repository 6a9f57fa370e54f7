"""What a GraphDef or a SavedModel states about itself: versions, operations, placeholders, signatures.

Weights are skipped. Field numbers: tensorflow/core/framework/{graph,node_def,attr_value,versions,tensor_shape,function}
.proto, tensorflow/core/protobuf/{saved_model,meta_graph}.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from tritonforge import datatypes
from tritonforge.model_files.protobuf_fields import Field, read_fields, read_message, to_signed
from tritonforge.model_files.signature import UNSUPPORTED, Signature, TensorSpec
from tritonforge.model_files.source import ModelFileError, Source, name_format

__all__ = ["DATA_TYPES", "MetaGraph", "SavedModel", "TensorFlowGraph", "read_graphdef", "read_saved_model"]

#: TensorFlow's element type number -> config name. Source: tensorflow/core/framework/types.proto `DataType`; the pairs
#: that Triton carries: tensorflow_utils.cc `ConvertDataType`.
DATA_TYPES: Final[Mapping[int, str]] = MappingProxyType({
    1: datatypes.TYPE_FP32, 2: datatypes.TYPE_FP64, 3: datatypes.TYPE_INT32, 4: datatypes.TYPE_UINT8,
    5: datatypes.TYPE_INT16, 6: datatypes.TYPE_INT8, 7: datatypes.TYPE_STRING, 9: datatypes.TYPE_INT64,
    10: datatypes.TYPE_BOOL, 14: datatypes.TYPE_BF16, 17: datatypes.TYPE_UINT16, 19: datatypes.TYPE_FP16,
    22: datatypes.TYPE_UINT32, 23: datatypes.TYPE_UINT64,
})  # fmt: skip

#: A node's attributes beyond this many bytes are constants, not shapes.
_MAXIMAL_ATTRIBUTE: Final = 4096


@dataclass(frozen=True, slots=True)
class TensorFlowGraph:
    """A graph's header.

    ``producer`` is the graph version of the TensorFlow that wrote it and ``min_consumer`` the smallest that may read
    it (``VersionDef``); ``operations`` are the names of all operations used, those of functions included.
    ``placeholders`` are its inputs, ``nodes`` the names of all nodes of the graph itself.
    """

    producer: int
    min_consumer: int
    operations: frozenset[str]
    placeholders: tuple[TensorSpec, ...]
    nodes: frozenset[str]


@dataclass(frozen=True, slots=True)
class MetaGraph:
    """One graph of a SavedModel, which its set of tags chooses; ``tensorflow_version`` is the version that wrote it.

    ``graph`` is None where only the signatures were read.
    """

    tags: frozenset[str]
    signatures: Mapping[str, Signature]
    tensorflow_version: str = ""
    graph: TensorFlowGraph | None = None


@dataclass(frozen=True, slots=True)
class SavedModel:
    """The graphs of a ``saved_model.pb``."""

    graphs: tuple[MetaGraph, ...]

    def find_signature(self, *, tag: str = "serve", signature: str = "serving_default") -> Signature:
        """Return one signature of the graph that has one tag.

        Raises:
            ModelFileError: no graph has exactly this tag, or it has no such signature.
        """
        graph = next((graph for graph in self.graphs if graph.tags == {tag}), None)
        if graph is None:
            known = " and ".join(repr(sorted(graph.tags)) for graph in self.graphs)
            raise ModelFileError(f"the SavedModel has no graph tagged {tag!r}; its graphs are tagged {known}")
        if signature not in graph.signatures:
            known = ", ".join(sorted(graph.signatures)) or "none"
            raise ModelFileError(f"the SavedModel has no signature {signature!r}; it has {known}")
        return graph.signatures[signature]


def read_graphdef(source: Source) -> TensorFlowGraph:
    """Read the header of a GraphDef.

    Raises:
        ModelFileError: the file is not a GraphDef.
        HeaderTooLargeError: its header has more bytes or fields than the source allows.
    """
    with name_format("a GraphDef"):
        graph = _read_graph(source, 0, source.size)
        if not graph.nodes:
            raise ModelFileError("it has no nodes")
        return graph


def read_saved_model(source: Source, *, has_graphs: bool = True) -> SavedModel:
    """Read the header of a ``saved_model.pb``; without ``has_graphs`` only its tags and signatures.

    Inputs and outputs of a signature are sorted by name.

    Raises:
        ModelFileError: the file is not a SavedModel.
        HeaderTooLargeError: its header has more bytes or fields than the source allows.
    """
    with name_format("a saved_model.pb"):
        parts = [part for part in read_fields(source) if part.number == 2]
        if not parts:
            raise ModelFileError("it has no graphs")
        return SavedModel(tuple(_read_meta_graph(source, part, has_graph=has_graphs) for part in parts))


def _read_meta_graph(source: Source, part: Field, *, has_graph: bool) -> MetaGraph:
    tags: set[str] = set()
    signatures: dict[str, Signature] = {}
    version, graph = "", None
    for inner in read_message(source, part):
        if inner.number == 1:
            for info in read_message(source, inner):
                if info.number == 4:
                    tags.add(info.text(source))
                elif info.number == 5:
                    version = info.text(source)
        elif inner.number == 2 and has_graph:
            graph = _read_graph(source, *inner.span)
        elif inner.number == 5:
            name, value = _read_entry(source, inner)
            if value is not None:
                signatures[name] = _read_signature(source, value)
    return MetaGraph(frozenset(tags), signatures, version, graph)


def _read_entry(source: Source, part: Field) -> tuple[str, Field | None]:
    """Return the key of an entry of a map, and its value, None where that is absent."""
    name, value = "", None
    for inner in read_message(source, part):
        if inner.number == 1:
            name = inner.text(source)
        elif inner.number == 2:
            value = inner
    return name, value


def _read_signature(source: Source, part: Field) -> Signature:
    inputs: dict[str, TensorSpec] = {}
    outputs: dict[str, TensorSpec] = {}
    for inner in read_message(source, part):
        if inner.number in (1, 2):
            name, value = _read_entry(source, inner)
            (inputs if inner.number == 1 else outputs)[name] = _read_tensor(source, name, value)
    return Signature([inputs[name] for name in sorted(inputs)], [outputs[name] for name in sorted(outputs)])


def _read_tensor(source: Source, name: str, part: Field | None) -> TensorSpec:
    """Return a `TensorInfo`; a tensor without a shape is a scalar, as in protobuf's defaults."""
    data_type = UNSUPPORTED
    shape: list[int] | None = [] if part is not None else None
    for inner in read_message(source, part) if part is not None else ():
        if inner.number == 2:
            data_type = DATA_TYPES.get(inner.value, UNSUPPORTED)
        elif inner.number == 3:
            shape = _read_shape(source, inner)
    return TensorSpec(name, data_type, shape)


def _read_graph(source: Source, start: int, end: int) -> TensorFlowGraph:
    producer = min_consumer = 0
    operations: set[str] = set()
    nodes: set[str] = set()
    placeholders: list[TensorSpec] = []
    for part in read_fields(source, start, end):
        if part.number == 1:
            name, operation, attributes = _read_node(source, part)
            nodes.add(name)
            operations.add(operation)
            if operation == "Placeholder":
                placeholders.append(_read_placeholder(source, name, attributes))
        elif part.number == 2:
            for function in read_message(source, part):
                if function.number == 1:
                    operations.update(_read_function(source, function))
        elif part.number == 4:
            for inner in read_message(source, part):
                if inner.number == 1:
                    producer = to_signed(inner.value)
                elif inner.number == 2:
                    min_consumer = to_signed(inner.value)
    return TensorFlowGraph(producer, min_consumer, frozenset(operations), tuple(placeholders), frozenset(nodes))


def _read_node(source: Source, part: Field) -> tuple[str, str, list[Field]]:
    """Return name and operation of a node, and its attributes if it is a placeholder."""
    name = operation = ""
    attributes: list[Field] = []
    for inner in read_message(source, part):
        if inner.number == 1:
            name = inner.text(source)
        elif inner.number == 2:
            operation = inner.text(source)
            if operation != "Placeholder":
                break  # its inputs and attributes, which may be weights, are skipped
        elif inner.number == 5:
            attributes.append(inner)
    return name, operation, attributes


def _read_function(source: Source, part: Field) -> Iterator[str]:
    for inner in read_message(source, part):
        if inner.number == 3:
            yield _read_node(source, inner)[1]


def _read_placeholder(source: Source, name: str, attributes: list[Field]) -> TensorSpec:
    data_type: str | None = None
    shape: list[int] | None = None
    for attribute in attributes:
        if attribute.end - attribute.start > _MAXIMAL_ATTRIBUTE:
            continue
        entry = {inner.number: inner for inner in read_message(source, attribute)}
        if 1 not in entry or 2 not in entry:
            continue
        key = entry[1].text(source)
        for value in read_message(source, entry[2]):
            if key == "dtype" and value.number == 6:
                data_type = DATA_TYPES.get(value.value, UNSUPPORTED)
            elif key == "shape" and value.number == 7:
                shape = _read_shape(source, value)
    return TensorSpec(name, data_type, shape)


def _read_shape(source: Source, part: Field) -> list[int] | None:
    """Return the extents of a `TensorShapeProto`, None where even the rank is unknown."""
    shape: list[int] = []
    for inner in read_message(source, part):
        if inner.number == 3 and inner.value:
            return None
        if inner.number == 2:
            sizes = [to_signed(dim.value) for dim in read_message(source, inner) if dim.number == 1]
            shape.append(sizes[-1] if sizes else 0)
    return shape
