"""The part of JSONPath that batch transform's filters take. This module does no I/O.

``$`` is all of it; ``.name``, ``['name']`` or ``["name"]`` a member, ``['a','b']`` several; ``*`` or ``.*`` every one;
``[1]``, ``[-1]``, ``[1,3]`` elements, ``[s:e]`` those from s up to but without e, and ``[0,5:]`` both kinds together.
Source: SageMaker developer guide, "Supported JSONPath Operators"; where a slice ends: JSONPath (RFC 9535, 2.3.4).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from tritonforge.errors import DefinitionError, TritonForgeError

__all__ = ["FilterError", "JsonPath", "problem"]

_STEP: Final = re.compile(
    r"\.(?P<name>[^.\[\]'\"\s]+)"
    r"|\[\s*(?P<quoted>(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")(?:\s*,\s*(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"))*)\s*\]"
    r"|\[\s*(?P<star>\*)\s*\]"
    r"|\[\s*(?P<places>-?\d*(?:\s*:\s*-?\d*)?(?:\s*,\s*-?\d*(?:\s*:\s*-?\d*)?)*)\s*\]"
)
_QUOTED: Final = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")


class FilterError(TritonForgeError):
    """A filter finds nothing in a document where it must."""


@dataclass(frozen=True, slots=True)
class _Names:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Places:
    """Elements by number, or slices; ``single`` is the one form that gives an element, not a list."""

    places: tuple[int | slice, ...]
    single: bool


@dataclass(frozen=True, slots=True)
class _Every:
    pass


_Step: TypeAlias = _Names | _Places | _Every


@dataclass(frozen=True, slots=True)
class JsonPath:
    """An expression, read; `of` gives what it finds in a document."""

    text: str
    steps: tuple[_Step, ...]

    @classmethod
    @lru_cache(maxsize=64)
    def parse(cls, text: str) -> JsonPath:
        """The expression of a text; raises DefinitionError.

        >>> JsonPath.parse("$[0,2:]").of(["a", "b", "c", "d"])
        ['a', 'c', 'd']
        """
        if wrong := problem(text):
            raise DefinitionError(f"JSONPath {text!r}: {wrong}")
        return cls(text, tuple(_steps(text)))

    @property
    def is_all(self) -> bool:
        """Whether it is ``$``."""
        return not self.steps

    @property
    def rows(self) -> bool:
        """Whether it can be asked of rows: no step goes by name."""
        return not any(isinstance(step, _Names) for step in self.steps)

    def of(self, document: Any) -> Any:
        """What the expression finds; raises FilterError where a member or an element is missing."""
        found = document
        for index, step in enumerate(self.steps):
            found = self._taken(step, found, index)
        return found

    def _taken(self, step: _Step, value: Any, index: int) -> Any:
        if isinstance(step, _Names):
            if not isinstance(value, dict):
                raise FilterError(f"{self.text}: {_kind(value)} has no member {step.names[0]!r}")
            if missing := [name for name in step.names if name not in value]:
                raise FilterError(f"{self.text}: there is no member {missing[0]!r}; there are {sorted(value)}")
            if len(step.names) == 1:
                return value[step.names[0]]
            return {name: value[name] for name in step.names}
        if isinstance(step, _Every):
            if isinstance(value, dict):
                return list(value.values())
            if isinstance(value, list):
                return value
            raise FilterError(f"{self.text}: {_kind(value)} has no elements")
        if not isinstance(value, list):
            raise FilterError(f"{self.text}: {_kind(value)} has no elements by number")
        taken: list[Any] = []
        for place in step.places:
            if isinstance(place, slice):
                taken += value[place]
            elif -len(value) <= place < len(value):
                taken.append(value[place])
            else:
                raise FilterError(f"{self.text}: there is no element {place}; there are {len(value)}")
        return taken[0] if step.single else taken


def problem(text: str) -> str:
    """Why this is no expression that batch transform takes, "" where it is one.

    >>> problem("$.features[0]")
    ''
    >>> problem("features")
    'it must begin with $'
    """
    if not text.startswith("$"):
        return "it must begin with $"
    at = 1
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            return f"{text[at:]!r} is none of .name, ['name'], ['a','b'], .*, [*], [1], [1,3], [1:3]"
        if found["places"] is not None and not all(each.strip() for each in found["places"].split(",")):
            return f"{found[0]!r} has an empty index"
        at = found.end()
    return ""


def _steps(text: str) -> list[_Step]:
    steps: list[_Step] = []
    for found in _STEP.finditer(text, 1):
        if found["star"] or found["name"] == "*":
            steps.append(_Every())
        elif found["name"]:
            steps.append(_Names((found["name"],)))
        elif found["quoted"]:
            names = [
                _unquoted(each[1] if each[1] is not None else each[2]) for each in _QUOTED.finditer(found["quoted"])
            ]
            steps.append(_Names(tuple(names)))
        else:
            places = tuple(_place(each) for each in found["places"].split(","))
            steps.append(_Places(places, len(places) == 1 and not isinstance(places[0], slice)))
    return steps


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _place(text: str) -> int | slice:
    start, colon, end = text.partition(":")
    if not colon:
        return int(start)
    return slice(int(start) if start.strip() else None, int(end) if end.strip() else None)


def _kind(value: object) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
