"""Protobuf messages: Triton's own schema of config.pbtxt, and messages of other formats that are declared in code.

`ModelConfig` and its parts are made from ``model_config.binpb`` in this package: the file descriptor of Triton's
model_config.proto, taken from the newest tritonclient by ``tests/fixtures/make_schema.py``. A test holds it against the
installed tritonclient. tritonclient itself would bring numpy, and its grpc package, which has the schema, costs 0.4 s.
The messages have a descriptor pool of their own, so that any version of ``tritonclient.grpc`` can be imported as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["OPTIONAL", "REPEATED", "REQUIRED", "SCHEMA", "Field", "ModelConfig", "build_message_class",
           "load_model_config_pb2", "new_model_config"]  # fmt: skip

#: A `ModelConfig` message; protobuf makes its class at run time, so types know it as Message.
ModelConfig: TypeAlias = "Message"

#: The name of the file beside this module: a serialized `FileDescriptorProto` (descriptor.proto).
SCHEMA: Final = "model_config.binpb"

_NAME = "tritonforge_model_config_pb2"


@lru_cache(maxsize=1)
def load_model_config_pb2() -> ModuleType:
    """Return a module with the schema's messages and enums, as protoc would generate it from model_config.proto."""
    from google.protobuf import descriptor_pool
    from google.protobuf.internal import builder  # what each generated module calls

    content = Path(__file__).with_name(SCHEMA).read_bytes()
    module = ModuleType(_NAME)
    names = vars(module)
    names["DESCRIPTOR"] = descriptor_pool.DescriptorPool().AddSerializedFile(content)
    builder.BuildMessageAndEnumDescriptors(names["DESCRIPTOR"], names)
    builder.BuildTopDescriptorsAndMessages(names["DESCRIPTOR"], _NAME, names)
    return module


def new_model_config() -> ModelConfig:
    """Return an empty `ModelConfig`."""
    message: ModelConfig = load_model_config_pb2().ModelConfig()
    return message


#: Source: descriptor.proto `FieldDescriptorProto.Label`.
OPTIONAL: Final = 1
REQUIRED: Final = 2
REPEATED: Final = 3

#: Source: descriptor.proto `FieldDescriptorProto.Type`.
_TYPES: Final[Mapping[str, int]] = {"float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9, "bytes": 12}
_MESSAGE: Final = 11

#: (number, label, type, name, default): the type is one of protobuf's scalars or a message of the same format.
Field: TypeAlias = "tuple[int, int, str, str, str | None]"


def build_message_class(package: str, messages: Mapping[str, Sequence[Field]], name: str) -> Any:
    """Return the class of message ``name`` in a proto2 file that declares ``messages``, each by its fields.

    This is for formats whose own schema comes only with a large framework. Fields that are not declared are carried
    through unchanged, as protobuf does. Each format has a descriptor pool of its own, so that its names never collide
    with those of the framework's own classes in the same process.

    A protobuf map is declared as it is on the wire: a repeated message with the fields ``key`` and ``value``.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

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
