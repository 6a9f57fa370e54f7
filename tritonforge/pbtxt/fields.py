"""The fields of each message of the schema, as the parser wants them: from the descriptors, on first use. No I/O."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from tritonforge.triton.schema import load_model_config_pb2

__all__ = ["BOOL", "ENUM", "FLOAT", "INTEGER", "MESSAGE", "STRING", "FieldSpec", "MessageSpec", "root"]

INTEGER: Final = 1
FLOAT: Final = 2
BOOL: Final = 3
STRING: Final = 4
ENUM: Final = 5
MESSAGE: Final = 6

#: By `FieldDescriptor.cpp_type` (descriptor.h): the kind, and for integers the least and the greatest value.
_KINDS: Final[dict[int, tuple[int, int, int]]] = {
    1: (INTEGER, -(2**31), 2**31 - 1),
    2: (INTEGER, -(2**63), 2**63 - 1),
    3: (INTEGER, 0, 2**32 - 1),
    4: (INTEGER, 0, 2**64 - 1),
    5: (FLOAT, 0, 0),
    6: (FLOAT, 0, 0),
    7: (BOOL, 0, 0),
    8: (ENUM, 0, 0),
    9: (STRING, 0, 0),
    10: (MESSAGE, 0, 0),
}


class FieldSpec:
    """One field: its kind and bounds, whether it repeats, its oneof, its enum's values or its message."""

    __slots__ = (
        "_descriptor",
        "_message",
        "kind",
        "least",
        "most",
        "name",
        "names",
        "numbers",
        "oneof",
        "presence",
        "repeated",
    )

    def __init__(self, descriptor: Any) -> None:
        self._descriptor = descriptor
        self._message: MessageSpec | None = None
        self.name: str = descriptor.name
        self.kind, self.least, self.most = _KINDS[descriptor.cpp_type]
        self.repeated: bool = descriptor.is_repeated
        self.oneof: str = descriptor.containing_oneof.name if descriptor.containing_oneof is not None else ""
        # A map's key and value count as set also with their default value (map_entry.h).
        self.presence: bool = descriptor.has_presence or descriptor.containing_type.GetOptions().map_entry
        values = descriptor.enum_type.values if self.kind == ENUM else ()
        self.names: dict[str, int] = {value.name: value.number for value in values}
        self.numbers: dict[int, str] = {value.number: value.name for value in values}

    @property
    def message(self) -> MessageSpec:
        """The message in this field."""
        if self._message is None:
            self._message = _spec(self._descriptor.message_type)
        return self._message


class MessageSpec:
    """One message: its full name and its fields by name."""

    __slots__ = ("fields", "name")

    def __init__(self, descriptor: Any) -> None:
        self.name: str = descriptor.full_name
        self.fields: dict[str, FieldSpec] = {field.name: FieldSpec(field) for field in descriptor.fields}


_SPECS: Final[dict[str, MessageSpec]] = {}


def _spec(descriptor: Any) -> MessageSpec:
    spec = _SPECS.get(descriptor.full_name)
    if spec is None:
        spec = _SPECS[descriptor.full_name] = MessageSpec(descriptor)
    return spec


@lru_cache(maxsize=1)
def root() -> MessageSpec:
    """`ModelConfig`."""
    return _spec(load_model_config_pb2().ModelConfig.DESCRIPTOR)
