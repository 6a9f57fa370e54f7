"""The report says what came of a search, and the plot shows its trials."""

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

from google.protobuf import text_format

from tritonforge.triton.schema import new_model_config
from tritonforge.tuning.objective import Comparison, Measurement, Objective
from tritonforge.tuning.pareto import draw_trials, find_front
from tritonforge.tuning.space_builder import SpaceLimits, build_space
from tritonforge.tuning.tuning_report import ReportedTrial, TuningReport, format_report, to_json


def measure(throughput: float, p99: float) -> Measurement:
    return Measurement(throughput=throughput, p50=p99 / 2, p99=p99)


def build(comparison: Comparison | None, **values: Any) -> TuningReport:
    config = new_model_config()
    text_format.Parse('name: "m" backend: "python"', config)
    space = build_space({"m": config}, ["m"], limits=SpaceLimits(cores=2, instances=4))
    trials = [
        ReportedTrial((0,), measure(100, 20), "", 1.0),
        ReportedTrial((1,), measure(190, 12), "", 1.0),
        ReportedTrial((2,), None, "no memory", 1.0),
    ]
    return TuningReport(
        tuned="repos/m", model="m", objective=Objective(goal="throughput"), load="concurrency 8",
        machine="2 processors", space=space, trials=trials, chosen=(1,) if comparison else (0,), comparison=comparison,
        before=measure(100, 20), after=measure(190, 12), **values,
    )  # fmt: skip


GAIN = Comparison(1.9, 1.8, 2.0, 5, is_within_limits=True)


def test_a_gain_is_recommended_with_its_interval() -> None:
    text = "\n".join(format_report(build(GAIN)))
    assert "the best settings are 1.90 times as good (1.80 to 2.00 with 95 % confidence), in 5 pairs" in text
    assert "  m.instance_group.count: 1 -> 2" in text
    assert "failed" in text
    assert "no memory" in text
    assert "a CPU's do not fit a GPU" in text


def test_noise_changed_answers_and_a_missed_limit_recommend_nothing() -> None:
    for report, reason in (
        (build(Comparison(1.1, 0.9, 1.3, 5, is_within_limits=True)), "not more than noise"),
        (build(Comparison(1.9, 1.8, 2.0, 5, is_within_limits=False)), "do not keep the limit"),
        (build(GAIN, answers={"OUT": "3 elements differ"}), "change answers"),
        (build(None), "no settings are better"),
    ):
        assert reason in report.verdict
        assert not report.is_gain
        assert "m.instance_group.count" not in "\n".join(format_report(report))


def test_a_limit_that_nothing_keeps_is_reported_with_how_far_it_is() -> None:
    report = replace(build(None), objective=Objective(goal="throughput", p99=5))
    assert report.verdict == "no settings keep p99 <= 5 ms: the smallest p99 was 12.0 ms"
    report = replace(build(None), objective=Objective(goal="latency", rate=1000))
    assert report.verdict == "no settings keep up with 1000 requests/s: the most answered were 190.0 requests/s"


def test_a_limit_that_only_the_best_settings_keep_needs_no_ratio() -> None:
    report = replace(build(GAIN), objective=Objective(goal="throughput", p99=15))
    assert report.verdict == "the best settings keep the limit, which the present ones do not"


def test_a_budget_of_one_trial_is_not_called_a_search() -> None:
    report = replace(build(None), trials=build(None).trials[:1])
    assert report.verdict == "only the present settings were measured; allow more with --trials or --time"


def test_the_json_has_trials_changes_and_the_verdict() -> None:
    document = to_json(build(GAIN))
    assert document["is_gain"]
    assert document["changes"] == [{"model": "m", "name": "instance_group.count", "before": 1, "after": 2}]
    assert document["trials"][2]["error"] == "no memory"
    assert document["trials"][1]["throughput"] == 190


def test_the_front_has_what_no_other_trial_beats() -> None:
    points = [measure(100, 20), measure(190, 12), measure(150, 10), measure(300, 50), measure(120, 11)]
    assert [(entry.throughput, entry.p99) for entry in find_front(points)] == [(150, 10), (190, 12), (300, 50)]


def test_the_plot_is_svg_with_a_point_for_every_trial_that_was_measured() -> None:
    text = draw_trials(build(GAIN))
    ET.fromstring(text)
    assert "Pareto front" in text
    assert "m.instance_group.count: 1 -&gt; 2" in text
