"""The model repository as a local tritonserver reads it: its models, the default one, and an overlay without GPUs.

A repository for a GPU has instance groups of KIND_GPU, which Triton refuses on a machine without one ("has kind
KIND_GPU but no GPUs are available"). The repository itself is never changed: the overlay is a folder of links to it,
in which only the config.pbtxt files that need it are rewritten.

What is checked here must be what tritonserver reads. Its own parser (C++) and protobuf's Python parser may differ where
a text has escapes, or is refused by one of them, so such a text is rewritten as well.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from google.protobuf import text_format

from tritonforge.errors import LaunchError, ModelChoiceError
from tritonforge.serving.execution_environments import STUB
from tritonforge.triton.backends import is_word
from tritonforge.triton.schema import ModelConfig, load_model_config_pb2, new_model_config
from tritonforge.validation.loaded_config import move_instances_to_cpu

__all__ = ["choose_default_model", "explain_missing_default", "has_gpu", "has_gpu_instances", "has_response_cache",
           "link_plain_path", "list_default_candidates", "list_rewritten_configs", "move_to_cpu", "parse_config",
           "read_configs", "rewrite_configs", "select_models", "write_overlay"]  # fmt: skip


_CONFIG: Final = "config.pbtxt"
_NONE: Final[Mapping[str, Path]] = {}
_NO_CONFIGS: Final[Mapping[str, ModelConfig]] = {}

#: A text that no parser takes, for one that only Python's refuses.
_INVALID_CONFIG: Final = "{"


def read_configs(repository: Path) -> dict[str, ModelConfig]:
    """Return the configuration of every model directory, sorted by name; an empty one where it cannot be read.

    Triton itself decides whether a configuration is valid.

    Raises:
        LaunchError: the path is not a directory.
    """
    if not repository.is_dir():
        raise LaunchError(f"{repository} is not a directory; give the folder that holds the models' folders")
    configs: dict[str, ModelConfig] = {}
    for folder in sorted(repository.iterdir()):
        if folder.is_dir():
            content = _read_config(repository, folder.name)
            message = None if content is None else parse_config(content)
            configs[folder.name] = new_model_config() if message is None else message
    return configs


def parse_config(content: bytes) -> ModelConfig | None:
    """Return a config.pbtxt as a message; None where Python's protobuf refuses it."""
    message = new_model_config()
    try:
        text_format.Parse(content, message)
    except (text_format.ParseError, UnicodeDecodeError):
        return None
    return message


def has_gpu(environment: Mapping[str, str] = os.environ) -> bool:
    """Return True if the driver has an NVIDIA GPU, and CUDA_VISIBLE_DEVICES does not hide all of them."""
    if environment.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1", "NoDevFiles"):
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or any(Path("/proc/driver/nvidia/gpus").glob("*"))


def has_gpu_instances(config: ModelConfig) -> bool:
    """Return True if a model has an instance group of KIND_GPU, or one that lists GPUs."""
    kind_gpu = load_model_config_pb2().ModelInstanceGroup.KIND_GPU
    groups = config.instance_group  # type: ignore[attr-defined]  # a field of the message class made at run time
    return any(group.kind == kind_gpu or group.gpus for group in groups)


def has_response_cache(config: ModelConfig) -> bool:
    """Return True if a model's responses are cached."""
    return bool(config.response_cache.enable)  # type: ignore[attr-defined]  # a field of a class made at run time


def list_rewritten_configs(
    repository: Path,
    models: Mapping[str, ModelConfig],
    *,
    to_cpu: bool,
    completed: Mapping[str, ModelConfig] = _NO_CONFIGS,
) -> dict[str, str]:
    """Return the new texts of the config.pbtxt files that must be rewritten, by model.

    With ``to_cpu`` instances of a GPU become those of the CPU (`move_instances_to_cpu`). The configurations in
    ``completed`` replace those of ``models``.
    """
    texts: dict[str, str] = {}
    for name, stated in models.items():
        content, config = _read_config(repository, name), completed.get(name, stated)
        if content is None:
            continue
        if parse_config(content) is None:
            texts[name] = _INVALID_CONFIG
        elif to_cpu and has_gpu_instances(config):
            texts[name] = text_format.MessageToString(_move_instances(config))
        elif name in completed or b"\\" in content:
            texts[name] = text_format.MessageToString(config)
    return texts


