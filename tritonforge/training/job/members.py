"""Members: how values are written in a request, both ways, by one table a class. This module does no I/O.

A structure's table names its members as the API does and the fields they become. None is a member that the request
leaves out; members that no table names are carried in the field ``carried``, untouched, so that what AWS adds to a
structure later goes through as well.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from tritonforge.errors import RequestError

__all__ = ["OPERATION", "Structure", "listed"]

#: The operation that errors name.
OPERATION: Final = "CreateTrainingJob"

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Structure(Generic[_Value]):
    """A structure of the API as a class: its members, those that are structures or lists of such, those required.

    ``members`` are the API's names with the fields'; the class has a field ``carried`` besides them.
    """

    kind: type[_Value]
    members: Mapping[str, str]
    required: tuple[str, ...] = ()
    structures: Mapping[str, Structure[Any]] = field(default_factory=dict)
    lists: Mapping[str, Structure[Any]] = field(default_factory=dict)

    def read(self, given: object, where: str = "") -> _Value:
        """The value of a structure at a place of the request; raises RequestError where it has no such shape."""
        if not isinstance(given, Mapping):
            raise RequestError(f"{OPERATION}: {where or 'the request'} must be a structure, found {given!r:.60}")
        left = dict(given)
        found: dict[str, Any] = {}
        for name in self.required:
            if left.get(name) is None:
                raise RequestError(f"{OPERATION}: {place(where, name)} is missing")
        for name, target in self.members.items():
            value = left.pop(name, None)
            if value is None:
                continue
            here = place(where, name)
            if name in self.structures:
                value = self.structures[name].read(value, here)
            elif name in self.lists:
                value = listed(self.lists[name], value, here)
            elif isinstance(value, list | tuple):
                value = tuple(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            found[target] = value
        found["carried"] = copy.deepcopy(left)
        return self.kind(**found)

    def write(self, value: _Value) -> dict[str, Any]:
        """The structure of a value, in the order of the table, then what was carried."""
        written: dict[str, Any] = {}
        for name, source in self.members.items():
            each = getattr(value, source)
            if each is None:
                continue
            if name in self.structures:
                each = self.structures[name].write(each)
            elif name in self.lists:
                each = [self.lists[name].write(one) for one in each]
            elif isinstance(each, tuple):
                each = list(each)
            elif isinstance(each, Mapping):
                each = dict(each)
            written[name] = each
        carried: Mapping[str, Any] = getattr(value, "carried")  # noqa: B009 - mypy knows no fields of a type variable
        return written | copy.deepcopy(dict(carried))


def listed(structure: Structure[_Value], given: object, where: str) -> tuple[_Value, ...]:
    """The values of a list of structures; raises RequestError where it is none."""
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise RequestError(f"{OPERATION}: {where} must be a list, found {given!r:.60}")
    return tuple(structure.read(each, f"{where}[{index}]") for index, each in enumerate(given))


def place(where: str, name: str) -> str:
    """A member's place as boto3's users write it: ``InputDataConfig[0].ChannelName``."""
    return f"{where}.{name}" if where else name
