"""Reports of golden tests in the formats of machines; texts of cases and servers cannot act in them."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import numpy as np

from tritonforge.cli.case_reports import FORMATS, SuiteReport, format_result, format_total
from tritonforge.golden_tests.evaluation import Difference
from tritonforge.golden_tests.suite import CaseResult

FAILED = CaseResult(
    "seven", "failed", 0.25, "digits",
    (
        Difference("decode", "pixels", "3 of 64 stored elements differ", now=np.zeros(1)),
        Difference("", "PROBABILITIES", "1 of 10 elements differ"),
    ),
    steps=("decode", "classify"),
)  # fmt: skip
HOSTILE = CaseResult("six", "invalid", message="six.json: \x1b[2J\n::error::forged <&>\x00")
SUITE = SuiteReport("repos/digits", "repos/digits/tests", [CaseResult("two", "passed", 0.1), FAILED, HOSTILE],
                    {"seven": ["report/seven.decode.pixels.png"]})  # fmt: skip


def test_the_text_has_the_step_the_outputs_and_the_files() -> None:
    assert list(format_result(FAILED, SUITE.files["seven"])) == [
        "FAIL seven  step decode is the first one that differs",
        "  decode.pixels: 3 of 64 stored elements differ",
        "  digits.PROBABILITIES: 1 of 10 elements differ",
        "  report/seven.decode.pixels.png",
    ]
    assert list(format_result(HOSTILE)) == ["ERROR six  six.json: \\u001b[2J", "  ::error::forged <&>\\u0000"]
    assert format_total(SUITE) == "repos/digits: 1 passed, 1 failed, 1 invalid"


def test_json_has_every_difference() -> None:
    document = json.loads(FORMATS["json"](SUITE))
    assert document["exit_code"] == 2
    assert document["cases"][1] == {
        "name": "seven",
        "file": "repos/digits/tests/seven.json",
        "status": "failed",
        "seconds": 0.25,
        "model": "digits",
        "step": "decode",
        "message": "step decode is the first one that differs",
        "differences": [
            {"step": "decode", "output": "pixels", "message": "3 of 64 stored elements differ"},
            {"step": "", "output": "PROBABILITIES", "message": "1 of 10 elements differ"},
        ],
        "notes": [],
        "files": ["report/seven.decode.pixels.png"],
    }


def test_junit_has_failures_and_errors() -> None:
    [suite] = ET.fromstring(FORMATS["junit"](SUITE))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["error"]]
    assert suite[1][0].get("message") == "step decode is the first one that differs"


def test_github_has_an_error_at_the_case() -> None:
    lines = FORMATS["github"](SUITE).splitlines()
    assert lines[0].startswith(
        "::error file=repos/digits/tests/seven.json,title=seven::FAIL seven  step decode is the first"
    )
    assert len(lines) == 3
    assert lines[2] == "::notice ::repos/digits: 1 passed, 1 failed, 1 invalid"


def test_the_model_itself_is_named_if_no_step_differs() -> None:
    result = CaseResult("x", "failed", model="digits", differences=(Difference("", "P", "no"),), steps=("decode",))
    assert result.headline == "digits itself differs, and none of its steps"
