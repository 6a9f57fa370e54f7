"""Reports of a profile: JSON, CSV, HTML, and the series of the command's options."""

import csv
import io
import json
from html.parser import HTMLParser

import click
import numpy as np
import pytest

from tests.support.step_statistics import PLAIN, build_ensemble, build_statistics, build_times
from tritonforge.cli.profile import parse_series
from tritonforge.errors import EncodeError
from tritonforge.inference.transports import ModelMetadata, TensorMetadata
from tritonforge.profiling.bottleneck import find_bottleneck
from tritonforge.profiling.html_report import render_html
from tritonforge.profiling.load import ClosedLoop, GeneratorUsage, Load, OpenLoop, build_result
from tritonforge.profiling.report import LoadProfile, ProfileReport, format_csv, format_json
from tritonforge.profiling.request_inputs import describe_inputs, generate_inputs
from tritonforge.profiling.step_times import compute_request_time

CONFIGS = {"both": build_ensemble("a: IN -> t", "b<&: t -> OUT"), "a": PLAIN, "b<&": PLAIN}


def build_profile(load: Load, *, latency: float = 0.02) -> LoadProfile:
    ends = np.arange(1, 301) * 0.01
    result = build_result(
        load, np.stack([ends - latency, ends - latency, ends], axis=1), begin=0.0, end=3.0, warm_up=1.0,
        errors={"503 <full>": 2}, generator=GeneratorUsage(1, 0.05, 0.05), is_stable=True,
    )  # fmt: skip
    statistics = build_statistics(
        both=build_times(total=18), a=build_times(infer=5), **{"b<&": build_times(queue=9, infer=3)}
    )
    times = compute_request_time(CONFIGS, "both", statistics, seconds=3.0)
    return LoadProfile(result, times, find_bottleneck(times, CONFIGS, latency=latency * 1000))


REPORT = ProfileReport(
    "http://host:8000", "both", "8 requests", (build_profile(ClosedLoop(1)), build_profile(ClosedLoop(4))),
    request_bytes=100, response_bytes=200, notes=("a <note>",),
)  # fmt: skip


def test_a_report_is_json() -> None:
    document = json.loads(json.dumps(format_json(REPORT)))
    load = document["loads"][1]
    assert load["load"] == {"concurrency": 4}
    assert load["throughput"]["value"] == pytest.approx(100)
    assert [step["name"] for step in load["server"]["steps"]] == ["a", "b<&"]
    assert load["server"]["outside_ms"] == pytest.approx(2.0)
    assert load["bottleneck"]["step"] == "b<&"
    assert load["errors"] == [{"message": "503 <full>", "count": 2}]


def test_a_report_is_csv_with_a_row_for_each_step() -> None:
    rows = list(csv.DictReader(io.StringIO(format_csv(REPORT))))
    assert [(row["concurrency"], row["step"]) for row in rows] == [("1", "a"), ("1", "b<&"), ("4", "a"), ("4", "b<&")]
    assert rows[3]["step_queue_ms"] == "9.0"


def test_a_load_without_statistics_is_one_row() -> None:
    report = ProfileReport("sagemaker://digits", "", "images", (LoadProfile(build_profile(OpenLoop(50)).result),))
    (row,) = csv.DictReader(io.StringIO(format_csv(report)))
    assert (row["kind"], row["rate"], row["step"]) == ("open", "50", "")
    assert format_json(report)["loads"][0]["send_lag_ms"]["mean"] == 0.0


def test_a_page_loads_nothing_and_escapes_names() -> None:
    page = render_html(REPORT)
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))

    Reader().feed(page)
    assert not [tag for tag, attributes in tags if tag in ("script", "link", "img") or "src" in attributes]
    assert len([tag for tag, _ in tags if tag == "svg"]) == 4
    assert "default-src 'none'" in page
    assert "b&lt;&amp;" in page
    assert "b<&" not in page
    assert "503 &lt;full&gt;" in page


def test_a_report_without_an_answer_is_a_failure() -> None:
    report = ProfileReport("http://host", "a", "nothing", ())
    assert report.has_failures
    render_html(report)


@pytest.mark.parametrize(
    ("text", "values"),
    [("4", [4]), ("1,2,8", [1, 2, 8]), ("1:3", [1, 2, 3]), ("1:16:5", [1, 6, 11, 16]), ("1:16:2x", [1, 2, 4, 8, 16]),
     ("0.5:2:2x", [0.5, 1, 2]), ("3:3", [3])],
)  # fmt: skip
def test_a_series_is_parsed(text: str, values: list[float]) -> None:
    assert parse_series("--rate", text) == values


@pytest.mark.parametrize("text", ["", "0", "x", "4:1", "1:4:0", "1:4:1x", "1:2:3:4", "-1", "1:1000000", "1,,2"])
def test_a_series_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(click.UsageError, match="--rate"):
        parse_series("--rate", text)


METADATA = ModelMetadata(
    "m",
    (
        TensorMetadata("image", "UINT8", (-1, -1, -1, 3)),
        TensorMetadata("ids", "INT64", (-1, 4)),
        TensorMetadata("text", "BYTES", (-1, 1)),
        TensorMetadata("scale", "FP16", (-1, 1)),
    ),
    (),
    source="",
    max_batch_size=8,
)


def test_inputs_are_generated_in_datatype_and_shape_and_repeat_with_their_seed() -> None:
    inputs = generate_inputs(METADATA, batch_size=2, shapes={"image": (5, 6, 3)}, seed=1)
    text = describe_inputs(inputs)
    assert text == "image UINT8 [2, 5, 6, 3], ids INT64 [2, 4], text BYTES [2, 1], scale FP16 [2, 1]"
    assert inputs["ids"].max() <= 1
    again = generate_inputs(METADATA, batch_size=2, shapes={"image": (5, 6, 3)}, seed=1)
    assert all(np.array_equal(inputs[name], again[name]) for name in inputs)
    assert generate_inputs(METADATA, excluded=["text"]).keys() == {"image", "ids", "scale"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"shapes": {"x": (1,)}}, "the model has no input 'x'"),
        ({"shapes": {"ids": (5,)}}, r"shape of ids: expected \[4\], got \[5\]"),
        ({"shapes": {"image": (100_000, 100_000, 3)}}, "too many elements"),
        ({"batch_size": 9}, "max_batch_size is 8, got a batch of 9"),
    ],
)
def test_a_shape_that_does_not_fit_is_an_error(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(EncodeError, match=sentence):
        generate_inputs(METADATA, **arguments)  # type: ignore[arg-type]
