"""The search space of a repository: the settings that can matter, with the values to try. No I/O.

Only settings that can matter are in the space: threads of backends that have them, queue delays of models that batch, a
larger ``max_batch_size`` only where no model file limits it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.triton.backends import BACKENDS, find_backend_of_platform
from tritonforge.triton.schema import ModelConfig
from tritonforge.tuning.search_space import (
    COUNT,
    DELAY,
    MAX_BATCH_SIZE,
    PREFERRED,
    SearchSpace,
    Setting,
    Value,
    is_ensemble,
)

__all__ = ["SpaceLimits", "build_space"]

#: Microseconds that a request waits for others: none, up to what a request to a light model takes, and 10 ms.
_DELAYS: Final = (0, 500, 2000, 10_000)
_LARGEST_BATCH: Final = 256
#: Fields of `ModelDynamicBatching` that `tune` changes; with others, dynamic batching is never turned off.
_CHANGED: Final = frozenset({"max_queue_delay_microseconds", "preferred_batch_size"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceLimits:
    """How far settings go.

    Attributes:
        cores: the most threads of a model.
        instances: the most instances of a model.
        largest_request: the most rows of a request that clients send; None keeps every ``max_batch_size`` at least as
            large as it is.
        rows_in_flight: the most rows that wait at a time, which no larger batch can have; None where that is not known.
    """

    cores: int
    instances: int
    largest_request: int | None = None
    rows_in_flight: int | None = None


def build_space(configs: Mapping[str, ModelConfig], models: Collection[str], *, limits: SpaceLimits) -> SearchSpace:
    """Return the space of the settings of ``models``, which are models of a repository with these configurations.

    A model whose requests belong to sequences keeps its batching and its instances, since they bound the number of
    sequences.
    """
    settings: list[Setting] = []
    notes: list[str] = []
    for group in _group_batches(configs, models):
        settings += _list_batches(group, configs, limits)
    for name in sorted(models):
        config: Any = configs[name]
        if is_ensemble(config):
            continue
        row = BACKENDS.get(_find_backend(config))
        is_sequence = config.HasField("sequence_batching")
        if is_sequence:
            notes.append(f"{name}: it batches sequences, so its batching and its instances are not searched")
        elif config.max_batch_size > 0:
            batches = next((entry for entry in settings if name in (entry.model, *entry.members)), None)
            largest = max(batches.values) if batches is not None else config.max_batch_size  # type: ignore[type-var]  # integers
            settings += _list_batching(name, config, int(largest), limits)  # type: ignore[arg-type]  # an integer
        if not is_sequence:
            settings += _list_instances(name, config, row.default_instances if row is not None else 1, limits, notes)
        for parameter in row.thread_parameters[:1] if row is not None else ():
            settings += _list_threads(name, config, parameter, limits)
    return SearchSpace(tuple(setting for setting in settings if len(setting.values) > 1), configs, tuple(notes))


def _group_batches(configs: Mapping[str, Any], models: Collection[str]) -> list[tuple[str, ...]]:
    """Return groups of models whose batches change together: the batching steps of ensembles, each other model alone.

    A group with a model that keeps its batch is left out.
    """
    groups = {name: {name} for name in models if configs[name].max_batch_size > 0 and not is_ensemble(configs[name])}
    for ensemble in configs.values():
        if not is_ensemble(ensemble) or ensemble.max_batch_size == 0:
            continue
        steps = _list_leaves(configs, ensemble.name, frozenset())
        joined = set().union(*(groups.get(name, set()) for name in steps))
        for name in joined:
            groups[name] = joined
        if any(name not in groups for name in steps):  # a step that is not searched
            for name in joined:
                groups[name] = set()
    distinct = {tuple(sorted(group)) for group in groups.values() if group}
    return sorted(group for group in distinct if not any(configs[name].HasField("sequence_batching") for name in group))


def _list_leaves(configs: Mapping[str, Any], name: str, outer: frozenset[str]) -> set[str]:
    """Return the models that an ensemble runs, also through other ensembles."""
    if name not in configs or name in outer:
        return set()
    if not is_ensemble(configs[name]):
        return {name}
    steps = [step.model_name for step in configs[name].ensemble_scheduling.step]
    return set().union(*(_list_leaves(configs, step, outer | {name}) for step in steps))


def _list_batches(group: tuple[str, ...], configs: Mapping[str, Any], limits: SpaceLimits) -> list[Setting]:
    """Return the setting of the largest batch of a group; its first model has the smallest one."""
    first, *members = sorted(group, key=lambda name: (configs[name].max_batch_size, name))
    present = int(configs[first].max_batch_size)
    least = present if limits.largest_request is None else min(present, limits.largest_request)
    rows = [BACKENDS.get(_find_backend(configs[name])) for name in group]
    may_grow = all(row is not None and not row.limits_batch and row.completion != "unknown" for row in rows)
    most = max(present, min(4 * present, _LARGEST_BATCH)) if may_grow else present
    if limits.rows_in_flight is not None:
        most = min(most, max(present, _round_up(limits.rows_in_flight)))
    sizes = {present, least, *(size for size in _list_powers(most) if size >= least)}
    if limits.rows_in_flight is not None:
        sizes -= {size for size in sizes if size > _round_up(limits.rows_in_flight)} - {present, least}
    values = tuple(sorted(sizes))
    return [Setting(first, MAX_BATCH_SIZE, values, values.index(present), tuple(members))]


def _list_batching(name: str, config: Any, largest_batch: int, limits: SpaceLimits) -> list[Setting]:
    if largest_batch < 2:
        return []
    settings = []
    batching = config.dynamic_batching
    is_dynamic = config.HasField("dynamic_batching")
    has_more = any(field.name not in _CHANGED for field, _ in batching.ListFields())
    delay = int(batching.max_queue_delay_microseconds) if is_dynamic else None
    delays = sorted({*_DELAYS, *([delay] if delay is not None else [])})
    settings.append(_make_setting(name, DELAY, delays if has_more else [None, *delays], delay))
    preferred = tuple(int(size) for size in batching.preferred_batch_size)
    largest = min(largest_batch, limits.rows_in_flight or largest_batch)
    choices = {(), preferred, *((size,) for size in _list_powers(largest) if 4 <= size < largest)}
    settings.append(_make_setting(name, PREFERRED, sorted(choices), preferred))
    return settings


def _list_instances(name: str, config: Any, default: int, limits: SpaceLimits, notes: list[str]) -> list[Setting]:
    groups = list(config.instance_group)
    if len(groups) > 1:
        notes.append(f"{name}: it has {len(groups)} instance groups, so its instances are not searched")
        return []
    count = int(groups[0].count) if groups and groups[0].count > 0 else default
    counts = sorted({count, *(size for size in _list_powers(limits.instances) if size <= limits.instances)})
    return [_make_setting(name, COUNT, counts, count)]


def _list_threads(name: str, config: Any, parameter: str, limits: SpaceLimits) -> list[Setting]:
    stated = config.parameters[parameter].string_value if parameter in config.parameters else ""
    present = int(stated) if stated.isdecimal() and int(stated) > 0 else None
    if stated and present is None:
        return []
    counts = sorted({*_list_powers(limits.cores), limits.cores, *([present] if present else [])})
    return [_make_setting(name, parameter, counts if present else [None, *counts], present)]


def _make_setting(model: str, name: str, values: Sequence[Value], present: Value) -> Setting:
    return Setting(model, name, tuple(values), list(values).index(present))


def _round_up(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


def _list_powers(most: int) -> list[int]:
    return [2**exponent for exponent in range(max(most, 0).bit_length())]


def _find_backend(config: Any) -> str:
    """Return the backend of a configuration; 24.10 still has all platforms."""
    return str(config.backend or find_backend_of_platform(config.platform, "24.10"))
