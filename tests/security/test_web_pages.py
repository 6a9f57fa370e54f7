"""What a page in a browser on this machine can do: nothing, at any listener of tritonforge.

Each test sends what a browser would send for a page's own script: a preflight, then the requests; and what it would
send after DNS rebinding, when the page's own name leads to this machine.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import tarfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import FakeContainers
from tests.support.sandbox_containers import until
from tritonforge.emulator import Emulator
from tritonforge.serving.listener import Listener, Reply, open_socket
from tritonforge.training.sandbox import start_container

pytestmark = pytest.mark.process

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"
PAGE = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
REBOUND = {"Host": "evil.example"}


def asked(
    port: int, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def archive() -> bytes:
    """A model whose code the page's author wrote."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in (("m/config.pbtxt", b'backend: "python"'), ("m/1/model.py", b"import evil")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """An emulator whose containers run nothing and are counted."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        with Emulator(containers=FakeContainers(), speed=1000, allowed_hosts=["emulator"]) as made:
            yield made


def deploy(emulator: Emulator, name: str, headers: Mapping[str, str]) -> list[int]:
    """The statuses of what makes an endpoint: an object, a model, a configuration, the endpoint."""
    port = int(emulator.url.rpartition(":")[2])
    key = f"/{emulator.bucket}/{name}.tar.gz"
    variant = {"VariantName": "v", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": "ml.m5.xlarge"}
    container = {"Image": IMAGE, "ModelDataUrl": f"s3:/{key}"}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("CreateModel", {"ModelName": name, "ExecutionRoleArn": emulator.role_arn, "PrimaryContainer": container}),
        ("CreateEndpointConfig", {"EndpointConfigName": name, "ProductionVariants": [variant]}),
        ("CreateEndpoint", {"EndpointName": name, "EndpointConfigName": name}),
    ]
    statuses = [asked(port, "PUT", key, headers, archive())[0]]
    for operation, request in requests:
        sent = {**headers, "X-Amz-Target": f"SageMaker.{operation}", "Content-Type": "application/x-amz-json-1.1"}
        statuses.append(asked(port, "POST", "/", sent, json.dumps(request).encode())[0])
    return statuses


@pytest.mark.parametrize(
    "headers", [PAGE, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "null"}, REBOUND, {"Host": "127.0.0.1:1"}]
)
def test_a_page_deploys_nothing_on_the_emulator(emulator: Emulator, headers: Mapping[str, str]) -> None:
    """Every request of the chain is refused, and none of them has an effect."""
    assert deploy(emulator, "evil", headers) == [403, 403, 403, 403]
    port = int(emulator.url.rpartition(":")[2])
    status, _, body = asked(port, "POST", "/", {"X-Amz-Target": "SageMaker.ListModels"}, b"{}")
    assert (status, json.loads(body)["Models"]) == (200, [])
    assert b"evil.tar.gz" not in asked(port, "GET", f"/{emulator.bucket}", {})[2]


def test_a_preflight_is_refused_and_no_answer_has_headers_of_cors(emulator: Emulator) -> None:
    """Moto allows every origin everything, also in answers to programs."""
    port = int(emulator.url.rpartition(":")[2])
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-amz-target"}
    for path in ("/", f"/{emulator.bucket}/key", "/moto-api/reset", "/endpoints/e/invocations"):
        for method, headers in (("OPTIONS", {**PAGE, **wanted}), ("OPTIONS", wanted), ("GET", {}), ("POST", PAGE)):
            status, answered, _ = asked(port, method, path, headers)
            assert not [name for name in answered if name.startswith("access-control")]
            assert status == 403 or not {"Origin"} & headers.keys()


def as_a_container_would(request: Any, **_: Any) -> None:
    """Name the host of a boto3 request by another name."""
    request.headers["Host"] = "docker"


