"""The requests to moto, in order, so that its state can be restored after a restart.

moto keeps its state in memory only. Every request that changed something is appended here, body and all, before its
answer leaves, and is made again at the next start: with the same random numbers (moto's own seed), so that identifiers
come out the same, and with moto's clock at the time of the request (not what it reads by ``time.time``: the dates of
scalable targets). A process that is killed loses no answered request.

Left out: what only reads; messages of SQS and SNS, log events and metric data, which do not outlive the process; parts
of multipart uploads that were given up or never completed; signatures and session tokens. Objects that were overwritten
or deleted since are dropped when the journal is read.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import io
import itertools
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import parse_qs

from tritonforge.emulator.emulated_s3 import make_private_folder, open_private
from tritonforge.emulator.front.http_request import HttpRequest, parse_route
from tritonforge.emulator.front.moto_backend import MotoBackend
from tritonforge.emulator.interfaces import Response
from tritonforge.errors import LaunchError
from tritonforge.files import write_file

__all__ = ["Journal", "compact", "is_change"]

#: The first word of operations that change nothing.
_READING: Final = re.compile(
    r"(?:Get|List|Describe|Head|Search|Lookup|Filter|Test|Simulate|Batch(?:Get|Check)|Validate|Estimate|Preview)"
)

#: Operations whose effect does not outlive the process.
_PASSING: Final = frozenset(
    {
        *("PutLogEvents", "PutMetricData", "StartQuery", "StopQuery", "Publish", "PublishBatch"),
        *("SendMessage", "SendMessageBatch", "ReceiveMessage", "DeleteMessage", "DeleteMessageBatch"),
        *("ChangeMessageVisibility", "ChangeMessageVisibilityBatch", "PurgeQueue"),
        *("AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "DecodeAuthorizationMessage"),
        *("Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateRandom"),
        *("GenerateMac", "VerifyMac", "Sign", "Verify"),
    }
)

#: What a signature leaves in a request: in a presigned URL's query, and in the headers; kept nowhere.
_SIGNED: Final = re.compile(
    r"(?:X-Amz-(?:Algorithm|Credential|Date|Expires|SignedHeaders|Signature|Security-Token)"
    r"|AWSAccessKeyId|Signature|Expires)=",
    re.IGNORECASE,
)
_UNKEPT: Final = frozenset(
    {"authorization", "connection", "content-length", "expect", "transfer-encoding", "x-amz-security-token"}
)

#: Bytes of a body that are written into the journal's line; larger ones get a file.
_SHORT: Final = 16 * 1024

_UPLOAD_ID: Final = re.compile(rb"<UploadId>(?P<id>[^<]+)</UploadId>")
_CBOR: Final = re.compile(r"/service/[^/]+/operation/(?P<operation>\w+)")


def is_change(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, service: str) -> bool:
    """Return True if a request may change what outlives the process."""
    if service == "s3":
        return method in ("PUT", "POST", "DELETE") and "select" not in parse_qs(query, keep_blank_values=True)
    operation = headers.get("x-amz-target", "").rpartition(".")[2]
    if match := _CBOR.fullmatch(path):
        operation = match["operation"]
    if not operation and headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        operation = parse_qs(body.decode("utf-8", "replace")).get("Action", [""])[0]
    if not operation:
        return method not in ("GET", "HEAD", "OPTIONS")
    return operation not in _PASSING and _READING.match(operation) is None


Entry = Mapping[str, Any]


def compact(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that still matter: drop uploads that were never completed and objects that were replaced.

    Objects are left alone as soon as one was copied or a bucket keeps versions: an old one may matter then.
    """
    finished = {
        entry["upload"]
        for entry in entries
        if entry.get("upload") and entry["method"] == "POST" and "uploads" not in _parse_query(entry)
    }
    kept = [entry for entry in entries if not entry.get("upload") or entry["upload"] in finished]
    if any("x-amz-copy-source" in entry["headers"] or "versioning" in _parse_query(entry) for entry in kept):
        return kept
    last: dict[str, int] = {}
    for index, entry in enumerate(kept):
        if _is_whole_object(entry):
            last[entry["path"]] = index
    return [
        entry
        for index, entry in enumerate(kept)
        if not (_is_object_request(entry) and index < last.get(entry["path"], -1))
    ]


def _parse_query(entry: Entry) -> Mapping[str, Sequence[str]]:
    return parse_qs(entry["query"], keep_blank_values=True)


def _is_object_request(entry: Entry) -> bool:
    return bool(entry["service"] == "s3" and entry["path"].strip("/").count("/") > 0)


def _is_whole_object(entry: Entry) -> bool:
    """Return True if a request writes or removes an object as a whole."""
    return bool(
        _is_object_request(entry) and entry["method"] in ("PUT", "DELETE") and not set(_parse_query(entry)) - {"x-id"}
    )


