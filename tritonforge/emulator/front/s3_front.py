"""Requests to S3: bucket and key names are checked by S3's own rules, then moto answers.

Sources: Amazon S3 user guide, "General purpose bucket naming rules", "Naming Amazon S3 objects" (keys of at most 1,024
bytes of UTF-8; a key's ``..`` must not lead out of its bucket); "Error Responses" (codes and sentences).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes
from xml.sax.saxutils import escape

from tritonforge.emulator.emulated_s3 import EmulatedS3, ObjectMissingError, split_uri
from tritonforge.emulator.front.http_request import HttpRequest, Route
from tritonforge.emulator.front.moto_backend import MotoBackend
from tritonforge.emulator.interfaces import Response
from tritonforge.triton.service_limits import S3_KEY, S3_OBJECT

__all__ = ["JournaledS3", "NameProblem", "S3Front", "check_path", "escape_control_characters", "parse_bucket_host"]

_BUCKET: Final = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")

#: What XML 1.0 cannot carry, or turns into something else; S3 writes a character reference.
_UNREADABLE: Final = re.compile(rb"[\x00-\x08\x0b-\x1f]")


class NameProblem(NamedTuple):
    """Why S3 refuses a request: its code and its sentence; the status is 400."""

    code: str
    message: str


def parse_bucket_host(host: str, allowed_hosts: Collection[str]) -> str:
    """Return the bucket that a Host header has before a name of this machine; "" if it has none.

    >>> parse_bucket_host("models.localhost:4566", ())
    'models'
    """
    name = re.sub(r":\d+$", "", host).lower().rstrip(".")
    for known in ("localhost", *(re.sub(r":\d+$", "", host).lower() for host in allowed_hosts)):
        if name.endswith(f".{known}"):
            return name.removesuffix(f".{known}")
    return ""


def check_path(path: str) -> NameProblem | None:
    """Return what is wrong with the bucket or the key of a request in path style, or None; ``path`` is as sent.

    >>> check_path("/../x")
    NameProblem(code='InvalidBucketName', message='The specified bucket is not valid.')
    """
    try:
        bucket, _, key = unquote_to_bytes(path).decode("utf-8").removeprefix("/").partition("/")
    except UnicodeDecodeError:
        return NameProblem("InvalidURI", "Couldn't parse the specified URI.")
    if not bucket and not key:
        return None
    if not _BUCKET.fullmatch(bucket) or _ADDRESS.fullmatch(bucket):
        return NameProblem("InvalidBucketName", "The specified bucket is not valid.")
    if len(key.encode()) > S3_KEY.value:
        return NameProblem("KeyTooLongError", "Your key is too long")
    depth = 0
    for part in key.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return NameProblem("InvalidURI", "Couldn't parse the specified URI.")
    return None


def escape_control_characters(document: bytes) -> bytes:
    r"""Return an XML document with character references instead of control characters other than line feeds.

    >>> escape_control_characters(b"<Key>\x01</Key>")
    b'<Key>&#x1;</Key>'
    """
    return _UNREADABLE.sub(lambda match: b"&#x%X;" % match[0][0], document)


_TOO_LARGE: Final = NameProblem("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")

_FORM: Final = "application/x-www-form-urlencoded"


class S3Front:
    """Answers requests to S3; ``allowed_hosts`` are those of `request_origin.find_origin_error`."""

    def __init__(self, moto: MotoBackend, *, allowed_hosts: Collection[str] = ()) -> None:
        self._moto = moto
        self._allowed_hosts = tuple(allowed_hosts)

    def is_for_s3(self, route: Route, incoming: HttpRequest) -> bool:
        """Return True if a request is for S3: its signature says so, or it has none and no other service's form."""
        other = "x-amz-target" in incoming.headers or incoming.headers.get("content-type", "").startswith(_FORM)
        return route.service == "s3" or (route.service == "" and not other)

    def answer(self, incoming: HttpRequest) -> Response:
        """Return S3's response to a request; raises what moto raises."""
        incoming.address(parse_bucket_host(incoming.headers.get("host", ""), self._allowed_hosts))
        problem = check_path(incoming.path)
        if problem is None and incoming.length > S3_OBJECT.value:
            problem = _TOO_LARGE
        if problem is not None:
            body = f"<Error><Code>{problem.code}</Code><Message>{escape(problem.message)}</Message></Error>"
            text = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
            return Response(400, [("Content-Type", "application/xml")], text.encode())
        response = self._moto.answer(incoming)
        of_a_key = incoming.path.strip("/").count("/") > 0
        is_xml = any(name.lower() == "content-type" and "xml" in value for name, value in response.headers)
        if not is_xml or (of_a_key and incoming.method == "GET"):  # which may be what a user put there
            return response
        headers = [(name, value) for name, value in response.headers if name.lower() != "content-length"]
        return Response(response.status, headers, escape_control_characters(response.body))


class JournaledS3(EmulatedS3):
    """The emulated S3: read in process, written as S3's own PutObject while a journal is kept."""

    def __init__(self, moto: MotoBackend) -> None:
        super().__init__(moto.account)
        self._moto = moto

    def put(self, uri: str, content: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Write an object; raises ObjectMissingError if the bucket does not exist."""
        if self._moto.recorder is None:
            super().put(uri, content, content_type=content_type)
            return
        from botocore.exceptions import ClientError

        bucket, key = split_uri(uri)
        try:
            self._moto.client("s3", "us-east-1").put_object(
                Bucket=bucket, Key=key, Body=content, ContentType=content_type
            )
        except ClientError as error:
            raise ObjectMissingError(f"s3://{bucket}: the bucket does not exist") from error

    def delete(self, uri: str) -> None:
        """Remove an object; it need not be there."""
        if self._moto.recorder is None:
            super().delete(uri)
            return
        from botocore.exceptions import ClientError

        bucket, key = split_uri(uri)
        with contextlib.suppress(ClientError):  # the bucket does not exist
            self._moto.client("s3", "us-east-1").delete_object(Bucket=bucket, Key=key)
