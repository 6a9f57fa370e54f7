"""An incoming HTTP request: the head is parsed at once, the body is read on demand."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from io import BufferedIOBase
from typing import Final, Literal
from urllib.parse import unquote, unquote_to_bytes

__all__ = ["DEFAULT_REGION", "TARGET", "AwsHost", "HttpRequest", "Route", "is_aws_host", "is_region",
           "list_suffixes", "parse_host", "parse_route"]  # fmt: skip

#: Bytes of all chunks of a body: an object of S3 that is put at once (Amazon S3 user guide, "Uploading objects").
_MAX_BODY: Final = 5 * 2**30

#: The longest line that says the size of a chunk.
_MAX_LINE: Final = 8192

#: Digits of a length, and of a chunk's size, that no machine has memory for.
_DIGITS: Final = 16

#: Bytes that are thrown away at once.
_PIECE: Final = 1 << 20


class HttpRequest:
    """A request from a socket, or one that is made in this process.

    ``target`` is as in the request line; ``length`` is the Content-Length, -1 where the body is chunked.
    """

    def __init__(
        self, method: str, target: str, headers: Message | Mapping[str, str], stream: BufferedIOBase, port: int
    ) -> None:
        self.method = method
        self.target = target
        path, _, self.query = target.partition("?")
        if "://" in path[:9]:  # the absolute form of a proxy's clients
            path = "/" + path.partition("://")[2].partition("/")[2]
        self.path = path
        self.port = port
        self.items: tuple[tuple[str, str], ...] = tuple((name, _unfold(value)) for name, value in headers.items())
        self.headers: dict[str, str] = {}
        for name, value in self.items:
            key = name.lower()
            self.headers[key] = f"{self.headers[key]},{value}" if key in self.headers else value
        self.chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        declared = self.headers.get("content-length", "0")
        is_number = declared.isascii() and declared.isdigit() and len(declared) < _DIGITS
        self.length = -1 if self.chunked else int(declared) if is_number else 0
        #: Whether it is clear where the body ends (RFC 9112, section 6.3); otherwise the next request is not found.
        self.is_framed = is_number if not self.chunked else "content-length" not in self.headers
        self._stream = stream
        self._body: bytes | None = None

    def address(self, bucket: str) -> None:
        """Address S3 in path style at 127.0.0.1: put a bucket in front of the path, where it is not empty."""
        host = f"127.0.0.1:{self.port}"
        if bucket:
            query = f"?{self.query}" if self.query else ""
            self.path = f"/{bucket}{self.path if self.path.startswith('/') else '/' + self.path}"
            self.target = self.path + query
        self.items = tuple((name, host if name.lower() == "host" else value) for name, value in self.items)
        self.headers["host"] = host

    def body(self) -> bytes:
        """Return the whole body, which is read once; gzip that the client's SDK applied is not decoded here."""
        if self._body is None:
            self._body = _read_chunks(self._stream) if self.chunked else _read_exactly(self._stream, self.length)
        return self._body

    def discard(self) -> None:
        """Read the rest of the body, so that the client receives the answer and the connection can be kept."""
        if self._body is not None:
            return
        if self.chunked:
            self.body()
        left = max(self.length, 0)
        while left > 0:
            piece = self._stream.read(min(left, _PIECE))
            if not piece:
                raise ConnectionError("the client closed before its body was through")
            left -= len(piece)
        self._body = b""

    def build_environ(self) -> dict[str, object]:
        """Build the WSGI environment, as PEP 3333 and moto's own request handler define it."""
        path = unquote_to_bytes(self.path).decode("latin-1")
        body = self.body()
        environ: dict[str, object] = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": self.query,
            "REQUEST_URI": self.target,
            "RAW_URI": self.target,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self.port),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        preserved: dict[str, str] = {}
        for name, value in _select_headers(self.items):
            key = name.upper().replace("-", "_")
            if "_" in name:
                preserved[f"HTTP_{key}"] = name
            if key == "CONTENT_TYPE":
                environ[key] = value
            elif key not in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
                key = f"HTTP_{key}"
                environ[key] = f"{environ[key]},{value}" if key in environ else value
        environ["moto.preserved_header_names"] = preserved  # moto.core.request: the spelling of S3's metadata
        return environ


