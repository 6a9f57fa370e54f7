"""A plan: steps in the order in which they are to be carried out, each an exact request. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

__all__ = ["Action", "Change", "Generation", "Later", "Plan", "Step", "resolved"]

Action: TypeAlias = Literal["create", "update", "delete", "upload", "wait"]


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Later:
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
        """What `Later` calls the step."""
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


def resolved(value: Any, answers: Mapping[str, Mapping[str, Any]] | None) -> Any:
    """A request with every `Later` replaced by what its step answered, or by its example where ``answers`` is None."""
    if isinstance(value, Later):
        return value.example if answers is None else answers[value.step][value.member]
    if isinstance(value, Mapping):
        return {name: resolved(each, answers) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(each, answers) for each in value]
    return value
