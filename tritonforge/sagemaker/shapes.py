r"""A value held against a shape of AWS's service model, with every constraint that the model states.

botocore itself checks required members, types and minimums only (botocore.validate `range_check`); maximums, patterns
and enumerations are checked by the service, after the call. Here all of them are checked before it, and the emulator
refuses with them as the service does. A shape is one of botocore's ``Shape`` objects; only ``type_name``, ``metadata``,
``members``, ``member``, ``key``, ``value``, ``enum`` and ``required_members`` of it are read. No I/O.
"""

from __future__ import annotations

import datetime as dt
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from tritonforge.errors import MissingExtraError

__all__ = ["Kind", "Path", "Problem", "problems", "sentence", "summary"]

Path: TypeAlias = tuple[str | int, ...]
Kind: TypeAlias = Literal["required", "unknown", "type", "length", "value", "pattern", "enum", "union"]

#: Seconds that one pattern may take: some of the models' patterns are slow on values made for it.
_PATIENCE: Final = 2.0

#: How Java writes what lies beyond U+FFFF: as the two surrogates of UTF-16 (java.util.regex.Pattern, "Unicode").
_SURROGATES: Final = r"\uD800\uDC00-\uDBFF\uDFFF"

#: Characters of a value that a sentence shows.
_SHOWN: Final = 256


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken constraint: where, the value there (None where it is missing), which kind, and AWS's own words for it.

    >>> Problem(("Variants", 0, "Name"), "a_b", "length", "Member must have length less than or equal to 2").place
    'Variants[0].Name'
    """

    path: Path
    value: Any
    kind: Kind
    constraint: str

    @property
    def place(self) -> str:
        """The path as boto3's users write it: ``ProductionVariants[0].VariantName``."""
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text


def problems(shape: Any, value: Any, *, path: Path = ()) -> tuple[Problem, ...]:
    """Everything that a shape says against a value, in the order of the shape's members.

    Raises:
        MissingExtraError: the ``regex`` package, which reads the models' Java patterns, is not installed.
    """
    return tuple(_problems(shape, value, path))


def sentence(found: Sequence[Problem]) -> str:
    """The broken constraints as SageMaker's own ValidationException words them.

    Indices count from 1, names begin small: "1 validation error detected: Value 'a_b' at
    'productionVariants.1.member.variantName' failed to satisfy constraint: Member must ...". The form is that of the
    answers quoted in AWS's public forums and issues; the service model holds no sentences.
    """
    noun = "error" if len(found) == 1 else "errors"
    return f"{len(found)} validation {noun} detected: " + "; ".join(
        f"Value {_quoted(each.value)} at '{_dotted(each.path)}' failed to satisfy constraint: {each.constraint}"
        for each in found
    )


def summary(found: Sequence[Problem]) -> str:
    """The broken constraints for the person who wrote the request: ``Place is 'value': constraint``, one a line."""
    return "\n".join(
        f"{each.place or 'the request'}: {each.constraint}"
        if each.value is None
        else f"{each.place or 'the request'} is {_quoted(each.value)}: {each.constraint}"
        for each in found
    )


def _problems(shape: Any, value: Any, path: Path) -> Iterator[Problem]:
    kind: str = shape.type_name
    if not _is(kind, value):
        yield Problem(path, value, "type", f"Member must be of type {kind}")
    elif kind == "structure":
        yield from _structure(shape, value, path)
    elif kind == "list":
        yield from _length(shape, value, path)
        for index, item in enumerate(value):
            yield from _problems(shape.member, item, (*path, index))
    elif kind == "map":
        yield from _length(shape, value, path)
        for key, item in value.items():
            yield from _problems(shape.key, key, (*path, key))
            yield from _problems(shape.value, item, (*path, key))
    elif kind in ("string", "character"):
        yield from _length(shape, value, path)
        yield from _text(shape, value, path)
    elif kind == "blob" and isinstance(value, bytes | bytearray):
        yield from _length(shape, value, path)
    elif kind in ("integer", "long", "float", "double"):
        yield from _range(shape, value, path)


def _structure(shape: Any, value: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    required = set(shape.required_members)
    members: Mapping[str, Any] = shape.members
    for name, member in members.items():
        here = (*path, name)
        if value.get(name) is not None:
            yield from _problems(member, value[name], here)
        elif name in required:
            yield Problem(here, None, "required", "Member must not be null")
    for name in value:
        if name not in members:
            yield Problem((*path, name), value[name], "unknown", f"Member must be one of: {', '.join(members)}")
    if shape.metadata.get("union") and sum(value.get(name) is not None for name in members) != 1:
        yield Problem(path, dict(value), "union", f"Member must have exactly one of: {', '.join(members)}")


def _is(kind: str, value: Any) -> bool:
    """Whether a value has the shape's type, as botocore takes it."""
    if kind == "structure" or kind == "map":
        return isinstance(value, Mapping)
    if kind == "list":
        return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)
    if kind in ("string", "character"):
        return isinstance(value, str)
    if kind in ("integer", "long"):
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if kind in ("float", "double"):
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "timestamp":
        return isinstance(value, dt.datetime | str | int | float)
    return True  # a blob may be bytes, a buffer or a file


def _length(shape: Any, value: Any, path: Path) -> Iterator[Problem]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and len(value) < least:
        yield Problem(path, value, "length", f"Member must have length greater than or equal to {least}")
    if most is not None and len(value) > most:
        yield Problem(path, value, "length", f"Member must have length less than or equal to {most}")


def _range(shape: Any, value: float, path: Path) -> Iterator[Problem]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and not value >= least:  # so that NaN is refused too
        yield Problem(path, value, "value", f"Member must have value greater than or equal to {least}")
    if most is not None and not value <= most:
        yield Problem(path, value, "value", f"Member must have value less than or equal to {most}")


def _text(shape: Any, value: str, path: Path) -> Iterator[Problem]:
    pattern = shape.metadata.get("pattern")
    if pattern and not _matches(pattern, value):
        yield Problem(path, value, "pattern", f"Member must satisfy regular expression pattern: {pattern}")
    if shape.enum and value not in shape.enum:
        yield Problem(path, value, "enum", f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")


def _matches(pattern: str, value: str) -> bool:
    try:
        return _compiled(pattern).fullmatch(value, timeout=_PATIENCE) is not None
    except TimeoutError:
        return False


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    try:
        import regex
    except ImportError as error:
        raise MissingExtraError("regex", extra="aws") from error
    return regex.compile(pattern.replace(_SURROGATES, r"\U00010000-\U0010FFFF"))


def _quoted(value: Any) -> str:
    if value is None:
        return "null"
    text = str(value)
    return f"'{text if len(text) <= _SHOWN else text[:_SHOWN] + '...'}'"


def _dotted(path: Path) -> str:
    """``productionVariants.1.member.variantName``: how the service names a place."""
    return ".".join(f"{part + 1}.member" if isinstance(part, int) else part[:1].lower() + part[1:] for part in path)
