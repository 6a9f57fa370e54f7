"""A plan as text for people and as a document for machines. No I/O.

Values of variables whose name says that they are secret are shown as ``(sensitive)`` in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tritonforge.sagemaker.plans.steps import Later, Plan, Step

__all__ = ["SENSITIVE", "masked", "render", "to_json"]

#: What stands in for a secret.
SENSITIVE: Final = "(sensitive)"

_SECRET: Final = re.compile(
    r"SECRET|TOKEN|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH(?!OR)", re.IGNORECASE
)
_SIGNS: Final = {"create": "+", "upload": "+", "update": "~", "delete": "-", "wait": " "}
#: Raised when the meaning of a member of the document changes.
_FORMAT: Final = 1


def masked(value: Any, name: str = "") -> Any:
    """A request as it may be shown: secrets masked, and what is known later said so."""
    if isinstance(value, Later):
        return str(value)
    if isinstance(value, Mapping):
        inside = name == "Environment"
        return {key: SENSITIVE if inside and _SECRET.search(key) else masked(each, key) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked(each, name) for each in value]
    return value


def render(plan: Plan) -> list[str]:
    """The plan line by line: what is created (+), changed (~) and deleted (-), with every request in full."""
    lines = [f"{plan.name} in {plan.region}, account {plan.account}"]
    for step in plan.steps:
        lines += ["", *_step(step)]
    if plan.notes:
        lines += ["", *(f"note: {each}" for each in plan.notes)]
    if plan.old:
        lines += ["", "old generations (tritonforge deploy --prune removes them):"]
        lines += [f"    {each.name}  {each.created}".rstrip() for each in plan.old]
    return [*lines, "", _summary(plan)]


def _summary(plan: Plan) -> str:
    if not plan.steps:
        return "Nothing to do: AWS has what the deployment says."
    words = [
        f"{plan.count('create', 'upload')} to create",
        f"{plan.count('update')} to change",
        f"{plan.count('delete')} to delete",
    ]
    upload = f"; at most {plan.upload_bytes:,} bytes to upload" if plan.upload_bytes else ""
    return f"Plan: {', '.join(words)}{upload}."


def _step(step: Step) -> Iterator[str]:
    if step.action == "wait":
        yield f"    wait for {step.kind} {step.name}: {step.why}"
        return
    sign = _SIGNS[step.action]
    size = f", at most {step.size:,} bytes" if step.action == "upload" else ""
    yield f"  {sign} {step.kind} {step.name}{size}"
    yield f"      {step.service} {step.operation}, because {step.why}"
    for change in step.changes:
        old, new = (_plain(masked(each, change.field)) for each in (change.old, change.new))
        yield f"      {change.field}: {old} -> {new}"
    text = json.dumps(masked(step.request), indent=2, ensure_ascii=False)
    yield from (f"      {line}" for line in text.splitlines())


def _plain(value: Any) -> str:
    return "(none)" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan as a document: ``format`` 1, with every request as it is sent but for secrets."""
    return {
        "format": _FORMAT,
        "name": plan.name,
        "region": plan.region,
        "account": plan.account,
        "endpoint_config": plan.config or None,
        "digests": dict(plan.digests),
        "changes": bool(plan.steps),
        "upload_bytes": plan.upload_bytes,
        "steps": [
            {
                "action": step.action,
                "service": step.service,
                "operation": step.operation,
                "kind": step.kind,
                "name": step.name,
                "why": step.why,
                "changes": [
                    {"field": each.field, "old": masked(each.old, each.field), "new": masked(each.new, each.field)}
                    for each in step.changes
                ],
                "request": masked(step.request),
            }
            for step in plan.steps
        ],
        "notes": list(plan.notes),
        "old_generations": [
            {"name": each.name, "created": each.created, "models": list(each.models)} for each in plan.old
        ],
    }
