"""A plan: steps in the order of their execution, each an exact request, and its text and JSON. No I/O.

Values of variables whose name marks them as secret are shown as ``(sensitive)``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, TypeAlias

__all__ = ["SENSITIVE", "Action", "Change", "CheckedPlan", "Generation", "Plan", "Progress", "SilentProgress", "Step",
           "StepOutput", "mask_secrets", "render", "resolve_outputs", "to_json"]  # fmt: skip

Action: TypeAlias = Literal["create", "update", "delete", "upload", "wait"]

#: The text that is shown instead of a secret.
SENSITIVE: Final = "(sensitive)"
_SECRET: Final = re.compile(
    r"SECRET|TOKEN|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH(?!OR)", re.IGNORECASE
)
_SIGNS: Final = {"create": "+", "upload": "+", "update": "~", "delete": "-", "wait": " "}
#: The version of the JSON document, raised when the meaning of a member changes.
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class StepOutput:
    """A value that is known after an earlier step: ``member`` of the response to ``step``.

    ``example`` has the form of the value, so that the request can be checked before.
    """

    step: str
    member: str
    example: str

    def __str__(self) -> str:
        return f"(known after {self.step})"


@dataclass(frozen=True, slots=True)
class Change:
    """What an update changes: a field, its value on AWS, and its new value."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Step:
    """One call, or one wait.

    ``operation`` of ``service`` is AWS's, ``kind`` and ``name`` identify the resource, ``why`` states in a few words
    what makes the step necessary. An upload's ``source`` is the name of its repository and ``size`` its bytes; a wait's
    ``until`` is the state in which it ends.
    """

    action: Action
    operation: str
    kind: str
    name: str
    request: Mapping[str, Any]
    why: str
    service: str = "sagemaker"
    changes: Sequence[Change] = ()
    source: str | None = None
    size: int = 0
    until: str = ""

    @property
    def id(self) -> str:
        """The name of the step in `StepOutput`."""
        return f"{self.operation} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """An endpoint configuration of this deployment that is not used any more: its models, and when it was created."""

    name: str
    created: str
    models: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps of a change; none if AWS has everything already.

    ``notes`` are sentences for the user, ``old`` the generations that no step changes. ``config`` is the endpoint
    configuration that will run, empty if the plan removes the endpoint.
    """

    name: str
    region: str
    account: str
    steps: Sequence[Step] = ()
    notes: Sequence[str] = ()
    old: Sequence[Generation] = ()
    config: str = ""
    digests: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def upload_bytes(self) -> int:
        """The bytes of all uploads before compression: the most that is uploaded."""
        return sum(step.size for step in self.steps)

    def count(self, *actions: Action) -> int:
        """Return how many steps have one of these actions."""
        return sum(step.action in actions for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPlan(Plan):
    """A plan whose requests AWS's service models and documented limits allow.

    `tritonforge.sagemaker.plans.executor.check_plan` makes it; a part of its steps is checked as well (`replace`).
    """


def resolve_outputs(value: Any, responses: Mapping[str, Mapping[str, Any]] | None) -> Any:
    """Return a request with every `StepOutput` replaced from its step's response, or by its example if None."""
    if isinstance(value, StepOutput):
        return value.example if responses is None else responses[value.step][value.member]
    if isinstance(value, Mapping):
        return {name: resolve_outputs(item, responses) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolve_outputs(item, responses) for item in value]
    return value


class Progress(Protocol):
    """The progress of slow work: a step begins, its state, the bytes moved, and sentences that must not be missed."""

    def begin(self, what: str) -> None:
        """Begin a step; the one before is done."""

    def detail(self, text: str) -> None:
        """Show the state of the step."""

    def show_bytes(self, done: int, total: int | None) -> None:
        """Show the bytes moved so far, of a total if that is known."""

    def note(self, sentence: str) -> None:
        """Show a sentence that must not be missed."""


class SilentProgress:
    """Progress that is not shown."""

    def begin(self, what: str) -> None:
        """Do nothing."""

    def detail(self, text: str) -> None:
        """Do nothing."""

    def show_bytes(self, done: int, total: int | None) -> None:
        """Do nothing."""

    def note(self, sentence: str) -> None:
        """Do nothing."""


def mask_secrets(value: Any, name: str = "") -> Any:
    """Return a request for display: secrets are masked, values that are known later are marked."""
    if isinstance(value, StepOutput):
        return str(value)
    if isinstance(value, Mapping):
        has_secrets = name == "Environment"
        return {
            key: SENSITIVE if has_secrets and _SECRET.search(key) else mask_secrets(item, key)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [mask_secrets(item, name) for item in value]
    return value


def render(plan: Plan) -> list[str]:
    """Return the lines of a plan: what is created (+), changed (~) and deleted (-), with every request in full."""
    lines = [f"{plan.name} in {plan.region}, account {plan.account}"]
    for step in plan.steps:
        lines += ["", *_render_step(step)]
    if plan.notes:
        lines += ["", *(f"note: {note}" for note in plan.notes)]
    if plan.old:
        lines += ["", "old generations (tritonforge deploy --prune removes them):"]
        lines += [f"    {generation.name}  {generation.created}".rstrip() for generation in plan.old]
    if not plan.steps:
        return [*lines, "", "Nothing to do: AWS has everything."]
    upload = f"; at most {plan.upload_bytes:,} bytes to upload" if plan.upload_bytes else ""
    counts = f"{plan.count('create', 'upload')} to create, {plan.count('update')} to change"
    return [*lines, "", f"Plan: {counts}, {plan.count('delete')} to delete{upload}."]


def _render_step(step: Step) -> Iterator[str]:
    if step.action == "wait":
        yield f"    wait for {step.kind} {step.name}: {step.why}"
        return
    size = f", at most {step.size:,} bytes" if step.action == "upload" else ""
    yield f"  {_SIGNS[step.action]} {step.kind} {step.name}{size}"
    yield f"      {step.service} {step.operation}, because {step.why}"
    for change in step.changes:
        old, new = (
            "(none)" if value is None else json.dumps(value, ensure_ascii=False, default=str)
            for value in (mask_secrets(change.old, change.field), mask_secrets(change.new, change.field))
        )
        yield f"      {change.field}: {old} -> {new}"
    text = json.dumps(mask_secrets(step.request), indent=2, ensure_ascii=False)
    yield from (f"      {line}" for line in text.splitlines())


def to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as a document: ``format`` 1, with every request as it is sent except for secrets."""
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
                **{name: getattr(step, name) for name in ("action", "service", "operation", "kind", "name", "why")},
                "changes": [
                    {
                        "field": change.field,
                        "old": mask_secrets(change.old, change.field),
                        "new": mask_secrets(change.new, change.field),
                    }
                    for change in step.changes
                ],
                "request": mask_secrets(step.request),
            }
            for step in plan.steps
        ],
        "notes": list(plan.notes),
        "old_generations": [
            {"name": generation.name, "created": generation.created, "models": list(generation.models)}
            for generation in plan.old
        ],
    }