class Journal:
    """A journal in a folder; a `moto_backend.RequestRecorder`. One process at a time may open it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bodies = folder / "bodies"
        make_private_folder(folder)
        make_private_folder(self._bodies)
        self._lock = _lock_folder(folder)
        _install_clock()
        self._file = folder / "requests.jsonl"
        self._writing = threading.Lock()
        kept = [int(path.name) for path in self._bodies.iterdir() if path.name.isdecimal()]
        self._numbers = itertools.count(max(kept, default=0) + 1)
        self._out: IO[bytes] | None = None

    def close(self) -> None:
        """Unlock the folder for other processes."""
        if self._out is not None:
            self._out.close()
        self._lock.close()

    def replay(self, moto: MotoBackend) -> None:
        """Make every request again, then write the journal anew without what no longer matters.

        Raises LaunchError for a journal that cannot be read.
        """
        entries = compact(self._read())
        uploads: dict[str, str] = {}
        for entry in entries:
            old, query = entry.get("upload", ""), entry["query"]
            if old in uploads:
                query = query.replace(old, uploads[old])
            _seed_random(entry["seed"])
            with _CLOCK.at(entry["time"]):
                response = moto.call(self._build_request(entry, query))
            if old and old not in uploads and (match := _UPLOAD_ID.search(response.body)):
                uploads[old] = match["id"].decode()
        _seed_random(int.from_bytes(os.urandom(8), "big"))
        self._rewrite(entries)

    @contextlib.contextmanager
    def record(self, incoming: HttpRequest, service: str) -> Iterator[Callable[[Response], None]]:
        """Yield a function that takes moto's response to this request and records the request if it succeeded."""
        body = incoming.body()
        kept = is_change(incoming.method, incoming.path, incoming.query, incoming.headers, body, service)
        if not kept:
            yield lambda response: None
            return
        seed, now = int.from_bytes(os.urandom(6), "big"), time.time()
        _seed_random(seed)

        def keep(response: Response) -> None:
            if response.status < 400:
                self._append(incoming, service, response, seed=seed, now=now)

        with _CLOCK.at(now):
            yield keep

    def _append(self, incoming: HttpRequest, service: str, response: Response, *, seed: int, now: float) -> None:
        body = incoming.body()
        headers = {name: value for name, value in incoming.items if name.lower() not in _UNKEPT}
        named = parse_route(incoming.method, incoming.path, incoming.query, incoming.headers)
        entry: dict[str, Any] = {
            "time": now,
            "seed": seed,
            "service": service,
            "method": incoming.method,
            "path": incoming.path,
            "query": "&".join(part for part in incoming.query.split("&") if not _SIGNED.match(part)),
            "headers": headers,
            "region": named.region,
        }
        if upload := _find_upload(incoming, service, response):
            entry["upload"] = upload
        with self._writing:
            if len(body) <= _SHORT:
                entry["body"] = base64.b64encode(body).decode()
            else:
                entry["file"] = f"{next(self._numbers)}"
                write_file(self._bodies / entry["file"], body, mode=0o600, sync=False)
            if self._out is None:
                self._out = open_private(self._file, "ab")
            self._out.write(json.dumps(entry).encode() + b"\n")
            self._out.flush()

    def _read(self) -> list[Entry]:
        if not self._file.is_file():
            return []
        lines = self._file.read_bytes().split(b"\n")
        entries: list[Entry] = []
        for index, line in enumerate(lines):
            if not line:
                continue
            try:
                entries.append(json.loads(line))
            except ValueError as error:
                if index == len(lines) - 1:
                    break  # the process was killed while it wrote this: its client has had no answer
                raise LaunchError(f"{self._file}, line {index + 1}: not a recorded request: {error}") from error
        return entries

    def _build_request(self, entry: Entry, query: str) -> HttpRequest:
        body = (self._bodies / entry["file"]).read_bytes() if "file" in entry else base64.b64decode(entry["body"])
        headers = {**entry["headers"], "Content-Length": str(len(body))}
        scope = f"kept/20260101/{entry['region']}/{entry['service']}/aws4_request"
        headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
        target = entry["path"] + (f"?{query}" if query else "")
        return HttpRequest(entry["method"], target, headers, io.BytesIO(body), 80)

    def _rewrite(self, entries: Sequence[Entry]) -> None:
        lines = b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
        write_file(self._file, lines, mode=0o600, sync=False)
        needed = {entry["file"] for entry in entries if "file" in entry}
        for path in self._bodies.iterdir():
            if path.name not in needed:
                path.unlink()


def _find_upload(incoming: HttpRequest, service: str, response: Response) -> str:
    """Return the id of the multipart upload that a request belongs to or began."""
    if service != "s3":
        return ""
    asked = parse_qs(incoming.query, keep_blank_values=True)
    if "uploadId" in asked:
        return asked["uploadId"][0]
    if incoming.method == "POST" and "uploads" in asked and (match := _UPLOAD_ID.search(response.body)):
        return match["id"].decode()
    return ""


def _seed_random(number: int) -> None:
    from moto.moto_api._internal import mock_random

    mock_random.seed(number)


class _Clock(threading.local):
    """The clock of moto: the real time, except during a request that is recorded or replayed."""

    now: dt.datetime | None = None

    def __call__(self) -> dt.datetime:
        return self.now or dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)

    @contextlib.contextmanager
    def at(self, seconds: float) -> Iterator[None]:
        """Stop the clock at a time, in seconds since 1970, for this thread."""
        self.now = dt.datetime.fromtimestamp(seconds, dt.timezone.utc).replace(tzinfo=None)
        try:
            yield
        finally:
            self.now = None


_CLOCK: Final = _Clock()


def _install_clock() -> None:
    """Put the clock where moto's modules have ``utcnow``; those that are loaded later find it in moto.core.utils."""
    from moto.core.utils import utcnow

    for name, module in list(sys.modules.items()):
        if name.startswith("moto.") and getattr(module, "utcnow", None) is utcnow:
            module.utcnow = _CLOCK  # type: ignore[attr-defined]  # moto reads the clock by this name only


def _lock_folder(folder: Path) -> IO[bytes]:
    """Lock the folder; return its lock file, which holds the lock until closed. Raises LaunchError if it is locked."""
    import fcntl

    file: IO[bytes] = open_private(folder / "lock", "wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise LaunchError(
            f"{folder} belongs to an emulator that is running; stop it, or choose another folder"
        ) from error
    return file
