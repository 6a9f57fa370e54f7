"""Data processing: filters what the model receives of a record, and joins its answer to the record. No I/O.

A body is one JSON document, or lines that are JSON documents or rows of CSV; a row is a JSON array of its cells.
Filters are the part of JSONPath that batch transform supports: ``$`` is the whole document; ``.name``, ``['name']`` or
``["name"]`` a member, ``['a','b']`` several; ``*`` or ``.*`` every one; ``[1]``, ``[-1]``, ``[1,3]`` elements,
``[s:e]`` those from s up to but not including e, and ``[0,5:]`` both kinds together.

Source: SageMaker developer guide, "Associate Prediction Results with Input Records" and "Supported JSONPath Operators";
where a slice ends: JSONPath (RFC 9535, 2.3.4).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from tritonforge.errors import DecodeError, DefinitionError, TritonForgeError
from tritonforge.records import Buffer

if TYPE_CHECKING:
    from tritonforge.transform.job import TransformJob

__all__ = ["FilterError", "JsonPath", "Processing", "classify_content_type", "find_path_problem"]

_CSV: Final = "text/csv"
_JSON: Final = "application/json"
_JSON_LINES: Final = ("application/jsonlines", "application/x-jsonlines", "application/jsonl")

_OUTPUT: Final = "SageMakerOutput"
_INPUT: Final = "SageMakerInput"

_STEP: Final = re.compile(
    r"\.(?P<name>[^.\[\]'\"\s]+)"
    r"|\[\s*(?P<quoted>(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")(?:\s*,\s*(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"))*)\s*\]"
    r"|\[\s*(?P<star>\*)\s*\]"
    r"|\[\s*(?P<places>-?\d*(?:\s*:\s*-?\d*)?(?:\s*,\s*-?\d*(?:\s*:\s*-?\d*)?)*)\s*\]"
)
_QUOTED: Final = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")


class FilterError(TritonForgeError):
    """A document lacks the member or element that a filter selects."""


@dataclass(frozen=True, slots=True)
class _Members:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Elements:
    """Elements by number, or slices; ``single`` is the one form that selects an element rather than a list."""

    places: tuple[int | slice, ...]
    single: bool


@dataclass(frozen=True, slots=True)
class _Every:
    pass


_Step: TypeAlias = _Members | _Elements | _Every


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A parsed JSONPath expression."""

    text: str
    steps: tuple[_Step, ...]

    @classmethod
    @lru_cache(maxsize=64)
    def parse(cls, text: str) -> JsonPath:
        """Return the expression of a text. Raises DefinitionError.

        >>> JsonPath.parse("$[0,2:]").select(["a", "b", "c", "d"])
        ['a', 'c', 'd']
        """
        if problem := find_path_problem(text):
            raise DefinitionError(f"JSONPath {text!r}: {problem}")
        return cls(text, tuple(_parse_step(match) for match in _STEP.finditer(text, 1)))

    @property
    def is_all(self) -> bool:
        """True for ``$``."""
        return not self.steps

    def select(self, document: Any) -> Any:
        """Return what the expression selects. Raises FilterError if a member or an element is missing."""
        for step in self.steps:
            document = self._select(step, document)
        return document

    def _select(self, step: _Step, value: Any) -> Any:
        if isinstance(step, _Members):
            if not isinstance(value, dict):
                raise FilterError(f"{self.text}: {_shorten(value)} has no member {step.names[0]!r}")
            if missing := [name for name in step.names if name not in value]:
                raise FilterError(f"{self.text}: no member {missing[0]!r} (expected one of {sorted(value)})")
            if len(step.names) == 1:
                return value[step.names[0]]
            return {name: value[name] for name in step.names}
        if isinstance(step, _Every):
            if isinstance(value, dict):
                return list(value.values())
            if isinstance(value, list):
                return value
            raise FilterError(f"{self.text}: {_shorten(value)} has no elements")
        if not isinstance(value, list):
            raise FilterError(f"{self.text}: {_shorten(value)} is not an array")
        elements: list[Any] = []
        for place in step.places:
            if isinstance(place, slice):
                elements += value[place]
            elif -len(value) <= place < len(value):
                elements.append(value[place])
            else:
                raise FilterError(f"{self.text}: no element {place}; the array has {len(value)}")
        return elements[0] if step.single else elements


def find_path_problem(text: str) -> str:
    """Return why batch transform does not support an expression, "" if it does.

    >>> find_path_problem("$.features[0]")
    ''
    >>> find_path_problem("features")
    'it must begin with $'
    """
    if not text.startswith("$"):
        return "it must begin with $"
    position = 1
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            return f"{text[position:]!r} is none of .name, ['name'], ['a','b'], .*, [*], [1], [1,3], [1:3]"
        if match["places"] is not None and not all(place.strip() for place in match["places"].split(",")):
            return f"{match[0]!r} has an empty index"
        position = match.end()
    return ""


