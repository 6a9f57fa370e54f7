"""The view of a model repository that this machine can serve: the same models, with GPU instances moved to the CPU.

A repository that is meant for a GPU says so in ``instance_group``, and Triton refuses it where there is none ("has kind
KIND_GPU but no GPUs are available"). The repository itself is never touched: the view is a folder of links to it, in
which only the config.pbtxt files that need it are written anew.

What is checked here must be what tritonserver reads: its own parser (C++) and protobuf's Python parser may differ where
a text has escapes, or is refused by one of them. So such a text is written anew as well.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from google.protobuf import text_format

from tritonforge.triton.backends import is_word
from tritonforge.triton.schema import ModelConfig, load_model_config_pb2, new_model_config

__all__ = [
    "configs",
    "has_gpu",
    "move_to_cpu",
    "overlay",
    "parse",
    "plain",
    "rewrite",
    "rewritten",
    "uses_cache",
    "uses_gpu",
]

_CONFIG: Final = "config.pbtxt"

#: A text that no parser takes, for one that only Python's refuses.
_REFUSED: Final = "{"


def configs(repository: Path) -> dict[str, ModelConfig]:
    """The configuration of every model directory, sorted by name; empty where there is none that can be read.

    Whether a configuration is right is for Triton to say.
    """
    found: dict[str, ModelConfig] = {}
    for folder in sorted(repository.iterdir()):
        if folder.is_dir():
            content = _content(repository, folder.name)
            message = None if content is None else parse(content)
            found[folder.name] = new_model_config() if message is None else message
    return found


def parse(content: bytes) -> ModelConfig | None:
    """A config.pbtxt as a message; None where Python's protobuf refuses it."""
    message = new_model_config()
    try:
        text_format.Parse(content, message)
    except (text_format.ParseError, UnicodeDecodeError):
        return None
    return message


def has_gpu(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process may use an NVIDIA GPU: the driver shows one, and CUDA_VISIBLE_DEVICES does not hide all."""
    if environment.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1", "NoDevFiles"):
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or any(Path("/proc/driver/nvidia/gpus").glob("*"))


def uses_gpu(config: ModelConfig) -> bool:
    """Whether a model asks for a GPU: an instance group of KIND_GPU, or one that lists GPUs."""
    kind_gpu = load_model_config_pb2().ModelInstanceGroup.KIND_GPU
    groups = config.instance_group  # type: ignore[attr-defined]  # a field of the message class made at run time
    return any(group.kind == kind_gpu or group.gpus for group in groups)


def uses_cache(config: ModelConfig) -> bool:
    """Whether a model's responses are to be cached."""
    return bool(config.response_cache.enable)  # type: ignore[attr-defined]  # a field of a class made at run time


def rewritten(repository: Path, models: Mapping[str, ModelConfig], *, to_cpu: bool) -> dict[str, str]:
    """The texts of the config.pbtxt files that are not to be read as they are, by model.

    With ``to_cpu`` instances of a GPU become those of the CPU: each group keeps its count; where it gives none it has
    one instance a GPU, so one here.
    """
    texts: dict[str, str] = {}
    for name, config in models.items():
        content = _content(repository, name)
        if content is None:
            continue
        if parse(content) is None:
            texts[name] = _REFUSED
        elif to_cpu and uses_gpu(config):
            texts[name] = text_format.MessageToString(_moved(config))
        elif b"\\" in content:
            texts[name] = text_format.MessageToString(config)
    return texts


def overlay(repository: Path, folder: Path, texts: Mapping[str, str], *, only: Collection[str] | None = None) -> Path:
    """Make a view of ``repository`` in ``folder``: links, and the given texts as the config.pbtxt of their models.

    Of the folders it has those named in ``only``; None: all.
    """
    folder.mkdir()
    for entry in repository.iterdir():
        if only is not None and entry.is_dir() and entry.name not in only:
            continue
        if entry.name not in texts:
            (folder / entry.name).symlink_to(entry.resolve())
            continue
        model = folder / entry.name
        model.mkdir()
        for part in entry.iterdir():
            if part.name != _CONFIG:
                (model / part.name).symlink_to(part.resolve())
        (model / _CONFIG).write_text(texts[entry.name], encoding="utf-8")
    return folder


def rewrite(repository: Path, *, to_cpu: bool) -> None:
    """Write the configurations anew that are not to be read as they are; for copies of a repository only."""
    for name, text in rewritten(repository, configs(repository), to_cpu=to_cpu).items():
        (repository / name / _CONFIG).write_text(text, encoding="utf-8")


def move_to_cpu(repository: Path) -> None:
    """Write the configurations of a repository anew whose instances ask for a GPU; for copies only."""
    for name, config in configs(repository).items():
        if uses_gpu(config):
            (repository / name / _CONFIG).write_text(text_format.MessageToString(_moved(config)), encoding="utf-8")


def plain(repository: Path, link: Path) -> Path:
    """A path to the repository that reaches the stubs whole: its own, or ``link``, made for it."""
    if is_word(str(repository)):
        return repository
    link.symlink_to(repository)
    return link


def _content(repository: Path, name: str) -> bytes | None:
    """The text of a model's config.pbtxt; None where there is none that can be read."""
    file = repository / name / _CONFIG
    try:
        return file.read_bytes() if file.is_file() else None
    except OSError:
        return None


def _moved(config: ModelConfig) -> ModelConfig:
    kinds = load_model_config_pb2().ModelInstanceGroup
    moved = new_model_config()
    moved.CopyFrom(config)
    for group in moved.instance_group:  # type: ignore[attr-defined]  # a field of the message class made at run time
        if group.kind == kinds.KIND_GPU or group.gpus:
            group.kind = kinds.KIND_CPU
            group.count = max(group.count, 1)
            for field in ("gpus", "secondary_devices", "profile"):
                group.ClearField(field)
    return moved
