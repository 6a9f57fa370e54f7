"""What an OpenVINO IR (``model.xml``) states about itself: its version, opsets, inputs and outputs.

The weights are in a ``.bin`` file beside it. Source: openvino src/core/src/pass/serialize.cpp and
src/frontends/ir/src/ir_deserializer.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from tritonforge import datatypes
from tritonforge.model_files.signature import UNSUPPORTED, Signature, TensorSpec
from tritonforge.model_files.source import HeaderTooLargeError, ModelFileError, Source, UnknownHeaderError

__all__ = ["OpenVinoModel", "read_openvino_ir"]

#: OpenVINO's element type -> config name. Source: openvino_backend, openvino_utils.cc `ConvertToModelConfigDataType`.
_DATA_TYPES: Final = MappingProxyType(
    {
        "boolean": datatypes.TYPE_BOOL,
        "bf16": datatypes.TYPE_BF16,
        "f16": datatypes.TYPE_FP16,
        "f32": datatypes.TYPE_FP32,
        "f64": datatypes.TYPE_FP64,
        "i8": datatypes.TYPE_INT8,
        "i16": datatypes.TYPE_INT16,
        "i32": datatypes.TYPE_INT32,
        "i64": datatypes.TYPE_INT64,
        "string": datatypes.TYPE_STRING,
        "u8": datatypes.TYPE_UINT8,
        "u16": datatypes.TYPE_UINT16,
        "u32": datatypes.TYPE_UINT32,
        "u64": datatypes.TYPE_UINT64,
    }
)
#: A port's ``precision`` -> element type, where it is not the same in lower case.
_PRECISIONS: Final = MappingProxyType({"fp16": "f16", "fp32": "f32", "fp64": "f64", "bool": "boolean"})
_CHUNK: Final = 64 * 1024
#: Bytes of an IR that is read, in a tenth of a second: some 4,000 layers. The weights are in another file.
_MAXIMAL_IR: Final = 1024 * 1024
#: Errors of expat that every parser of XML reports.
_CERTAIN: Final = ("syntax error", "no element found", "unclosed token")


@dataclass(frozen=True, slots=True)
class OpenVinoModel:
    """An IR's header.

    ``version`` is that of the IR format (11 since 2022.1) and ``runtime_version`` that of the OpenVINO that wrote it,
    "" where it is not stated. ``opsets`` are the operation sets of its layers (``opset1`` ... ``opset16``, or the name
    of an extension).
    """

    version: int
    runtime_version: str
    opsets: frozenset[str]
    signature: Signature


@dataclass(slots=True)
class _Port:
    names: str = ""
    precision: str = ""
    dims: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Layer:
    name: str
    kind: str
    element_type: str = ""
    shape: str | None = None
    outputs: dict[str, _Port] = field(default_factory=dict)


class _Reader:
    """Collects what the header needs from expat's events, of which an IR has some 30 for each layer."""

    def __init__(self, parser: Any) -> None:
        self.version: int | None = None
        self.runtime_version = ""
        self.opsets: set[str] = set()
        self.layers: dict[str, _Layer] = {}
        self.edges: dict[str, tuple[str, str]] = {}
        self._parser = parser
        self._depth = 0
        self._section = ""  # the element below <net>
        self._part = ""  # the element below <layer>
        self._layer: _Layer | None = None
        self._port: _Port | None = None
        self._text = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        depth = self._depth = self._depth + 1
        if depth == 6:
            if tag == "dim" and self._port is not None:
                self._text = ""
                self._parser.CharacterDataHandler = self.add_text
        elif depth == 5:
            if tag == "port" and self._part == "output" and self._layer is not None:
                self._port = _Port(attributes.get("names", ""), attributes.get("precision", ""))
                self._layer.outputs[attributes.get("id", "")] = self._port
        elif depth == 4:
            self._part = tag
            if tag == "data" and self._layer is not None and self._layer.kind == "Parameter":
                self._layer.element_type = attributes.get("element_type", "")
                self._layer.shape = attributes.get("shape")
        elif depth == 3:
            self._start_entry(tag, attributes)
        elif depth == 2:
            self._section = tag
        elif depth == 1:
            self._start_net(tag, attributes)

    def _start_net(self, tag: str, attributes: dict[str, str]) -> None:
        if tag != "net":
            raise ModelFileError(f"this is not an OpenVINO IR: its root is <{tag}>, not <net>")
        text = attributes.get("version", "")
        if not text.isdecimal():
            raise ModelFileError("this is not an OpenVINO IR: <net> has no version")
        self.version = int(text[:9])

    def _start_entry(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "layer" and self._section == "layers":
            self._layer = _Layer(attributes.get("name", ""), attributes.get("type", ""))
            self.layers[attributes.get("id", "")] = self._layer
            if opset := attributes.get("version"):
                self.opsets.add(opset)
        elif tag == "edge" and self._section == "edges":
            origin = (attributes.get("from-layer", ""), attributes.get("from-port", ""))
            self.edges[attributes.get("to-layer", "")] = origin
        elif tag == "Runtime_version" and self._section == "rt_info":
            self.runtime_version = attributes.get("value", "")

    def end(self, tag: str) -> None:
        depth = self._depth
        self._depth = depth - 1
        if depth == 6:
            if tag == "dim" and self._port is not None:
                self._parser.CharacterDataHandler = None
                text = self._text.strip()
                self._port.dims.append(int(text) if text.isdecimal() and len(text) < 19 else -1)
        elif depth == 5:
            self._port = None
        elif depth == 3:
            self._layer = None

    def add_text(self, text: str) -> None:
        if len(self._text) < 64:
            self._text += text


def read_openvino_ir(source: Source) -> OpenVinoModel:
    """Read an OpenVINO IR.

    Raises:
        ModelFileError: the file is not an IR.
        UnknownHeaderError: it is not XML that can be read.
        HeaderTooLargeError: it has more than 1 MiB.
    """
    from xml.parsers import expat  # takes a few ms, and most repositories have no OpenVINO model

    if source.size > _MAXIMAL_IR:
        raise HeaderTooLargeError(f"it has more than {_MAXIMAL_IR >> 20} MiB")
    parser = expat.ParserCreate()
    reader = _Reader(parser)
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.buffer_text = True
    try:
        for offset in range(0, source.size, _CHUNK):
            parser.Parse(source.read_at(offset, min(_CHUNK, source.size - offset)), False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        # OpenVINO's parser (pugixml) accepts some of what XML forbids, such as control characters in names.
        if error.code in (expat.errors.codes[text] for text in _CERTAIN):
            raise ModelFileError(f"this is not an OpenVINO IR: {error}") from error
        raise UnknownHeaderError(f"this is not XML that can be read: {error}") from error
    except RecursionError as error:  # pragma: no cover - expat keeps no stack of Python's
        raise HeaderTooLargeError("its elements are nested too deeply") from error
    assert reader.version is not None
    parameters = [layer for layer in reader.layers.values() if layer.kind == "Parameter"]
    results = [number for number, layer in reader.layers.items() if layer.kind == "Result"]
    return OpenVinoModel(
        reader.version,
        reader.runtime_version,
        frozenset(reader.opsets),
        Signature(
            [_read_parameter(layer) for layer in parameters], [_read_result(reader, number) for number in results]
        ),
    )


def _refuse_doctype(*_: object) -> None:
    raise UnknownHeaderError("it has a document type, which may define entities")


def _first_name(names: str, fallback: str) -> str:
    """Return the first of a port's names, which are separated by commas; a comma in a name is escaped."""
    first = ""
    for part in names.replace("\\,", "\0").split(","):
        first = part.replace("\0", ",").strip()
        break
    return first or fallback


def _read_parameter(layer: _Layer) -> TensorSpec:
    port = next(iter(layer.outputs.values()), _Port())
    shape = (
        [_read_extent(text) for text in layer.shape.split(",")] if layer.shape else ([] if layer.shape == "" else None)
    )
    return TensorSpec(_first_name(port.names, layer.name), _DATA_TYPES.get(layer.element_type, UNSUPPORTED), shape)


def _read_extent(text: str) -> int:
    """Return an extent: ``3``, or -1 for ``?``, ``-1`` and ranges such as ``1..8``."""
    text = text.strip()
    return int(text) if text.isdecimal() and len(text) < 19 else -1


def _read_result(reader: _Reader, number: str) -> TensorSpec:
    layer = reader.layers[number]
    origin, port_number = reader.edges.get(number, ("", ""))
    producer = reader.layers.get(origin)
    port = producer.outputs.get(port_number) if producer is not None else None
    if producer is None or port is None:
        return TensorSpec(layer.name, UNSUPPORTED, None)
    precision = port.precision.lower()
    data_type = _DATA_TYPES.get(_PRECISIONS.get(precision, precision), UNSUPPORTED)
    return TensorSpec(_first_name(port.names, producer.name), data_type, port.dims)
