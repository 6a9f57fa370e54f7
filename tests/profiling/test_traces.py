"""Traces of Triton: records, requests, the summary, the waterfall and OpenTelemetry."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.triton_traces import write_request
from tritonforge.errors import TraceError
from tritonforge.profiling import trace_records, traces
from tritonforge.profiling.otlp import render_otlp
from tritonforge.profiling.trace_records import BOUNDARY, RecordReader, TimestampRecord, render_records
from tritonforge.profiling.trace_summary import list_executions_with_rest, summarize_traces
from tritonforge.profiling.traces import RequestTrace, assemble_traces
from tritonforge.profiling.waterfall import render_waterfall_html, render_waterfall_svg


def read(text: str, *, piece: int = 1 << 20) -> tuple[list[RequestTrace], RecordReader]:
    """Return the requests of a text that comes in pieces of this many characters."""
    reader = RecordReader((text[place : place + piece] for place in range(0, len(text), piece)), where="t.json")
    return list(assemble_traces(reader)), reader


@pytest.mark.parametrize("piece", [1, 7, 100, 1 << 20])
def test_the_steps_of_an_ensemble_are_below_its_request_in_order_of_time(piece: int) -> None:
    (request,), reader = read(f"[{write_request()}]", piece=piece)
    assert [(step.model, step.depth, step.duration) for step in request.executions] == [
        ("digits", 0, 900_000), ("decode", 1, 365_000), ("classify", 1, 450_000)
    ]  # fmt: skip
    phases = {phase.name: phase.end - phase.begin for phase in request.executions[2].phases}
    assert phases == {"queue": 90_000, "input": 10_000, "infer": 290_000, "output": 40_000}
    assert [phase.name for phase in request.root.phases] == ["receive", "send"]
    rests = {step.model: rest for step, rest in list_executions_with_rest(request)}
    assert rests == {"digits": 900_000 - 20_000 - 365_000 - 450_000 - 40_000, "decode": 15_000, "classify": 20_000}
    assert (reader.unreadable, reader.is_cut_off) == (0, False)


def test_the_wait_for_a_grpc_request_is_not_a_part_of_it() -> None:
    text = (
        '{"id":4,"model_name":"m","model_version":1},{"id":4,"timestamps":[{"name":"REQUEST_START","ns":900}]},'
        '{"id":4,"timestamps":[{"name":"REQUEST_END","ns":990}]},'
        '{"id":4,"timestamps":[{"name":"GRPC_WAITREAD_START","ns":5}]},'
        '{"id":4,"timestamps":[{"name":"GRPC_WAITREAD_END","ns":890}]},'
        '{"id":4,"timestamps":[{"name":"GRPC_SEND_START","ns":1000}]},'
        '{"id":4,"timestamps":[{"name":"GRPC_SEND_END","ns":1100}]}'
    )
    (request,), _ = read(f"[{text}]")
    assert (request.begin, request.end) == (890, 1100)
    assert request.root.sum_phase("send") == 100


@pytest.mark.parametrize("request_id", ['my "id"\n', "}]},", '"},{"id":7', "\\", "\x1b[2J", '","parent_id":3}'])
def test_a_request_id_that_triton_does_not_escape_is_read(request_id: str) -> None:
    requests, reader = read(f"[{write_request(request_id=request_id)}]")
    assert [(request.request_id, len(request.executions)) for request in requests] == [(request_id, 3)]
    assert reader.unreadable == 0
    written = render_records(RecordReader([f"[{write_request(request_id=request_id)}]"]))
    assert json.loads(f"[{written}]")[0]["request_id"] == request_id


def test_a_file_that_is_cut_off_gives_the_requests_before_that() -> None:
    text = f"[{write_request(1)}{BOUNDARY}{write_request(4, begin=5_000_000)}]"
    for length in range(8, len(text), 3):
        requests, reader = read(text[:length])
        assert reader.is_cut_off
        assert all(request.root.model == "digits" for request in requests)
    assert len(read(text)[0]) == 2


@pytest.mark.parametrize("text", ["", " \n", "{}", "[1, 2]", "\x00\x01", '{"resourceSpans": []}', '[{"a": 1}]'])
def test_another_file_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(TraceError, match=r"^t.json: ") as caught:
        read(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "noise",
    [
        '{"id":1,"x":' + "[" * 5000,
        '{"id":' + "9" * 5000 + "}",
        '{"id":1,"timestamps":[{"name":1,"ns":-1}]}',
        '{"id":1,"timestamps":7}',
        '{"id":true,"model_name":"m","model_version":1}',
        '{"id":1,"model_name":"' + "x" * 100_000,
        '{"id":1,"x":[' * 20_000,
        '{"id":1' * 20_000,
        '{"id":1,"model_name":"m","model_version":1,"request_id":"' * 2000,
        "garbage",
    ],
)
def test_what_is_not_a_record_is_skipped_and_counted(noise: str) -> None:
    requests, reader = read(f"[{write_request()},{noise},{write_request(4)}]")
    assert [request.root.model for request in requests] == ["digits", "digits"]
    assert reader.unreadable > 0


def test_a_text_of_too_many_foreign_records_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_records, "MOST_UNREADABLE", 20)
    read_pieces = []

    def list_pieces() -> Iterator[str]:
        yield f"[{write_request()}"
        for number in range(1000):
            read_pieces.append(number)
            yield ',{"id":1}' * 10_000

    reader = RecordReader(list_pieces())
    (request,) = assemble_traces(reader)
    assert (request.root.model, reader.has_stopped, reader.is_cut_off) == ("digits", True, False)
    assert len(read_pieces) < 10


def test_records_without_a_timestamp_are_no_errors() -> None:
    empty = ',{"id":1,"timestamps":[]}' * 3
    _, reader = read(f"[{write_request()}{empty}]")
    assert reader.unreadable == 0


def test_records_of_tensors_are_skipped() -> None:
    tensor = '{"id":1,"activity":"TENSOR_QUEUE_INPUT","tensor":{"name":"IMAGE","data":"\\"\x00}{\\"%s","shape":"1"}}'
    requests, reader = read(f"[{tensor % '1,' * 200_000},{write_request()},{tensor}]", piece=5000)
    assert (len(requests), reader.tensors, reader.unreadable) == (1, 2, 0)


def test_a_ring_of_parents_and_a_missing_parent_give_no_request() -> None:
    ring = [
        f'{{"id":{number},"model_name":"m","model_version":1,"parent_id":{parent}}},'
        f'{{"id":{number},"timestamps":[{{"name":"REQUEST_START","ns":5}}]}}'
        for number, parent in ((1, 2), (2, 1), (3, 9))
    ]
    assert read(f"[{','.join(ring)}]")[0] == []


def test_requests_without_borders_are_complete_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids begin again at 1 where a server was restarted."""
    monkeypatch.setattr(traces, "_WINDOW", 32)
    count = 200
    texts = [write_request(3 * number + 1, begin=10**6 * (number + 1)) for number in range(count)]

    def pieces() -> Iterator[str]:
        yield "["
        for text in texts:
            yield f"{text},"
        yield ",".join(texts[:10]) + "]"

    read_records = 0

    def records() -> Iterator[Any]:
        nonlocal read_records
        for record in RecordReader(pieces()):
            read_records += 1
            yield record

    last = -1
    for last, request in enumerate(assemble_traces(records())):
        assert [step.model for step in request.executions] == ["digits", "decode", "classify"]
        assert request.root.id == 3 * (last % count) + 1
        assert read_records <= (last + 1) * 25 + 25 * 32  # the requests of the window are not given yet
    assert last == count + 9


