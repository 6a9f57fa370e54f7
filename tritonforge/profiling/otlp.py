"""Traces as OpenTelemetry: an ExportTraceServiceRequest in the JSON form of OTLP, written in pieces. No I/O.

Names of spans and attributes are those of tritonserver's own OpenTelemetry mode: a span InferRequest, and one named
after every model. The phases of an execution are spans of their own below it. Ids are derived from the trace, so that a
second export of a file overwrites the first one instead of adding to it.
Source: opentelemetry-proto, docs/specification.md, "OTLP/HTTP, JSON Protobuf Encoding": ids are hexadecimal, 64-bit
integers are strings, enumerations are integers; server/src/tracer.cc, StartSpan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from tritonforge.profiling.traces import Execution, RequestTrace

__all__ = ["render_otlp"]

#: Span.SpanKind of opentelemetry/proto/trace/v1/trace.proto.
_INTERNAL: Final = 1
_SERVER: Final = 2

_SERVICE: Final = "triton-inference-server"


def render_otlp(traces: Iterable[RequestTrace], *, clock_offset: int, version: str) -> Iterator[str]:
    """Yield the pieces of the JSON document of the requests, one line.

    ``clock_offset`` is what is added to the server's steady clock to obtain nanoseconds since 1970. ``version`` is that
    of the instrumentation scope, tritonforge.
    """
    resource = {"attributes": [_build_attribute("service.name", _SERVICE)]}
    scope = {"name": "tritonforge", "version": version}
    yield f'{{"resourceSpans":[{{"resource":{_dump(resource)},"scopeSpans":[{{"scope":{_dump(scope)},"spans":['
    separator = ""
    for trace in traces:
        for span in _list_spans(trace, clock_offset):
            yield f"{separator}{_dump(span)}"
            separator = ","
    yield "]}]}]}\n"


def _dump(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))


def _list_spans(trace: RequestTrace, offset: int) -> Iterator[dict[str, Any]]:
    trace_id = _derive_id(16, trace.root.model, trace.root.id, trace.begin + offset)
    request_id = _derive_id(8, trace_id, "request")
    yield _build_span(trace_id, request_id, "", "InferRequest", _SERVER, trace.begin + offset, trace.end + offset)
    spans: dict[int | None, str] = {}
    for execution in trace.executions:
        span_id = spans[execution.id] = _derive_id(8, trace_id, execution.id)
        parent = spans.get(execution.parent_id, request_id)
        begin, end = _find_handler_period(execution)
        span = _build_span(trace_id, span_id, parent, execution.model, _INTERNAL, begin + offset, end + offset)
        span["attributes"] = [
            _build_attribute("triton.model_name", execution.model),
            _build_attribute("triton.model_version", execution.version),
            _build_attribute("triton.trace_id", execution.id),
            _build_attribute("triton.trace_parent_id", execution.parent_id or 0),
        ]
        if trace.request_id:
            span["attributes"].append(_build_attribute("triton.request_id", trace.request_id))
        span["events"] = [
            {"timeUnixNano": str(max(time + offset, 0)), "name": name}
            for name, time in sorted(execution.timestamps.items(), key=lambda item: (item[1], item[0]))
        ]
        yield span
        for phase in execution.phases:
            above = request_id if phase.name in ("receive", "send") else span_id
            yield _build_span(
                trace_id,
                _derive_id(8, trace_id, execution.id, phase.name),
                above,
                phase.name,
                _INTERNAL,
                phase.begin + offset,
                phase.end + offset,
            )


def _find_handler_period(execution: Execution) -> tuple[int, int]:
    """Return when Triton's core handled the request, without the front end's receiving and sending."""
    times = execution.timestamps
    begin, end = times.get("REQUEST_START", execution.begin), times.get("REQUEST_END", execution.end)
    return (begin, end) if begin <= end else (execution.begin, execution.end)


def _build_span(trace_id: str, span_id: str, parent: str, name: str, kind: int, begin: int, end: int) -> dict[str, Any]:
    span: dict[str, Any] = {"traceId": trace_id, "spanId": span_id}
    if parent:
        span["parentSpanId"] = parent
    return span | {
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(max(begin, 0)),
        "endTimeUnixNano": str(max(end, 0)),
    }


def _build_attribute(key: str, value: str | int) -> dict[str, Any]:
    if isinstance(value, str):
        return {"key": key, "value": {"stringValue": value}}
    return {"key": key, "value": {"intValue": str(value)}}


def _derive_id(size: int, *parts: object) -> str:
    """Return ``size`` bytes as hexadecimal digits; not all of them are zero, which OpenTelemetry forbids."""
    digits = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[: 2 * size]
    return digits if digits.strip("0") else "1".rjust(2 * size, "0")
