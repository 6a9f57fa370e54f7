"""The ensemble of a definition from a `ModelConfig` and the models of its steps. This module does no I/O.

The steps become calls of models on tensors. The ensemble is built back and compared with the configuration: what the
calls do not give (an order, dims, a batch size) is stated, and an ensemble that still differs has no such form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Final, TypeAlias

from tritonforge.errors import DefinitionError
from tritonforge.repository.definition.ensemble import Ensemble
from tritonforge.repository.definition.models import Model
from tritonforge.repository.definition.tensors import Input, Output, Tensor, Tensors, wire_model
from tritonforge.repository.model_config import build_config
from tritonforge.repository.model_reader import (
    MAXIMAL_ELEMENTS,
    FileAt,
    ModelFiles,
    format_override,
    read_fields,
    split_config,
)
from tritonforge.triton.schema import ModelConfig, new_model_config

__all__ = ["UnwiredEnsemble", "read_ensemble"]

Servable: TypeAlias = Model | Ensemble

#: What the calls of the steps give, and what is compared for itself.
_DERIVED: Final = frozenset({"name", "platform", "max_batch_size", "ensemble_scheduling"})


@dataclass(frozen=True, slots=True)
class UnwiredEnsemble:
    """An ensemble that calls of models cannot express, and the reason in one sentence."""

    reason: str


def read_ensemble(
    config: ModelConfig, *, name: str, models: Mapping[str, Servable], files: ModelFiles, file_at: FileAt
) -> Ensemble | UnwiredEnsemble:
    """Return the ensemble of a configuration over ``models``, which are those of its steps by name."""
    message: Any = config
    steps = list(message.ensemble_scheduling.step)
    if max(len(steps), len(message.input), len(message.output)) > MAXIMAL_ELEMENTS:
        return UnwiredEnsemble(f"it has more than {MAXIMAL_ELEMENTS} steps or tensors")
    missing = [step.model_name for step in steps if step.model_name not in models]
    if missing:
        return UnwiredEnsemble(f'its model "{missing[0]}" is not in the repository, or has no definition')
    if any("model_namespace" in {field.name for field, _ in step.ListFields()} for step in steps):
        return UnwiredEnsemble("a step names a model_namespace")
    order = _order_steps(steps)
    if order is None:
        return UnwiredEnsemble("its steps are a circle, or two of them write one tensor")
    reason = "the server reads it in another way than a definition can state"
    stated = read_fields(config, Ensemble, name, file_at)
    for specs in (False, True):
        try:
            return _read_graph(_Graph(message, name, order, models, specs), stated, files)
        except DefinitionError as error:  # noqa: PERF203  # twice at most
            reason = str(error)
        except _UnequalError as error:
            reason = f"its {error} differs from what the steps give"
    return UnwiredEnsemble(reason)


class _UnequalError(Exception):
    """The built ensemble differs from its configuration in the field that the text names."""


@dataclass(frozen=True, slots=True)
class _Graph:
    """The configuration, the order in which its steps are called, and whether inputs state their types and dims."""

    message: Any
    name: str
    order: Sequence[int]
    models: Mapping[str, Servable]
    specs: bool

    def wire(self) -> tuple[dict[str, Tensor], list[Tensor | Tensors]]:
        """Return the tensors by name, and the results of the steps in the order of the configuration."""
        message = self.message
        tensors: dict[str, Tensor] = {}
        for entry in message.input:
            spec: dict[str, Any] = {}
            if self.specs:
                read = _read_tensor(Input, entry)
                spec = {"data_type": read.data_type, "dims": read.dims, "max_batch_size": message.max_batch_size}
            tensors[entry.name] = Tensor(entry.name, **spec)
        leaving = {entry.name for entry in message.output}
        results: dict[int, Tensor | Tensors] = {}
        for index in self.order:
            step = message.ensemble_scheduling.step[index]
            unknown = [tensor for tensor in step.input_map.values() if tensor not in tensors]
            if unknown:
                raise DefinitionError(f'no step and no input gives the tensor "{unknown[0]}"')
            model = self.models[step.model_name]
            result = wire_model(
                model,
                [{name: tensors[tensor] for name, tensor in step.input_map.items()}],
                {},
                to={name: tensor for name, tensor in sorted(step.output_map.items()) if tensor not in leaving},
                version=step.model_version,
            )
            results[index] = result
            for tensor in result if isinstance(result, Tensors) else [result]:
                if tensor.output in step.output_map:
                    tensors[step.output_map[tensor.output]] = tensor
        return tensors, [results[index] for index in range(len(results))]


def _read_graph(graph: _Graph, stated: Mapping[str, Any], files: ModelFiles) -> Ensemble:
    """Return the ensemble, with what its calls do not give stated; raise _UnequalError if it still differs."""
    message, own = graph.message, graph.name
    config = new_model_config()
    config.CopyFrom(message)
    wanted: Any = config
    wanted.name, wanted.platform = own, "ensemble"
    tensors, results = graph.wire()
    names = [entry.name for entry in message.output]
    unknown = [name for name in names if name not in tensors]
    if unknown:
        raise DefinitionError(f'no step gives its output "{unknown[0]}"')
    outputs = {name: tensors[name] for name in names}
    arguments: dict[str, Any] = {
        key: value for key, value in stated.items() if key not in ("input", "output", "max_batch_size")
    }
    if message.ensemble_scheduling.max_inflight_requests:
        arguments["max_inflight_requests"] = message.ensemble_scheduling.max_inflight_requests
    arguments["files"] = files.files
    plain = _build_plainly(own, outputs, message.max_batch_size, arguments)
    if [entry.name for entry in plain.input] != [entry.name for entry in message.input]:
        arguments["inputs"] = [tensors[entry.name] for entry in message.input]
    built: Any = build_config(plain)
    if plain.max_batch_size != Ensemble(own, outputs=outputs).max_batch_size:
        arguments["max_batch_size"] = message.max_batch_size
    if list(built.ensemble_scheduling.step) != list(message.ensemble_scheduling.step):
        arguments["step_order"] = results
    ensemble = Ensemble(own, outputs=outputs, **arguments)
    parts, rebuilt = split_config(wanted), split_config(build_config(ensemble))
    for kind, tensor_kind in (("input", Input), ("output", Output)):
        if parts.get(kind) != rebuilt.get(kind):
            arguments[kind] = [_read_tensor(tensor_kind, entry) for entry in getattr(message, kind)]
    rest = {field: part for field, part in parts.items() if field not in rebuilt}
    ensemble = Ensemble(own, outputs=outputs, **arguments, override=format_override(rest))
    final = build_config(ensemble)
    if final != wanted:
        differing = [
            field for field, part in {**split_config(final), **parts}.items() if split_config(final).get(field) != part
        ]
        raise _UnequalError((differing or ["configuration"])[0])
    return ensemble


def _build_plainly(name: str, outputs: Mapping[str, Tensor], batch: int, arguments: Mapping[str, Any]) -> Ensemble:
    """Return the ensemble without stated order and tensors: with the derived batch size where that is the right one."""
    derived = Ensemble(name, outputs=outputs, **arguments)
    return (
        derived
        if derived.max_batch_size == batch
        else Ensemble(name, outputs=outputs, max_batch_size=batch, **arguments)
    )


def _read_tensor(kind: Any, entry: Any) -> Any:
    """Return an input or output as a definition states it."""
    config: Any = new_model_config()
    field = "input" if kind is Input else "output"
    getattr(config, field).add().CopyFrom(entry)
    stated = read_fields(config, Model, "tensor", lambda path: _refuse_file(path))
    if field not in stated:
        raise DefinitionError(f'its {field} "{entry.name}" has no form in a definition')
    return stated[field][0]


def _refuse_file(path: str) -> Any:
    raise DefinitionError(f"{path}: an ensemble has no files for warm-up")


def _order_steps(steps: Sequence[Any]) -> list[int] | None:
    """Return an order in which each step follows those that it reads from: that of the text where it is one."""
    writers: dict[str, int] = {}
    for index, step in enumerate(steps):
        for tensor in step.output_map.values():
            if tensor in writers:
                return None
            writers[tensor] = index
    waiting = [
        {writers[tensor] for tensor in step.input_map.values() if tensor in writers} - {index}
        for index, step in enumerate(steps)
    ]
    readers: dict[int, list[int]] = {}
    for index, sources in enumerate(waiting):
        for source in sources:
            readers.setdefault(source, []).append(index)
    order: list[int] = []
    ready = [index for index, sources in enumerate(waiting) if not sources]
    while ready:
        index = heappop(ready)
        order.append(index)
        for reader in readers.get(index, []):
            waiting[reader].discard(index)
            if not waiting[reader]:
                heappush(ready, reader)
    return order if len(order) == len(steps) else None
