"""The entry of a model repository: the model that SageMaker's ``/invocations`` asks. This module does no I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tritonforge.errors import LaunchError
from tritonforge.schema import ModelConfig

__all__ = ["choose", "with_steps"]


def choose(configs: Mapping[str, ModelConfig], default_model: str | None) -> str:
    """The given model, else the only model, else the only ensemble that is no other ensemble's step.

    Raises:
        LaunchError: there is no such model, or more than one could be meant.
    """
    if default_model is not None:
        _check_known(configs, default_model)
        return default_model
    if len(configs) == 1:
        return next(iter(configs))
    steps = {step for config in configs.values() for step in _steps(config)}
    ensembles = [name for name, config in configs.items() if _is_ensemble(config)]
    outermost = [name for name in ensembles if name not in steps]
    if len(outermost) == 1:
        return outermost[0]
    if not configs:
        raise LaunchError("there is no model in the repository")
    raise LaunchError(
        "which model is /invocations to ask? Name one as the default model (tritonforge serve --model): "
        + _names(outermost or configs)
    )


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
