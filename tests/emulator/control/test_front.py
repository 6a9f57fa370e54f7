"""The one address: who answers what, S3 in its ways of asking, and the JSON protocol's own errors."""

import http.client
import json
import socket
import subprocess
import sys
import threading
import urllib.request
from typing import Any

import boto3
import pytest
import urllib3
from botocore.config import Config

from tests.support.fakes import FakeContainers
from tritonforge.emulator import Emulator
from tritonforge.emulator.control.dispatcher import OPERATIONS
from tritonforge.emulator.front.http_request import Route, parse_route
from tritonforge.errors import LaunchError
from tritonforge.sagemaker import service_model

pytestmark = pytest.mark.process

SCOPE = "AWS4-HMAC-SHA256 Credential=k/20260101/eu-west-1/{}/aws4_request, SignedHeaders=host, Signature=0"


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "expected"),
    [
        (
            "POST",
            "/",
            "",
            {"x-amz-target": "SageMaker.ListModels", "authorization": SCOPE.format("sagemaker")},
            Route("control", "eu-west-1", "sagemaker", "ListModels"),
        ),
        (
            "POST",
            "/endpoints/e/invocations",
            "",
            {"authorization": SCOPE.format("sagemaker")},
            Route("runtime", "eu-west-1", "sagemaker"),
        ),
        ("POST", "/endpoints/e/async-invocations", "", {}, Route("runtime", "us-east-1", "sagemaker")),
        (
            "POST",
            "/endpoints/e/invocations",
            "",
            {"authorization": SCOPE.format("s3")},
            Route("moto", "eu-west-1", "s3"),
        ),
        ("GET", "/endpoints/e/invocations", "", {}, Route("moto", "us-east-1", "")),
        (
            "GET",
            "/bucket/key",
            "X-Amz-Credential=k%2F20260101%2Feu-west-1%2Fs3%2Faws4_request",
            {},
            Route("moto", "eu-west-1", "s3"),
        ),
    ],
)
def test_a_request_says_whom_it_is_for(
    method: str, path: str, query: str, headers: dict[str, str], expected: Route
) -> None:
    """By its target, its path and the scope of its signature; a bucket may be named "endpoints"."""
    assert parse_route(method, path, query, headers) == expected


