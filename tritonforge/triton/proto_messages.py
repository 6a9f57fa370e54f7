"""Protobuf message classes declared in code, for formats whose own schema comes only with a large framework. No I/O.

A format declares the fields it needs as rows; fields it does not declare are carried through unchanged, as protobuf
does. Each format gets a descriptor pool of its own, so that the names never meet those of the framework's own classes
in the same process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["OPTIONAL", "REPEATED", "REQUIRED", "Field", "message_class"]

#: Source: descriptor.proto `FieldDescriptorProto.Label`.
OPTIONAL: Final = 1
REQUIRED: Final = 2
REPEATED: Final = 3

#: Source: descriptor.proto `FieldDescriptorProto.Type`.
_TYPES: Final[Mapping[str, int]] = {"float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9, "bytes": 12}
_MESSAGE: Final = 11

#: (number, label, type, name, default): the type is one of protobuf's scalars or a message of the same format.
Field: TypeAlias = "tuple[int, int, str, str, str | None]"


def message_class(package: str, messages: Mapping[str, Sequence[Field]], name: str) -> Any:
    """The class of message ``name`` in a proto2 file that declares ``messages``, each by its fields.

    A protobuf map is declared as what it is on the wire: a repeated message with the fields ``key`` and ``value``.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"tritonforge/{package}.proto", package=package, syntax="proto2")
    for message_name, fields in messages.items():
        message = file.message_type.add(name=message_name)
        for number, label, kind, field_name, default in fields:
            field: Any = message.field.add(name=field_name, number=number)  # its enums are plain ints here
            field.label = label
            if kind in _TYPES:
                field.type = _TYPES[kind]
            else:
                field.type, field.type_name = _MESSAGE, f".{package}.{kind}"
            if default is not None:
                field.default_value = default
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
