"""The report as SARIF 2.1.0 (OASIS), which code-scanning services read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tritonforge import __version__
from tritonforge.cli.reports.judged import Judged
from tritonforge.escaping import uri
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import rules_by_code

__all__ = ["render"]


def render(judged: Sequence[Judged]) -> str:
    """The log: one run, its rules those that were found."""
    codes = sorted({finding.code for each in judged for finding in each.shown})
    return json.dumps(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {
                        "driver": {
                            "name": "tritonforge",
                            "semanticVersion": __version__,
                            "rules": [_rule(code) for code in codes],
                        }
                    },
                    "columnKind": "unicodeCodePoints",
                    "properties": {
                        "repositories": [
                            {"repository": each.repository, "verdict": each.verdict, "hidden": len(each.hidden)}
                            for each in judged
                        ]
                    },
                    "results": [
                        _result(each, finding, codes.index(finding.code)) for each in judged for finding in each.shown
                    ],
                }
            ],
        },
        indent=2,
    )


def _rule(code: str) -> dict[str, Any]:
    rule = rules_by_code()[code]
    return {
        "id": code,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.why}\nSource: {rule.source}"},
        "defaultConfiguration": {"level": rule.severity},
    }


def _result(judged: Judged, finding: Finding, index: int) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": uri(judged.where(finding))}}
    if finding.line is not None:
        region = {"startLine": finding.line}
        if finding.column is not None:
            region["startColumn"] = finding.column
        location["region"] = region
    text = finding.message + (f"\nhelp: {finding.help}" if finding.help else "")
    return {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": text},
        "locations": [{"physicalLocation": location}],
        "properties": {"refused_by": finding.refused_by, "field": finding.field},
    }
