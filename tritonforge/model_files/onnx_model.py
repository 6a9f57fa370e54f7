"""What an ONNX file states about itself: versions, opsets, inputs, outputs and external files. The weights are skipped.

Field numbers: onnx/onnx.proto (``ModelProto``, ``GraphProto``, ``ValueInfoProto``, ``TypeProto``, ``TensorProto``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from tritonforge import datatypes
from tritonforge.model_files.protobuf_fields import Field, read_fields, read_message, read_packed, to_signed
from tritonforge.model_files.signature import UNSUPPORTED, Signature, TensorSpec
from tritonforge.model_files.source import (
    HeaderTooLargeError,
    ModelFileError,
    Source,
    UnknownHeaderError,
    name_format,
)

__all__ = ["DATA_TYPES", "OnnxModel", "read_onnx"]

#: ONNX's element type number -> config name. Source: onnx.proto `TensorProto.DataType`; the pairs that Triton carries:
#: onnxruntime_utils.cc `ConvertFromOnnxDataType`.
DATA_TYPES: Final[Mapping[int, str]] = MappingProxyType({
    1: datatypes.TYPE_FP32, 2: datatypes.TYPE_UINT8, 3: datatypes.TYPE_INT8, 4: datatypes.TYPE_UINT16,
    5: datatypes.TYPE_INT16, 6: datatypes.TYPE_INT32, 7: datatypes.TYPE_INT64, 8: datatypes.TYPE_STRING,
    9: datatypes.TYPE_BOOL, 10: datatypes.TYPE_FP16, 11: datatypes.TYPE_FP64, 12: datatypes.TYPE_UINT32,
    13: datatypes.TYPE_UINT64, 16: datatypes.TYPE_BF16,
})  # fmt: skip

#: `TypeProto`'s members besides ``tensor_type``, by field number.
_OTHER_TYPES: Final = MappingProxyType({4: "sequence", 5: "map", 7: "opaque", 8: "sparse tensor", 9: "optional"})
#: Bytes 4 to 7 of a flatbuffer of ONNX Runtime (core/flatbuffers/schema/ort.fbs).
_ORT_FORMAT: Final = b"ORTM"
#: `TensorProto.DataLocation.EXTERNAL`.
_EXTERNAL: Final = 1
#: Names of external files that are listed; a model has one, or one for each large weight.
_MAXIMAL_EXTERNAL: Final = 10_000


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """An ONNX file's header.

    ``opsets`` maps each operator domain that the file imports to its version; "" is ONNX's own domain, which files also
    write as ``ai.onnx``. ``signature`` has the graph's inputs without those that are weights (before IR version 4 each
    weight was listed as an input too). ``other_types`` names inputs and outputs that are not tensors, with what they
    are. ``external_files`` are the files beside this one that hold weights, as the file spells them. ``custom_domains``
    are the operator domains of the graph's nodes besides ONNX's and Microsoft's that no function of the file defines.
    """

    ir_version: int
    opsets: Mapping[str, int]
    signature: Signature
    producer: str = ""
    producer_version: str = ""
    other_types: Mapping[str, str] = field(default_factory=dict)
    external_files: tuple[str, ...] = ()
    custom_domains: frozenset[str] = frozenset()


def read_onnx(source: Source) -> OnnxModel:
    """Read the header of an ONNX file.

    Raises:
        ModelFileError: the file is not an ONNX model.
        UnknownHeaderError: it is a model in ONNX Runtime's own format, whose header is not read.
        HeaderTooLargeError: its header has more bytes or fields than the source allows.
    """
    if source.size > 8 and source.read_at(4, 4) == _ORT_FORMAT:
        raise UnknownHeaderError("this is ONNX Runtime's own format")
    with name_format("an ONNX model"):
        return _read_model(source)


def _read_model(source: Source) -> OnnxModel:
    ir_version, producer, producer_version = 0, "", ""
    opsets: dict[str, int] = {}
    defined: set[str] = set()
    graph: Field | None = None
    for part in read_fields(source):
        if part.number == 1 and not part.has_length:
            ir_version = to_signed(part.value)
        elif part.number == 2:
            producer = part.text(source)
        elif part.number == 3:
            producer_version = part.text(source)
        elif part.number == 7:
            graph = part
        elif part.number == 8:
            domain, version = _read_opset(source, part)
            opsets["" if domain == "ai.onnx" else domain] = version
        elif part.number == 25:
            defined.update(inner.text(source) for inner in read_message(source, part) if inner.number == 10)
    if graph is None or not graph.has_length:
        raise ModelFileError("it has no graph")
    inputs: dict[str, TensorSpec] = {}
    outputs: dict[str, TensorSpec] = {}
    other_types: dict[str, str] = {}
    weights: set[str] = set()
    external: dict[str, None] = {}
    for part in read_fields(source, graph.start, graph.end):
        if part.number == 5:
            name, location = _read_weight(source, part)
            weights.add(name)
            if location is not None and len(external) < _MAXIMAL_EXTERNAL:
                external[location] = None
        elif part.number in (11, 12):
            spec, other = _read_value(source, part)
            (inputs if part.number == 11 else outputs)[spec.name] = spec
            if other:
                other_types[spec.name] = other
    if not outputs:
        raise ModelFileError("its graph has no outputs")
    return OnnxModel(
        ir_version,
        opsets,
        Signature([spec for name, spec in inputs.items() if name not in weights], list(outputs.values())),
        producer,
        producer_version,
        {name: other for name, other in other_types.items() if name not in weights},
        tuple(external),
        _read_domains(source, graph) - defined if any(_is_custom(domain) for domain in opsets) else frozenset(),
    )


def _is_custom(domain: str) -> bool:
    return domain != "" and not domain.startswith(("ai.onnx", "com.microsoft"))


def _read_domains(source: Source, graph: Field) -> frozenset[str]:
    """Return the domains of a graph's nodes besides ONNX's and Microsoft's; none where there are too many nodes."""
    domains: set[str] = set()
    try:
        for part in read_message(source, graph):
            if part.number == 1:
                domains.update(inner.text(source) for inner in read_message(source, part) if inner.number == 7)
    except HeaderTooLargeError:
        return frozenset()
    return frozenset(filter(_is_custom, domains))


