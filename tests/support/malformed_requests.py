"""Malformed requests to an emulator, made from a seed: the control plane, the runtime, and S3."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tritonforge.emulator.control.dispatcher import OPERATIONS
from tritonforge.sagemaker import service_model

__all__ = ["Malformed", "generate_requests"]

_DEEPEST = 4
_SCOPE = "AWS4-HMAC-SHA256 Credential=k/20260101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"

#: Values that are wrong nearly anywhere, as JSON texts: a number may be none that Python can make a float of.
_WRONG = [
    *("null", "true", "0", "-1", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1e308", "0.5"),
    *("9" * 400, "9" * 5000, "2147483648", "9223372036854775808", "253402300800", "1e18", '"1e400"'),
    *('""', '"x"', '"-1"', '"NaN"', '"2026-01-01T00:00:00Z"', '"yesterday"', '"٣"', '"1_000"'),
    *('"\\u0000"', '"\\ud800"', '"\\udfff\\ud800"', '"\\u202e"', '"a\\r\\nb"', '"../../x"', '"s3://"', '"s3://../x"'),
    *('"s3://b/../../k"', '"arn:aws:sagemaker"', '"arn:aws:sagemaker:::x/"', '"arn:aws:iam::123456789012:role/"'),
    *("[]", "{}", "[[]]", "[null]", "[{}]", '{"": null}', '{"a": {"b": []}}', '["", 1, null, []]'),
    *("[" * 500 + "]" * 500, '{"a":' * 500 + "1" + "}" * 500, "[" * 100_000, '{"a":' * 20_000 + "1" + "}" * 20_000),
    '"' + "x" * 70_000 + '"',
]

_BODIES = [
    *(b"", b"{", b"}", b"[]", b"null", b"1", b'"x"', b"nan", b"{}{}", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}"),
    *(b"\x80", b'{"a": "\xff"}', b'{"\xc3\x28": 1}', b"Action=ListModels&Version=2017-07-24", b"<x/>", b"\x00" * 99),
    *(b"[" * 100_000, b'{"a":' * 100_000, gzip.compress(b"{}"), b"\xd9\xd9\xf7\xa0", b"{'a': 1}", b'{"a": 1,}'),
]

_REGIONS = ["us-east-1", "eu-west-1", "", "..", "us east", "mars-1", "US-EAST-1", "x" * 300, "us-east-1%00", "é"]
_TYPES = [
    *("application/x-amz-json-1.1", "application/json", "text/plain", "application/x-www-form-urlencoded", "", "é"),
    *("multipart/form-data", "multipart/form-data; boundary=x", "application/cbor", "x" * 5000, "application/xml"),
]

#: Names that are there, and names of every other kind.
_NAMES = ["there", "none", "", "a_b", "..", ".", "%00", "%ff", "%2e%2e", "x" * 300, "a%2Fb", "é", "%e2%80%ae", "a b"]

_PATHS = [
    *("", "k", "there", "..", "../..", "a/../../b", "%2e%2e/%2e%2e", "%00", "%01%1f", "%ff", "%0d%0a", "a%0ab", "//"),
    *("x" * 1025, "é", "%e2%80%ae", "a b", ".", "./", "%", "%zz", "%C0%AF", "\\..\\x", "s3://x"),
]
_QUERIES = [
    *("", "uploads", "uploadId=", "uploadId=x", "uploadId=x&partNumber=1", "uploadId=x&partNumber=x", "acl", "tagging"),
    *("list-type=2", "list-type=x", "max-keys=x", "list-type=2&max-keys=-1", "list-type=2&max-keys=9" + "9" * 400),
    *("list-type=2&continuation-token=x", "versionId=x", "versions", "versions&max-keys=x", "delete", "select"),
    *("select&select-type=2", "location", "cors", "policy", "lifecycle", "encryption", "notification", "website"),
    *("versioning", "logging", "replication", "ownershipControls", "publicAccessBlock", "accelerate", "object-lock"),
    *("retention", "legal-hold", "attributes", "restore", "torrent", "inventory", "X-Amz-Expires=x", "%ff", "%00=%00"),
    *("partNumber=0", "partNumber=10001", "prefix=%ff", "delimiter=", "encoding-type=x", "list-type=2&start-after=%00"),
    *("X-Amz-Credential=x", "X-Amz-Credential=k/20260101/us-east-1/s3/aws4_request&X-Amz-Date=x", "Action=", "&&==&"),
]
_XML = [
    *(
        b"",
        b"<",
        b"<x>",
        b"<Delete/>",
        b"<Delete><Object/></Delete>",
        b"<Delete><Object><Key>\x01</Key></Object></Delete>",
    ),
    *(b"<CompleteMultipartUpload/>", b"<CompleteMultipartUpload><Part/></CompleteMultipartUpload>", b"\xff", b"{}"),
    *(b"<Tagging><TagSet><Tag/></TagSet></Tagging>", b"<VersioningConfiguration/>", b"<x/>", b"<x>" * 20_000),
    b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber></Part></CompleteMultipartUpload>",
    b"<CreateBucketConfiguration><LocationConstraint></LocationConstraint></CreateBucketConfiguration>",
    b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><Delete><Object><Key>&c;</Key></Object></Delete>',
]
_S3_HEADERS: Mapping[str, list[str]] = {
    "Range": ["bytes=x", "bytes=-", "bytes=5-1", "bytes=0-" + "9" * 400, "bytes=-99999", "lines=1-2", "bytes=0-0,2-3"],
    "If-Modified-Since": ["x", "Thu, 01 Jan 1970 00:00:00 GMT", "9" * 30],
    "If-Unmodified-Since": ["x"],
    "If-Match": ["*", "x", '"'],
    "If-None-Match": ["*", "x"],
    "x-amz-copy-source": ["", "x", "/", "none/k", "sagemaker/../x", "%ff", "b/k?versionId=x", "..%2f.."],
    "x-amz-copy-source-range": ["x", "bytes=0-9"],
    "x-amz-tagging": ["a", "=", "a=b&a=b", "&&", "%ff"],
    "x-amz-acl": ["x"],
    "x-amz-grant-read": ["x", "id="],
    "x-amz-storage-class": ["x"],
    "x-amz-object-lock-mode": ["x"],
    "x-amz-object-lock-retain-until-date": ["x"],
    "x-amz-server-side-encryption": ["x", "aws:kms"],
    "x-amz-content-sha256": ["x", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"],
    "x-amz-decoded-content-length": ["x", "-1"],
    "x-amz-checksum-crc32": ["x"],
    "x-amz-sdk-checksum-algorithm": ["x", "CRC32"],
    "x-amz-meta-a": ["é", "\x7f", "x" * 3000],
    "Content-MD5": ["x", "AAAA"],
    "Content-Encoding": ["aws-chunked", "gzip", "x"],
    "x-amz-expected-bucket-owner": ["x"],
    "Authorization": ["x", "AWS k:s", "AWS4-HMAC-SHA256 Credential=", _SCOPE.format(region="", service="s3")],
}
_RUNTIME_HEADERS = [
    *("X-Amzn-SageMaker-Custom-Attributes", "X-Amzn-SageMaker-Target-Model", "X-Amzn-SageMaker-Target-Variant"),
    *("X-Amzn-SageMaker-Inference-Id", "X-Amzn-SageMaker-Enable-Explanations", "X-Amzn-SageMaker-Session-Id"),
    *("X-Amzn-SageMaker-InputLocation", "X-Amzn-SageMaker-RequestTTLSeconds", "X-Amzn-SageMaker-Inference-Component"),
    *("X-Amzn-SageMaker-InvocationTimeoutSeconds", "X-Amzn-SageMaker-Target-Container-Hostname", "Accept"),
]
_TEXTS = [
    *(
        "",
        "x",
        "-1",
        "9" * 400,
        "٣",
        "²",
        "NaN",
        "../../x",
        "s3://",
        "s3://../x",
        "s3://b/%ff",
        "é",
        "\x7f",
        "x" * 5000,
    ),
    *("s3://none/k", "NEW_SESSION", "a b", "%00", "1e9", "0x10", "+5", "--5"),
]


@dataclass(frozen=True)
class Malformed:
    """One request; header values are sent as Latin-1."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def generate_requests(seed: int, count: int, *, bucket: str) -> Iterator[Malformed]:
    """Yield the given number of requests: about half to the control plane, a quarter each to the runtime and to S3.

    Resources named "there" exist, and so does an object "there" in the bucket.
    """
    chance = random.Random(seed)
    for _ in range(count):
        kind = chance.random()
        if kind < 0.5:
            yield _control(chance)
        elif kind < 0.75:
            yield _runtime(chance)
        else:
            yield _storage(chance, bucket)


