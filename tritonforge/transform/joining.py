"""Data processing: what of a record the model gets, and how its answer is joined to it. This module does no I/O.

A body is one JSON document, or lines, each a JSON document or a row of CSV; a row is a JSON array of its cells. Source:
SageMaker developer guide, "Associate Prediction Results with Input Records".
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.errors import DecodeError
from tritonforge.records import Buffer
from tritonforge.transform.job import DataProcessing, TransformJob, data_kind
from tritonforge.transform.jsonpath import FilterError, JsonPath

__all__ = ["Processing"]

_OUTPUT: Final = "SageMakerOutput"
_INPUT: Final = "SageMakerInput"


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """The data processing of a job; its methods raise DecodeError and FilterError."""

    rows: bool
    lines: bool
    input_filter: JsonPath
    output_filter: JsonPath
    join: bool

    @classmethod
    def of(cls, job: TransformJob) -> Processing | None:
        """The processing that a job asks for; None where it leaves records and answers as they are."""
        asked = job.data_processing or DataProcessing()
        processing = cls(
            rows=data_kind(job.input.content_type) == "csv",
            lines=job.input.split_type == "Line",
            input_filter=JsonPath.parse(asked.input_filter or "$"),
            output_filter=JsonPath.parse(asked.output_filter or "$"),
            join=asked.join_source == "Input",
        )
        idle = processing.input_filter.is_all and processing.output_filter.is_all and not processing.join
        return None if idle else processing

    def request(self, body: Buffer) -> bytes:
        """What the model gets of a body."""
        if self.input_filter.is_all:
            return bytes(body)
        return self._mapped(bytes(body), lambda document: self.input_filter.of(document), "the record")

    def output(self, body: Buffer, answer: bytes) -> bytes:
        """What is kept of a body and the model's answer to it."""
        if not self.join:
            if self.output_filter.is_all:
                return answer
            return self._mapped(answer, lambda document: self.output_filter.of(document), "the answer")
        documents = self._documents(bytes(body), "the record")
        answers = self._documents(answer, "the answer")
        if len(documents) != len(answers):
            raise DecodeError(
                f"the model answered {len(documents)} records with {len(answers)}; so they cannot be joined"
            )
        joined = [
            self.output_filter.of(self._joined(each, told)) for each, told in zip(documents, answers, strict=True)
        ]
        return b"\n".join(map(self._written, joined))

    def _joined(self, document: Any, answer: Any) -> Any:
        if self.rows:
            return [*document, *answer]
        if isinstance(document, dict):
            return {**document, _OUTPUT: answer}
        return {_INPUT: document, _OUTPUT: answer}

    def _mapped(self, body: bytes, change: Callable[[Any], Any], what: str) -> bytes:
        ending = b"\n" if self.lines and body.endswith(b"\n") else b""
        return b"\n".join(self._written(change(each)) for each in self._documents(body, what)) + ending

    def _documents(self, body: bytes, what: str) -> list[Any]:
        pieces = body.removesuffix(b"\n").split(b"\n") if self.lines else [body]
        try:
            texts = [each.decode() for each in pieces]
            if self.rows:
                return [next(csv.reader([text]), []) for text in texts]
            return [json.loads(text) for text in texts]
        except (ValueError, RecursionError, csv.Error) as error:
            raise DecodeError(f"{what} is no {'CSV' if self.rows else 'JSON'}: {error}") from error

    def _written(self, document: Any) -> bytes:
        if not self.rows:
            return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        cells = document if isinstance(document, list) else [document]
        if any(isinstance(each, (list, dict)) for each in cells):
            raise FilterError(f"{self.output_filter.text}: a row of CSV cannot hold {json.dumps(document):.40}")
        line = _Line()
        csv.writer(line, lineterminator="").writerow(cells)
        return line.text.encode()


class _Line:
    """What `csv.writer` writes to."""

    text = ""

    def write(self, text: str) -> None:
        self.text += text
