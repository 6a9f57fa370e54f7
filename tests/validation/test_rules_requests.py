"""Tests of the rules about requests that are refused: the rules, and the real server's answer to each."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from math import prod
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.support.rule_findings import find, list_rules
from tests.support.rule_repositories import DECOUPLED, START, e, sequence, step, x
from tests.support.server_oracle import Oracle
from tritonforge.validation.findings import Finding
from tritonforge.validation.report import validate
from tritonforge.validation.tree import Tree

#: The rules under test.
REQUESTS = "W34[0-5]"
SEQUENCE_MODEL = sequence(f"{START} int32_false_true: [0, 1]")


def ensemble(name: str, dims: str = "[4]", config: str = "", *, model: str = "", own: str = "", of: str = "[4]") -> Any:
    """An ensemble over one model ``<name>m`` of dims ``of``."""
    files = x(f"{name}m", config=own, dims=of) if not model else {}
    return {**files, **e(step(model or f"{name}m", {"A": "I"}, {"B": "O"}), name=name, dims=dims, config=config)}


def queue(policy: str, *, delay: int = 200_000, size: int = 8, more: str = "") -> str:
    """Dynamic batching that waits."""
    batching = f"dynamic_batching {{ max_queue_delay_microseconds: {delay} {more} {policy} }}"
    return f"max_batch_size: {size} {batching}"


REJECT = "default_queue_policy { default_timeout_microseconds: 20000 }"
LEVEL = (
    "priority_levels: 2 default_priority_level: 1 "
    "priority_queue_policy { key: 1 value { default_timeout_microseconds: 20000 } }"
)


class Case(NamedTuple):
    """A repository with its warning ("" for none), and a request with the server's answer: status, words in it."""

    files: Any
    code: str
    model: str
    shape: list[int]
    status: int
    words: str = ""
    parameters: Mapping[str, Any] = MappingProxyType({})


NO_HTTP = "HTTP end point doesn't support models with decoupled transaction policy"
NO_ID = "must specify a non-zero or non-empty correlation ID"
NOW = "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 20000 }"

CASES = {
    "decoupled step": Case(ensemble("d", own=DECOUPLED), "W340", "d", [4], 501, NO_HTTP),
    "decoupled step of a nested ensemble": Case(
        {**ensemble("ni", own=DECOUPLED), **e(step("ni", {"I": "I"}, {"O": "O"}), name="n")}, "W340", "n", [4], 501,
        NO_HTTP,
    ),
    "sequence step": Case(ensemble("s", own=SEQUENCE_MODEL), "W342", "s", [4], 400, NO_ID),
    "sequence step, asked as it should be": Case(
        ensemble("t", own=SEQUENCE_MODEL), "W342", "t", [4], 200, "", {"sequence_id": 7, "sequence_start": True}
    ),
    "iterative sequence step": Case(
        ensemble("it", own=SEQUENCE_MODEL.replace("{", "{ iterative_sequence: true ", 1)), "",
        "it", [4], 200,
    ),
    "variable first dimension": Case(
        ensemble("b", "[-1, 4]", own="max_batch_size: 2"), "W343", "b", [3, 4], 400, "batch-size must be <= 2 for 'bm'"
    ),
    "variable first dimension, few": Case(
        ensemble("c", "[-1, 4]", own="max_batch_size: 2"), "W343", "c", [2, 4], 200
    ),
    "fixed first dimension that is too large": Case(
        ensemble("g", "[3, 4]", own="max_batch_size: 2"), "W343", "g", [3, 4], 400, "batch-size must be <= 2 for 'gm'"
    ),
    "fixed first dimension that fits": Case(ensemble("h", "[2, 4]", own="max_batch_size: 2"), "", "h", [2, 4], 200),
    "no batch dimension": Case(ensemble("i", "[-1]", own="max_batch_size: 2", of="[-1]"), "", "i", [9], 200),
    "variable extent": Case(
        ensemble("f", "[-1]"), "W344", "f", [5], 400, "unexpected shape for input 'A' for model 'fm'. Expected [4], got"
    ),
    "variable extent, right": Case(ensemble("j", "[-1]"), "W344", "j", [4], 200),
    "variable extent in a batch": Case(
        ensemble("k", "[-1]", "max_batch_size: 2", own="max_batch_size: 2"), "W344", "k", [1, 5], 400,
        "Expected [-1,4], got [1,5]",
    ),
    "rejected": Case(x("q1", config=queue(REJECT)), "W345", "q1", [1, 4], 503, "Request timeout expired"),
    "rejected at the delay": Case(
        x("q2", config=queue("default_queue_policy { default_timeout_microseconds: 200000 }")), "W345", "q2", [1, 4],
        503, "Request timeout expired",
    ),
    "rejected by its level": Case(x("q3", config=queue(LEVEL)), "W345", "q3", [1, 4], 503, "Request timeout expired"),
    "rejected late": Case(
        x("q4", config=queue("default_queue_policy { default_timeout_microseconds: 200001 }", delay=2000)), "", "q4",
        [1, 4], 200,
    ),
    "delayed": Case(x("q5", config=queue(NOW, delay=40_000)), "", "q5", [1, 4], 200),
    "batches of one": Case(x("q6", config=queue(REJECT, more="preferred_batch_size: [1]")), "", "q6", [1, 4], 200),
    "no batches": Case(x("q7", config=queue(REJECT, size=1)), "", "q7", [1, 4], 200),
}  # fmt: skip


