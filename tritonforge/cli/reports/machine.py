"""The report for programs: one JSON document.

For one repository ``{"repository", "verdict", "findings", "hidden"}``; for several ``{"verdict", "repositories":
[...]}``. A verdict is "loads", "refused" or "not judged"; that of several is "refused" when one of them is, else "not
judged" when one is. "hidden" is the number of findings that --select and --ignore leave out. With the real server
asked, ``"server"`` has its verdict and sentences, the models that stand-ins do not decide, and the differences.
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
    verdicts = {each.verdict for each in judged}
    verdict = next((each for each in ("refused", "not judged") if each in verdicts), "loads")
    return json.dumps({"verdict": verdict, "repositories": told}, indent=2)


def _repository(judged: Judged) -> dict[str, Any]:
    told: dict[str, Any] = {
        "repository": judged.repository,
        "verdict": judged.verdict,
        "findings": [asdict(each) for each in judged.shown],
        "hidden": len(judged.hidden),
    }
    if judged.server is not None:
        told["server"] = {
            "verdict": judged.server.verdict,
            "messages": list(judged.server.messages),
            "undecided": dict(judged.server.undecided),
            "differences": list(judged.server.differences),
        }
    return told