def _control(chance: random.Random) -> Malformed:
    known = sorted(OPERATIONS)
    operation = (
        chance.choice(known) if chance.random() < 0.95 else chance.choice(service_model.list_operations("sagemaker"))
    )
    target = f"SageMaker.{operation}" if chance.random() < 0.98 else f"SageMaker.{chance.choice(_TEXTS)}"
    headers = {"X-Amz-Target": target, "Content-Type": chance.choice(_TYPES) if chance.random() < 0.2 else _TYPES[0]}
    if chance.random() < 0.3:
        headers["Authorization"] = _SCOPE.format(region=_region(chance), service="sagemaker")
    if chance.random() < 0.1:
        return Malformed("POST", "/", headers, chance.choice(_BODIES))
    # What is there stays there.
    names = ["none", "x"] if operation.startswith("Delete") else ["there", "there", "none", "x"]
    text = _document(chance, service_model.find_operation("sagemaker", operation).input_shape, names)
    body = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.05 and body:
        body = body[: chance.randrange(len(body))]
    return Malformed("POST", "/", headers, body)


def _document(chance: random.Random, shape: Any, names: list[str]) -> str:
    """A request as a JSON text that is right in most places and wrong in some."""
    wrong = chance.choice((0.0, 0.02, 0.1, 0.3))

    def value(shape: Any, name: str, depth: int) -> str:
        if chance.random() < wrong:
            return chance.choice(_WRONG)
        kind = shape.type_name
        if kind == "structure":
            needed = set(shape.required_members)
            wanted = 0.5 if depth == 0 else 0.3 if depth < _DEEPEST else 0.0
            members = {
                member: value(inner, member, depth + 1)
                for member, inner in shape.members.items()
                if (member in needed and depth < 12) or chance.random() < wanted
            }
            if chance.random() < wrong:
                members["Unknown"] = chance.choice(_WRONG)
            return "{" + ", ".join(f"{json.dumps(member)}: {text}" for member, text in members.items()) + "}"
        if kind == "list":
            least = shape.metadata.get("min", 1)
            return "[" + ", ".join(value(shape.member, name, depth + 1) for _ in range(min(least or 1, 3))) + "]"
        if kind == "map":
            return f'{{"key": {value(shape.value, name, depth + 1)}}}'
        if kind in ("integer", "long", "float", "double"):
            return str(chance.choice([shape.metadata.get("min", 1), shape.metadata.get("max", 5), 3]))
        if kind == "boolean":
            return chance.choice(["true", "false"])
        if kind == "timestamp":
            return chance.choice(["1700000000", "1e9", '"2026-01-01T00:00:00Z"', '"soon"', "-1", "1e300"])
        return _text(chance, shape, name, names)

    return value(shape, "", 0) if shape is not None else "{}"


