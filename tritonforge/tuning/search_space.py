"""The settings of a model repository that `tune` searches, as frozen values, and a point among them. No I/O.

A setting is one number or list of one model's configuration, with the values to try in order. A point has one value of
every setting, as indices. Only settings that can matter are in the space: threads of backends that have them, queue
delays of models that batch, a larger ``max_batch_size`` only where no model file limits it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

from tritonforge.triton.backends import BACKENDS, find_backend_of_platform
from tritonforge.triton.schema import ModelConfig, new_model_config

__all__ = ["COUNT", "DELAY", "MAX_BATCH_SIZE", "PREFERRED", "Change", "Point", "SearchSpace", "Setting", "SpaceLimits",
           "Value", "build_space", "format_value"]  # fmt: skip

#: The value of a setting: a number, the list of preferred batch sizes, or None: no dynamic batching, no such parameter.
Value: TypeAlias = int | tuple[int, ...] | None
#: A value of every setting, by its index.
Point: TypeAlias = tuple[int, ...]

MAX_BATCH_SIZE: Final = "max_batch_size"
#: None turns dynamic batching off.
DELAY: Final = "max_queue_delay_microseconds"
PREFERRED: Final = "preferred_batch_size"
COUNT: Final = "instance_group.count"

#: Microseconds that a request waits for others: none, up to what a request to a light model takes, and 10 ms.
_DELAYS: Final = (0, 500, 2000, 10_000)
_LARGEST_BATCH: Final = 256
#: Fields of `ModelDynamicBatching` that `tune` changes; with others, dynamic batching is never turned off.
_CHANGED: Final = frozenset({"max_queue_delay_microseconds", "preferred_batch_size"})


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a model: its name, the values to try in ascending order, and the index of the present one.

    ``name`` is one of the constants of this module, or the name of a parameter of the backend. ``members`` are further
    models whose value stays in proportion: the steps of an ensemble pass their batches on, so each one takes batches as
    large as those that the step before it makes.
    """

    model: str
    name: str
    values: tuple[Value, ...]
    current: int
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A setting of one model that differs: its value before and after."""

    model: str
    name: str
    before: Value
    after: Value


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


@dataclass(frozen=True)
class SearchSpace:
    """Settings, the configurations that they are of, and sentences about what is not searched."""

    settings: tuple[Setting, ...]
    configs: Mapping[str, ModelConfig]
    notes: tuple[str, ...] = ()

    @property
    def current(self) -> Point:
        """The point of the configurations as they are."""
        return tuple(setting.current for setting in self.settings)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of values of every setting."""
        return tuple(len(setting.values) for setting in self.settings)

    @cached_property
    def all_points(self) -> tuple[Point, ...]:
        """All points, one of those that have the same effect; only for small spaces."""
        points = itertools.product(*(range(size) for size in self.sizes))
        return tuple(dict.fromkeys(self.canonicalize(point) for point in points))

    @cached_property
    def _places(self) -> Mapping[tuple[str, str], int]:
        return {
            (model, setting.name): index
            for index, setting in enumerate(self.settings)
            for model in (setting.model, *setting.members)
        }

    def canonicalize(self, point: Sequence[int]) -> Point:
        """Return the point that has the same effect, with the present values of settings that do not matter.

        Without dynamic batching ``max_batch_size`` does not matter; without a delay preferred sizes do not, nor does a
        size that is ``max_batch_size``. Preferred sizes above it are removed, since Triton refuses them.
        """
        chosen = list(point)
        for index, setting in enumerate(self.settings):
            owners = (setting.model, *setting.members)
            if setting.name == MAX_BATCH_SIZE and all(self._is_off(chosen, model) for model in owners):
                chosen[index] = setting.current
        for index, setting in enumerate(self.settings):
            if setting.name != PREFERRED:
                continue
            delay = self._find_value(chosen, setting.model, DELAY)
            batch = self._find_batch(chosen, setting.model)
            stays = _is_allowed(setting.values[setting.current], batch)
            if not delay:
                chosen[index] = setting.current if stays else setting.values.index(())
            elif not (chosen[index] == setting.current and stays):
                preferred = setting.values[chosen[index]]
                if not _is_allowed(preferred, batch) or preferred == (batch,):
                    chosen[index] = setting.values.index(())
        return tuple(chosen)

    def read(self, point: Point) -> dict[tuple[str, str], Value]:
        """Return the values of a point by model and name."""
        values: dict[tuple[str, str], Value] = {}
        for setting, index in zip(self.settings, point, strict=True):
            values[setting.model, setting.name] = value = setting.values[index]
            for member in setting.members:
                values[member, setting.name] = self._scale(setting, member, value)
        return values

    def list_changes(self, point: Point) -> list[Change]:
        """Return what differs from the present configurations."""
        before = self.read(self.current)
        return [
            Change(model, name, before[model, name], value)
            for (model, name), value in self.read(point).items()
            if value != before[model, name]
        ]

    def count_points(self) -> int:
        """Return the number of points, also those of the same effect."""
        return math.prod(self.sizes)

    def apply(self, point: Point) -> dict[str, ModelConfig]:
        """Return the configurations of a point, all models of the repository.

        The ``max_batch_size`` of an ensemble that is the smallest of its steps' stays so, as in a definition that does
        not state it.
        """
        configs: dict[str, Any] = {}
        for name, config in self.configs.items():
            configs[name] = new_model_config()
            configs[name].CopyFrom(config)
        for change in self.list_changes(point):
            _apply_value(configs[change.model], change.name, change.after)
        _derive_batches(self.configs, configs)
        return configs

    def _is_off(self, point: Sequence[int], model: str) -> bool:
        return (model, DELAY) in self._places and self._find_value(point, model, DELAY) is None

    def _find_batch(self, point: Sequence[int], model: str) -> int:
        """Return the largest batch of a model at a point."""
        present = int(_as_any(self.configs[model]).max_batch_size)
        place = self._places.get((model, MAX_BATCH_SIZE))
        if place is None:
            return present
        setting = self.settings[place]
        value = setting.values[point[place]]
        value = value if setting.model == model else self._scale(setting, model, value)
        assert isinstance(value, int)
        return value

    def _scale(self, setting: Setting, member: str, value: Value) -> Value:
        """Return the value of a member that is in proportion to that of the setting's model."""
        first = setting.values[setting.current]
        assert isinstance(value, int)
        assert isinstance(first, int)
        return max(1, int(_as_any(self.configs[member]).max_batch_size) * value // first)

    def _find_value(self, point: Sequence[int], model: str, name: str) -> Value:
        place = self._places.get((model, name))
        return None if place is None else self.settings[place].values[point[place]]


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
        if _is_ensemble(config):
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
    groups = {name: {name} for name in models if configs[name].max_batch_size > 0 and not _is_ensemble(configs[name])}
    for ensemble in configs.values():
        if not _is_ensemble(ensemble) or ensemble.max_batch_size == 0:
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
    if not _is_ensemble(configs[name]):
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


def _is_allowed(preferred: Value, batch: int) -> bool:
    assert isinstance(preferred, tuple)
    return all(size <= batch for size in preferred)


def _apply_value(config: Any, name: str, value: Value) -> None:
    """Set one setting in a configuration; a value None removes it."""
    if name == MAX_BATCH_SIZE:
        config.max_batch_size = value
    elif name == DELAY:
        if value is None:
            config.ClearField("dynamic_batching")
        else:
            config.dynamic_batching.SetInParent()
            config.dynamic_batching.max_queue_delay_microseconds = value
    elif name == PREFERRED:
        # After the delay, in the order of settings: a model without dynamic batching has no preferred sizes.
        if config.HasField("dynamic_batching"):
            del config.dynamic_batching.preferred_batch_size[:]
            config.dynamic_batching.preferred_batch_size.extend(value)
    elif name == COUNT:
        if not config.instance_group:
            config.instance_group.add()
        config.instance_group[0].count = value
    elif value is None:
        del config.parameters[name]
    else:
        config.parameters[name].string_value = str(value)


def _derive_batches(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Set the ``max_batch_size`` of ensembles that is derived from their steps, inner ensembles first."""
    done: set[str] = set()

    def derive(name: str) -> None:
        config = before.get(name)
        if config is None or name in done or not _is_ensemble(config):
            return
        done.add(name)
        steps = [step.model_name for step in config.ensemble_scheduling.step if step.model_name in before]
        for step in steps:
            derive(step)
        if steps and config.max_batch_size == min(before[step].max_batch_size for step in steps):
            after[name].max_batch_size = min(after[step].max_batch_size for step in steps)

    for name in before:
        derive(name)


def format_value(name: str, value: Value) -> str:
    """Return a value as a person reads it.

    >>> format_value(DELAY, None), format_value(DELAY, 500), format_value(PREFERRED, (4, 8))
    ('off', '500', '[4, 8]')
    """
    if value is None:
        return "off" if name == DELAY else "default"
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _is_ensemble(config: Any) -> bool:
    return bool(config.platform == "ensemble" or config.HasField("ensemble_scheduling"))


def _find_backend(config: Any) -> str:
    """Return the backend of a configuration; 24.10 still has all platforms."""
    return str(config.backend or find_backend_of_platform(config.platform, "24.10"))


def _as_any(config: ModelConfig) -> Any:
    """Return a message whose class protobuf makes at run time."""
    return config
