"""What the predictor is to serve: read from the two files that tensorflow_model_server is given. No I/O here.

Fields: tensorflow_serving/config/model_server_config.proto, tensorflow_serving/servables/tensorflow/
session_bundle_config.proto (`BatchingParameters`), tensorflow_serving/sources/storage_path/
file_system_storage_path_source.proto (`ServableVersionPolicy`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from google.protobuf import text_format

from tritonforge.errors import LaunchError
from tritonforge.triton.schema import OPTIONAL, REPEATED, Field, build_message_class

__all__ = ["Batching", "ServableConfig", "batching", "models"]

_MODELS: Final[Mapping[str, tuple[Field, ...]]] = MappingProxyType(
    {
        "Specific": ((1, REPEATED, "int64", "versions", None),),
        "Policy": ((102, OPTIONAL, "Specific", "specific", None),),
        "Model": (
            (1, OPTIONAL, "string", "name", None),
            (2, OPTIONAL, "string", "base_path", None),
            (4, OPTIONAL, "string", "model_platform", None),
            (7, OPTIONAL, "Policy", "model_version_policy", None),
        ),
        "Models": ((1, REPEATED, "Model", "config", None),),
        "Config": ((1, OPTIONAL, "Models", "model_config_list", None),),
    }
)
_BATCHING: Final[Mapping[str, tuple[Field, ...]]] = MappingProxyType(
    {
        "Number": ((1, OPTIONAL, "int64", "value", None),),
        "Parameters": (
            (1, OPTIONAL, "Number", "max_batch_size", None),
            (2, OPTIONAL, "Number", "batch_timeout_micros", None),
            (3, OPTIONAL, "Number", "max_enqueued_batches", None),
            (4, OPTIONAL, "Number", "num_batch_threads", None),
        ),
    }
)


@dataclass(frozen=True, slots=True)
class ServableConfig:
    """One model: its name, its folder, and the versions of it that are served."""

    name: str
    base_path: str
    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batching:
    """The batching of requests: sizes in instances, the timeout in microseconds, the length of the queue in batches."""

    max_batch_size: int
    batch_timeout_micros: int
    num_batch_threads: int
    max_enqueued_batches: int


def models(text: str) -> tuple[ServableConfig, ...]:
    """The models of a ModelServerConfig in text format; raises LaunchError when it is none."""
    config = _parsed(text, build_message_class("tensorflow_serving_models", _MODELS, "Config"), "model_config_file")
    found = []
    for each in config.model_config_list.config:
        found.append(ServableConfig(each.name, each.base_path, tuple(each.model_version_policy.specific.versions)))
        names = [model.name for model in found]
        if names.count(each.name) > 1:
            raise LaunchError(f"Illegal to list model {each.name} multiple times in config list")
    return tuple(found)


def batching(text: str) -> Batching:
    """The BatchingParameters of a text; raises LaunchError when it is none."""
    kind = build_message_class("tensorflow_serving_batching", _BATCHING, "Parameters")
    found = _parsed(text, kind, "batching_parameters_file")
    return Batching(
        max_batch_size=found.max_batch_size.value,
        batch_timeout_micros=found.batch_timeout_micros.value,
        num_batch_threads=found.num_batch_threads.value,
        max_enqueued_batches=found.max_enqueued_batches.value,
    )


def _parsed(text: str, kind: Any, flag: str) -> Any:
    try:
        return text_format.Parse(text, kind())
    except text_format.ParseError as error:
        raise LaunchError(f"--{flag}: {error}") from error
