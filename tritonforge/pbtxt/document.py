"""A parsed config.pbtxt: values with their positions, and the schema of messages. No I/O.

Absent fields read as proto3 defaults. A node's line and column count from 1; they are computed on access, as few nodes
have findings.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from tritonforge.pbtxt.tokens import MAXIMAL_CHARACTERS, MAXIMAL_TOKENS, Tokens, tokenize
from tritonforge.triton.schema import load_model_config_pb2

__all__ = ["Document", "FieldKind", "FieldSpec", "Message", "MessageSpec", "Node", "Problem", "ProblemKind",
           "root_spec"]  # fmt: skip


ProblemKind: TypeAlias = Literal["syntax", "unknown", "twice", "oneof", "value", "enum", "placeholder", "limit"]


class Node:
    """One value of a field: a scalar's value is a ``str``, ``int``, ``float`` or ``bool`` (an enum's is its name)."""

    __slots__ = ("index", "name", "parent", "token", "value")

    def __init__(self, name: str, value: object, token: int, parent: Message | None, index: int) -> None:
        self.name = name
        self.value = value
        self.token = token
        self.parent = parent
        self.index = index

    @property
    def root(self) -> Document:
        """The document that the node is in."""
        node: Node = self
        while node.parent is not None:
            node = node.parent
        assert isinstance(node, Document)
        return node

    @property
    def offset(self) -> int:
        """The offset of the value in the text, in characters."""
        return self.root.find_offset(self.token)

    @property
    def line(self) -> int:
        """The line of the value, from 1."""
        return self.root.position(self.offset)[0]

    @property
    def column(self) -> int:
        """The column of the value in characters, from 1."""
        return self.root.position(self.offset)[1]

    @property
    def path(self) -> str:
        """The place in the message, such as ``input[0].dims[1]``."""
        parts: list[str] = []
        node: Node = self
        while node.parent is not None:
            parts.append(node.name if node.index < 0 else f"{node.name}[{node.index}]")
            node = node.parent
        return ".".join(reversed(parts))


class Message(Node):
    """A message: its fields by name, each the list of its values in the order of the text."""

    __slots__ = ("fields",)

    def __init__(self, name: str, token: int, parent: Message | None, index: int) -> None:
        self.name = name
        self.value = None
        self.token = token
        self.parent = parent
        self.index = index
        self.fields: dict[str, list[Node]] = {}

    def get(self, name: str) -> Sequence[Node]:
        """Return every value of a field."""
        return self.fields.get(name, ())

    def one(self, name: str) -> Node | None:
        """Return the value of a singular field, the last one where the text repeats it; None if it is absent."""
        values = self.fields.get(name)
        return values[-1] if values else None

    def has(self, name: str) -> bool:
        """Return True if the field is in the text (a message is set even if it is empty)."""
        return bool(self.fields.get(name))

    def message(self, name: str) -> Message | None:
        """Return the message in a singular field; None if it is absent."""
        value = self.one(name)
        return value if isinstance(value, Message) else None

    def messages(self, name: str) -> list[Message]:
        """Return the messages in a repeated field."""
        return [value for value in self.fields.get(name, ()) if isinstance(value, Message)]

    def text(self, name: str, default: str = "") -> str:
        """Return a string, or the name of an enum's value."""
        value = self.one(name)
        return value.value if value is not None and isinstance(value.value, str) else default

    def integer(self, name: str, default: int = 0) -> int:
        """Return an integer."""
        value = self.one(name)
        return value.value if value is not None and isinstance(value.value, int) else default

    def number(self, name: str, default: float = 0.0) -> float:
        """Return a float."""
        value = self.one(name)
        return float(value.value) if value is not None and isinstance(value.value, int | float) else default

    def flag(self, name: str) -> bool:
        """Return a boolean."""
        value = self.one(name)
        return value is not None and value.value is True

    def integers(self, name: str) -> tuple[int, ...]:
        """Return the integers of a repeated field."""
        return tuple([value.value for value in self.fields.get(name, ()) if isinstance(value.value, int)])

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the strings of a repeated field."""
        return tuple([value.value for value in self.fields.get(name, ()) if isinstance(value.value, str)])

    def entries(self, name: str) -> dict[str, Message]:
        """Return the entries of a map by key, in the order of the text; the last one of equal keys."""
        entries: dict[str, Message] = {}
        for entry in self.messages(name):
            key = entry.one("key")
            entries[str(key.value) if key is not None else ""] = entry
        return entries


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that the server's parser rejects: its own words, the position, and a hint ("" without one)."""

    kind: ProblemKind
    message: str
    line: int
    column: int
    field: str
    hint: str = ""