def test_a_refusal_has_the_form_of_the_service(emulator: Emulator) -> None:
    """So that an SDK shows the sentence, which says what to do."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    port = emulator.url.rpartition(":")[2]
    settings = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    for service, call in (
        ("s3", "list_buckets"),
        ("iam", "list_roles"),
        ("sts", "get_caller_identity"),
        ("sagemaker", "list_models"),
        ("logs", "describe_log_groups"),
        ("sagemaker-runtime", "invoke_endpoint"),
    ):
        client = boto3.client(service, endpoint_url=f"http://127.0.0.1:{port}", config=settings, **keys)
        client.meta.events.register("before-send", as_a_container_would)
        with pytest.raises(ClientError, match="--allow-host") as caught:
            getattr(client, call)(**({"EndpointName": "e", "Body": b""} if call == "invoke_endpoint" else {}))
        assert caught.value.response["Error"]["Code"].startswith("AccessDenied")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_a_container_reaches_the_emulator_by_an_allowed_name(emulator: Emulator) -> None:
    """As Docker resolves it; a page still does not."""
    port = int(emulator.url.rpartition(":")[2])
    assert asked(port, "GET", "/", {"Host": f"emulator:{port}"})[0] == 200
    assert asked(port, "GET", "/", {"Host": f"emulator:{port}", "Origin": f"http://emulator:{port}"})[0] == 403
    assert deploy(emulator, "meant", {"Host": "emulator:4566"}) == [200, 200, 200, 200]


def test_a_refused_upload_has_its_answer(emulator: Emulator) -> None:
    """The connection is not reset while the client sends."""
    port = int(emulator.url.rpartition(":")[2])
    assert asked(port, "PUT", f"/{emulator.bucket}/large", REBOUND, bytes(30 << 20))[0] == 403


@pytest.mark.parametrize("headers", [PAGE, REBOUND])
def test_a_page_asks_no_container_of_tensorflow_serving_or_an_algorithm(headers: Mapping[str, str]) -> None:
    """Workers, predictors and the frame of algorithms have one listener."""
    calls: list[str] = []

    def answer(request: Any) -> Reply:
        calls.append(request.path)
        return Reply(200)

    opened = open_socket("127.0.0.1", 0)
    port = opened.getsockname()[1]
    made = Listener(opened, answer)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        status, answered, body = asked(port, "POST", "/invocations", headers, b"{}")
        assert (status, calls) == (403, [])
        assert not [name for name in answered if name.startswith("access-control")]
        assert b"evil.example" in body
        assert asked(port, "POST", "/invocations", {}, b"{}")[0] == 200
    finally:
        made.stop(drain=5)
        thread.join(10)


def test_a_listener_inside_a_container_is_reached_by_any_name() -> None:
    """SageMaker's names are not known there; a browser is refused all the same."""
    opened = open_socket("0.0.0.0", 0)
    port = opened.getsockname()[1]
    made = Listener(opened, lambda request: Reply(200))
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        assert asked(port, "GET", "/ping", {"Host": "container-0.local"})[0] == 200
        assert asked(port, "GET", "/ping", PAGE)[0] == 403
    finally:
        made.stop(drain=5)
        thread.join(10)


def test_a_page_asks_no_published_port(tmp_path: Path) -> None:
    """Not in the first request of a connection, and not in a later one; programs are answered."""
    (tmp_path / "index.html").write_text("content")
    command = ["python3", "-u", "-m", "http.server", "--protocol", "HTTP/1.1", "8080"]
    lines: list[str] = []
    with start_container(command, publish=8080, log=lines.append) as process:
        port = process.port or 0
        assert until(lambda: any("Serving" in line for line in lines))
        for headers in (PAGE, REBOUND):
            status, _, body = asked(port, "POST", "/invocations", headers, bytes(2 << 20))
            assert (status, b"evil.example" in body) == (403, True)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            client.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
            client.sendall(b"GET /second HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            rest = b"".join(iter(lambda: client.recv(1 << 16), b""))
        assert b"HTTP/1.1 403 " in rest
        assert asked(port, "GET", "/", {})[0] == 200
    assert not any("invocations" in line or "second" in line for line in lines)