def _select_headers(items: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Yield the headers that WSGI may carry: those with an underscore only where S3's metadata may have one."""
    return [(name, value) for name, value in items if "_" not in name or name.lower().startswith("x-amz-meta-")]


def _unfold(value: object) -> str:
    return str(value).replace("\r\n", "").replace("\n", "")


def _read_exactly(stream: BufferedIOBase, length: int) -> bytes:
    if length <= 0:
        return b""
    body = stream.read(length)
    if len(body) < length:
        raise ConnectionError(f"the client closed after {len(body)} of {length} bytes")
    return body


def _read_chunks(stream: BufferedIOBase) -> bytes:
    """Read a body of ``Transfer-Encoding: chunked`` (RFC 9112, section 7.1); trailers are read and ignored."""
    pieces = []
    total = 0
    while True:
        digits = stream.readline(_MAX_LINE).split(b";", 1)[0].strip()
        if not digits or digits.strip(b"0123456789abcdefABCDEF") or len(digits) > _DIGITS:
            raise ConnectionError("the client sent a chunk without its size")
        size = int(digits, 16)
        total += size
        if total > _MAX_BODY:
            raise ConnectionError(f"the client sent chunks of more than {_MAX_BODY} bytes")
        if size == 0:
            break
        pieces.append(_read_exactly(stream, size))
        stream.readline(_MAX_LINE)
    while stream.readline(_MAX_LINE) not in (b"\r\n", b"\n", b""):
        continue
    return b"".join(pieces)


#: The region of a request that names none.
DEFAULT_REGION: Final = "us-east-1"

#: What ``X-Amz-Target`` begins with for SageMaker's control plane (the service model's ``targetPrefix``).
TARGET: Final = "SageMaker."

_SCOPE: Final = re.compile(r"Credential=[^/,\s]+/\d{8}/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)/")
_REGION: Final = re.compile(r"[a-z]{2,4}(?:-[a-z]{1,20}){1,3}-[0-9]{1,2}")
_RUNTIME: Final = re.compile(r"/endpoints/[^/]+/(?:invocations|async-invocations|invocations-response-stream)")


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes: ``kind`` is control, runtime or moto; ``operation`` is set for the control plane."""

    kind: Literal["control", "runtime", "moto"]
    region: str
    service: str = ""
    operation: str = ""


def parse_route(method: str, path: str, query: str, headers: Mapping[str, str]) -> Route:
    """Parse the route of a request; ``headers`` have lower-case names, ``path`` is as sent.

    >>> parse_route("POST", "/", "", {"x-amz-target": "SageMaker.ListModels"})
    Route(kind='control', region='us-east-1', service='sagemaker', operation='ListModels')
    """
    region, service = _parse_scope(query, headers)
    target = headers.get("x-amz-target", "")
    if target.startswith(TARGET):
        return Route("control", region, "sagemaker", target[len(TARGET) :])
    if method == "POST" and service in ("sagemaker", "") and _RUNTIME.fullmatch(path):
        return Route("runtime", region, "sagemaker")
    return Route("moto", region, service)


def is_region(name: str) -> bool:
    """Return True if a name has the form of AWS's regions: ``us-east-1``, ``us-gov-west-1``."""
    return _REGION.fullmatch(name) is not None


def _parse_scope(query: str, headers: Mapping[str, str]) -> tuple[str, str]:
    text = headers.get("authorization", "")
    if not text and "X-Amz-Credential=" in query:
        text = unquote(query).replace("X-Amz-Credential=", "Credential=")
    match = _SCOPE.search(text)
    return (match["region"], match["service"].lower()) if match else (DEFAULT_REGION, "")


_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_REGION_LABEL: Final = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-\d+")

#: A label of S3's own: s3, s3-fips, s3-accelerate, s3-external-1, and s3-us-west-2, an older form of s3.us-west-2.
_S3: Final = re.compile(r"s3(?:-(?:fips|accelerate|external-1|(?P<region>[a-z]{2,4}(?:-[a-z]+)+-\d+)))?")

_MAX_NAME: Final = 253


@dataclass(frozen=True, slots=True)
class AwsHost:
    """What a host name says: the service, the region, and the bucket of a virtual-hosted name of S3."""

    service: str
    region: str
    bucket: str = ""


@functools.cache
def list_suffixes() -> tuple[str, ...]:
    """List the DNS suffixes of all partitions, longest first, such as ``amazonaws.com.cn`` and ``amazonaws.com``."""
    from botocore.loaders import create_loader

    partitions = create_loader().load_data("partitions")["partitions"]
    outputs = [partition["outputs"] for partition in partitions]
    names = {output[name] for output in outputs for name in ("dnsSuffix", "dualStackDnsSuffix") if output.get(name)}
    return tuple(sorted(names, key=lambda suffix: (-len(suffix), suffix)))


def is_aws_host(name: str) -> bool:
    """Return True if a name is a host name below one of AWS's DNS suffixes."""
    return _split_labels(name) is not None


def parse_host(name: str) -> AwsHost | None:
    """Return the service, region and bucket of a host name of AWS, None for other names.

    >>> parse_host("models.s3.eu-west-1.amazonaws.com")
    AwsHost(service='s3', region='eu-west-1', bucket='models')
    >>> parse_host("sts.eu-west-1.amazonaws.com")
    AwsHost(service='sts', region='eu-west-1', bucket='')
    """
    labels = _split_labels(name)
    if labels is None:
        return None
    regions = [label for label in labels if _REGION_LABEL.fullmatch(label)]
    region = regions[-1] if regions else DEFAULT_REGION
    for index in range(len(labels) - 1, -1, -1):
        match = _S3.fullmatch(labels[index])
        if match is not None and _is_s3_suffix(labels[index + 1 :]):
            return AwsHost("s3", match["region"] or region, ".".join(labels[:index]))
    others = [label for label in labels if not _REGION_LABEL.fullmatch(label) and label != "dualstack"]
    service = others[-1].removesuffix("-fips") if others else ""
    return AwsHost(service, region)


def _is_s3_suffix(labels: list[str]) -> bool:
    """Return True if labels may follow the label of S3 itself: ``dualstack``, and a region."""
    rest = [label for label in labels if label != "dualstack"]
    return len(rest) <= 1 and all(_REGION_LABEL.fullmatch(label) for label in rest)


def _split_labels(name: str) -> list[str] | None:
    """Split the part of an AWS host name before the suffix into labels; None for other names."""
    name = name.lower().removesuffix(".")
    if len(name) > _MAX_NAME:
        return None
    for suffix in list_suffixes():
        if name.endswith(f".{suffix}"):
            labels = name[: -len(suffix) - 1].split(".")
            return labels if all(_LABEL.fullmatch(label) for label in labels) else None
    return None
