"""Selection: which attributes of a line a training job streams, in which order, and in which order the lines. No I/O.

Source: SageMaker developer guide, "Augmented Manifest Files for Training Jobs", and API_S3DataSource.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from tritonforge.errors import DefinitionError
from tritonforge.training.manifest.line import Line
from tritonforge.training.manifest.values import Json, json_text

__all__ = ["MOST_NAMES", "Reference", "Selected", "Value", "attribute_names", "order", "selected", "value_text"]

#: Source: botocore's model of SageMaker, `AttributeNames` and `AttributeName`.
MOST_NAMES: Final = 16
_LONGEST_NAME: Final = 256

_REFERENCE: Final = "-ref"


@dataclass(frozen=True, slots=True)
class Reference:
    """An attribute whose name ends in ``-ref``: the bytes of the object at this address are streamed."""

    uri: str


@dataclass(frozen=True, slots=True)
class Value:
    """Any other attribute: these bytes are streamed."""

    data: bytes


Selected: TypeAlias = "Reference | Value"


def attribute_names(names: Sequence[str]) -> tuple[str, ...]:
    """`AttributeNames` as a job may state them: 1 to 16, of 1 to 256 characters each.

    Their order is that of the stream, and upper and lower case differ. Raises DefinitionError.
    """
    if isinstance(names, str) or not 1 <= len(names) <= MOST_NAMES:
        found = repr(names) if isinstance(names, str) else f"{len(names)} of them"
        raise DefinitionError(f"AttributeNames must be a list of 1 to {MOST_NAMES} names, found {found}")
    for name in names:
        if not 1 <= len(name) <= _LONGEST_NAME or "\n" in name:
            raise DefinitionError(
                f"AttributeNames: a name is one line of 1 to {_LONGEST_NAME} characters, found {name[:60]!r}"
            )
    return tuple(names)


def selected(line: Line, names: Sequence[str]) -> tuple[Selected, ...]:
    """What a job streams of a line, in the order of the names.

    Raises ManifestError, with the line and the attribute, for one that is not there, and for a reference that is no
    address.
    """
    return tuple([_selected(line, name) for name in names])


def value_text(value: Json) -> bytes:
    """What is streamed of a value: a string's own text in UTF-8, anything else as JSON text without blanks.

    >>> value_text("0"), value_text(1), value_text({"a": [1, 2]})
    (b'0', b'1', b'{"a":[1,2]}')
    """
    return value.encode() if isinstance(value, str) else json_text(value)


def order(count: int, *, seed: int, epoch: int) -> list[int]:
    """The order, after a shuffle, of ``count`` lines numbered from 0: all of them once.

    Line *i* is sorted by the SHA-256 of the text ``seed/epoch/i``, so that any language finds the same order again. An
    epoch counts from 0, as the number of its pipe does. Source of when to shuffle: API_ShuffleConfig; SageMaker's own
    algorithm is not published.
    """
    start = hashlib.sha256(f"{seed}/{epoch}/".encode())

    def key(number: int) -> bytes:
        digest = start.copy()
        digest.update(str(number).encode())
        return digest.digest()

    return sorted(range(count), key=key)


def _selected(line: Line, name: str) -> Selected:
    if name not in line.attributes:
        raise line.error(name, _missing(line, name))
    value = line.attributes[name]
    if not name.endswith(_REFERENCE):
        return Value(value_text(value))
    if not isinstance(value, str) or not value:
        raise line.error(name, "the name ends in -ref, so that the value must be the address of an object")
    return Reference(value)


def _missing(line: Line, name: str) -> str:
    """Why an attribute is not there, as far as the line tells."""
    metadata = line.attributes.get(f"{name}-metadata")
    if isinstance(metadata, dict) and "failure-reason" in metadata:
        return f"the line does not have it; labelling failed: {metadata['failure-reason']!s:.200}"
    near = {each.lower(): each for each in line.attributes}
    matches = difflib.get_close_matches(name.lower(), list(near), n=1)
    hint = f"; did you mean {near[matches[0]]}?" if matches else ""
    found = ", ".join(list(line.attributes)[:MOST_NAMES]) or "nothing"
    return f"the line does not have it{hint} (it has {found})"
