"""The body of a request of the JSON protocol, read into values of the types that the service model says.

Source: AWS's JSON protocols 1.0 and 1.1 (Smithy); what a service refuses here it answers with SerializationException.
This module does no I/O.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from tritonforge.emulator.control.failures import invalid, malformed
from tritonforge.sagemaker import service_model

__all__ = ["read"]

#: Objects and arrays within one another; the service model's deepest input has about a dozen.
_DEEPEST: Final = 64

#: The seconds since 1970 that a date of four digits' year can say.
_EARLIEST: Final = dt.datetime(1, 1, 1, tzinfo=dt.timezone.utc).timestamp()
_LATEST: Final = dt.datetime(9999, 12, 31, tzinfo=dt.timezone.utc).timestamp()


def read(operation: str, shape: Any, body: bytes) -> dict[str, Any]:
    """The request of an operation whose input is ``shape``; members that are null are left out, times are seconds.

    Raises ApiError: SerializationException for what is no JSON or has another type than the model's, else
    ValidationException with every constraint that is broken.
    """
    request = _document(operation, body)
    found = service_model.check_shape(shape, request)
    for each in found:
        if each.kind in ("type", "unknown"):
            raise malformed(f"{each.place or 'The request'}: {each.sentence}")
    if found:
        raise invalid(service_model.format_service_message(found))
    return {name: _typed(shape.members[name], value, name) for name, value in request.items() if value is not None}


def _document(operation: str, body: bytes) -> Any:
    try:
        document = json.loads(body.decode("utf-8") or "{}", parse_constant=_refuse, parse_float=_number)
        _check(document)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise malformed(f"The request of {operation} is no JSON: {reason}") from None
    return document


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.20} is larger than any number of this protocol")
    return value


def _check(document: Any) -> None:
    """Refuse what is nested too deeply, and texts that no encoding can carry; raises ValueError."""
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        if isinstance(value, str):
            value.encode("utf-8")  # raises UnicodeEncodeError, which is a ValueError, for half of a surrogate pair
        elif isinstance(value, dict):
            waiting += [(each, depth + 1) for pair in value.items() for each in pair]
        elif isinstance(value, list):
            waiting += [(each, depth + 1) for each in value]


def _typed(shape: Any, value: Any, place: str) -> Any:
    """A value that fits its shape, with its times as seconds since 1970 and without members that are null."""
    kind = shape.type_name
    if kind == "timestamp":
        return _seconds(value, place)
    if kind == "structure" and isinstance(value, Mapping):
        return {
            name: _typed(shape.members[name], each, f"{place}.{name}")
            for name, each in value.items()
            if each is not None
        }
    if kind == "list":
        return [_typed(shape.member, each, place) for each in value]
    if kind == "map" and isinstance(value, Mapping):
        return {name: _typed(shape.value, each, place) for name, each in value.items()}
    return value


def _seconds(value: Any, place: str) -> float:
    """A time as the protocol sends it, a number, or as ISO 8601 writes it."""
    seconds: float
    try:
        if isinstance(value, str):
            read_as = dt.datetime.fromisoformat(value.replace("Z", "+00:00"))
            seconds = (read_as if read_as.tzinfo else read_as.replace(tzinfo=dt.timezone.utc)).timestamp()
        else:
            seconds = float(value)
    except (ValueError, OverflowError):
        seconds = math.nan
    if not _EARLIEST <= seconds <= _LATEST:
        raise malformed(f"{place}: expected a time, in seconds since 1970 or as ISO 8601 writes it")
    return seconds