class Document(Message):
    """A parsed text: the fields of the root message, and the problems in the text."""

    __slots__ = ("_starts", "_tokens", "problems", "source")

    def __init__(self, text: str) -> None:
        super().__init__("", 0, None, -1)
        self.source = text
        self.problems: tuple[Problem, ...] = ()
        self._tokens: Tokens | None = None
        self._starts: list[int] | None = None

    def find_offset(self, token: int) -> int:
        """Return the offset of a token, counted from 0."""
        if self._tokens is None:
            self._tokens = tokenize(self.source[:MAXIMAL_CHARACTERS], limit=MAXIMAL_TOKENS)
        return self._tokens.offsets[token]

    def position(self, offset: int) -> tuple[int, int]:
        """Return the line and column of a character, from 1."""
        if self._starts is None:
            starts = [0]
            at = self.source.find("\n")
            while at >= 0:
                starts.append(at + 1)
                at = self.source.find("\n", at + 1)
            self._starts = starts
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


class FieldKind:
    """The kinds of fields; plain integers, because an enum's members are slow to access."""

    INTEGER: Final = 1
    FLOAT: Final = 2
    BOOL: Final = 3
    STRING: Final = 4
    ENUM: Final = 5
    MESSAGE: Final = 6


#: By `FieldDescriptor.cpp_type` (descriptor.h): the kind, and for integers the least and the greatest value.
_KINDS: Final[dict[int, tuple[int, int, int]]] = {
    1: (FieldKind.INTEGER, -(2**31), 2**31 - 1),
    2: (FieldKind.INTEGER, -(2**63), 2**63 - 1),
    3: (FieldKind.INTEGER, 0, 2**32 - 1),
    4: (FieldKind.INTEGER, 0, 2**64 - 1),
    5: (FieldKind.FLOAT, 0, 0),
    6: (FieldKind.FLOAT, 0, 0),
    7: (FieldKind.BOOL, 0, 0),
    8: (FieldKind.ENUM, 0, 0),
    9: (FieldKind.STRING, 0, 0),
    10: (FieldKind.MESSAGE, 0, 0),
}


#: By `FieldDescriptor.type` (descriptor.h): the name of a scalar in the proto.
_SCALARS: Final = {
    1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 8: "bool", 9: "string", 12: "bytes", 13: "uint32",
}  # fmt: skip


class FieldSpec:
    """One field: its kind and bounds, whether it repeats, its oneof, its enum's values or its message."""

    __slots__ = ("_descriptor", "_message", "kind", "least", "most", "name", "names", "numbers", "oneof", "presence",
                 "repeated")  # fmt: skip

    def __init__(self, descriptor: Any) -> None:
        self._descriptor = descriptor
        self._message: MessageSpec | None = None
        self.name: str = descriptor.name
        self.kind, self.least, self.most = _KINDS[descriptor.cpp_type]
        self.repeated: bool = descriptor.is_repeated
        self.oneof: str = descriptor.containing_oneof.name if descriptor.containing_oneof is not None else ""
        # A map's key and value count as set also with their default value (map_entry.h).
        self.presence: bool = descriptor.has_presence or descriptor.containing_type.GetOptions().map_entry
        values = descriptor.enum_type.values if self.kind == FieldKind.ENUM else ()
        self.names: dict[str, int] = {value.name: value.number for value in values}
        self.numbers: dict[int, str] = {value.number: value.name for value in values}

    @property
    def full_name(self) -> str:
        """The name with that of its message, such as ``inference.ModelInput.dims``."""
        name: str = self._descriptor.full_name
        return name

    @property
    def type_name(self) -> str:
        """The full name of its message or enum; else the scalar's name in the proto, such as ``int64``."""
        typed = self._descriptor.message_type or self._descriptor.enum_type
        name: str = typed.full_name if typed is not None else _SCALARS[self._descriptor.type]
        return name

    @property
    def message(self) -> MessageSpec:
        """The message in this field."""
        if self._message is None:
            self._message = _find_spec(self._descriptor.message_type)
        return self._message


class MessageSpec:
    """One message: its full name and its fields by name."""

    __slots__ = ("fields", "name")

    def __init__(self, descriptor: Any) -> None:
        self.name: str = descriptor.full_name
        self.fields: dict[str, FieldSpec] = {field.name: FieldSpec(field) for field in descriptor.fields}


_SPECS: Final[dict[str, MessageSpec]] = {}


def _find_spec(descriptor: Any) -> MessageSpec:
    spec = _SPECS.get(descriptor.full_name)
    if spec is None:
        spec = _SPECS[descriptor.full_name] = MessageSpec(descriptor)
    return spec


@lru_cache(maxsize=1)
def root_spec() -> MessageSpec:
    """Return the specification of `ModelConfig`."""
    return _find_spec(load_model_config_pb2().ModelConfig.DESCRIPTOR)
