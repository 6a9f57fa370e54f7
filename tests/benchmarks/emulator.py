"""What the emulator's InvokeEndpoint costs over the bare front end of the same tritonserver, and where the time goes.

Rows as in `wire`. Every request has the same body, a JPEG of 100 KB and more for the digits' ensemble; the ways to send
it take turns request by request, so that what else the machine does meets all alike: straight to the container's
/invocations, through the emulator with the same plain HTTP client, and through the emulator with boto3.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import boto3
import urllib3
from botocore.config import Config
from serving import build, noise

from tritonforge import triton
from tritonforge.emulator import Emulator, hosting
from tritonforge.inference.wire import encode_request, pad_batch, sagemaker_headers
from tritonforge.sagemaker import package

Row = dict[str, Any]

NAME: Final = "digits"
ROUNDS: Final = 400
WARM: Final = 40

#: Milliseconds that the emulator may add to a request of 100 KB.
ALLOWED: Final = 3.0


class Started:
    """`hosting`, which remembers what it started."""

    def __init__(self) -> None:
        self.running: list[hosting.HostedContainer] = []

    def start(self, *arguments: Any, **settings: Any) -> hosting.HostedContainer:
        """Start a container."""
        self.running.append(hosting.start(*arguments, **settings))
        return self.running[-1]


def run() -> list[Row]:
    """All figures; about twenty seconds on two cores, the start of the endpoint included."""
    containers = Started()
    with Emulator(speed=1000.0, containers=containers) as emulator, urllib3.PoolManager() as pool:
        create(emulator)
        payload = encode_request({"IMAGE": pad_batch([noise(100_000)])})
        body, headers = b"".join(payload.buffers), sagemaker_headers(payload)
        with runtime(emulator) as client:

            def direct() -> None:
                answer = pool.request("POST", f"{containers.running[0].url}/invocations", body=body, headers=headers)
                assert answer.status == 200, answer.data

            def plain() -> None:
                url = f"{emulator.url}/endpoints/{NAME}/invocations"
                answer = pool.request("POST", url, body=body, headers=headers)
                assert answer.status == 200, answer.data

            def by_boto3() -> None:
                content_type = headers["Content-Type"]
                client.invoke_endpoint(EndpointName=NAME, Body=body, ContentType=content_type)["Body"].read()

            bare, through, whole = rounds(direct, plain, by_boto3)
    size = len(body) // 1000
    return [
        row(f"InvokeEndpoint of {size} KB: what boto3 and emulator add (ms)", whole, bare, target=ALLOWED),
        row("... of that the emulator: front, runtime, one more hop (ms)", through, bare, target=ALLOWED),
        row("... of that boto3: serialising, signing, parsing (ms)", whole, through),
    ]


def rounds(*ways: Callable[[], None]) -> list[list[float]]:
    """Seconds of every request, by way."""
    seconds: list[list[float]] = [[] for _ in ways]
    for index in range(WARM + ROUNDS):
        for way, times in zip(ways, seconds, strict=True):
            began = time.perf_counter()
            way()
            if index >= WARM:
                times.append(time.perf_counter() - began)
    return seconds


def row(name: str, ours: list[float], other: list[float], *, target: float | None = None) -> Row:
    """The difference of two medians."""
    first, second = statistics.median(ours) * 1000, statistics.median(other) * 1000
    added = first - second
    return {
        "name": name,
        "ours_ms": first,
        "other_ms": second,
        "ratio": added,
        "target": "" if target is None else f"<= {target:g} ms",
        "ok": target is None or added <= target,
    }


@contextmanager
def runtime(emulator: Emulator) -> Iterator[Any]:
    """boto3's runtime client, as a user makes it."""
    client = made(emulator, "sagemaker-runtime")
    yield client
    client.close()


def made(emulator: Emulator, service: str) -> Any:
    """A client of the emulator."""
    return boto3.client(
        service,
        region_name=emulator.region,
        endpoint_url=emulator.url,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"total_max_attempts": 1}),
    )


def create(emulator: Emulator) -> None:
    """An endpoint of the digits' ensemble."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "model.tar.gz"
        package.write_package(build(NAME), archive)
        made(emulator, "s3").put_object(Bucket=emulator.bucket, Key="model.tar.gz", Body=archive.read_bytes())
    sagemaker = made(emulator, "sagemaker")
    sagemaker.create_model(
        ModelName=NAME,
        ExecutionRoleArn=emulator.role_arn,
        PrimaryContainer={
            "Image": triton.build_image_uri(triton.find_image("24.09"), emulator.region),
            "ModelDataUrl": f"s3://{emulator.bucket}/model.tar.gz",
            "Environment": {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "digits"},
        },
    )
    variant = {"VariantName": "v", "ModelName": NAME, "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    waiter = sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