def _read_opset(source: Source, part: Field) -> tuple[str, int]:
    domain, version = "", 0
    for inner in read_message(source, part):
        if inner.number == 1:
            domain = inner.text(source)
        elif inner.number == 2:
            version = to_signed(inner.value)
    return domain, version


def _read_weight(source: Source, part: Field) -> tuple[str, str | None]:
    """Return the name of a `TensorProto` and the file that holds its data, None where that is this file."""
    name, location, is_external = "", None, False
    for inner in read_message(source, part):
        if inner.number == 8:
            name = inner.text(source)
        elif inner.number == 13:
            entry = {pair.number: pair.text(source) for pair in read_message(source, inner)}
            if entry.get(1) == "location":
                location = entry.get(2, "")
        elif inner.number == 14:
            is_external = inner.value == _EXTERNAL
    return name, location if is_external else None


def _read_value(source: Source, part: Field) -> tuple[TensorSpec, str]:
    """Return a `ValueInfoProto` as a tensor, and what it is where it is not one."""
    name, other = "", ""
    data_type: str | None = None
    shape: list[int] | None = None
    for inner in read_message(source, part):
        if inner.number == 1:
            name = inner.text(source)
        elif inner.number == 2:
            for kind in read_message(source, inner):
                if kind.number == 1:
                    data_type, shape = _read_tensor_type(source, kind)
                elif kind.number in _OTHER_TYPES:
                    other = _OTHER_TYPES[kind.number]
    return TensorSpec(name, data_type, shape), other


def _read_tensor_type(source: Source, part: Field) -> tuple[str, list[int] | None]:
    data_type, shape = UNSUPPORTED, None
    for inner in read_message(source, part):
        if inner.number == 1:
            data_type = DATA_TYPES.get(inner.value, UNSUPPORTED)
        elif inner.number == 2:
            shape = [_read_extent(source, dim) for dim in read_message(source, inner) if dim.number == 1]
    return data_type, shape


def _read_extent(source: Source, part: Field) -> int:
    """Return an extent of a shape, -1 where it has a name or nothing (Triton's reading of both)."""
    for inner in read_message(source, part):
        if inner.number == 1:
            value = to_signed(next(read_packed(source, inner), 0))
            return value if value > 0 else -1
    return -1
