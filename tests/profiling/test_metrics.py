"""Metrics in Prometheus' text format."""

import math

import pytest

from tritonforge.errors import DecodeError
from tritonforge.profiling.metrics import parse_metrics, parse_samples

#: As tritonserver 2.51 writes them; the GPU's lines are those of its documentation.
TEXT = """\
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="digits",version="1"} 3
nv_inference_request_success{model="decode",version="1"} 4
nv_inference_request_failure{model="digits",reason="OTHER",version="1"} 2
nv_inference_request_failure{model="digits",reason="OTHER",version="2"} 1
nv_inference_request_failure{model="digits",reason="REJECTED",version="1"} 0
nv_inference_pending_request_count{model="decode",version="1"} 5
nv_inference_pending_request_count{model="decode",version="2"} 2
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.25
nv_gpu_memory_total_bytes{gpu_uuid="GPU-1"} 2.4e10
nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 1000
nv_cpu_utilization 0.5
nv_cpu_memory_total_bytes 8000
nv_cpu_memory_used_bytes 4000
"""


def test_versions_are_added_and_machine_figures_read() -> None:
    metrics = parse_metrics(TEXT)
    assert metrics.models == {"digits", "decode"}
    assert metrics.pending == {"decode": 7}
    assert metrics.failures == {("digits", "OTHER"): 3, ("digits", "REJECTED"): 0}
    assert (metrics.cpu, metrics.memory_used, metrics.memory_total) == (0.5, 4000, 8000)
    assert metrics.gpus == {"GPU-1": (1000, 2.4e10, 0.25)}


def test_the_machine_is_unknown_until_the_server_has_measured_it() -> None:
    metrics = parse_metrics("nv_cpu_utilization 0\nnv_cpu_memory_total_bytes 0\nnv_cpu_memory_used_bytes 0\n")
    assert (metrics.cpu, metrics.memory_used, metrics.gpus) == (None, None, {})


def test_labels_numbers_and_times_of_the_format() -> None:
    text = 'a{ x = "q\\"\\\\\\n" , y="}" , } 1e3 1700000000\r\n\n#c\nb -.5\nc{} +Inf\nd{z=""} NaN'
    samples = list(parse_samples(text))
    assert [(sample.name, dict(sample.labels)) for sample in samples] == [
        ("a", {"x": 'q"\\\n', "y": "}"}), ("b", {}), ("c", {}), ("d", {"z": ""})
    ]  # fmt: skip
    assert [sample.value for sample in samples[:3]] == [1000, -0.5, math.inf]
    assert math.isnan(samples[3].value)


@pytest.mark.parametrize(
    "line",
    ["a", "a{", 'a{x="1} 2', 'a{x="1"', 'a{x="1"y="2"} 1', "a{x=1} 1", "a 1 2 3", "a 0x10", "1a 1", "<html>",
     "a" * 70_000, "a 1_000", 'a{x="\\'],
)  # fmt: skip
def test_a_line_that_is_not_a_sample_is_named(line: str) -> None:
    with pytest.raises(DecodeError, match=r"^m: line 2: expected a sample of Prometheus' text format, got "):
        list(parse_samples(f"b 1\n{line}\n", where="m"))


def test_metrics_of_another_program_are_refused() -> None:
    with pytest.raises(DecodeError, match="no metrics of Triton"):
        parse_metrics("go_gc_duration_seconds 1\n")
    assert parse_metrics('nv_inference_pending_request_count{model="a"} NaN').pending == {"a": 0}
