"""What the control plane keeps, as frozen values that JSON can carry. This module does no I/O.

Times are seconds since 1970, as the JSON protocol sends them. ``request`` is what the caller asked for, unchanged;
what Describe adds to it is added when it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeAlias, TypeVar

__all__ = [
    "Endpoint",
    "PendingDeployment",
    "Phase",
    "RegistryEntry",
    "Resource",
    "TrainingRecord",
    "TransformRecord",
    "VariantStage",
    "VariantState",
    "from_json",
    "to_json",
]

Tags: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A model, an endpoint configuration or a model package group.

    ``served`` is what a model runs as where it names model packages: its containers as they are in those, by the
    member of the request that they stand for. AWS lets the packages be deleted under a model.
    """

    name: str
    arn: str
    created: float
    request: Mapping[str, Any]
    served: Mapping[str, Any] = field(default_factory=dict)
    tags: Tags = ()

    @property
    def model(self) -> Mapping[str, Any]:
        """A model's request with every container as it runs."""
        return {**self.request, **self.served}


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantStage:
    """What a variant is at: Creating, Updating, ActivatingTraffic, Baking, Deleting; since when."""

    status: str
    since: float
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantState:
    """A variant of an endpoint: the weight and the instances that it has and that were asked for.

    ``config`` is its ProductionVariant of the configuration, ``images`` (specified, resolved) by container.
    """

    name: str
    config: Mapping[str, Any]
    images: tuple[str, ...] = ()
    weight: float = 1.0
    desired_weight: float = 1.0
    instances: int = 1
    desired_instances: int = 1
    stages: tuple[VariantStage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingDeployment:
    """A deployment under way: PendingDeploymentSummary, and what it takes to start it again after a restart."""

    config_name: str
    started: float
    variants: tuple[VariantState, ...]
    shadows: tuple[VariantState, ...] = ()
    policy: Mapping[str, Any] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint. ``config`` and ``models`` are copies of what serves: AWS lets both be deleted under an endpoint."""

    name: str
    arn: str
    created: float
    modified: float
    status: str
    config_name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[VariantState, ...] = ()
    shadows: tuple[VariantState, ...] = ()
    failure: str = ""
    policy: Mapping[str, Any] | None = None
    pending: PendingDeployment | None = None
    tags: Tags = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformRecord:
    """A transform job. ``model`` is a copy of the model's request: AWS lets the model be deleted under a job.

    ``began`` and ``ended`` are TransformStartTime and TransformEndTime, None before.
    """

    name: str
    arn: str
    created: float
    modified: float
    status: str
    request: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=dict)
    began: float | None = None
    ended: float | None = None
    failure: str = ""
    tags: Tags = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A secondary status of a training job: since when, until when (None: it is in it), and AWS's message of it."""

    status: str
    since: float
    until: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """A training job.

    ``image`` is what runs, also where the request names an algorithm; ``algorithm`` is a copy of that one's
    TrainingSpecification: AWS lets it be deleted under a job. ``metrics`` are FinalMetricDataList, ``began`` and
    ``ended`` TrainingStartTime and TrainingEndTime, None before.
    """

    name: str
    arn: str
    created: float
    modified: float
    status: str
    request: Mapping[str, Any]
    image: str
    algorithm: Mapping[str, Any] = field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    metrics: tuple[Mapping[str, Any], ...] = ()
    began: float | None = None
    ended: float | None = None
    failure: str = ""
    tags: Tags = ()

    @property
    def secondary(self) -> str:
        """SecondaryStatus."""
        return self.phases[-1].status


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryEntry:
    """An algorithm or a model package: ``status`` is Pending, InProgress, Completed or Failed.

    ``inference`` is the InferenceSpecification that holds, of a model package that was made from an algorithm that
    one's with the model's address. A versioned package is named ``group/version``. ``validations`` are the statuses of
    the profiles that are run, ``jobs`` the names of the jobs that this takes, by what they do.
    """

    name: str
    arn: str
    created: float
    modified: float
    status: str
    request: Mapping[str, Any]
    inference: Mapping[str, Any] = field(default_factory=dict)
    validations: tuple[Mapping[str, Any], ...] = ()
    jobs: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    version: int = 0
    tags: Tags = ()


_Record: TypeAlias = Resource | Endpoint | TransformRecord | TrainingRecord | RegistryEntry
_AnyRecord = TypeVar("_AnyRecord", Resource, Endpoint, TransformRecord, TrainingRecord, RegistryEntry)


def to_json(value: _Record) -> dict[str, Any]:
    """The value as JSON carries it."""
    return asdict(value)


def from_json(kind: type[_AnyRecord], document: Mapping[str, Any]) -> _AnyRecord:
    """The value that `to_json` wrote; members that a later version wrote are left aside."""
    readers: Mapping[str, Any] = {
        "variants": _read_variants,
        "shadows": _read_variants,
        "pending": _read_pending,
        "phases": _read_phases,
        "metrics": tuple,
        "validations": tuple,
    }
    return kind(**_read_fields(kind, document, readers))


def _read_fields(kind: Any, document: Mapping[str, Any], readers: Mapping[str, Any]) -> dict[str, Any]:
    found = {each.name: document[each.name] for each in fields(kind) if each.name in document}
    if "tags" in found:
        found["tags"] = tuple((key, value) for key, value in found["tags"])
    return {name: readers[name](value) if name in readers else value for name, value in found.items()}


def _read_variants(documents: Sequence[Mapping[str, Any]]) -> tuple[VariantState, ...]:
    return tuple(
        VariantState(**_read_fields(VariantState, each, {"images": tuple, "stages": _read_stages}))
        for each in documents
    )


def _read_stages(documents: Sequence[Mapping[str, Any]]) -> tuple[VariantStage, ...]:
    return tuple(VariantStage(**_read_fields(VariantStage, each, {})) for each in documents)


def _read_phases(documents: Sequence[Mapping[str, Any]]) -> tuple[Phase, ...]:
    return tuple(Phase(**_read_fields(Phase, each, {})) for each in documents)


def _read_pending(document: Mapping[str, Any] | None) -> PendingDeployment | None:
    if document is None:
        return None
    return PendingDeployment(
        **_read_fields(PendingDeployment, document, {"variants": _read_variants, "shadows": _read_variants})
    )
