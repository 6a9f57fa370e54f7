"""The case of a golden test: its inputs and what is expected of the answer, parsed from JSON. This module does no I/O.

JSON, not TOML: Python 3.10 reads no TOML without a further package, and tensors are nested lists, which JSON, the wire
format and `tritonforge infer` write alike.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tritonforge.errors import CaseError

__all__ = ["Case", "Expectation", "Source", "Tolerance", "parse_case", "parse_json"]

#: The fields of a case, of an input that is a file, and of an expectation.
_CASE_FIELDS: Final = ("description", "model", "inputs", "outputs", "steps", "error")
_FILE_FIELDS: Final = ("file", "files")
_EXPECTATION_FIELDS: Final = ("value", "classes", "top", "absolute", "relative", "ignore")

#: The most files of a batch, classes of an expectation, and mistakes that a message lists.
_MOST_FILES: Final = 1024
_MOST_CLASSES: Final = 1000
_MOST_MISTAKES: Final = 20

#: A path below the directory of the cases.
_RELATIVE_PATH: Final = re.compile(r"(?!/)[^\0\\]+")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a number may be from the expected one: ``absolute + relative * |expected|``.

    Both are None for the default of the datatype; if one is given, the other one is 0.
    """

    absolute: float | None = None
    relative: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The value of a tensor: ``files`` relative to the case, one for each row of the batch, or a JSON ``value``."""

    files: tuple[str, ...] = ()
    value: Any = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is expected of one output.

    Attributes:
        value: the expected tensor, in addition to the recorded one.
        classes: the best classes of each row, the best first, as indexes or labels.
        top: compare this number of best classes with the recorded ones instead of the numbers.
        tolerance: for the recorded and the expected tensor.
        is_ignored: do not compare the output with the recording.
    """

    value: Source | None = None
    classes: tuple[tuple[int | str, ...], ...] = ()
    top: int | None = None
    tolerance: Tolerance = Tolerance()
    is_ignored: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A case by its name: the inputs of the model, and expectations by output and by step.

    ``model`` is None for the repository's only outermost model; ``error`` is a text that the server's error contains.
    """

    name: str
    inputs: Mapping[str, Source]
    description: str = ""
    model: str | None = None
    outputs: Mapping[str, Expectation] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Expectation]] = field(default_factory=dict)
    error: str | None = None

    @property
    def has_own_expectations(self) -> bool:
        """Whether the case can fail without a recording."""
        groups = [self.outputs, *self.steps.values()]
        return self.error is not None or any(
            expected.value is not None or expected.classes for group in groups for expected in group.values()
        )


def parse_json(text: str, where: str) -> Any:
    """Return a JSON document without duplicate names and without NaN.

    Raises:
        CaseError: the text is not such a document.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_build_object, parse_constant=_refuse_constant, parse_float=_parse_float
        )
    except RecursionError as error:
        raise CaseError(f"{where}: expected JSON: it is nested too deeply") from error
    except ValueError as error:
        raise CaseError(f"{where}: expected JSON: {error}") from error


def parse_case(name: str, text: str, *, where: str) -> Case:
    """Return the case that a JSON document states.

    Args:
        name: the name of the case.
        text: the document.
        where: the start of messages, such as the path of the file.

    Raises:
        CaseError: the document is not a case; one line for each mistake.
    """
    document = parse_json(text, where)
    reader = _Reader()
    if not isinstance(document, dict):
        raise CaseError(f'{where}: expected an object such as {{"inputs": {{...}}}}, got {_shorten(document)}')
    case = reader.read_case(name, document)
    if reader.mistakes:
        shown = [f"{where}: {mistake}" for mistake in reader.mistakes[:_MOST_MISTAKES]]
        if len(reader.mistakes) > _MOST_MISTAKES:
            shown.append(f"{where}: {len(reader.mistakes) - _MOST_MISTAKES} more mistakes")
        raise CaseError("\n".join(shown))
    return case


