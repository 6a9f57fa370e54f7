"""Reports: the same findings for people, programs, and CI systems."""

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

from tritonforge.cli.reports import FORMATS, RepositoryReport
from tritonforge.cli.validation import compare_with_server
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import load_rules

CONFIG = 'name: "m"\nmax_batch_size: -4\ninput [ { name: "x" } ]\n'
CODES = list(load_rules())
ERROR = Finding(
    code=next(code for code in CODES if code.startswith("E2")),
    severity="error",
    refused_by="triton",
    path="m/config.pbtxt",
    line=2,
    column=17,
    field="max_batch_size",
    message="'max_batch_size' must be non-negative value for m",
    help="write 0, or a size",
)
WARNING = Finding(
    code=next(code for code in CODES if code.startswith("W1")),
    severity="warning",
    path="m",
    message="100% odd: \x00, <b>",
)
JUDGED = RepositoryReport("build/r", (ERROR, WARNING), ("m", "other"), {"m/config.pbtxt": CONFIG})
FINE = RepositoryReport("fine", (), ("m",))


def test_people_see_the_line_with_a_caret_and_the_help() -> None:
    """Place, code, sentence, the line of the file, a caret under the value, the help, and a last line."""
    assert FORMATS["text"]([JUDGED]).splitlines() == [
        f"build/r/m/config.pbtxt:2:17: error {ERROR.code}: 'max_batch_size' must be non-negative value for m",
        "    2 | max_batch_size: -4",
        "      |                 ^",
        "        help: write 0, or a size",
        f"build/r/m: warning {WARNING.code}: 100% odd: \\u0000, <b>",
        "build/r: Triton refuses it; 2 models, 1 error, 1 warning",
    ]
    assert FORMATS["text"]([FINE]) == "fine: Triton loads it; 1 model, no findings"


def test_a_long_line_is_shown_around_its_place() -> None:
    """The caret stays under the value in a file of one very long line."""
    text = "x" * 500 + "HERE" + "y" * 500
    finding = Finding(code=ERROR.code, severity="error", path="m/config.pbtxt", line=1, column=501, message="here")
    _, shown, caret, _ = FORMATS["text"]([RepositoryReport("r", (finding,), (), {"m/config.pbtxt": text})]).splitlines()
    assert len(shown) < 130
    assert shown[caret.index("^") :].startswith("HERE")


def test_programs_get_one_document() -> None:
    """The shape of one repository, and of several."""
    document = json.loads(FORMATS["json"]([JUDGED]))
    assert (document["verdict"], document["repository"]) == ("refused", "build/r")
    assert document["findings"][0] == {
        "code": ERROR.code,
        "severity": "error",
        "refused_by": "triton",
        "path": "m/config.pbtxt",
        "line": 2,
        "column": 17,
        "field": "max_batch_size",
        "message": "'max_batch_size' must be non-negative value for m",
        "help": "write 0, or a size",
    }
    several = json.loads(FORMATS["json"]([FINE, JUDGED]))
    assert several["verdict"] == "refused"
    assert [report["verdict"] for report in several["repositories"]] == ["loads", "refused"]


def test_sarif_names_rules_levels_and_regions() -> None:
    """The parts of SARIF 2.1.0 that code scanning needs."""
    log = json.loads(FORMATS["sarif"]([JUDGED]))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    first, second = run["results"]
    assert rules[first["ruleIndex"]] == first["ruleId"] == ERROR.code
    assert (first["level"], second["level"]) == ("error", "warning")
    location = first["locations"][0]["physicalLocation"]
    assert location == {
        "artifactLocation": {"uri": "build/r/m/config.pbtxt"},
        "region": {"startLine": 2, "startColumn": 17},
    }


def test_junit_has_a_case_for_each_model() -> None:
    """Models with errors fail, the others pass; odd characters stay legal XML."""
    suites = ET.fromstring(FORMATS["junit"]([JUDGED]))
    (suite,) = suites
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    cases = {case.get("name"): case for case in suite}
    failure = cases["m"].find("failure")
    assert failure is not None
    assert failure.get("type") == ERROR.code
    assert cases["other"].find("failure") is None


def test_github_annotations_are_escaped() -> None:
    """Percent signs, line breaks, colons and commas cannot end a command."""
    lines = FORMATS["github"]([JUDGED]).splitlines()
    assert lines[0] == (
        f"::error file=build/r/m/config.pbtxt,line=2,col=17,title={ERROR.code}"
        "::'max_batch_size' must be non-negative value for m%0Ahelp: write 0, or a size"
    )
    assert lines[1].startswith(f"::warning file=build/r/m,title={WARNING.code}::100%25 odd")
    assert FORMATS["github"]([FINE]) == ""


