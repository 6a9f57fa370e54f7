"""S3 in front of moto's: names are held against S3's rules, a bucket in the host name is moved into the path."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from xml.sax.saxutils import escape

from tritonforge.emulator.front import storage_names
from tritonforge.emulator.front.http_request import Incoming
from tritonforge.emulator.front.moto_backend import Neighbours
from tritonforge.emulator.front.routes import Route
from tritonforge.emulator.front.storage_names import Problem
from tritonforge.emulator.requests import Response
from tritonforge.triton.service_limits import S3_OBJECT

__all__ = ["Storage"]

_TOO_LARGE: Final = Problem("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")

_FORM: Final = "application/x-www-form-urlencoded"


class Storage:
    """Answers requests to S3; ``allowed_hosts`` are those of `request_origin.refusal`."""

    def __init__(self, neighbours: Neighbours, *, allowed_hosts: Collection[str] = ()) -> None:
        self._neighbours = neighbours
        self._allowed_hosts = tuple(allowed_hosts)

    def serves(self, found: Route, incoming: Incoming) -> bool:
        """Whether a request is for S3: its signature says so, or it has none and no other service's form."""
        other = "x-amz-target" in incoming.headers or incoming.headers.get("content-type", "").startswith(_FORM)
        return found.service == "s3" or (found.service == "" and not other)

    def answer(self, incoming: Incoming) -> Response:
        """S3's answer; raises what moto raises."""
        incoming.address(storage_names.bucket_of_host(incoming.headers.get("host", ""), self._allowed_hosts))
        found = storage_names.problem(incoming.path)
        if found is None and incoming.length > S3_OBJECT.value:
            found = _TOO_LARGE
        if found is not None:
            body = f"<Error><Code>{found.code}</Code><Message>{escape(found.message)}</Message></Error>"
            text = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
            return Response(400, [("Content-Type", "application/xml")], text.encode())
        response = self._neighbours.answer(incoming)
        of_a_key = incoming.path.strip("/").count("/") > 0
        is_xml = any(name.lower() == "content-type" and "xml" in value for name, value in response.headers)
        if not is_xml or (of_a_key and incoming.method == "GET"):  # which may be what a user put there
            return response
        headers = [(name, value) for name, value in response.headers if name.lower() != "content-length"]
        return Response(response.status, headers, storage_names.readable(response.body))
