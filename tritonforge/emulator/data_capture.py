"""Data capture: an invocation is written as one line of JSON to a file in S3.

Source: Amazon SageMaker developer guide, "Capture data from real-time endpoint"; the examples of that page.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.emulator.emulated_s3 import EmulatedS3, ObjectMissingError
from tritonforge.emulator.interfaces import Capture, LiveEndpoint
from tritonforge.emulator.traffic import Sampler

__all__ = ["CaptureRecorder", "CapturedExchange", "build_uri", "write_line"]

_BASE64: Final = "BASE64"


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedExchange:
    """One invocation: bodies and content types, "" for a missing header."""

    event_id: str
    time: dt.datetime
    input: bytes
    input_type: str
    output: bytes
    output_type: str
    inference_id: str = ""
    custom_attributes: str = ""


def write_line(exchange: CapturedExchange, capture: Capture) -> str:
    r"""Write the exchange as one line, as SageMaker does, with the end of the line.

    >>> import datetime as dt
    >>> capture = Capture(percentage=100, destination="s3://b/c", modes=frozenset({"Output"}),
    ...                   csv_types=frozenset({"text/csv"}))
    >>> exchange = CapturedExchange(event_id="1", time=dt.datetime(2026, 1, 2, 3, 4, 5), input=b"", input_type="",
    ...                     output=b"0.5", output_type="text/csv; charset=utf-8")
    >>> write_line(exchange, capture)[:79]
    '{"captureData":{"endpointOutput":{"observedContentType":"text/csv; charset=utf-'
    """
    data: dict[str, Any] = {}
    if "Input" in capture.modes:
        data["endpointInput"] = _build_side(exchange.input, exchange.input_type, "INPUT", capture)
    if "Output" in capture.modes:
        data["endpointOutput"] = _build_side(exchange.output, exchange.output_type, "OUTPUT", capture)
    metadata: dict[str, Any] = {"eventId": exchange.event_id}
    if exchange.custom_attributes:
        metadata["customAttributes"] = [exchange.custom_attributes]
    if exchange.inference_id:
        metadata["inferenceId"] = exchange.inference_id
    metadata["inferenceTime"] = exchange.time.strftime("%Y-%m-%dT%H:%M:%SZ")
    record = {"captureData": data, "eventMetadata": metadata, "eventVersion": "0"}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def build_uri(capture: Capture, *, endpoint: str, variant: str, time: dt.datetime, name: str) -> str:
    """Build the URI of a file for an hour's invocations: ``<destination>/<endpoint>/<variant>/yyyy/mm/dd/hh/<file>``.

    >>> import datetime as dt
    >>> capture = Capture(percentage=100, destination="s3://b/c/", modes=frozenset())
    >>> build_uri(capture, endpoint="e", variant="v", time=dt.datetime(2026, 1, 2, 3, 4, 5, 678000), name="x")
    's3://b/c/e/v/2026/01/02/03/04-05-678-x.jsonl'
    """
    hour = time.strftime("%Y/%m/%d/%H")
    file = f"{time:%M-%S}-{time.microsecond // 1000:03d}-{name}.jsonl"
    return f"{capture.destination.rstrip('/')}/{endpoint}/{variant}/{hour}/{file}"


def _build_side(body: bytes, content_type: str, mode: str, capture: Capture) -> dict[str, str]:
    text, encoding = _encode_body(body, content_type, capture)
    return {"observedContentType": content_type, "mode": mode, "data": text, "encoding": encoding}


def _encode_body(body: bytes, content_type: str, capture: Capture) -> tuple[str, str]:
    """Encode the body as CaptureContentTypeHeader says for its type, else in base 64; return text and encoding."""
    plain = content_type.partition(";")[0].strip()
    for types, encoding in ((capture.csv_types, "CSV"), (capture.json_types, "JSON")):
        if plain in types or content_type in types:
            try:
                return body.decode(), encoding
            except UnicodeDecodeError:
                break  # binary under a text's name
    return base64.b64encode(body).decode(), _BASE64


#: Seconds between two files of a variant; AWS takes "a couple of minutes".
_PERIOD: Final = 60.0

#: Bytes of a file after which it is written at once.
_MAX_FILE: Final = 32 * 2**20


class CaptureRecorder:
    """Captures the exchanges of all endpoints; for use by many threads.

    ``log`` takes an endpoint and a sentence when a file could not be written.
    """

    def __init__(self, objects: EmulatedS3, *, speed: float, log: Callable[[str, str], None]) -> None:
        self._objects = objects
        self._period = _PERIOD / speed
        self._log = log
        self._lock = threading.Lock()
        self._sampling: dict[str, Sampler] = {}
        self._files: dict[tuple[str, str, str], _CaptureFile] = {}
        self._timer: threading.Timer | None = None
        self._closed = False

    def should_capture(self, endpoint: LiveEndpoint) -> bool:
        """Return True if the next exchange of an endpoint is captured; call it once for each exchange."""
        if endpoint.capture is None:
            return False
        with self._lock:
            return self._sampling.setdefault(endpoint.name, Sampler()).should_take(endpoint.capture.percentage)

    def add(self, endpoint: str, variant: str, capture: Capture, exchange: CapturedExchange) -> None:
        """Capture one exchange."""
        text = write_line(exchange, capture).encode()
        hour = exchange.time.strftime("%Y%m%d%H")
        with self._lock:
            file = self._files.setdefault((endpoint, variant, hour), _CaptureFile(capture, exchange.time))
            file.pieces.append(text)
            file.size += len(text)
            full = file.size >= _MAX_FILE
            if self._timer is None and not self._closed:
                self._timer = threading.Timer(self._period, self._write_periodically)
                self._timer.daemon = True
                self._timer.start()
        if full:
            self.flush(endpoint)

    def flush(self, endpoint: str | None = None) -> None:
        """Write what waits, of one endpoint or of all."""
        with self._lock:
            chosen = [key for key in self._files if endpoint in (None, key[0])]
            files = [(key, self._files.pop(key)) for key in chosen]
        for (name, variant, _), file in files:
            uri = build_uri(file.capture, endpoint=name, variant=variant, time=file.time, name=str(uuid.uuid4()))
            try:
                self._objects.put(uri, b"".join(file.pieces), content_type="application/jsonlines")
            except ObjectMissingError as error:
                self._log(name, f"data capture: {uri} was not written: {error}")

    def close(self) -> None:
        """Write everything, and end."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
        self.flush()

    def _write_periodically(self) -> None:
        with self._lock:
            self._timer = None
        self.flush()


class _CaptureFile:
    """The lines of one file: an hour's, of one variant."""

    def __init__(self, capture: Capture, time: dt.datetime) -> None:
        self.capture = capture
        self.time = time
        self.pieces: list[bytes] = []
        self.size = 0