def test_gitlab_keeps_an_issue_whose_line_moves() -> None:
    """Its report lists issues with a fingerprint that differs between findings and not between lines."""
    twice = replace(JUDGED, findings=(ERROR, WARNING, WARNING))
    issues = json.loads(FORMATS["gitlab"]([twice]))
    assert issues[0] == {
        "description": f"{ERROR.code}: 'max_batch_size' must be non-negative value for m\nhelp: write 0, or a size",
        "check_name": ERROR.code,
        "fingerprint": issues[0]["fingerprint"],
        "severity": "critical",
        "location": {"path": "build/r/m/config.pbtxt", "lines": {"begin": 2}},
    }
    assert len({issue["fingerprint"] for issue in issues}) == 3
    moved = replace(twice, findings=(replace(ERROR, line=9), WARNING))
    assert json.loads(FORMATS["gitlab"]([moved]))[0]["fingerprint"] == issues[0]["fingerprint"]
    assert json.loads(FORMATS["gitlab"]([FINE])) == []


def test_a_disagreement_with_the_server_is_named() -> None:
    """Another verdict, and a sentence that no finding has; agreement says nothing."""
    assert compare_with_server([ERROR], [ERROR.message], loads=False) == ()
    assert compare_with_server([], [], loads=True) == ()
    assert compare_with_server([], ["something else"], loads=False) == (
        "the server's verdict is refused, the findings' verdict is loads",
        "only the server reports: something else",
    )
    assert compare_with_server([ERROR], [], loads=True) == (
        "the server's verdict is loads, the findings' verdict is refused",
    )


def test_what_stand_ins_do_not_decide_is_no_difference() -> None:
    """Findings of models that are left open, rules of backends, and the ensembles of what they refuse."""
    model = ERROR.path.split("/")[0]
    assert compare_with_server([ERROR], [], loads=None) == ()
    assert compare_with_server([ERROR], [], loads=True, undecided=[model]) == ()
    environment = replace(ERROR, code="E295")
    ensemble = replace(
        ERROR, code="E320", path="e/config.pbtxt", message=f"ensemble 'e' depends on '{model}' which ..."
    )
    assert compare_with_server([environment, ensemble], [], loads=True) == ()
    assert compare_with_server([ensemble], [], loads=True) != ()


def test_hidden_findings_are_counted_and_refuse_in_every_format() -> None:
    """A report that shows no error says what the verdict is, and how many findings it hides."""
    judged = replace(JUDGED, ignore=("E", "W1"))
    line = "Triton refuses it; 2 models, 2 findings hidden by --select or --ignore"
    assert FORMATS["text"]([judged]) == f"build/r: {line}"
    assert FORMATS["github"]([judged]) == f"::error file=build/r::build/r: {line}"
    document = json.loads(FORMATS["json"]([judged]))
    assert (document["verdict"], document["hidden"], document["findings"]) == ("refused", 2, [])
    run = json.loads(FORMATS["sarif"]([judged]))["runs"][0]
    assert run["results"] == []
    assert run["properties"]["repositories"] == [{"repository": "build/r", "verdict": "refused", "hidden": 2}]
    suite = ET.fromstring(FORMATS["junit"]([judged]))[0]
    assert suite.get("failures") == "1"
    assert [failure.get("message") for failure in suite.iter("failure")] == [line]


def test_every_format_reports_what_is_not_judged() -> None:
    """The third verdict: neither loads nor refused."""
    finding = Finding(code="E127", severity="error", path="m", message="not judged: m/config.pbtxt has 9 bytes")
    judged = RepositoryReport("r", (finding,), ("m",))
    assert judged.is_refused
    assert FORMATS["text"]([judged]).splitlines()[-1] == "r: not judged, since not all of it was read; 1 model, 1 error"
    assert json.loads(FORMATS["json"]([judged]))["verdict"] == "not judged"
    assert json.loads(FORMATS["json"]([judged, FINE]))["verdict"] == "not judged"
    assert json.loads(FORMATS["sarif"]([judged]))["runs"][0]["results"][0]["level"] == "error"
    assert ET.fromstring(FORMATS["junit"]([judged]))[0].get("failures") == "1"
    assert FORMATS["github"]([judged]).startswith("::error file=r/m,title=E127::not judged")


def test_what_stand_ins_do_not_open_is_no_difference() -> None:
    """A model.py that Python does not take, and a repository that was not judged."""
    broken = Finding(code="E123", severity="error", refused_by="triton", message="SyntaxError: x (model.py, line 2)")
    assert compare_with_server([broken], [], loads=True) == ()
    assert compare_with_server([Finding(code="E127", severity="error", message="not judged: m")], [], loads=True) == ()