class _Reader:
    """Reads the parts of a case and collects the mistakes in them, one sentence for each."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []

    def read_case(self, name: str, document: Mapping[str, Any]) -> Case:
        self._check_fields("", document, _CASE_FIELDS)
        inputs = {
            tensor: source
            for tensor, entry in self._read_object("inputs", document.get("inputs", {}))
            if (source := self._read_source(f"inputs.{tensor}", entry)) is not None
        }
        if not document.get("inputs"):
            self._add("inputs", "missing", 'write "inputs": {"INPUT": {"file": "image.png"}}')
        case = Case(
            name,
            inputs,
            description=self._read_text("description", document) or "",
            model=self._read_text("model", document),
            outputs=self._read_expectations("outputs", document.get("outputs", {})),
            steps={
                step: self._read_expectations(f"steps.{step}", entry)
                for step, entry in self._read_object("steps", document.get("steps", {}))
            },
            error=self._read_text("error", document),
        )
        if case.error is not None and (case.outputs or case.steps):
            self._add("error", "a case that expects an error has no outputs", "remove outputs and steps, or error")
        return case

    def _read_expectations(self, where: str, value: Any) -> dict[str, Expectation]:
        return {
            name: self._read_expectation(f"{where}.{name}", entry) for name, entry in self._read_object(where, value)
        }

    def _read_expectation(self, where: str, value: Any) -> Expectation:
        document = dict(self._read_object(where, value))
        self._check_fields(where, document, _EXPECTATION_FIELDS)
        absolute, relative = (self._read_tolerance(where, document, key) for key in ("absolute", "relative"))
        is_ignored = document.get("ignore", False)
        if not isinstance(is_ignored, bool):
            self._add(f"{where}.ignore", f"expected true or false, got {_shorten(is_ignored)}")
        top = document.get("top")
        if top is not None and not (type(top) is int and 1 <= top <= 10):
            self._add(f"{where}.top", f"expected a number of classes from 1 to 10, got {_shorten(top)}")
            top = None
        if top is not None and (absolute is not None or relative is not None):
            self._add(f"{where}.top", "classes are compared without a tolerance", "remove absolute and relative")
        source = self._read_source(f"{where}.value", document["value"]) if "value" in document else None
        classes = self._read_classes(f"{where}.classes", document["classes"]) if "classes" in document else ()
        return Expectation(source, classes, top, Tolerance(absolute, relative), is_ignored is True)

    def _read_classes(self, where: str, value: Any) -> tuple[tuple[int | str, ...], ...]:
        """Return the classes of each row; a flat list is the classes of the only row."""
        rows = value if isinstance(value, list) and value and all(isinstance(row, list) for row in value) else [value]
        for row in rows:
            if not isinstance(row, list) or not 1 <= len(row) <= _MOST_CLASSES:
                self._add(where, f"expected a list of classes, or one such list for each row, got {_shorten(value)}")
                return ()
            for entry in row:
                if not isinstance(entry, str) and not (type(entry) is int and entry >= 0):
                    self._add(where, f"a class is an index or a label, got {_shorten(entry)}")
                    return ()
        return tuple(tuple(row) for row in rows)

    def _read_source(self, where: str, value: Any) -> Source | None:
        if not isinstance(value, dict):
            if value is None:
                self._add(where, "expected a value or a file, got null")
                return None
            return Source(value=value)
        if len(value) != 1 or next(iter(value)) not in _FILE_FIELDS:
            names = ", ".join(map(_shorten, value)) or "{}"
            self._add(where, f'expected a JSON value, {{"file": PATH}} or {{"files": [PATH, ...]}}, got {names}')
            return None
        ((key, given),) = value.items()
        paths = [given] if key == "file" else given
        if not isinstance(paths, list) or not 1 <= len(paths) <= _MOST_FILES:
            self._add(f"{where}.{key}", f"expected a list of 1 to {_MOST_FILES} paths, got {_shorten(given)}")
            return None
        for path in paths:
            if not isinstance(path, str) or not _RELATIVE_PATH.fullmatch(path) or ".." in path.split("/"):
                expected = "a path below the directory of the cases, with / and without .."
                self._add(f"{where}.{key}", f"expected {expected}, got {_shorten(path)}")
                return None
        return Source(files=tuple(paths))

    def _read_tolerance(self, where: str, document: Mapping[str, Any], key: str) -> float | None:
        value = document.get(key)
        if value is None and key not in document:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            self._add(f"{where}.{key}", f"expected a number that is not negative, got {_shorten(value)}")
            return None
        return float(value)

    def _read_text(self, key: str, document: Mapping[str, Any]) -> str | None:
        value = document.get(key)
        if value is not None and not isinstance(value, str):
            self._add(key, f"expected a text, got {_shorten(value)}")
            return None
        if key in ("model", "error") and value == "":
            self._add(key, "expected a text that is not empty", f"remove {key}, or fill it in")
        return value

    def _read_object(self, where: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            yield from value.items()
        else:
            self._add(where, f"expected an object, got {_shorten(value)}")

    def _check_fields(self, where: str, document: Mapping[str, Any], fields: Sequence[str]) -> None:
        for key in document:
            if key not in fields:
                self._add(f"{where}.{key}" if where else key, f"unknown field (expected {', '.join(fields)})")

    def _add(self, where: str, problem: str, advice: str = "") -> None:
        self.mistakes.append(
            f"{where}: {problem}. {advice[:1].upper()}{advice[1:]}." if advice else f"{where}: {problem}"
        )


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"duplicate name {_shorten(key)}")
        document[key] = value
    return document


def _parse_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is out of the range of FP64")
    return number


def _refuse_constant(text: str) -> Any:
    raise ValueError(f'{text} is not JSON; write the string "{text}"')


def _shorten(value: Any) -> str:
    """Return a value for a message: JSON, at most 60 characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return "a huge integer"
    render: Callable[[Any], str] = json.dumps
    try:
        text = render(value)
    except RecursionError:
        text = "a value that is nested too deeply"
    return text if len(text) <= 60 else f"{text[:57]}..."
