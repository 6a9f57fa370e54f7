"""The view of a model repository that this machine can serve: the same models, with GPU instances moved to the CPU.

A repository that is meant for a GPU says so in ``instance_group``, and Triton refuses it where there is none ("has kind
KIND_GPU but no GPUs are available"). The repository itself is never touched: the view is a folder of links to it, in
which only the config.pbtxt files that need it are written anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from google.protobuf import text_format

from tritonforge.schema import ModelConfig, model_config_pb2, new_model_config

__all__ = ["configs", "has_gpu", "is_plain", "move_to_cpu", "on_cpu", "plain", "uses_cache", "uses_gpu"]

_CONFIG = "config.pbtxt"


def configs(repository: Path) -> dict[str, ModelConfig]:
    """The configuration of every model directory, sorted by name; empty where there is none that can be read.

    Whether a configuration is right is for Triton to say.
    """
    found: dict[str, ModelConfig] = {}
    for folder in sorted(repository.iterdir()):
        if not folder.is_dir():
            continue
        message = new_model_config()
        file = folder / _CONFIG
        if file.is_file():
            try:
                text_format.Parse(file.read_bytes(), message)
            except (text_format.ParseError, UnicodeDecodeError):
                message = new_model_config()
        found[folder.name] = message
    return found


def has_gpu(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process may use an NVIDIA GPU: the driver shows one, and CUDA_VISIBLE_DEVICES does not hide all."""
    if environment.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1", "NoDevFiles"):
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or any(Path("/proc/driver/nvidia/gpus").glob("*"))


def uses_gpu(config: ModelConfig) -> bool:
    """Whether a model asks for a GPU: an instance group of KIND_GPU, or one that lists GPUs."""
    kind_gpu = model_config_pb2().ModelInstanceGroup.KIND_GPU
    groups = config.instance_group  # type: ignore[attr-defined]  # a field of the message class made at run time
    return any(group.kind == kind_gpu or group.gpus for group in groups)


def uses_cache(config: ModelConfig) -> bool:
    """Whether a model's responses are to be cached."""
    return bool(config.response_cache.enable)  # type: ignore[attr-defined]  # a field of a class made at run time


def on_cpu(
    repository: Path, folder: Path, models: Mapping[str, ModelConfig], *, only: Collection[str] | None = None
) -> Path:
    """Make the view of ``repository`` in ``folder`` with the given models' instances on the CPU.

    Of folders it has those named in ``only``; None: all.
    Each group keeps its count; where it gives none it has one instance a GPU, so one here.
    """
    folder.mkdir()
    for entry in repository.iterdir():
        if only is not None and entry.is_dir() and entry.name not in only:
            continue
        if entry.name not in models:
            (folder / entry.name).symlink_to(entry.resolve())
            continue
        model = folder / entry.name
        model.mkdir()
        for part in entry.iterdir():
            if part.name != _CONFIG:
                (model / part.name).symlink_to(part.resolve())
        (model / _CONFIG).write_text(text_format.MessageToString(_moved(models[entry.name])), encoding="utf-8")
    return folder


def move_to_cpu(repository: Path) -> None:
    """Write the configurations of a repository anew whose instances ask for a GPU; for copies only."""
    for name, config in configs(repository).items():
        if uses_gpu(config):
            (repository / name / _CONFIG).write_text(text_format.MessageToString(_moved(config)), encoding="utf-8")


def is_plain(path: str) -> bool:
    """Whether a path reaches the stubs whole: they are started through a shell, which splits and expands it.

    Source: python_backend src/stub_launcher.cc `StubLauncher::Launch`, which runs ``bash -c "exec <stub> <path> ..."``.
    """
    return re.fullmatch(r"[\w./+@%:,=-]+", path) is not None


def plain(repository: Path, link: Path) -> Path:
    """A path to the repository that reaches the stubs whole: its own, or ``link``, made for it."""
    if is_plain(str(repository)):
        return repository
    link.symlink_to(repository)
    return link


def _moved(config: ModelConfig) -> ModelConfig:
    kinds = model_config_pb2().ModelInstanceGroup
    moved = new_model_config()
    moved.CopyFrom(config)
    for group in moved.instance_group:  # type: ignore[attr-defined]  # a field of the message class made at run time
        if group.kind == kinds.KIND_GPU or group.gpus:
            group.kind = kinds.KIND_CPU
            group.count = max(group.count, 1)
            for field in ("gpus", "secondary_devices", "profile"):
                group.ClearField(field)
    return moved
