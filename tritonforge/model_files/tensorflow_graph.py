"""What a GraphDef or a SavedModel states about itself: the versions of its graph, its operations, its placeholders.

Field numbers: tensorflow/core/framework/{graph,node_def,attr_value,versions,tensor_shape,function,op_def}.proto,
tensorflow/core/protobuf/{saved_model,meta_graph}.proto. `saved_model.read` gives a SavedModel's signatures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tritonforge.model_files.protobuf_fields import Field, read_fields, read_message, to_signed
from tritonforge.model_files.saved_model import DATA_TYPES
from tritonforge.model_files.signature import UNSUPPORTED, TensorSpec
from tritonforge.model_files.source import ModelFileError, Source

__all__ = ["TensorFlowGraph", "read_graphdef", "read_saved_model_graph"]

#: A node's attributes beyond this many bytes are constants, not shapes.
_MAXIMAL_ATTRIBUTE = 4096


@dataclass(frozen=True, slots=True)
class TensorFlowGraph:
    """A graph's header.

    ``producer`` is the graph version of the TensorFlow that wrote it and ``min_consumer`` the smallest that may read
    it (``VersionDef``); ``operations`` are the names of all operations used, those of functions included.
    ``placeholders`` are its inputs, ``nodes`` the names of all nodes of the graph itself. ``tensorflow_version`` is the
    version that wrote a SavedModel, "" for a GraphDef.
    """

    producer: int
    min_consumer: int
    operations: frozenset[str]
    placeholders: tuple[TensorSpec, ...]
    nodes: frozenset[str]
    tensorflow_version: str = ""


def read_graphdef(source: Source) -> TensorFlowGraph:
    """Read the header of a GraphDef. Raises ModelFileError: the file is not a GraphDef."""
    graph = _read_graph(source, 0, source.size, "")
    if not graph.nodes:
        raise ModelFileError("this is not a GraphDef: it has no nodes")
    return graph


def read_saved_model_graph(source: Source, *, tag: str = "serve") -> TensorFlowGraph:
    """Read the graph with a tag from a ``saved_model.pb``.

    Raises:
        ModelFileError: the file is not a SavedModel, or has no graph with this tag.
    """
    tags_found: list[list[str]] = []
    for part in read_fields(source):
        if part.number != 2:
            continue
        tags: list[str] = []
        version, graph = "", None
        for inner in read_message(source, part):
            if inner.number == 1:
                for info in read_message(source, inner):
                    if info.number == 4:
                        tags.append(info.text(source))
                    elif info.number == 5:
                        version = info.text(source)
            elif inner.number == 2:
                graph = inner
        if tags == [tag] and graph is not None and graph.has_length:
            return _read_graph(source, graph.start, graph.end, version)
        tags_found.append(tags)
    if not tags_found:
        raise ModelFileError("this is not a saved_model.pb: it has no graphs")
    known = " and ".join(repr(sorted(tags)) for tags in tags_found)
    raise ModelFileError(f"the SavedModel has no graph tagged {tag!r}; its graphs are tagged {known}")


def _read_graph(source: Source, start: int, end: int, version: str) -> TensorFlowGraph:
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
    return TensorFlowGraph(
        producer, min_consumer, frozenset(operations), tuple(placeholders), frozenset(nodes), version
    )


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
