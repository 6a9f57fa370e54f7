"""The List calls: filter, sort, and one page after another. This module does no I/O.

A token states after which item a page begins, and for which question it was given: pages stay right while others create
and delete. Defaults are the service model's own: ten items, by CreationTime; the order is each operation's.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeVar

from tritonforge.emulator.control.api_errors import build_validation_error
from tritonforge.emulator.control.records import Record, StatusRecord

__all__ = ["DEFAULT_PAGE", "build_page", "describe_record", "select_records", "take_page"]

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