def write_overlay(
    repository: Path,
    folder: Path,
    texts: Mapping[str, str],
    *,
    stubs: Mapping[str, Path] = _NONE,
    only: Collection[str] | None = None,
) -> Path:
    """Write an overlay of ``repository`` into ``folder``: links, and the given texts as the models' config.pbtxt.

    ``stubs`` are Python stubs to copy into directories of models; ``only`` names the models that it has; None: all.
    """
    folder.mkdir()
    for entry in repository.iterdir():
        if only is not None and entry.is_dir() and entry.name not in only:
            continue
        if entry.name not in texts and entry.name not in stubs:
            (folder / entry.name).symlink_to(entry.resolve())
            continue
        model = folder / entry.name
        model.mkdir()
        for part in entry.iterdir():
            if part.name != _CONFIG or entry.name not in texts:
                (model / part.name).symlink_to(part.resolve())
        if entry.name in texts:
            (model / _CONFIG).write_text(texts[entry.name], encoding="utf-8")
        if entry.name in stubs:
            stub = model / STUB
            shutil.copyfile(stubs[entry.name], stub)
            stub.chmod(0o700)
    return folder


def rewrite_configs(repository: Path, *, to_cpu: bool) -> None:
    """Rewrite the configurations that must be; for copies of a repository only."""
    for name, text in list_rewritten_configs(repository, read_configs(repository), to_cpu=to_cpu).items():
        (repository / name / _CONFIG).write_text(text, encoding="utf-8")


def move_to_cpu(repository: Path) -> None:
    """Rewrite the configurations of a repository that have instances of a GPU; for copies only."""
    for name, config in read_configs(repository).items():
        if has_gpu_instances(config):
            (repository / name / _CONFIG).write_text(
                text_format.MessageToString(_move_instances(config)), encoding="utf-8"
            )


def link_plain_path(repository: Path, link: Path) -> Path:
    """Return a path to the repository that a shell takes unchanged: its own, or a new ``link``."""
    if is_word(str(repository)):
        return repository
    link.symlink_to(repository)
    return link


def _read_config(repository: Path, name: str) -> bytes | None:
    """Return the text of a model's config.pbtxt; None where it cannot be read."""
    file = repository / name / _CONFIG
    try:
        return file.read_bytes() if file.is_file() else None
    except OSError:
        return None


def _move_instances(config: ModelConfig) -> ModelConfig:
    moved = new_model_config()
    moved.CopyFrom(config)
    move_instances_to_cpu(moved)
    return moved


def list_default_candidates(configs: Mapping[str, ModelConfig]) -> tuple[str, ...]:
    """Return the possible default models: the ensembles that are not steps of others, else all models.

    Raises:
        ModelChoiceError: there is no model.
    """
    if not configs:
        raise ModelChoiceError("no models found in the repository (expected a directory for each model)")
    if len(configs) == 1:
        return tuple(configs)
    steps = {step for config in configs.values() for step in _list_steps(config)}
    ensembles = [name for name, config in configs.items() if _is_ensemble(config)]
    outermost = [name for name in ensembles if name not in steps]
    return tuple(sorted(outermost or configs))


def choose_default_model(configs: Mapping[str, ModelConfig], default_model: str | None) -> str | None:
    """Return the given model, else the only one of `list_default_candidates`; None where there are several.

    Raises:
        ModelChoiceError: the model does not exist, or the repository has no models.
    """
    if default_model is not None:
        _check_known(configs, default_model)
        return default_model
    candidates = list_default_candidates(configs)
    return candidates[0] if len(candidates) == 1 else None


def explain_missing_default(names: Collection[str]) -> str:
    """Return advice as the name of a missing default model: Triton's answer to ``/invocations`` quotes it.

    tritonserver accepts any text as the name of the default model, and looks the model up with each request: "Request
    for unknown model: '...' is not found", status 404 (2.51).
    """
    return f"there is no default model; choose one with serve --model: {_join_names(names)}"


def select_models(configs: Mapping[str, ModelConfig], names: Collection[str]) -> dict[str, ModelConfig]:
    """Return the models of these names and the steps of ensembles among them.

    Raises:
        ModelChoiceError: a model is missing; Triton itself reports a missing step.
    """
    for name in names:
        _check_known(configs, name)
    selected: dict[str, ModelConfig] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in configs and name not in selected:
            selected[name] = configs[name]
            waiting += _list_steps(configs[name])
    return selected


def _check_known(configs: Mapping[str, ModelConfig], name: str) -> None:
    if name not in configs:
        raise ModelChoiceError(f"model '{name}' not found in the repository; it has {_join_names(configs)}")


def _is_ensemble(config: ModelConfig) -> bool:
    return bool(config.platform == "ensemble")  # type: ignore[attr-defined]  # a field of a class made at run time


def _list_steps(config: ModelConfig) -> list[str]:
    scheduling = config.ensemble_scheduling  # type: ignore[attr-defined]  # a field of a class made at run time
    return [step.model_name for step in scheduling.step]


def _join_names(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