def raw(account: Any, body: bytes, target: str) -> tuple[int, http.client.HTTPMessage, Any]:
    """One request of the JSON protocol, as it is on the wire."""
    connection = http.client.HTTPConnection(account.emulator.url.removeprefix("http://"))
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
    connection.request("POST", "/", body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, json.loads(content) if content else None


def test_errors_are_those_of_the_json_protocol(account: Any) -> None:
    """Type in the body and in the header, a request id on every answer."""
    status, headers, document = raw(account, b'{"ModelName": "a_b"}', "SageMaker.DescribeModel")
    assert status == 400
    assert document["__type"] == headers["x-amzn-ErrorType"] == "ValidationException"
    assert headers["x-amzn-RequestId"]
    assert raw(account, b"{", "SageMaker.ListModels")[2]["__type"] == "SerializationException"
    assert raw(account, b"[]", "SageMaker.ListModels")[2]["__type"] == "SerializationException"
    wrong = raw(account, b'{"MaxResults": "many"}', "SageMaker.ListModels")[2]
    assert wrong["__type"] == "SerializationException"
    assert "MaxResults" in wrong["message"]
    assert raw(account, b"{}", "SageMaker.MakeCoffee")[::2] == (
        404,
        {"__type": "UnknownOperationException", "message": "The requested operation MakeCoffee is not known."},
    )


def test_an_operation_without_output_has_an_empty_body(account: Any) -> None:
    """DeleteModel answers 200 and nothing, as AWS does."""
    account.create_model("emptied")
    status, headers, document = raw(account, b'{"ModelName": "emptied"}', "SageMaker.DeleteModel")
    assert (status, document, headers["Content-Length"]) == (200, None, "0")


def test_every_operation_that_is_emulated_is_one_of_aws_s() -> None:
    """No operation has a name that the service model does not have."""
    assert set(OPERATIONS) <= set(service_model.list_operations("sagemaker"))


def test_it_listens_on_loopback_only(account: Any) -> None:
    """No other address of this machine answers."""
    port = int(account.emulator.url.rpartition(":")[2])
    with socket.socket() as free:
        free.bind(("127.0.0.2", port))  # taken if the server had bound every address


@pytest.mark.parametrize(("parameter", "option"), [("port", "--port"), ("proxy_port", "--proxy-port")])
def test_a_port_in_use_is_one_error_that_names_the_options(parameter: str, option: str) -> None:
    """The message names the port, the parameter and the option of `emulate`; no thread is left."""
    code = (
        "import socket, sys\n"
        "from tritonforge.errors import LaunchError\n"
        "from tritonforge.emulator import Emulator\n"
        "taken = socket.socket(); taken.bind(('127.0.0.1', 0)); taken.listen()\n"
        "port = taken.getsockname()[1]\n"
        f"try:\n    Emulator({parameter}=port)\n"
        "except LaunchError as error:\n    print(error.args[0].replace(str(port), 'PORT'))\n"
        "import threading\n"
        "print([thread.name for thread in threading.enumerate() if thread.name.startswith('emulator')])\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    first, second = done.stdout.splitlines()
    assert first.startswith("port PORT of 127.0.0.1: cannot listen: ")
    assert f"Emulator({parameter}=...) or tritonforge emulate {option} PORT" in first
    assert second == "[]"


def test_one_process_holds_one_emulator(account: Any) -> None:
    """Moto's state is the process's."""
    with pytest.raises(LaunchError, match="already runs"):
        Emulator(containers=FakeContainers())


def test_s3_path_style_and_virtual_host(account: Any) -> None:
    """A bucket in the path, and in the host name below localhost."""
    account.s3.put_object(Bucket=account.emulator.bucket, Key="a/b c.txt", Body=b"content", Metadata={"my_key": "v"})
    assert account.s3.get_object(Bucket=account.emulator.bucket, Key="a/b c.txt")["Body"].read() == b"content"
    assert account.s3.head_object(Bucket=account.emulator.bucket, Key="a/b c.txt")["Metadata"] == {"my_key": "v"}
    port = account.emulator.url.rpartition(":")[2]
    connection = http.client.HTTPConnection("127.0.0.1", int(port))
    for host, path in (
        (f"{account.emulator.bucket}.localhost:{port}", "/a/b%20c.txt"),
        (f"localhost:{port}", f"/{account.emulator.bucket}/a/b%20c.txt"),
    ):
        connection.request("GET", path, headers={"Host": host, "Authorization": SCOPE.format("s3")})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"content")
    connection.close()


def test_s3_large_multipart_ranges_and_presigned(account: Any, tmp_path: Any) -> None:
    """boto3's transfer manager, in parts and in parallel; a part of an object; a URL without headers."""
    content = bytes(range(256)) * (80 * 1024)
    path = tmp_path / "large"
    path.write_bytes(content)
    transfer = boto3.s3.transfer.TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    account.s3.upload_file(str(path), account.emulator.bucket, "large", Config=transfer)
    ranged = account.s3.get_object(Bucket=account.emulator.bucket, Key="large", Range="bytes=256-511")
    assert ranged["Body"].read() == bytes(range(256))
    account.s3.download_file(account.emulator.bucket, "large", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content
    url = account.s3.generate_presigned_url("get_object", {"Bucket": account.emulator.bucket, "Key": "large"})
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == content


def test_a_client_that_expects_100_continue_receives_it(account: Any) -> None:
    """``Expect: 100-continue`` is answered before the body is sent, as botocore has it with every object."""
    host, _, port = account.emulator.url.removeprefix("http://").rpartition(":")
    head = (
        f"PUT /{account.emulator.bucket}/asked HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 2\r\n"
        f"Expect: 100-continue\r\nAuthorization: {SCOPE.format('s3')}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(b"ok")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_a_chunked_body_is_taken(account: Any) -> None:
    """Clients that do not know the length beforehand send chunks."""
    pool = urllib3.PoolManager()
    url = f"{account.emulator.url}/{account.emulator.bucket}/chunked"
    answer = pool.request("PUT", url, body=iter([b"ab", b"cde"]), headers={"Authorization": SCOPE.format("s3")})
    assert answer.status == 200
    assert account.s3.get_object(Bucket=account.emulator.bucket, Key="chunked")["Body"].read() == b"abcde"


def test_a_connection_is_kept_after_a_refusal(account: Any) -> None:
    """The body of a request that is refused is read, so that the next one is understood."""
    connection = http.client.HTTPConnection(account.emulator.url.removeprefix("http://"))
    headers = {"Authorization": SCOPE.format("sagemaker")}
    connection.request("POST", "/endpoints/none/invocations", b"x" * (30 << 20), headers)
    answer = connection.getresponse()
    assert answer.status in (400, 413)
    answer.read()
    connection.request("POST", "/", b"{}", {"X-Amz-Target": "SageMaker.ListModels"})
    assert connection.getresponse().status == 200
    connection.close()


def test_services_of_moto_answer(account: Any) -> None:
    """IAM, STS, logs, alarms, topics, queues, keys and registries, each in its own protocol."""
    assert account.client("sts").get_caller_identity()["Account"] == "123456789012"
    roles = account.client("iam").list_roles()["Roles"]
    assert account.emulator.role_arn in {role["Arn"] for role in roles}
    assert account.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    topic = account.client("sns").create_topic(Name="t")["TopicArn"]
    queue = account.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    arn = account.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    account.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["QueueArn"])
    account.client("sns").publish(TopicArn=topic, Message="m")
    assert "Messages" in account.client("sqs").receive_message(QueueUrl=queue)
    assert account.client("kms").create_key()["KeyMetadata"]["Enabled"] is True
    assert account.client("ecr").create_repository(repositoryName="repo")["repository"]["repositoryName"] == "repo"
    account.client("logs").create_log_group(logGroupName="g")


def test_requests_of_many_threads_at_once(account: Any) -> None:
    """Puts and gets of eight clients: every object is what was put."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            s3 = boto3.session.Session().client("s3", config=Config(s3={"addressing_style": "path"}))
            for index in range(10):
                key = f"many/{number}/{index}"
                s3.put_object(Bucket=account.emulator.bucket, Key=key, Body=key.encode())
                assert s3.get_object(Bucket=account.emulator.bucket, Key=key)["Body"].read() == key.encode()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = account.s3.list_objects_v2(Bucket=account.emulator.bucket, Prefix="many/")
    assert found["KeyCount"] == 80
