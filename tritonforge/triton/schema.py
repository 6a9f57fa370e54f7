"""Protobuf messages: Triton's own schema of config.pbtxt, and messages of other formats that are declared in code.

`ModelConfig` and its parts are the classes that tritonclient ships. tritonclient keeps ``model_config_pb2`` inside its
grpc package, whose import costs 0.4 s and needs grpc; the file alone costs 0.03 s and needs protobuf only, so it is
loaded by its path. protobuf makes one class for one message type, so the classes are tritonclient's own also where
``tritonclient.grpc`` is imported before or after.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tritonforge.errors import TritonForgeError

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["OPTIONAL", "REPEATED", "REQUIRED", "Field", "ModelConfig", "build_message_class",
           "load_model_config_pb2", "new_model_config"]  # fmt: skip

#: A `ModelConfig` message; protobuf makes its class at run time, so types know it as Message.
ModelConfig: TypeAlias = "Message"

_NAME = "tritonforge_model_config_pb2"


@lru_cache(maxsize=1)
def load_model_config_pb2() -> ModuleType:
    """Load the module of tritonclient that holds the schema, without grpc."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        raise TritonForgeError("tritonclient is not installed; run: pip install tritonforge")
    path = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location(_NAME, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise TritonForgeError(f"{path}: this tritonclient carries no schema; run: pip install -U tritonclient")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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
