"""An S3 in this process, small archives, fake containers, and a runtime client without a socket."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritonforge.emulator.emulated_s3 import EmulatedS3
from tritonforge.emulator.interfaces import ContainerResponse, LiveEndpoint, LiveVariant, Request
from tritonforge.emulator.runtime import Runtime

ACCOUNT = "424242424242"
REGION = "eu-central-1"
DOUBLE = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("y", each.inputs()[0].as_numpy() * 2)]) for each in requests
        ]
"""
BROKEN = "raise RuntimeError('the weights are missing')"
IO = 'input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }'
CONFIG = f'backend: "python" {IO}'


def model(code: str = DOUBLE, config: str = CONFIG) -> dict[str, str]:
    """The files of a Python model's directory."""
    return {"config.pbtxt": config, "1/model.py": code}


def below(name: str, files: Mapping[str, str]) -> dict[str, str]:
    """The same files one directory further down."""
    return {f"{name}/{path}": text for path, text in files.items()}


def archive(files: Mapping[str, str]) -> bytes:
    """A model.tar.gz."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


@dataclass(frozen=True)
class Bucket:
    """An emulated bucket of one test."""

    objects: EmulatedS3
    uri: str

    def put(self, key: str, content: bytes) -> str:
        """Write an object; gives its URI."""
        self.objects.put(f"{self.uri}/{key}", content)
        return f"{self.uri}/{key}"

    def keys(self, prefix: str = "") -> list[str]:
        """The keys below a prefix."""
        return [stored_object.key for stored_object in self.objects.list(f"{self.uri}/{prefix}")]


@dataclass
class MadeUp:
    """A container that gives the answers it is made with; ``seen`` is what reached it."""

    answer: Callable[[bytes], ContainerResponse] = lambda body: ContainerResponse(
        200, {"content-type": "application/json"}, b'{"ok":true}'
    )
    multi_model: bool = False
    seen: list[tuple[bytes, Mapping[str, str], float]] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)

    def invoke(self, body: bytes, headers: Mapping[str, str], *, timeout: float) -> ContainerResponse:
        """As a single-model container."""
        self.seen.append((body, headers, timeout))
        return self.answer(body)

    def invoke_model(
        self, target_model: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> ContainerResponse:
        """As a multi-model container."""
        self.targets.append(target_model)
        return self.invoke(body, headers, timeout=timeout)


def live(*containers: Any, weights: Sequence[float] = (), **settings: Any) -> LiveEndpoint:
    """An endpoint in service, with variants v1, v2 ... of these containers."""
    variants = tuple(
        LiveVariant(name=f"v{index + 1}", weight=weights[index] if weights else 1.0, container=container)
        for index, container in enumerate(containers)
    )
    return LiveEndpoint(name="e", status="InService", variants=variants, **settings)


class Client:
    """boto3's runtime client over a `Runtime`, without a socket between them."""

    def __init__(self, runtime: Runtime) -> None:
        import boto3

        self.runtime = runtime
        self.boto3 = boto3.client(
            "sagemaker-runtime",
            region_name=REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            endpoint_url="http://127.0.0.1:9",
        )
        self.boto3.meta.events.register("before-send.sagemaker-runtime.*", self._send)

    def _send(self, request: Any, **_: Any) -> Any:
        from botocore.awsrequest import AWSResponse

        body = request.body or b""
        body = body if isinstance(body, bytes) else body.read()
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        path = request.url.removeprefix("http://127.0.0.1:9")
        response = self.runtime.answer(Request(request.method, path, headers, body))
        return AWSResponse(request.url, response.status, dict(response.headers), _Raw(response.body))


class _Raw(io.BytesIO):
    """What botocore reads a response's body from."""

    def stream(self, amount: int = 1024, decode_content: bool | None = None) -> Iterator[bytes]:
        while piece := self.read(amount):
            yield piece


def until(true: Callable[[], bool]) -> bool:
    """Whether something came true within half a minute."""
    end = time.monotonic() + 30
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def folder_of(path: Path, files: Mapping[str, str]) -> Path:
    """The files, written below a folder."""
    for name, text in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return path
