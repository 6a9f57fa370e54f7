"""The records that the control plane stores, as frozen values that JSON can carry, and the pages of lists. No I/O.

Times are seconds since 1970, as the JSON protocol sends them. ``request`` is the request of the caller, unchanged; what
Describe adds to it is added when it is called.

List calls filter, sort, and return one page after another. A token states after which item a page begins, and for which
question it was given: pages stay right while others create and delete. Defaults are the service model's own: ten items,
by CreationTime; the order is each operation's.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias, TypeVar

from tritonforge.emulator.control.api_errors import ApiError, build_validation_error
from tritonforge.triton.service_limits import TAGS

__all__ = [
    "DEFAULT_PAGE", "Endpoint", "JobRecord", "PendingDeployment", "Phase", "Record", "RegistryEntry", "Resource",
    "StatusRecord", "Tags", "TrainingRecord", "TransformRecord", "VariantStage", "VariantState", "add_tags",
    "build_page", "describe_record", "from_json", "list_tags", "select_records", "take_page", "to_json",
]  # fmt: skip

Tags: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What every resource has."""

    name: str
    arn: str
    created: float
    tags: Tags = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(Record):
    """A model, an endpoint configuration or a model package group.

    ``served`` is what a model runs as where it names model packages: its containers as they are in those, by the
    member of the request that they replace. AWS lets the packages be deleted under a model.
    """

    request: Mapping[str, Any]
    served: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> Mapping[str, Any]:
        """A model's request with every container as it runs."""
        return {**self.request, **self.served}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRecord(Record):
    """A resource with a status that changes; ``failure`` is its FailureReason."""

    modified: float
    status: str
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantStage:
    """An entry of VariantStatus: Creating, Updating, ActivatingTraffic, Baking or Deleting, and since when."""

    status: str
    since: float
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantState:
    """A variant of an endpoint: its weight and instances, current and desired.

    ``config`` is its ProductionVariant of the configuration, ``images`` are those of its containers.
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
    """A deployment in progress: PendingDeploymentSummary, and what it takes to start it again after a restart."""

    config_name: str
    started: float
    variants: tuple[VariantState, ...]
    shadows: tuple[VariantState, ...] = ()
    policy: Mapping[str, Any] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(StatusRecord):
    """An endpoint. ``config`` and ``models`` are copies of what serves: AWS lets both be deleted under an endpoint."""

    config_name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[VariantState, ...] = ()
    shadows: tuple[VariantState, ...] = ()
    policy: Mapping[str, Any] | None = None
    pending: PendingDeployment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord(StatusRecord):
    """A job. ``began`` and ``ended`` are its start and end time (TransformStartTime, ...), None before."""

    request: Mapping[str, Any]
    began: float | None = None
    ended: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformRecord(JobRecord):
    """A transform job. ``model`` is a copy of the model's request: AWS lets the model be deleted under a job."""

    model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A secondary status of a training job: its start, its end (None: not ended), and AWS's message."""

    status: str
    since: float
    until: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord(JobRecord):
    """A training job.

    ``image`` is what runs, also where the request names an algorithm; ``algorithm`` is a copy of its
    TrainingSpecification: AWS lets it be deleted under a job. ``metrics`` are FinalMetricDataList.
    """

    image: str
    algorithm: Mapping[str, Any] = field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    metrics: tuple[Mapping[str, Any], ...] = ()

    @property
    def secondary(self) -> str:
        """SecondaryStatus."""
        return self.phases[-1].status


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryEntry(StatusRecord):
    """An algorithm or a model package: ``status`` is Pending, InProgress, Completed or Failed.

    ``inference`` is the InferenceSpecification in force; for a model package made from an algorithm, the algorithm's
    with the model's address. A versioned package is named ``group/version``. ``validations`` are the statuses of the
    validation profiles, ``jobs`` the names of the jobs that validate, by what they do.
    """

    request: Mapping[str, Any]
    inference: Mapping[str, Any] = field(default_factory=dict)
    validations: tuple[Mapping[str, Any], ...] = ()
    jobs: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    version: int = 0


def add_tags(tags: Tags, more: Sequence[Mapping[str, Any]], *, arn: str) -> Tags:
    """Return tags with more of them; a key that exists gets the new value.

    Raises ApiError for a duplicate key in a request, a key of AWS's own, and too many tags. The sentences are ours.
    """
    merged = dict(tags)
    keys = [tag["Key"] for tag in more]
    duplicates = sorted({key for key in keys if keys.count(key) > 1})
    if duplicates:
        raise build_validation_error(f"The request has duplicate tag keys: {', '.join(duplicates)}.")
    for tag in more:
        if tag["Key"].lower().startswith("aws:"):
            raise build_validation_error(
                f"Tag key {tag['Key']!r} begins with aws:, which is reserved for AWS's own tags."
            )
        merged[tag["Key"]] = tag.get("Value", "")
    if len(merged) > TAGS.value:
        raise ApiError(
            "ResourceLimitExceeded", f"{arn} would have {len(merged)} tags; a resource has {TAGS.value} at most."
        )
    return tuple(merged.items())


def list_tags(tags: Tags) -> list[dict[str, str]]:
    """Return tags as the API has them."""
    return [{"Key": key, "Value": value} for key, value in tags]


_AnyRecord = TypeVar("_AnyRecord", bound=Record)