def found(files: Any, **options: Any) -> list[Finding]:
    """The findings of these rules."""
    return find(REQUESTS, files, gpus=0, **options)


@pytest.mark.parametrize("name", CASES)
def test_the_rule_is_reported_where_the_server_refuses(name: str) -> None:
    """Each repository gives its warning and no other, at a place in the configuration."""
    case = CASES[name]
    findings = found(case.files)
    assert [finding.code for finding in findings if finding.path == f"{case.model}/config.pbtxt"] == [case.code] * bool(
        case.code
    )
    assert all(finding.line is not None and finding.help for finding in findings)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real server on all cases at once, with stand-in backends that answer without outputs."""
    oracle = Oracle(tmp_path_factory.mktemp("oracle"))
    if not oracle.fast:
        pytest.skip("no C compiler: the stand-ins would take seconds each")
    with oracle.serving({path: text for case in CASES.values() for path, text in case.files.items()}) as url:
        yield url


@pytest.mark.server
@pytest.mark.parametrize("name", CASES)
def test_the_server_answers_as_the_rule_says(address: str, name: str) -> None:
    """The request that the rule speaks of is refused with these words, and its neighbours are answered."""
    case = CASES[name]
    tensor = {
        "name": "I" if f"{case.model}m/config.pbtxt" in case.files or case.model == "n" else "A",
        "shape": case.shape, "datatype": "FP32", "data": [0] * prod(case.shape),
    }  # fmt: skip
    body = json.dumps({"inputs": [tensor], "parameters": dict(case.parameters)}).encode()
    request = urllib.request.Request(f"{address}/v2/models/{case.model}/infer", body)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    assert (status, case.words in json.loads(text).get("error", "")) == (case.status, True)


def test_a_decoupled_model_is_never_answered_on_sagemaker() -> None:
    """A single-model endpoint asks over HTTP; a model that it does not ask may be decoupled."""
    single = x(config=DECOUPLED)
    assert [finding.code for finding in found(single, target="sagemaker")] == ["W341"]
    assert found(single) == []
    several = {**single, **x("y")}
    assert found(several, target="sagemaker", load_models=["y"]) == []
    assert [finding.code for finding in found(several, target="sagemaker", load_models=["x"])] == ["W341"]
    both = found(ensemble("e", own=DECOUPLED), target="sagemaker", load_models=["e"])
    assert sorted(finding.code for finding in both) == ["W340", "W341"]


def test_the_generate_extension_asks_a_decoupled_model() -> None:
    """With that inference type the endpoint does not infer."""
    tree, name = Tree.of(x(config=DECOUPLED)), "SAGEMAKER_TRITON_INFERENCE_TYPE"
    for kind, expected in (("infer", ["W341"]), ("generate_stream", [])):
        findings = validate(tree, target="sagemaker", image="25.04", environment={name: kind})
        assert [finding.code for finding in findings if finding.code == "W341"] == expected


LIMITED = "default_queue_policy { max_queue_size: 1 }"
BESIDE = (step("x", {"A": "I"}, {"B": "O"}), step("y", {"A": "I"}, {"B": "P"}))
IN_A_ROW = (step("x", {"A": "I"}, {"B": "T"}), step("y", {"A": "T"}, {"B": "O"}))
AROUND = (*IN_A_ROW[:1], step("z", {"A": "T"}, {"B": "U"}), step("y", {"A": "T", "C": "U"}, {"B": "O"}))


@pytest.mark.parametrize(
    ("policy", "steps", "options", "expected"),
    [
        (LIMITED, BESIDE, {}, ["W349"]),
        (LIMITED, BESIDE, {"image": "26.01"}, ["W349"]),
        (LIMITED, BESIDE, {"image": "26.02"}, []),
        (LIMITED, IN_A_ROW, {}, []),
        (LIMITED, AROUND, {}, []),
        ("priority_levels: 1 priority_queue_policy { key: 1 value { max_queue_size: 1 } }", BESIDE, {}, ["W349"]),
        ("default_queue_policy { max_queue_size: 0 }", BESIDE, {}, []),
        ("", BESIDE, {}, []),
    ],
)
def test_a_limited_queue_beside_another_step(policy: str, steps: Any, options: Any, expected: list[str]) -> None:
    """Steps in a row, and steps that read and feed a step, never run beside it; from 26.02 on nothing is lost."""
    files = {**x(), **x("y", inputs="AC" if steps is AROUND else "A", config=queue(policy)), **x("z")}
    files |= e(*steps, outputs="OP" if steps is BESIDE else "O")
    findings = find("W349", files, gpus=0, **options)
    assert [finding.code for finding in findings] == expected
    assert all("step 0, x, runs beside it" in finding.message for finding in findings)
    assert {finding.path for finding in findings} <= {"y/config.pbtxt"}


def test_many_steps_with_a_limited_queue_are_checked_in_bounded_time() -> None:
    """Two thousand steps in a row: the first ten are looked at."""
    row = [step("y", {"A": f"T{index}" if index else "I"}, {"B": f"T{index + 1}"}) for index in range(2000)]
    assert find("W349", {**x("y", config=queue(LIMITED)), **e(*row)}, gpus=0) == []


def test_every_rule_about_requests_is_tested() -> None:
    """Each code is in this file."""
    assert list_rules(f"{REQUESTS}|W349") == {case.code for case in CASES.values()} - {""} | {"W341", "W349"}
