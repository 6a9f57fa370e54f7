"""The settings of a model repository that `tune` searches, as frozen values, and a point among them. No I/O.

A setting is one number or list of one model's configuration, with the values to try in order. A point has one value of
every setting, as indices. Only settings that can matter are in the space: threads of backends that have them, queue
delays of models that batch, a larger ``max_batch_size`` only where no model file limits it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

from tritonforge.triton.schema import ModelConfig, new_model_config

__all__ = ["COUNT", "DELAY", "MAX_BATCH_SIZE", "PREFERRED", "Change", "Point", "SearchSpace", "Setting", "Value",
           "format_value", "is_ensemble"]  # fmt: skip

#: The value of a setting: a number, the list of preferred batch sizes, or None: no dynamic batching, no such parameter.
Value: TypeAlias = int | tuple[int, ...] | None
#: A value of every setting, by its index.
Point: TypeAlias = tuple[int, ...]

MAX_BATCH_SIZE: Final = "max_batch_size"
#: None turns dynamic batching off.
DELAY: Final = "max_queue_delay_microseconds"
PREFERRED: Final = "preferred_batch_size"
COUNT: Final = "instance_group.count"


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
        if config is None or name in done or not is_ensemble(config):
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


def is_ensemble(config: Any) -> bool:
    """Return True if a configuration is an ensemble's."""
    return bool(config.platform == "ensemble" or config.HasField("ensemble_scheduling"))


def _as_any(config: ModelConfig) -> Any:
    """Return a message whose class protobuf makes at run time."""
    return config
