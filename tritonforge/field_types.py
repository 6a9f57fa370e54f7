"""Check the fields of a frozen dataclass against their annotations. This module does no I/O.

A definition is written by hand, without a type checker: a wrong type must give one sentence that names the field, not a
traceback from the build. Sequences become tuples, mappings read-only copies, numpy's numbers Python's.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, fields, is_dataclass
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from tritonforge.errors import DefinitionError

__all__ = ["check_fields", "describe_value", "set_field"]

#: Characters of a value that a message shows.
_SHOWN: Final = 40

_MAPPINGS: Final = (Mapping, dict)
_SEQUENCES: Final = (Sequence, tuple, list)
_SCALARS: Final = (str, bytes, bool, int, float)

#: Returned by `_converted` when a value does not have the type; None is a value.
_MISMATCH: Final = object()


class _Mismatch(Exception):  # noqa: N818  # it never leaves this module
    """The place inside a field where the types differ, and what was expected there."""

    def __init__(self, place: str, expected: Any, value: object) -> None:
        super().__init__(place)
        self.place, self.expected, self.value = place, expected, value


def check_fields(value: Any) -> None:
    """Check every field of a dataclass in its ``__post_init__``, and store it in its frozen form.

    Raises:
        DefinitionError: a field has another type than its annotation; the message names it and what to write.
    """
    hints = _read_hints(value.__class__)
    for field in fields(value):
        if not field.init:
            continue
        given = getattr(value, field.name)
        try:
            stored = _convert(given, hints[field.name], "")
        except _Mismatch as error:
            name = f"{field.name}{error.place}"
            if get_origin(error.expected) is Literal and isinstance(error.value, str):
                raise DefinitionError(f"{_name_owner(value)}: {name} {_describe_choices(error)}") from None
            raise DefinitionError(
                f"{_name_owner(value)}: {name} has the wrong type (expected {_describe_type(error.expected)}, got "
                f"{describe_value(error.value)}).{_suggest(field.name, error)}"
            ) from None
        if stored is not given:
            set_field(value, field.name, stored)


def set_field(value: object, name: str, content: object) -> None:
    """Set a field of a frozen value in its ``__post_init__``."""
    object.__setattr__(value, name, content)


def describe_value(value: object) -> str:
    """Name a value in a message: its type, and the value itself where it is short."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = type(value).__name__
    if is_dataclass(value):
        name = getattr(value, "name", None)
        return f"{kind} {_shorten(name)}" if isinstance(name, str) and name else kind
    if isinstance(value, _SCALARS):
        return f"{kind} {_shorten(value)}"
    name = getattr(value, "__qualname__", None)
    return f"{kind} {name}" if isinstance(name, str) and callable(value) else kind


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


@lru_cache(maxsize=128)
def _read_hints(cls: Any) -> dict[str, Any]:
    # On Python 3.10 the marker KW_ONLY is not accepted as a type.
    return get_type_hints(cls, localns={"KW_ONLY": type(KW_ONLY)})


def _name_owner(value: Any) -> str:
    name = getattr(value, "name", None)
    return f"{type(value).__name__} {name!r}" if isinstance(name, str) and name else type(value).__name__


