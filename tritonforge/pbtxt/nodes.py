"""The nodes of a parsed config.pbtxt: values with their place in the text and in the message. No I/O.

Absent fields read as proto3 defaults. A node's line and column count from 1; they are worked out when asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Document", "Message", "Node", "Problem", "ProblemKind"]

ProblemKind: TypeAlias = Literal["syntax", "unknown", "twice", "oneof", "value", "enum", "placeholder", "limit"]


class Node:
    """One value of a field: a scalar's value is a ``str``, ``int``, ``float`` or ``bool`` (an enum's is its name)."""

    __slots__ = ("index", "name", "offset", "parent", "value")

    def __init__(self, name: str, value: object, offset: int, parent: Message | None, index: int) -> None:
        self.name = name
        self.value = value
        self.offset = offset
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

    def __init__(self, name: str, offset: int, parent: Message | None, index: int) -> None:
        super().__init__(name, None, offset, parent, index)
        self.fields: dict[str, list[Node]] = {}

    def get(self, name: str) -> Sequence[Node]:
        """Every value of a field."""
        return self.fields.get(name, ())

    def one(self, name: str) -> Node | None:
        """The value of a singular field, the last one where the text repeats it; None when it is absent."""
        values = self.fields.get(name)
        return values[-1] if values else None

    def has(self, name: str) -> bool:
        """Whether the field is in the text (for a message that means it is set, also when it is empty)."""
        return bool(self.fields.get(name))

    def message(self, name: str) -> Message | None:
        """The message in a singular field; None when it is absent."""
        value = self.one(name)
        return value if isinstance(value, Message) else None

    def messages(self, name: str) -> list[Message]:
        """The messages in a repeated field."""
        return [value for value in self.fields.get(name, ()) if isinstance(value, Message)]

    def text(self, name: str, default: str = "") -> str:
        """A string, or the name of an enum's value."""
        value = self.one(name)
        return value.value if value is not None and isinstance(value.value, str) else default

    def integer(self, name: str, default: int = 0) -> int:
        """An integer."""
        value = self.one(name)
        return value.value if value is not None and isinstance(value.value, int) else default

    def number(self, name: str, default: float = 0.0) -> float:
        """A float."""
        value = self.one(name)
        return float(value.value) if value is not None and isinstance(value.value, int | float) else default

    def flag(self, name: str) -> bool:
        """A boolean."""
        value = self.one(name)
        return value is not None and value.value is True

    def integers(self, name: str) -> tuple[int, ...]:
        """The integers of a repeated field."""
        return tuple([value.value for value in self.fields.get(name, ()) if isinstance(value.value, int)])

    def texts(self, name: str) -> tuple[str, ...]:
        """The strings of a repeated field."""
        return tuple([value.value for value in self.fields.get(name, ()) if isinstance(value.value, str)])

    def entries(self, name: str) -> dict[str, Message]:
        """The entries of a map by key, in the order of the text; of equal keys the last one wins."""
        found: dict[str, Message] = {}
        for entry in self.messages(name):
            key = entry.one("key")
            found[str(key.value) if key is not None else ""] = entry
        return found


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that the server's parser refuses: its own words, the place, and a hint ("" when there is none)."""

    kind: ProblemKind
    message: str
    line: int
    column: int
    field: str
    hint: str = ""


class Document(Message):
    """A parsed text: the fields of the root message, and the problems that were found."""

    __slots__ = ("_starts", "problems", "source")

    def __init__(self, text: str) -> None:
        super().__init__("", 0, None, -1)
        self.source = text
        self.problems: tuple[Problem, ...] = ()
        self._starts: list[int] | None = None

    def position(self, offset: int) -> tuple[int, int]:
        """The line and column of a character, from 1."""
        if self._starts is None:
            starts = [0]
            at = self.source.find("\n")
            while at >= 0:
                starts.append(at + 1)
                at = self.source.find("\n", at + 1)
            self._starts = starts
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1