def test_one_endless_request_is_given_in_parts_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_WINDOW", 32)

    def records() -> Iterator[Any]:
        for number in range(2, 1000):
            yield traces.ExecutionRecord(number, "m", 1, "", None if number % 2 else number - 1)
            yield TimestampRecord(number, "REQUEST_START", number)

    assert sum(len(request.executions) for request in assemble_traces(records())) > 700


def test_the_summary_has_every_step_and_the_slowest_requests() -> None:
    text = BOUNDARY.join(
        write_request(3 * number + 1, scale=number + 1, request_id=str(number)) for number in range(99)
    )
    summary = summarize_traces(read(f"[{text}]")[0], slowest=2)
    assert [step.path for step in summary.steps] == [("digits",), ("digits", "decode"), ("digits", "classify")]
    assert [request.request_id for request in summary.slowest] == ["98", "97"]
    step = summary.steps[2]
    assert (step.count, step.mean, step.maximum) == (99, 450_000 * 50, 450_000 * 99)
    assert step.p50 == pytest.approx(450_000 * 50, rel=0.011)
    assert step.phases["infer"] == 290_000 * 50
    assert summarize_traces([], slowest=2).steps == ()


def test_the_waterfall_is_deterministic_valid_and_escaped() -> None:
    requests, _ = read(f"[{write_request(request_id='<script>&')},{write_request(4, scale=1000)}]")
    for theme in ("auto", "light", "dark"):
        svg = render_waterfall_svg(requests, theme=theme, title="<t>")
        assert svg == render_waterfall_svg(requests, theme=theme, title="<t>")
        ET.fromstring(svg)
        assert "<script>" not in svg
        assert ("prefers-color-scheme" in svg) == (theme == "auto")
    assert "queue 90.0 µs, input 10.0 µs, infer 290 µs, output 40.0 µs" in svg
    page = render_waterfall_html(requests, title="<t>", summary=[["step"], ["<b>"]])
    assert "<script" not in page
    assert "<b>" not in page
    assert "default-src 'none'" in page