def _text(chance: random.Random, shape: Any, name: str, names: list[str]) -> str:
    if shape.enum:
        return json.dumps(chance.choice(shape.enum))
    if "Uri" in name or "Url" in name or "S3" in name:
        return json.dumps(chance.choice(["s3://there/there", "s3://none/k", "s3://there/", "https://x/y"]))
    if "RoleArn" in name:
        return '"arn:aws:iam::123456789012:role/service-role/TritonForgeExecutionRole"'
    if "Arn" in name:
        return json.dumps(f"arn:aws:sagemaker:us-east-1:123456789012:{chance.choice(['model', 'endpoint', 'x'])}/there")
    if "Image" in name:
        return '"763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"'
    if "NextToken" in name:
        return json.dumps(chance.choice(["e30=", "bnVsbA==", "W10=", "x", "eyJhZnRlciI6IDF9", "=", "é"]))
    return json.dumps(chance.choice(names))


def _runtime(chance: random.Random) -> Malformed:
    what = chance.choice(["invocations", "invocations", "async-invocations", "invocations-response-stream", "x"])
    path = f"/endpoints/{_encode(chance.choice(_NAMES))}/{what}"
    headers = {name: chance.choice(_TEXTS) for name in chance.sample(_RUNTIME_HEADERS, chance.randrange(4))}
    if chance.random() < 0.5:
        headers["Content-Type"] = chance.choice(_TYPES)
    if chance.random() < 0.5:
        headers["Authorization"] = _SCOPE.format(region=_region(chance), service="sagemaker")
    method = "POST" if chance.random() < 0.9 else chance.choice(["GET", "PUT", "DELETE", "PATCH"])
    return Malformed(method, path, headers, chance.choice(_BODIES))


def _storage(chance: random.Random, bucket: str) -> Malformed:
    named = bucket if chance.random() < 0.7 else _encode(chance.choice(_NAMES))
    path = f"/{named}/{_encode(chance.choice(_PATHS))}" if chance.random() < 0.9 else f"/{named}"
    query = chance.choice(_QUERIES)
    headers = {
        name: chance.choice(_S3_HEADERS[name]) for name in chance.sample(sorted(_S3_HEADERS), chance.randrange(3))
    }
    headers.setdefault("Authorization", _SCOPE.format(region=_region(chance), service="s3"))
    if chance.random() < 0.2:
        headers["Content-Type"] = chance.choice(_TYPES)
    method = chance.choice(["GET", "PUT", "POST", "DELETE", "HEAD"])
    body = b"" if method in ("GET", "HEAD", "DELETE") else chance.choice(_XML)
    return Malformed(method, path + (f"?{query}" if query else ""), headers, body)


def _region(chance: random.Random) -> str:
    return "us-east-1" if chance.random() < 0.8 else chance.choice(_REGIONS)


def _encode(text: str) -> str:
    """A part of a path as it may be on the wire: what is not ASCII, and blanks, encoded."""
    return quote(text, safe="%/:\\.")
