"""The entry of a model repository: the model that SageMaker's ``/invocations`` asks. This module does no I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tritonforge.errors import LaunchError
from tritonforge.triton.schema import ModelConfig

__all__ = ["candidates", "choose", "no_default_model", "with_steps"]


def candidates(configs: Mapping[str, ModelConfig]) -> tuple[str, ...]:
    """The models that ``/invocations`` may be meant for: the ensembles that are not steps of others, else all models.

    Raises:
        LaunchError: there is no model.
    """
    if not configs:
        raise LaunchError("there is no model in the repository")
    if len(configs) == 1:
        return tuple(configs)
    steps = {step for config in configs.values() for step in _steps(config)}
    ensembles = [name for name, config in configs.items() if _is_ensemble(config)]
    outermost = [name for name in ensembles if name not in steps]
    return tuple(sorted(outermost or configs))


def choose(configs: Mapping[str, ModelConfig], default_model: str | None) -> str | None:
    """The given model, else the only one of the `candidates`; None where there are several.

    Raises:
        LaunchError: there is no such model, or none at all.
    """
    if default_model is not None:
        _check_known(configs, default_model)
        return default_model
    found = candidates(configs)
    return found[0] if len(found) == 1 else None


def no_default_model(names: Collection[str]) -> str:
    """What stands for the default model where there is none; Triton's answer to ``/invocations`` quotes it.

    tritonserver takes any text for the name of the default model, and looks the model up with each request: "Request
    for unknown model: '...' is not found", status 404 (2.51). A single request so tells what to do.
    """
    return f"there is no default model; choose one with serve --model: {_names(names)}"


def with_steps(configs: Mapping[str, ModelConfig], names: Collection[str]) -> dict[str, ModelConfig]:
    """Models of these names and, through their steps, all that ensembles among them need.

    Raises:
        LaunchError: there is no model of one of the names; a step without its model is for Triton to judge.
    """
    for name in names:
        _check_known(configs, name)
    found: dict[str, ModelConfig] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in configs and name not in found:
            found[name] = configs[name]
            waiting += _steps(configs[name])
    return found


def _check_known(configs: Mapping[str, ModelConfig], name: str) -> None:
    if name not in configs:
        raise LaunchError(f"there is no model '{name}' in the repository; it has {_names(configs)}")


def _is_ensemble(config: ModelConfig) -> bool:
    return bool(config.platform == "ensemble")  # type: ignore[attr-defined]  # a field of a class made at run time


def _steps(config: ModelConfig) -> list[str]:
    scheduling = config.ensemble_scheduling  # type: ignore[attr-defined]  # a field of a class made at run time
    return [step.model_name for step in scheduling.step]


def _names(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
