"""The report as JUnit XML: a suite for each repository, a case for each model, a failure for each error.

Where all that is refused is hidden, a case of its own fails, so that the report fails as the command does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from tritonforge.cli.reports.judged import Judged
from tritonforge.repository.findings import Finding

__all__ = ["render"]

#: What XML 1.0 cannot hold (section 2.2, Char).
_NO_CHARACTER = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
        name=_clean(judged.repository),
        tests=str(len(by_model) + hidden_refusal),
        failures=str(failures + hidden_refusal),
        errors="0",
        skipped="0",
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (("verdict", judged.verdict), ("hidden", str(len(judged.hidden)))):
        ET.SubElement(properties, "property", name=name, value=value)
    if hidden_refusal:
        case = ET.SubElement(suite, "testcase", classname=_clean(judged.repository), name="(hidden)")
        ET.SubElement(case, "failure", type="hidden", message=_clean(judged.summary()))
    for name, found in by_model.items():
        case = ET.SubElement(suite, "testcase", classname=_clean(judged.repository), name=_clean(name))
        for finding in found:
            told = f"{judged.where(finding)}:{finding.line or 1}: {finding.message}"
            if finding.help:
                told += f"\nhelp: {finding.help}"
            if finding.severity == "error":
                failure = ET.SubElement(case, "failure", type=finding.code, message=_clean(finding.message))
                failure.text = _clean(told)
            else:
                output = ET.SubElement(case, "system-out")
                output.text = _clean(f"{finding.severity} {finding.code}: {told}")


def _clean(text: str) -> str:
    return _NO_CHARACTER.sub("�", text)
