"""Triton's own schema of config.pbtxt: `ModelConfig` and its parts, as tritonclient ships them.

tritonclient keeps ``model_config_pb2`` inside its grpc package, whose import costs 0.4 s and needs grpc; the file alone
costs 0.03 s and needs protobuf only, so it is loaded by its path. protobuf makes one class for one message type, so the
classes are tritonclient's own also where ``tritonclient.grpc`` is imported before or after.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

from tritonforge.errors import TritonForgeError

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["ModelConfig", "model_config_pb2", "new_model_config"]

#: A `ModelConfig` message; protobuf makes its class at run time, so types know it as Message.
ModelConfig: TypeAlias = "Message"

_NAME = "tritonforge_model_config_pb2"


@lru_cache(maxsize=1)
def model_config_pb2() -> ModuleType:
    """The module of tritonclient that holds the schema, loaded without grpc."""
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
    """An empty `ModelConfig`."""
    message: ModelConfig = model_config_pb2().ModelConfig()
    return message
