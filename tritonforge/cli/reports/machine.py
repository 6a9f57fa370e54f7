"""The report for programs: one JSON document.

For one repository ``{"repository", "verdict", "findings"}``; for several ``{"verdict", "repositories": [...]}``, where
the verdict is "refused" when one of them is. With the real server asked, ``"server"`` has its sentences and the
differences.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tritonforge.cli.reports.judged import Judged

__all__ = ["render"]


def render(judged: Sequence[Judged]) -> str:
    """The document."""
    told = [_repository(each) for each in judged]
    if len(told) == 1:
        return json.dumps(told[0], indent=2)
    refused = any(each.verdict == "refused" for each in judged)
    return json.dumps({"verdict": "refused" if refused else "loads", "repositories": told}, indent=2)


def _repository(judged: Judged) -> dict[str, Any]:
    told: dict[str, Any] = {
        "repository": judged.repository,
        "verdict": judged.verdict,
        "findings": [asdict(each) for each in judged.findings],
    }
    if judged.server is not None:
        told["server"] = {
            "verdict": "refused" if judged.server else "loads",
            "messages": list(judged.server),
            "differences": list(judged.differences),
        }
    return told
