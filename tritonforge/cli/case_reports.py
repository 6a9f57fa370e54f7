"""Reports of golden tests: for people, as JSON, and in the formats of CI systems. This module does no I/O."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final
from xml.etree import ElementTree as ET

from tritonforge.escaping import escape_github_data, escape_github_property, escape_line, escape_xml
from tritonforge.golden_tests.suite import CaseResult, describe_step

__all__ = ["FORMATS", "SuiteReport", "format_result", "format_total"]

#: The status of a case as one word of the text report.
_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {"passed": "PASS", "failed": "FAIL", "invalid": "ERROR", "recorded": "RECORDED", "updated": "UPDATED"}
)

#: Outputs that the text report lists below a case.
_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class SuiteReport:
    """The results of a run: what was tested, the directory of the cases, and files with tensors by case."""

    tested: str
    cases: str
    results: Sequence[CaseResult]
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 if all cases passed, 2 if one is invalid, else 1."""
        if any(result.status == "invalid" for result in self.results):
            return 2
        return 0 if all(result.is_success for result in self.results) else 1

    def locate(self, result: CaseResult) -> str:
        """Return the path of a case."""
        return f"{self.cases}/{result.name}.json"


def format_result(result: CaseResult, files: Sequence[str] = ()) -> Iterator[str]:
    """Yield the lines of a case; the first one has its status, its name and the step that differs first."""
    headline = "" if result.status in ("passed", "recorded", "updated") else result.headline
    lines = headline.splitlines() or [""]
    yield f"{_WORDS[result.status]} {escape_line(result.name)}  {escape_line(lines[0])}".rstrip()
    yield from (f"  {escape_line(line)}" for line in lines[1:])
    for difference in result.differences[:_SHOWN]:
        yield f"  {escape_line(describe_step(result, difference))}: {escape_line(difference.sentence)}"
    if len(result.differences) > _SHOWN:
        yield f"  ... ({len(result.differences) - _SHOWN} more)"
    yield from (f"  note: {escape_line(note)}" for note in result.notes)
    yield from (f"  {escape_line(path)}" for path in files)


def format_total(report: SuiteReport) -> str:
    """Return the counts of a run as one line."""
    counts: Counter[str] = Counter(result.status for result in report.results)
    parts = [f"{counts[status]} {status}" for status in _WORDS if counts[status]]
    return f"{escape_line(report.tested)}: {', '.join(parts) or 'no cases'}"


def _render_json(report: SuiteReport) -> str:
    return json.dumps(
        {
            "tested": report.tested,
            "cases": [
                {
                    "name": result.name,
                    "file": report.locate(result),
                    "status": result.status,
                    "seconds": round(result.seconds, 3),
                    "model": result.model,
                    "step": result.differences[0].step if result.differences else "",
                    "message": result.headline,
                    "differences": [_difference_to_json(result, index) for index in range(len(result.differences))],
                    "notes": list(result.notes),
                    "files": list(report.files.get(result.name, ())),
                }
                for result in report.results
            ],
            "exit_code": report.exit_code,
        },
        indent=2,
    )


def _difference_to_json(result: CaseResult, index: int) -> dict[str, Any]:
    difference = result.differences[index]
    return {"step": difference.step, "output": difference.output, "message": difference.sentence}


def _render_junit(report: SuiteReport) -> str:
    failures = sum(result.status == "failed" for result in report.results)
    errors = sum(result.status == "invalid" for result in report.results)
    seconds = sum(result.seconds for result in report.results)
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", name=escape_xml(report.tested), time=f"{seconds:.3f}")
    suite.attrib |= {"tests": str(len(report.results)), "failures": str(failures), "errors": str(errors)}
    for result in report.results:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=escape_xml(report.cases),
            name=escape_xml(result.name),
            file=escape_xml(report.locate(result)),
            time=f"{result.seconds:.3f}",
        )
        text = "\n".join(format_result(result, report.files.get(result.name, ())))
        if not result.is_success:
            kind = "failure" if result.status == "failed" else "error"
            element = ET.SubElement(case, kind, message=escape_xml(result.headline))
            element.text = escape_xml(text)
        elif result.notes or result.differences:
            ET.SubElement(case, "system-out").text = escape_xml(text)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode")


def _render_github(report: SuiteReport) -> str:
    """Render workflow commands: one for each case that did not pass, and a notice with the counts."""
    lines = []
    for result in report.results:
        if not result.is_success:
            text = "\n".join(format_result(result))
            place = f"file={escape_github_property(report.locate(result))},title={escape_github_property(result.name)}"
            lines.append(f"::error {place}::{escape_github_data(text)}")
    return "\n".join([*lines, f"::notice ::{escape_github_data(format_total(report))}"])


#: Format -> what renders a run; text is printed line by line.
FORMATS: Final[Mapping[str, Callable[[SuiteReport], str]]] = MappingProxyType(
    {"json": _render_json, "junit": _render_junit, "github": _render_github}
)
