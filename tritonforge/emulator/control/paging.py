"""The List calls: filter, sort, and one page after another. This module does no I/O.

A token says after which item a page begins, and for which question it was given: pages stay right while others create
and delete. Defaults are the service model's own: ten items, by CreationTime, and in which order is each operation's.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeVar

from tritonforge.emulator.control.api_errors import ApiError, invalid

__all__ = ["DEFAULT_PAGE", "build_page", "select_items", "take_page"]

#: Items of a page that was asked for without MaxResults. Source: ListEndpoints, "This value defaults to 10".
DEFAULT_PAGE: Final = 10

_Item = TypeVar("_Item")

Order: TypeAlias = Literal["Ascending", "Descending"]

#: What a request says about the page, and not about the question.
_OF_THE_PAGE: Final = frozenset({"NextToken", "MaxResults"})


def select_items(
    request: Mapping[str, Any],
    items: Sequence[_Item],
    *,
    name: Callable[[_Item], str],
    created: Callable[[_Item], float],
    modified: Callable[[_Item], float] | None = None,
    status: Callable[[_Item], str] | None = None,
    order: Order = "Descending",
) -> list[_Item]:
    """The items that the filters of a request let through, in the order that it asks for, else in ``order``."""
    found = list(items)
    if request.get("NameContains"):
        wanted = str(request["NameContains"]).lower()
        found = [each for each in found if wanted in name(each).lower()]
    found = _filter_times(request, found, "CreationTime", created)
    if modified is not None:
        found = _filter_times(request, found, "LastModifiedTime", modified)
    if status is not None and request.get("StatusEquals"):
        found = [each for each in found if status(each) == request["StatusEquals"]]
    keys: dict[str, Callable[[_Item], Any]] = {"Name": name, "CreationTime": created}
    if status is not None:
        keys["Status"] = status
    key = keys[request.get("SortBy") or "CreationTime"]
    backwards = (request.get("SortOrder") or order) == "Descending"
    return sorted(found, key=lambda each: (key(each), name(each)), reverse=backwards)


def take_page(
    request: Mapping[str, Any], items: Sequence[_Item], *, name: Callable[[_Item], str], most: int = DEFAULT_PAGE
) -> tuple[Sequence[_Item], str | None]:
    """The page that a request asks for, and the token of the next one.

    Raises ApiError for a token that was not given for this question.
    """
    size = int(request.get("MaxResults") or most)
    begin = 0
    token = request.get("NextToken")
    if token:
        last = _read_token(token, request)
        names = [name(each) for each in items]
        begin = names.index(last["after"]) + 1 if last["after"] in names else min(int(last["index"]), len(items))
    shown = items[begin : begin + size]
    if not shown or begin + size >= len(items):
        return shown, None
    return shown, _write_token({"after": name(shown[-1]), "index": begin + len(shown), "for": _hash_question(request)})


def build_page(
    request: Mapping[str, Any],
    items: Sequence[_Item],
    member: str,
    told: Callable[[_Item], Mapping[str, Any]],
    *,
    name: Callable[[_Item], str],
) -> dict[str, Any]:
    """What a List call answers: a page of items as they are told, under ``member``, and the token of the next one.

    Raises as `take_page`.
    """
    shown, token = take_page(request, items, name=name)
    return {member: [told(each) for each in shown], **({"NextToken": token} if token else {})}


def _filter_times(
    request: Mapping[str, Any], items: list[_Item], what: str, when: Callable[[_Item], float]
) -> list[_Item]:
    """Before is exclusive, after inclusive: the words of ListEndpoints' documentation."""
    before, after = request.get(f"{what}Before"), request.get(f"{what}After")
    if before is not None:
        items = [each for each in items if when(each) < float(before)]
    if after is not None:
        items = [each for each in items if when(each) >= float(after)]
    return items


def _hash_question(request: Mapping[str, Any]) -> str:
    asked = {name: value for name, value in request.items() if name not in _OF_THE_PAGE}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _write_token(content: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def _read_token(token: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        content = json.loads(base64.urlsafe_b64decode(token.encode()))
        if content["for"] == _hash_question(request) and isinstance(content["after"], str):
            int(content["index"])
            return dict(content)
    except (ValueError, KeyError, TypeError):
        pass
    raise _invalid_token()


def _invalid_token() -> ApiError:
    return invalid("Invalid NextToken: it was not given by this operation with these arguments.")  # ours
