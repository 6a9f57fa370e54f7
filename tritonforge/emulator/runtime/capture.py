"""Captured data: one invocation as one line of JSON, and the file that it goes into. This module does no I/O.

Source: Amazon SageMaker developer guide, "Capture data from real-time endpoint"; the examples of that page.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.emulator.requests import Capture

__all__ = ["Exchange", "key", "line"]

_OUT_OF_TEXT: Final = "BASE64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One invocation as it was seen: bodies and content types, "" where a header was missing."""

    event_id: str
    time: dt.datetime
    input: bytes
    input_type: str
    output: bytes
    output_type: str
    inference_id: str = ""
    custom_attributes: str = ""


def line(exchange: Exchange, capture: Capture) -> str:
    r"""The exchange as SageMaker writes it, with the line's end.

    >>> import datetime as dt
    >>> capture = Capture(percentage=100, destination="s3://b/c", modes=frozenset({"Output"}),
    ...                   csv_types=frozenset({"text/csv"}))
    >>> exchange = Exchange(event_id="1", time=dt.datetime(2026, 1, 2, 3, 4, 5), input=b"", input_type="",
    ...                     output=b"0.5", output_type="text/csv; charset=utf-8")
    >>> line(exchange, capture)[:79]
    '{"captureData":{"endpointOutput":{"observedContentType":"text/csv; charset=utf-'
    """
    data: dict[str, Any] = {}
    if "Input" in capture.modes:
        data["endpointInput"] = _side(exchange.input, exchange.input_type, "INPUT", capture)
    if "Output" in capture.modes:
        data["endpointOutput"] = _side(exchange.output, exchange.output_type, "OUTPUT", capture)
    metadata: dict[str, Any] = {"eventId": exchange.event_id}
    if exchange.custom_attributes:
        metadata["customAttributes"] = [exchange.custom_attributes]
    if exchange.inference_id:
        metadata["inferenceId"] = exchange.inference_id
    metadata["inferenceTime"] = exchange.time.strftime("%Y-%m-%dT%H:%M:%SZ")
    record = {"captureData": data, "eventMetadata": metadata, "eventVersion": "0"}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def key(capture: Capture, *, endpoint: str, variant: str, time: dt.datetime, name: str) -> str:
    """The URI of the file for invocations of an hour: ``<destination>/<endpoint>/<variant>/yyyy/mm/dd/hh/<file>``.

    >>> import datetime as dt
    >>> capture = Capture(percentage=100, destination="s3://b/c/", modes=frozenset())
    >>> key(capture, endpoint="e", variant="v", time=dt.datetime(2026, 1, 2, 3, 4, 5, 678000), name="x")
    's3://b/c/e/v/2026/01/02/03/04-05-678-x.jsonl'
    """
    hour = time.strftime("%Y/%m/%d/%H")
    file = f"{time:%M-%S}-{time.microsecond // 1000:03d}-{name}.jsonl"
    return f"{capture.destination.rstrip('/')}/{endpoint}/{variant}/{hour}/{file}"


def _side(body: bytes, content_type: str, mode: str, capture: Capture) -> dict[str, str]:
    text, encoding = _encoded(body, content_type, capture)
    return {"observedContentType": content_type, "mode": mode, "data": text, "encoding": encoding}


def _encoded(body: bytes, content_type: str, capture: Capture) -> tuple[str, str]:
    """The body as text, in the encoding that CaptureContentTypeHeader names for its type; else in base 64."""
    plain = content_type.partition(";")[0].strip()
    for types, encoding in ((capture.csv_types, "CSV"), (capture.json_types, "JSON")):
        if plain in types or content_type in types:
            try:
                return body.decode(), encoding
            except UnicodeDecodeError:
                break  # binary under a text's name
    return base64.b64encode(body).decode(), _OUT_OF_TEXT
