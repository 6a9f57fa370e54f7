"""Which requests to the services beside SageMaker moto has no answer to, though it may seem to give one."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from tritonforge.emulator.front.http_request import Incoming
from tritonforge.emulator.requests import Response

__all__ = ["asks_for_unknown_subresource", "is_unrouted"]

#: Subresources of S3 that moto does not know: it takes ``DELETE /bucket?analytics`` for DeleteBucket, and
#: ``PUT /bucket/key?renameObject`` for PutObject. tests/emulator/test_service_errors.py compares them with
#: the service model.
UNKNOWN_SUBRESOURCES: Final = frozenset(
    {
        "abac",
        "analytics",
        "annotation",
        "intelligent-tiering",
        "metadataAnnotationTable",
        "metadataConfiguration",
        "metadataInventoryTable",
        "metadataJournalTable",
        "metadataTable",
        "metrics",
        "renameObject",
        "requestPayment",
        "session",
        "torrent",
    }
)

#: Bodies by which werkzeug answers a path or a method that moto's application has no rule for.
_UNROUTED: Final = (b"<!doctype html>", b"Not Found")
_STATUSES: Final = (404, 405)


def asks_for_unknown_subresource(incoming: Incoming) -> bool:
    """Whether a request to S3 names a subresource that moto would overlook."""
    return not UNKNOWN_SUBRESOURCES.isdisjoint(parse_qs(incoming.query, keep_blank_values=True))


def is_unrouted(response: Response) -> bool:
    """Whether an answer is that of moto's web framework, and not of a service."""
    if response.status not in _STATUSES:
        return False
    content_type = next((value for name, value in response.headers if name.lower() == "content-type"), "")
    return content_type.startswith("text/html") and response.body.lstrip().lower().startswith(
        tuple(start.lower() for start in _UNROUTED)
    )