def _parse_step(match: re.Match[str]) -> _Step:
    if match["star"] or match["name"] == "*":
        return _Every()
    if match["name"]:
        return _Members((match["name"],))
    if match["quoted"]:
        quoted = (name[1] if name[1] is not None else name[2] for name in _QUOTED.finditer(match["quoted"]))
        return _Members(tuple(re.sub(r"\\(.)", r"\1", name) for name in quoted))
    places = tuple(_parse_place(place) for place in match["places"].split(","))
    return _Elements(places, len(places) == 1 and not isinstance(places[0], slice))


def _parse_place(text: str) -> int | slice:
    start, colon, end = text.partition(":")
    if not colon:
        return int(start)
    return slice(int(start) if start.strip() else None, int(end) if end.strip() else None)


def _shorten(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """The data processing of a job. Its methods raise DecodeError and FilterError."""

    rows: bool
    lines: bool
    input_filter: JsonPath
    output_filter: JsonPath
    join: bool

    @classmethod
    def from_job(cls, job: TransformJob) -> Processing | None:
        """Return the processing of a job, None if it leaves records and answers unchanged."""
        config = job.data_processing
        if config is None:
            return None
        processing = cls(
            rows=classify_content_type(job.input.content_type) == "csv",
            lines=job.input.split_type == "Line",
            input_filter=JsonPath.parse(config.input_filter or "$"),
            output_filter=JsonPath.parse(config.output_filter or "$"),
            join=config.join_source == "Input",
        )
        changes_nothing = processing.input_filter.is_all and processing.output_filter.is_all and not processing.join
        return None if changes_nothing else processing

    def filter_request(self, body: Buffer) -> bytes:
        """Return what the model receives of a body."""
        if self.input_filter.is_all:
            return bytes(body)
        return self._map(bytes(body), self.input_filter.select, "the record")

    def join_response(self, body: Buffer, answer: bytes) -> bytes:
        """Return the output for a body and the model's answer to it."""
        if not self.join:
            if self.output_filter.is_all:
                return answer
            return self._map(answer, self.output_filter.select, "the answer")
        documents = self._decode(bytes(body), "the record")
        answers = self._decode(answer, "the answer")
        if len(documents) != len(answers):
            raise DecodeError(f"cannot join {len(documents)} records with {len(answers)} answers of the model")
        pairs = zip(documents, answers, strict=True)
        return b"\n".join(self._encode(self.output_filter.select(self._join(*pair))) for pair in pairs)

    def _join(self, document: Any, answer: Any) -> Any:
        if self.rows:
            return [*document, *answer]
        if isinstance(document, dict):
            return {**document, _OUTPUT: answer}
        return {_INPUT: document, _OUTPUT: answer}

    def _map(self, body: bytes, change: Callable[[Any], Any], what: str) -> bytes:
        ending = b"\n" if self.lines and body.endswith(b"\n") else b""
        return b"\n".join(self._encode(change(document)) for document in self._decode(body, what)) + ending

    def _decode(self, body: bytes, what: str) -> list[Any]:
        pieces = body.removesuffix(b"\n").split(b"\n") if self.lines else [body]
        try:
            texts = [piece.decode() for piece in pieces]
            if self.rows:
                return [next(csv.reader([text]), []) for text in texts]
            return [json.loads(text) for text in texts]
        except (ValueError, RecursionError, csv.Error) as error:
            raise DecodeError(f"{what} is not {'CSV' if self.rows else 'JSON'}: {error}") from error

    def _encode(self, document: Any) -> bytes:
        if not self.rows:
            return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        cells = document if isinstance(document, list) else [document]
        if any(isinstance(cell, (list, dict)) for cell in cells):
            raise FilterError(f"{self.output_filter.text}: a row of CSV cannot hold {json.dumps(document):.40}")
        line = _Line()
        csv.writer(line, lineterminator="").writerow(cells)
        return line.text.encode()


class _Line:
    """The file that `csv.writer` writes to."""

    text = ""

    def write(self, text: str) -> None:
        self.text += text


def classify_content_type(content_type: str | None) -> Literal["csv", "json", "jsonlines"] | None:
    """Return how data processing reads a content type, None if it does not support it."""
    essence = (content_type or "").partition(";")[0].strip().lower()
    if essence in _JSON_LINES:
        return "jsonlines"
    return "csv" if essence == _CSV else "json" if essence == _JSON else None
