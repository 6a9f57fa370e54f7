r"""AWS's own service models, as botocore carries them, and requests that are checked against them before any call.

botocore itself checks required members, types and minimums only (botocore.validate `range_check`); maximums, patterns
and enumerations are checked by the service, after the call. Here all of them are checked before it, and the emulator
rejects a request with them as the service does. A model is loaded when it is first needed.

Limits that AWS documents but its models do not contain are in `tritonforge.sagemaker.limits`.
"""

from __future__ import annotations

import datetime as dt
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from tritonforge.errors import MissingExtraError, RequestError

__all__ = ["Path", "Violation", "check_request", "check_shape", "describe_violations", "find_operation",
           "format_service_message", "list_operations", "load_service"]  # fmt: skip

Path: TypeAlias = tuple[str | int, ...]
Kind: TypeAlias = Literal["required", "unknown", "type", "length", "value", "pattern", "enum", "union", "limit"]

#: Seconds that one pattern may take: some of the models' patterns are slow on values made for it.
_PATTERN_TIMEOUT: Final = 2.0

#: How Java writes what lies beyond U+FFFF: as the two surrogates of UTF-16 (java.util.regex.Pattern, "Unicode").
_SURROGATES: Final = r"\uD800\uDC00-\uDBFF\uDFFF"

#: Characters of a value that a sentence shows.
_VALUE_LENGTH: Final = 256


@dataclass(frozen=True, slots=True)
class Violation:
    """A constraint that a request breaks: where, the constraint, the value there (None if missing), and its kind.

    >>> Violation(("Variants", 0, "Name"), "Member must have length less than or equal to 2", "a_b", "length").place
    'Variants[0].Name'
    """

    path: Path
    sentence: str
    value: Any = None
    kind: Kind = "limit"

    @property
    def place(self) -> str:
        """The path as boto3's users write it: ``ProductionVariants[0].VariantName``."""
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text


@lru_cache(maxsize=16)
def load_service(name: str) -> Any:
    """Load the newest model of a service (``sagemaker``, ``sagemaker-runtime``, ...): botocore's ``ServiceModel``.

    Raises:
        MissingExtraError: botocore is not installed.
    """
    try:
        from botocore.loaders import Loader
        from botocore.model import ServiceModel
    except ImportError as error:
        raise MissingExtraError("boto3", extra="aws") from error
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def list_operations(service: str) -> tuple[str, ...]:
    """Return the names of a service's operations."""
    return tuple(load_service(service).operation_names)


@lru_cache(maxsize=256)
def find_operation(service: str, operation: str) -> Any:
    """Return an operation of a service: botocore's ``OperationModel``, with input_shape and output_shape.

    Raises:
        RequestError: the installed botocore does not have the operation.
    """
    if operation not in list_operations(service):
        raise RequestError(
            f"the installed botocore has no operation {operation} of {service}; update it: pip install -U boto3"
        )
    return load_service(service).operation_model(operation)


def check_request(service: str, operation: str, request: Mapping[str, Any]) -> None:
    """Check a request against the model of its operation, before any call.

    Raises:
        RequestError: with every constraint that is broken, and where.
    """
    violations = check_shape(find_operation(service, operation).input_shape, request)
    if violations:
        raise RequestError(f"{operation}: AWS would reject this request:\n{describe_violations(violations)}")


def check_shape(shape: Any, value: Any, *, path: Path = ()) -> tuple[Violation, ...]:
    """Return every constraint of a shape (botocore's ``Shape``) that a value breaks, in the order of its members.

    Raises:
        MissingExtraError: the ``regex`` package, which reads the models' Java patterns, is not installed.
    """
    return tuple(_check_value(shape, value, path))


def format_service_message(violations: Sequence[Violation]) -> str:
    """Return the broken constraints as SageMaker's own ValidationException words them.

    Indices count from 1, names begin small: "1 validation error detected: Value 'a_b' at
    'productionVariants.1.member.variantName' failed to satisfy constraint: Member must ...". The form is that of the
    answers quoted in AWS's public forums and issues; the service model holds no sentences.
    """
    noun = "error" if len(violations) == 1 else "errors"
    return f"{len(violations)} validation {noun} detected: " + "; ".join(
        f"Value {_quote(violation.value)} at '{_join_path(violation.path)}' failed to satisfy constraint: "
        f"{violation.sentence}"
        for violation in violations
    )