def to_json(record: Record) -> dict[str, Any]:
    """Return a record as JSON carries it."""
    return asdict(record)


def from_json(record: type[_AnyRecord], document: Mapping[str, Any]) -> _AnyRecord:
    """Return the record that `to_json` wrote; members that a later version wrote are ignored."""
    return record(**_read_fields(record, document))


def _read_fields(record: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    names = [member.name for member in fields(record) if member.name in document]
    return {name: _READERS[name](document[name]) if name in _READERS else document[name] for name in names}


def _read_all(record: Any, documents: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    return tuple(record(**_read_fields(record, document)) for document in documents)


#: How members are read that JSON does not carry as they are, by their names, which are unique among all records.
_READERS: Mapping[str, Any] = {
    "tags": lambda pairs: tuple((key, value) for key, value in pairs),
    "images": tuple,
    "metrics": tuple,
    "validations": tuple,
    "stages": lambda documents: _read_all(VariantStage, documents),
    "phases": lambda documents: _read_all(Phase, documents),
    "variants": lambda documents: _read_all(VariantState, documents),
    "shadows": lambda documents: _read_all(VariantState, documents),
    "pending": lambda document: document and PendingDeployment(**_read_fields(PendingDeployment, document)),
}


#: Items of a page that was asked for without MaxResults. Source: ListEndpoints, "This value defaults to 10".
DEFAULT_PAGE: Final = 10

_Item = TypeVar("_Item")
RecordT = TypeVar("RecordT", bound=Record)

Order: TypeAlias = Literal["Ascending", "Descending"]

#: The attributes of records by which a request sorts and filters.
_ATTRIBUTES: Final = {"Name": "name", "CreationTime": "created", "LastModifiedTime": "modified", "Status": "status"}

#: Members of a request about the page rather than the question.
_PAGE_MEMBERS: Final = frozenset({"NextToken", "MaxResults"})


def build_page(
    request: Mapping[str, Any],
    records: Sequence[RecordT],
    member: str,
    summarize: Callable[[RecordT], Mapping[str, Any]],
    *,
    order: Order = "Descending",
) -> dict[str, Any]:
    """Return the answer of a List call: summaries of a page of records under ``member``, and the next page's token.

    ``order`` is used if the request names none. Raises ApiError for a token that was not given for this question.
    """
    shown, token = take_page(request, select_records(request, records, order=order), name=lambda record: record.name)
    return {member: [summarize(record) for record in shown], **({"NextToken": token} if token else {})}


def describe_record(record: Record, prefix: str) -> dict[str, Any]:
    """Return the members that answers have of every record, named after its kind: ``TrainingJob``."""
    members = {f"{prefix}Name": record.name, f"{prefix}Arn": record.arn, "CreationTime": record.created}
    if isinstance(record, StatusRecord):
        members |= {"LastModifiedTime": record.modified, f"{prefix}Status": record.status}
    return members


def select_records(
    request: Mapping[str, Any], records: Sequence[RecordT], *, order: Order = "Descending"
) -> list[RecordT]:
    """Return the records that the filters of a request select, in the order that it asks for, else in ``order``."""
    selected = list(records)
    if request.get("NameContains"):
        text = str(request["NameContains"]).lower()
        selected = [record for record in selected if text in record.name.lower()]
    if request.get("StatusEquals"):
        selected = [record for record in selected if _get(record, "Status") == request["StatusEquals"]]
    for name in ("CreationTime", "LastModifiedTime"):
        # Before is exclusive, after inclusive: the words of ListEndpoints' documentation.
        before, after = request.get(f"{name}Before"), request.get(f"{name}After")
        selected = [
            record
            for record in selected
            if (before is None or _get(record, name) < float(before))
            and (after is None or _get(record, name) >= float(after))
        ]
    key = request.get("SortBy") or "CreationTime"
    is_descending = (request.get("SortOrder") or order) == "Descending"
    return sorted(selected, key=lambda record: (_get(record, key), record.name), reverse=is_descending)


def take_page(
    request: Mapping[str, Any], items: Sequence[_Item], *, name: Callable[[_Item], str], size: int = DEFAULT_PAGE
) -> tuple[Sequence[_Item], str | None]:
    """Return the page that a request asks for, and the token of the next one.

    Raises ApiError for a token that was not given for this question.
    """
    size = int(request.get("MaxResults") or size)
    begin = 0
    token = request.get("NextToken")
    if token:
        last = _read_token(token, request)
        names = [name(item) for item in items]
        begin = names.index(last["after"]) + 1 if last["after"] in names else min(int(last["index"]), len(items))
    shown = items[begin : begin + size]
    if not shown or begin + size >= len(items):
        return shown, None
    content = {"after": name(shown[-1]), "index": begin + len(shown), "for": _hash_question(request)}
    return shown, base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def _get(record: Record, key: str) -> Any:
    return getattr(record, _ATTRIBUTES[key])


def _hash_question(request: Mapping[str, Any]) -> str:
    question = {name: value for name, value in request.items() if name not in _PAGE_MEMBERS}
    return hashlib.sha256(json.dumps(question, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _read_token(token: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        content = json.loads(base64.urlsafe_b64decode(token.encode()))
        if content["for"] == _hash_question(request) and isinstance(content["after"], str):
            int(content["index"])
            return dict(content)
    except (ValueError, KeyError, TypeError):
        pass
    raise build_validation_error("Invalid NextToken: it was not given by this operation with these arguments.")  # ours