def test_a_request_without_duration_and_one_of_many_steps_are_drawn() -> None:
    point = '{"id":1,"model_name":"m","model_version":1},{"id":1,"timestamps":[{"name":"REQUEST_START","ns":7}]}'
    steps = ",".join(
        f'{{"id":{number},"model_name":"s","model_version":1,"parent_id":1}},'
        f'{{"id":{number},"timestamps":[{{"name":"REQUEST_START","ns":7}}]}}'
        for number in range(2, 303)
    )
    (request,), _ = read(f"[{point},{steps}]")
    svg = render_waterfall_svg([request])
    ET.fromstring(svg)
    assert "and 102 more" in svg


def test_the_export_is_a_request_of_opentelemetry() -> None:
    from google.protobuf import json_format
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    requests, _ = read(f"[{write_request(request_id='r')},{write_request(4, begin=7_000_000)}]")
    text = "".join(render_otlp(requests, clock_offset=10**18, version="1.0"))
    assert text.count("\n") == 1  # a line: what the collector's file receiver reads
    # OTLP has ids as hexadecimal digits, protobuf's JSON has bytes as base64.
    plain = re.sub(
        r'"((?:trace|span|parentSpan)Id)":"([0-9a-f]+)"',
        lambda match: f'"{match[1]}":"{base64.b64encode(bytes.fromhex(match[2])).decode()}"',
        text,
    )
    message = json_format.Parse(plain, ExportTraceServiceRequest())
    (resource,) = message.resource_spans
    spans = resource.scope_spans[0].spans
    assert {(len(span.trace_id), len(span.span_id)) for span in spans} == {(16, 8)}
    assert len({span.span_id for span in spans}) == len(spans) == 2 * (1 + 3 + 2 + 2 * 4)
    assert len({span.trace_id for span in spans}) == 2
    by_id = {span.span_id: span for span in spans}
    for span in spans:
        above = by_id.get(span.parent_span_id)
        assert (above is None) == (span.name == "InferRequest")
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if above is not None and span.name not in ("digits", "receive", "send"):
            assert above.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= above.end_time_unix_nano
    first = next(span for span in spans if span.name == "InferRequest")
    assert first.start_time_unix_nano == 10**18 + 1_000_000
    decode = next(span for span in spans if span.name == "decode")
    assert by_id[decode.parent_span_id].name == "digits"
    assert {item.key: item.value for item in decode.attributes}["triton.request_id"].string_value == "r"
