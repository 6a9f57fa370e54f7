"""The report as JUnit XML: a suite for each repository, a case for each model, a failure for each error.

Where all that is refused is hidden, a case of its own fails, so that the report fails as the command does.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from tritonforge.cli.reports.judged import Judged
from tritonforge.escaping import terminal_line, xml_text
from tritonforge.validation.findings import Finding

__all__ = ["render"]


def render(judged: Sequence[Judged]) -> str:
    """The XML document."""
    root = ET.Element("testsuites", name="tritonforge validate")
    for each in judged:
        _suite(root, each)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def _suite(root: ET.Element, judged: Judged) -> None:
    by_model: dict[str, list[Finding]] = {name: [] for name in judged.models}
    for finding in judged.shown:
        by_model.setdefault(finding.path.split("/")[0] or "(repository)", []).append(finding)
    failures = sum(any(each.severity == "error" for each in found) for found in by_model.values())
    hidden_refusal = judged.is_refused and not failures
    suite = ET.SubElement(
        root,
        "testsuite",
        name=xml_text(judged.repository),
        tests=str(len(by_model) + hidden_refusal),
        failures=str(failures + hidden_refusal),
        errors="0",
        skipped="0",
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (("verdict", judged.verdict), ("hidden", str(len(judged.hidden)))):
        ET.SubElement(properties, "property", name=name, value=value)
    if hidden_refusal:
        case = ET.SubElement(suite, "testcase", classname=xml_text(judged.repository), name="(hidden)")
        ET.SubElement(case, "failure", type="hidden", message=xml_text(judged.summary()))
    for name, found in by_model.items():
        case = ET.SubElement(suite, "testcase", classname=xml_text(judged.repository), name=xml_text(name))
        for finding in found:
            told = f"{terminal_line(judged.where(finding))}:{finding.line or 1}: {finding.message}"
            if finding.help:
                told += f"\nhelp: {finding.help}"
            if finding.severity == "error":
                failure = ET.SubElement(case, "failure", type=finding.code, message=xml_text(finding.message))
                failure.text = xml_text(told)
            else:
                output = ET.SubElement(case, "system-out")
                output.text = xml_text(f"{finding.severity} {finding.code}: {told}")