def describe_violations(violations: Sequence[Violation]) -> str:
    """Return the broken constraints for the author of the request: ``Place is 'value': constraint``, one per line."""
    return "\n".join(
        f"{violation.place or 'the request'}: {violation.sentence}"
        if violation.value is None
        else f"{violation.place or 'the request'} is {_quote(violation.value)}: {violation.sentence}"
        for violation in violations
    )


def _check_value(shape: Any, value: Any, path: Path) -> Iterator[Violation]:
    kind: str = shape.type_name
    if not _has_type(kind, value):
        yield Violation(path, f"Member must be of type {kind}", value, "type")
    elif kind == "structure":
        yield from _check_structure(shape, value, path)
    elif kind == "list":
        yield from _check_length(shape, value, path)
        for index, item in enumerate(value):
            yield from _check_value(shape.member, item, (*path, index))
    elif kind == "map":
        yield from _check_length(shape, value, path)
        for key, item in value.items():
            yield from _check_value(shape.key, key, (*path, key))
            yield from _check_value(shape.value, item, (*path, key))
    elif kind in ("string", "character"):
        yield from _check_length(shape, value, path)
        yield from _check_text(shape, value, path)
    elif kind == "blob" and isinstance(value, bytes | bytearray):
        yield from _check_length(shape, value, path)
    elif kind in ("integer", "long", "float", "double"):
        yield from _check_range(shape, value, path)


def _check_structure(shape: Any, value: Mapping[str, Any], path: Path) -> Iterator[Violation]:
    required = set(shape.required_members)
    members: Mapping[str, Any] = shape.members
    for name, member in members.items():
        here = (*path, name)
        if value.get(name) is not None:
            yield from _check_value(member, value[name], here)
        elif name in required:
            yield Violation(here, "Member must not be null", None, "required")
    for name in value:
        if name not in members:
            yield Violation((*path, name), f"Member must be one of: {', '.join(members)}", value[name], "unknown")
    if shape.metadata.get("union") and sum(value.get(name) is not None for name in members) != 1:
        yield Violation(path, f"Member must have exactly one of: {', '.join(members)}", dict(value), "union")


def _has_type(kind: str, value: Any) -> bool:
    """Return True if a value has the shape's type, as botocore accepts it."""
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


def _check_length(shape: Any, value: Any, path: Path) -> Iterator[Violation]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and len(value) < least:
        yield Violation(path, f"Member must have length greater than or equal to {least}", value, "length")
    if most is not None and len(value) > most:
        yield Violation(path, f"Member must have length less than or equal to {most}", value, "length")


def _check_range(shape: Any, value: float, path: Path) -> Iterator[Violation]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and not value >= least:  # so that NaN is rejected too
        yield Violation(path, f"Member must have value greater than or equal to {least}", value, "value")
    if most is not None and not value <= most:
        yield Violation(path, f"Member must have value less than or equal to {most}", value, "value")


def _check_text(shape: Any, value: str, path: Path) -> Iterator[Violation]:
    pattern = shape.metadata.get("pattern")
    if pattern and not _matches(pattern, value):
        yield Violation(path, f"Member must satisfy regular expression pattern: {pattern}", value, "pattern")
    if shape.enum and value not in shape.enum:
        yield Violation(path, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]", value, "enum")


def _matches(pattern: str, value: str) -> bool:
    try:
        return _compile(pattern).fullmatch(value, timeout=_PATTERN_TIMEOUT) is not None
    except TimeoutError:
        return False


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> Any:
    try:
        import regex
    except ImportError as error:
        raise MissingExtraError("regex", extra="aws") from error
    return regex.compile(pattern.replace(_SURROGATES, r"\U00010000-\U0010FFFF"))


def _quote(value: Any) -> str:
    if value is None:
        return "null"
    text = str(value)
    return f"'{text if len(text) <= _VALUE_LENGTH else text[:_VALUE_LENGTH] + '...'}'"


def _join_path(path: Path) -> str:
    """Write a path as the service does: ``productionVariants.1.member.variantName``."""
    return ".".join(f"{part + 1}.member" if isinstance(part, int) else part[:1].lower() + part[1:] for part in path)
