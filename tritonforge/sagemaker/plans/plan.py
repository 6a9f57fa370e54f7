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

__all__ = [
    "SENSITIVE",
    "Action",
    "Change",
    "CheckedPlan",
    "Generation",
    "Plan",
    "Progress",
    "SilentProgress",
    "Step",
    "StepOutput",
    "mask_secrets",
    "render",
    "resolve_outputs",
    "to_json",
]

Action: TypeAlias = Literal["create", "update", "delete", "upload", "wait"]


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class StepOutput:
    """A value that is known only when an earlier step has been answered: ``member`` of the answer to ``step``.

    ``example`` has the form of the value, so that the request can be checked before.
    """

    step: str
    member: str
    example: str

    def __str__(self) -> str:
        return f"(known after {self.step})"


@dataclass(frozen=True, slots=True)
class Change:
    """What an update changes: a field, what AWS has there, and what it is to be."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call, or one wait.

    ``service`` and ``operation`` are boto3's service and AWS's operation, ``kind`` and ``name`` say what it is about,
    ``why`` in a few words what makes it necessary. An upload's ``source`` is the repository (as `plan` was given it)
    and ``size`` its bytes; a wait's ``until`` is the state it ends in.
    """

    action: Action
    service: str
    operation: str
    kind: str
    name: str
    request: Mapping[str, Any]
    why: str
    changes: Sequence[Change] = ()
    source: str | None = None
    size: int = 0
    until: str = ""

    @property
    def id(self) -> str:
        """What `StepOutput` calls the step."""
        return f"{self.operation} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """An endpoint configuration of this deployment that is no longer used: when it was made, and of which models."""

    name: str
    created: str
    models: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done for a deployment; nothing where ``steps`` is empty.

    ``notes`` are sentences for the user, ``old`` the generations that no step touches. ``config`` is the endpoint
    configuration that will run, empty where the plan removes.
    """

    name: str
    region: str
    account: str
    steps: Sequence[Step] = ()
    notes: Sequence[str] = ()
    old: Sequence[Generation] = ()
    config: str = ""
    digests: Mapping[str, str] = field(default_factory=_nothing)

    @property
    def upload_bytes(self) -> int:
        """The bytes of all uploads, before compression: an upload is at most this."""
        return sum(step.size for step in self.steps)

    def count(self, *actions: Action) -> int:
        """How many steps are of one of these actions."""
        return sum(step.action in actions for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPlan(Plan):
    """A plan whose requests AWS's service models and documented limits allow.

    `tritonforge.sagemaker.plans.executor.check_plan` makes it; a part of its steps is checked as well (`replace`).
    """


def resolve_outputs(value: Any, answers: Mapping[str, Mapping[str, Any]] | None) -> Any:
    """Return a request with every `StepOutput` replaced by its step's answer, or by its example if there are none."""
    if isinstance(value, StepOutput):
        return value.example if answers is None else answers[value.step][value.member]
    if isinstance(value, Mapping):
        return {name: resolve_outputs(each, answers) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [resolve_outputs(each, answers) for each in value]
    return value


class Progress(Protocol):
    """What is told: a step begins, where it is at, the bytes moved, and sentences that must not be missed."""

    def begin(self, what: str) -> None:
        """A step begins; the one before it is done."""
        ...

    def detail(self, text: str) -> None:
        """Where the step is at."""
        ...

    def moved(self, done: int, total: int | None) -> None:
        """The bytes moved so far, and of how many where that is known."""
        ...

    def say(self, sentence: str) -> None:
        """A sentence that must not be missed."""
        ...


class SilentProgress:
    """Progress that nobody watches."""

    def begin(self, what: str) -> None:
        """Nothing."""

    def detail(self, text: str) -> None:
        """Nothing."""

    def moved(self, done: int, total: int | None) -> None:
        """Nothing."""

    def say(self, sentence: str) -> None:
        """Nothing."""


#: What stands in for a secret.
SENSITIVE: Final = "(sensitive)"

_SECRET: Final = re.compile(
    r"SECRET|TOKEN|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH(?!OR)", re.IGNORECASE
)
_SIGNS: Final = {"create": "+", "upload": "+", "update": "~", "delete": "-", "wait": " "}
#: Raised when the meaning of a member of the document changes.
_FORMAT: Final = 1


def mask_secrets(value: Any, name: str = "") -> Any:
    """A request as it may be shown: secrets masked, and what is known later said so."""
    if isinstance(value, StepOutput):
        return str(value)
    if isinstance(value, Mapping):
        inside = name == "Environment"
        return {
            key: SENSITIVE if inside and _SECRET.search(key) else mask_secrets(item, key) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [mask_secrets(each, name) for each in value]
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
        old, new = (_plain(mask_secrets(each, change.field)) for each in (change.old, change.new))
        yield f"      {change.field}: {old} -> {new}"
    text = json.dumps(mask_secrets(step.request), indent=2, ensure_ascii=False)
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
            {"name": each.name, "created": each.created, "models": list(each.models)} for each in plan.old
        ],
    }
