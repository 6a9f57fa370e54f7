"""The steps of an ensemble in the order of its data flow. This module does no I/O.

Steps of nested ensembles are steps too. What a Python model requests itself (BLS) is part of its step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tritonforge.errors import CaseError

__all__ = ["DataFlow", "Step", "find_outermost", "list_steps", "plan_data_flow"]

#: The most steps of a data flow: ensembles that contain ensembles twice grow without a bound.
_MOST_STEPS: Final = 1000


@dataclass(frozen=True, slots=True)
class Step:
    """A request of the data flow to one model.

    Attributes:
        name: the model's name, with ``#2`` for its second step and the names of nested ensembles before it.
        model: the model that is asked; ``version`` is "" for the one that its policy chooses.
        inputs: the tensor of the data flow that each input takes.
        outputs: the tensor of the data flow that each output becomes.
        sources: where each input comes from: an input of the ensemble, or ``step.output``.
    """

    name: str
    model: str
    version: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataFlow:
    """The steps of a model, in an order in which the inputs of each one are there; none if it is not an ensemble.

    ``sources`` is the ``step.output`` that each output of the model is. ``reason`` states why an ensemble is not
    split into steps, "" if it is.
    """

    model: str
    steps: tuple[Step, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    is_decoupled: bool = False
    is_sequence: bool = False
    reason: str = ""


def find_outermost(configs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the models that are not a step of an ensemble; of several, those that are ensembles if there are any."""
    steps = {step.model_name for config in configs.values() for step in config.ensemble_scheduling.step}
    outermost = [name for name in configs if name not in steps]
    return tuple([name for name in outermost if configs[name].ensemble_scheduling.step] or outermost)


def plan_data_flow(configs: Mapping[str, Any], model: str) -> DataFlow:
    """Return the data flow of a model; ``configs`` are the ModelConfig messages by model.

    Raises:
        CaseError: an ensemble has a step that is not in the repository, or that contains itself.
    """
    leaves = _list_models(configs, model)
    is_decoupled = any(configs[name].model_transaction_policy.decoupled for name in leaves)
    is_sequence = any(configs[name].HasField("sequence_batching") for name in leaves)
    if not configs[model].ensemble_scheduling.step:
        return DataFlow(model, is_decoupled=is_decoupled, is_sequence=is_sequence)
    if is_decoupled:
        names = ", ".join(name for name in leaves if configs[name].model_transaction_policy.decoupled)
        reason = f"{model} is not split into steps: {names} is decoupled and has any number of responses"
        return DataFlow(model, is_decoupled=True, is_sequence=is_sequence, reason=reason)
    steps = _locate_steps(configs, model)
    producers = _name_producers(steps)
    sources = {output.name: producers.get(output.name, output.name) for output in configs[model].output}
    return DataFlow(model, steps, sources, is_sequence=is_sequence)


def list_steps(configs: Mapping[str, Any], model: str) -> tuple[Step, ...]:
    """Return the steps of a model in the order of its data flow, also of one with decoupled steps.

    The only step of a model that is not an ensemble is the model itself, without tensors.

    Raises:
        CaseError: an ensemble has a step that is not in the repository, or that contains itself.
    """
    _list_models(configs, model)
    if not configs[model].ensemble_scheduling.step:
        return (Step(model, model, "", {}, {}),)
    return _locate_steps(configs, model)


def _locate_steps(configs: Mapping[str, Any], model: str) -> tuple[Step, ...]:
    """Return the steps of an ensemble with the sources of their inputs."""
    counts: dict[str, int] = {}
    steps = _sort_steps(_list_steps(configs, model, prefix="", tensors={}, counts=counts))
    producers = _name_producers(steps)
    return tuple(
        replace(step, sources={name: producers.get(tensor, tensor) for name, tensor in step.inputs.items()})
        for step in steps
    )


def _name_producers(steps: Sequence[Step]) -> dict[str, str]:
    """Return the ``step.output`` that makes each tensor of the data flow."""
    return {tensor: f"{step.name}.{output}" for step in steps for output, tensor in step.outputs.items()}


def _list_models(configs: Mapping[str, Any], model: str) -> list[str]:
    """Return the models that answer a request to a model: itself, or the steps of an ensemble; each one once."""
    leaves: list[str] = []
    finished: set[str] = set()

    def visit(name: str, outer: tuple[str, ...]) -> None:
        if name in outer:
            raise CaseError(f"{model}: the ensemble contains itself ({' -> '.join((*outer, name))})")
        if name not in configs:
            raise CaseError(f"{name}: the repository has no such model (expected {', '.join(configs) or 'none'})")
        if name in finished:
            return
        steps = [step.model_name for step in configs[name].ensemble_scheduling.step]
        for step in steps:
            visit(step, (*outer, name))
        finished.add(name)
        leaves.extend([] if steps else [name])

    visit(model, ())
    return leaves


def _list_steps(
    configs: Mapping[str, Any], model: str, *, prefix: str, tensors: Mapping[str, str], counts: dict[str, int]
) -> list[Step]:
    """Return the steps of an ensemble; ``tensors`` names its inputs and outputs in the data flow outside of it."""
    steps: list[Step] = []
    for step in configs[model].ensemble_scheduling.step:
        inputs, outputs = (
            {name: tensors.get(tensor, f"{prefix}{tensor}") for name, tensor in mapping.items()}
            for mapping in (dict(step.input_map), dict(step.output_map))
        )
        if sum(counts.values()) >= _MOST_STEPS:
            raise CaseError(f"{model}: its data flow has more than {_MOST_STEPS} steps")
        plain = f"{prefix}{step.model_name}"
        counts[plain] = counts.get(plain, 0) + 1
        name = plain if counts[plain] == 1 else f"{plain}#{counts[plain]}"
        if configs[step.model_name].ensemble_scheduling.step:
            inner = {**inputs, **outputs}
            steps += _list_steps(configs, step.model_name, prefix=f"{name}/", tensors=inner, counts=counts)
        else:
            version = "" if step.model_version < 0 else str(step.model_version)
            steps.append(Step(name, step.model_name, version, inputs, outputs))
    return steps


def _sort_steps(steps: list[Step]) -> tuple[Step, ...]:
    """Return the steps in the order of the data flow; among those that can run, in the order of the configuration."""
    made = {tensor for step in steps for tensor in step.outputs.values()}
    ordered: list[Step] = []
    waiting = list(steps)
    while waiting:
        ready = next((step for step in waiting if not set(step.inputs.values()) & made), waiting[0])
        waiting.remove(ready)
        ordered.append(ready)
        made -= set(ready.outputs.values())
    return tuple(ordered)