def _convert(value: Any, hint: Any, place: str) -> Any:
    """Convert a value to the form in which it is stored; raises _Mismatch where it does not have the type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_choice(value, arguments, place)
    if hint is Any or getattr(hint, "_is_protocol", False):
        return value
    if hint is type(None):
        return _require(value is None, value, value, hint, place)
    if hint in _SCALARS:
        converted = _convert_scalar(value, hint)
        return _require(converted is not _MISMATCH, converted, value, hint, place)
    if origin is Literal:
        return _require(isinstance(value, str) and value in arguments, value, value, hint, place)
    if hint is Callable or origin is Callable:
        # A model can be called, too, but only to wire it.
        is_function = callable(value) and not type(value).__module__.startswith("tritonforge.")
        return _require(is_function, value, value, Callable, place)
    if origin in _MAPPINGS:
        return _convert_mapping(value, hint, place)
    if origin in _SEQUENCES:
        return _convert_sequence(value, hint, place)
    return _require(isinstance(value, hint), value, value, hint, place)


def _require(right: bool, converted: Any, value: object, hint: Any, place: str) -> Any:
    if not right:
        raise _Mismatch(place, hint, value)
    return converted


def _convert_choice(value: Any, choices: Sequence[Any], place: str) -> Any:
    """Convert a value to the first of several types that fits; where only an element is wrong, the error names it."""
    deepest: _Mismatch | None = None
    for choice in choices:
        try:
            return _convert(value, choice, place)
        except _Mismatch as error:  # noqa: PERF203  # each choice is tried
            if len(error.place) > len(place) and (deepest is None or len(error.place) > len(deepest.place)):
                deepest = error
    raise deepest or _Mismatch(place, Union[tuple(choices)], value)  # noqa: UP007  # of types known at run time only


def _convert_mapping(value: Any, hint: Any, place: str) -> Any:
    if not isinstance(value, Mapping):
        raise _Mismatch(place, hint, value)
    of_keys, of_values = get_args(hint)
    return types.MappingProxyType(
        {
            _convert(key, of_keys, f"{place} key {_shorten(key)}"): _convert(
                entry, of_values, f"{place}[{_shorten(key)}]"
            )
            for key, entry in value.items()
        }
    )


def _convert_sequence(value: Any, hint: Any, place: str) -> Any:
    # A set has no order, and a text is hardly ever meant as a list of its letters.
    unordered = isinstance(value, str | bytes | Mapping | set | frozenset | type)
    if unordered or is_dataclass(value) or not isinstance(value, Iterable):
        raise _Mismatch(place, hint, value)
    of_elements = get_args(hint)[0]  # tuple[X, ...] is meant as Sequence[X]
    return tuple(_convert(element, of_elements, f"{place}[{index}]") for index, element in enumerate(value))


def _convert_scalar(value: Any, hint: type) -> Any:
    if isinstance(value, bool) or hint is bool:
        return value if isinstance(value, bool) and hint is bool else _MISMATCH
    if hint is int:
        return value if type(value) is int else int(value) if isinstance(value, Integral) else _MISMATCH
    if hint is float:
        return value if isinstance(value, int | float) else float(value) if isinstance(value, Real) else _MISMATCH
    return value if isinstance(value, hint) else _MISMATCH


def _describe_type(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        names = [_describe_type(argument) for argument in arguments]
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    if hint is type(None):
        return "None"
    if origin is Literal:
        return " or ".join(repr(argument) for argument in arguments)
    if hint is Callable or origin is Callable:
        return "a function"
    if origin in _MAPPINGS:
        return f"a mapping of {_describe_type(arguments[0])} to {_describe_type(arguments[1])}"
    if origin in _SEQUENCES:
        return f"a list of {_describe_type(arguments[0])}"
    return str(getattr(hint, "__name__", hint))


def _suggest(field: str, error: _Mismatch) -> str:
    """Suggest what to write instead, where that is clear."""
    value, choices = error.value, _list_choices(error.expected)
    if field in ("dims", "reshape") and error.place:
        return " Write -1 for an extent that varies." if value is None or isinstance(value, str) else ""
    if field == "data_type":
        return " Write TYPE_FP32, for example."
    for choice in choices:
        of_sequence = get_origin(choice) in _SEQUENCES and not error.place
        if of_sequence and any(_fits(value, element) for element in _list_choices(get_args(choice)[0])):
            shown = _shorten(value) if isinstance(value, _SCALARS) else f"{type(value).__name__}(...)"
            return f" Write {field}=[{shown}]."
    classes: list[type] = [choice for choice in choices if isinstance(choice, type) and is_dataclass(choice)]
    if callable(value) and not isinstance(value, type):
        classes = [choice for choice in classes if choice.__name__ == "Function"]
        return f" Write {field}=Function(build={getattr(value, '__name__', '...')})." if classes else ""
    named = [choice for choice in classes if isinstance(value, str) and choice.__name__.lower() in value.lower()]
    named = named or (classes if len(classes) == 1 else [])
    if not named:
        return ""
    place = f"{field}{error.place}"
    return f" Write {place}={named[0].__name__}(...)." if "[" not in place else f" Write {named[0].__name__}(...)."


def _describe_choices(error: _Mismatch) -> str:
    """Return the end of a sentence on a text that is not a known one, with the closest."""
    names = [name for name in get_args(error.expected) if name]
    given = str(error.value)
    meant = [name for name in names if given and name.endswith(given.upper())]
    meant = meant or difflib.get_close_matches(given.upper(), names, n=1)
    advice = f" Did you mean {meant[0]}?" if len(meant) == 1 else ""
    return f"is {_shorten(given)} (expected {', '.join(names)}).{advice}"


def _list_choices(hint: Any) -> Sequence[Any]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _fits(value: object, hint: Any) -> bool:
    try:
        _convert(value, hint, "")
    except _Mismatch:
        return False
    return True
