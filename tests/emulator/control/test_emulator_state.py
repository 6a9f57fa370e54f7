"""A state folder: what was there is there again, after a clean stop and after kill -9."""

import functools
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from botocore.config import Config

from tests.support.fakes import FakeContainers
from tests.support.forked import Forked
from tritonforge.emulator import Emulator
from tritonforge.emulator.front.request_journal import compact, is_change
from tritonforge.errors import LaunchError

pytestmark = pytest.mark.process


def _serve(state: Path, seconds: float) -> None:
    """Run an emulator until the process is killed, and print its address."""
    emulator = Emulator(state=state, containers=FakeContainers(seconds=seconds), speed=100)
    sys.stdout.write(f"{emulator.url}\n")
    sys.stdout.flush()
    time.sleep(600)


class Served(Forked):
    """An emulator in a process of its own, that can be killed."""

    def __init__(self, state: Path, seconds: float = 0.0) -> None:
        super().__init__(_serve, state, seconds)
        self.url = self.output.readline().strip()
        assert self.url.startswith("http://127.0.0.1:")

    @functools.cache  # noqa: B019 - a client takes longer to make than to ask, and the tests make few emulators
    def client(self, service: str) -> Any:
        """A client of it."""
        return boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(retries={"total_max_attempts": 1}),
        )


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    """Starts emulators on one state folder."""
    made: list[Served] = []

    def start(seconds: float = 0.0) -> Served:
        made.append(Served(tmp_path / "state", seconds))
        return made[-1]

    start.folder = tmp_path / "state"  # type: ignore[attr-defined]  # what a test may look into
    yield start
    for served in made:
        if served.running:
            served.end()


def status(served: Served, name: str, *wanted: str) -> dict[str, Any]:
    """The endpoint once it has one of the statuses."""
    sagemaker = served.client("sagemaker")
    for _ in range(1000):
        found = sagemaker.describe_endpoint(EndpointName=name)
        if found["EndpointStatus"] in wanted:
            return dict(found)
        time.sleep(0.01)
    raise AssertionError(f"{name} stays {found['EndpointStatus']}")


def test_everything_is_there_after_kill_9(serve: Any) -> None:
    """Models, configurations, endpoints, tags; objects with etags and dates; roles, alarms, scalable targets."""
    first = serve()
    s3, iam, sagemaker = first.client("s3"), first.client("iam"), first.client("sagemaker")
    bucket = "sagemaker-us-east-1-123456789012"
    s3.put_object(Bucket=bucket, Key="model.tar.gz", Body=b"1" * 100_000, Metadata={"a": "b"})
    s3.put_object(Bucket=bucket, Key="gone", Body=b"2")
    s3.delete_object(Bucket=bucket, Key="gone")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(
                Bucket=bucket, Key="parts", UploadId=upload, PartNumber=number, Body=bytes([number]) * (5 << 20)
            )["ETag"],
        }
        for number in (1, 2)
    ]
    s3.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    role = iam.list_roles(PathPrefix="/service-role/")["Roles"][0]
    own = iam.create_role(RoleName="own", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17"}))["Role"]
    first.client("cloudwatch").put_metric_alarm(
        AlarmName="errors",
        Namespace="N",
        MetricName="M",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    first.client("cloudwatch").set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="r")
    sagemaker.create_model(
        ModelName="m",
        ExecutionRoleArn=role["Arn"],
        PrimaryContainer={"Image": "i", "ModelDataUrl": f"s3://{bucket}/model.tar.gz"},
        Tags=[{"Key": "k", "Value": "v"}],
    )
    sagemaker.create_model(ModelName="deleted", ExecutionRoleArn=role["Arn"], PrimaryContainer={"Image": "i"})
    sagemaker.delete_model(ModelName="deleted")
    sagemaker.create_endpoint_config(
        EndpointConfigName="c",
        ProductionVariants=[
            {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": 1, "InstanceType": "ml.m5.xlarge"}
        ],
    )
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
    status(first, "e", "InService")
    first.client("application-autoscaling").register_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId="endpoint/e/variant/v",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        MinCapacity=1,
        MaxCapacity=2,
    )

    def seen(served: Served) -> dict[str, Any]:
        """What clients see, without what differs between two answers to the same question."""
        s3, sagemaker = served.client("s3"), served.client("sagemaker")
        answers: dict[str, Any] = {
            "model": sagemaker.describe_model(ModelName="m"),
            "models": sagemaker.list_models(),
            "config": sagemaker.describe_endpoint_config(EndpointConfigName="c"),
            "tags": sagemaker.list_tags(ResourceArn="arn:aws:sagemaker:us-east-1:123456789012:model/m"),
            "object": s3.head_object(Bucket=bucket, Key="model.tar.gz"),
            "parts": s3.head_object(Bucket=bucket, Key="parts"),
            "keys": s3.list_objects_v2(Bucket=bucket),
            "roles": served.client("iam").list_roles(),
            "targets": served.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker"),
        }
        for answer in answers.values():
            del answer["ResponseMetadata"]
        for target in answers["targets"]["ScalableTargets"]:
            del target["CreationTime"]  # moto takes it from time.time
        alarm = served.client("cloudwatch").describe_alarms()["MetricAlarms"][0]
        return {**answers, "alarm": (alarm["AlarmArn"], alarm["StateValue"])}

    before = seen(first)
    assert own["RoleId"] in {role["RoleId"] for role in before["roles"]["Roles"]}
    first.end()
    (serve.folder / "containers" / "left behind").write_bytes(b"")
    second = serve()
    assert list((serve.folder / "containers").iterdir()) == []
    assert seen(second) == before
    body = second.client("s3").get_object(Bucket=bucket, Key="parts")["Body"].read()
    assert body == b"\x01" * (5 << 20) + b"\x02" * (5 << 20)
    status(second, "e", "InService")
    answer = second.client("sagemaker-runtime").invoke_endpoint(EndpointName="e", Body=b"x")
    assert answer["InvokedProductionVariant"] == "v"
    second.end()
    third = serve()
    assert seen(third) == before


def deployed(served: Served, *, configs: int = 2) -> Any:
    """A model, some configurations; gives the client."""
    sagemaker = served.client("sagemaker")
    role = served.client("iam").list_roles(PathPrefix="/service-role/")["Roles"][0]["Arn"]
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=role, PrimaryContainer={"Image": "i"})
    for number in range(1, configs + 1):
        sagemaker.create_endpoint_config(
            EndpointConfigName=f"c{number}",
            ProductionVariants=[
                {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": number, "InstanceType": "ml.m5.xlarge"}
            ],
        )
    return sagemaker


def test_what_was_under_way_is_taken_up_again(serve: Any) -> None:
    """A creation, an update and a deletion each go on where the process was killed."""
    first = serve()
    sagemaker = deployed(first)
    for name in ("updating", "deleting"):
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="c1")
    for name in ("updating", "deleting"):
        status(first, name, "InService")
    first.end()
    slow = serve(seconds=1.0)
    for name in ("updating", "deleting"):
        assert status(slow, name, "SystemUpdating", "InService")["EndpointConfigName"] == "c1"
    sagemaker = slow.client("sagemaker")
    for name in ("updating", "deleting"):
        status(slow, name, "InService")
    sagemaker.create_endpoint(EndpointName="creating", EndpointConfigName="c1")
    sagemaker.update_endpoint(EndpointName="updating", EndpointConfigName="c2")
    sagemaker.delete_endpoint(EndpointName="deleting")
    slow.end()
    third = serve()
    assert status(third, "creating", "InService")["EndpointConfigName"] == "c1"
    assert status(third, "updating", "InService")["EndpointConfigName"] == "c2"
    sagemaker = third.client("sagemaker")
    for _ in range(500):
        names = {endpoint["EndpointName"] for endpoint in sagemaker.list_endpoints()["Endpoints"]}
        if names == {"creating", "updating"}:
            break
        time.sleep(0.01)
    assert names == {"creating", "updating"}


def test_a_folder_belongs_to_one_emulator(serve: Any, tmp_path: Path) -> None:
    """A second one is refused, and the first is not disturbed."""
    serve()
    with pytest.raises(LaunchError, match="belongs to an emulator that is running"):
        Emulator(state=tmp_path / "state", containers=FakeContainers())


def test_a_line_that_was_cut_off_is_no_harm(tmp_path: Path) -> None:
    """The process was killed while it wrote the last request: its client has had no answer."""
    with Emulator(state=tmp_path, containers=FakeContainers()) as emulator:
        bucket = emulator.bucket
    file = tmp_path / "neighbours" / "requests.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + whole.splitlines()[-1][:50])
    with Emulator(state=tmp_path, containers=FakeContainers()) as emulator:
        assert emulator.bucket == bucket
    file.write_bytes(b"{\n" + whole)
    with pytest.raises(LaunchError, match="line 1"):
        Emulator(state=tmp_path, containers=FakeContainers())


def test_a_clean_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    """No thread, no container, no port, no folder of containers; the next one starts from the ledger."""
    containers = FakeContainers()
    before = {thread.name for thread in threading.enumerate()}
    with Emulator(state=tmp_path / "state", containers=containers, speed=100) as emulator:
        client = boto3.client(
            "sagemaker",
            region_name="us-east-1",
            endpoint_url=emulator.url,
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        client.create_model(ModelName="m", ExecutionRoleArn=emulator.role_arn, PrimaryContainer={"Image": "i"})
        variant = {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": 1, "InstanceType": "ml.m5.xlarge"}
        client.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        client.create_endpoint(EndpointName="e", EndpointConfigName="c")
        while client.describe_endpoint(EndpointName="e")["EndpointStatus"] != "InService":
            time.sleep(0.01)
        assert len(containers.running) == 1
        url = emulator.url
    assert containers.running == []
    emulator.stop()
    left = {thread.name for thread in threading.enumerate()} - before
    assert not {name for name in left if name.startswith("emulator")}
    with pytest.raises(OSError, match="refused"):
        _dial(url)
    with Emulator(state=tmp_path / "state", containers=containers, speed=100) as emulator:
        for _ in range(500):
            if containers.running:
                break
            time.sleep(0.01)
        assert [container.variant.endpoint for container in containers.running] == ["e"]


def _dial(url: str) -> None:
    socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5).close()


def test_no_credential_is_kept(tmp_path: Path) -> None:
    """Neither the signature of a request nor that of a presigned URL is in the folder."""
    with Emulator(state=tmp_path, containers=FakeContainers()) as emulator:
        s3 = boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=emulator.url,
            aws_access_key_id="KEYID",
            aws_secret_access_key="secret",
            aws_session_token="TOKEN",
        )
        s3.put_object(Bucket=emulator.bucket, Key="a", Body=b"x")
        url = s3.generate_presigned_url("put_object", {"Bucket": emulator.bucket, "Key": "b"})
        assert urllib3.request("PUT", url, body=b"y").status == 200
    text = (tmp_path / "neighbours" / "requests.jsonl").read_text()
    assert "KEYID" not in text
    assert "TOKEN" not in text
    assert "Signature" not in text
    with Emulator(state=tmp_path, containers=FakeContainers()) as emulator:
        s3 = boto3.client(
            "s3", region_name="us-east-1", endpoint_url=emulator.url, aws_access_key_id="a", aws_secret_access_key="b"
        )
        assert s3.get_object(Bucket=emulator.bucket, Key="b")["Body"].read() == b"y"


@pytest.mark.parametrize(
    ("service", "method", "path", "query", "headers", "body", "kept"),
    [
        ("s3", "PUT", "/b/k", "", {}, b"", True),
        ("s3", "GET", "/b/k", "", {}, b"", False),
        ("s3", "POST", "/b/k", "select&select-type=2", {}, b"", False),
        ("s3", "POST", "/b", "delete", {}, b"", True),
        ("iam", "POST", "/", "", {"content-type": "application/x-www-form-urlencoded"}, b"Action=CreateRole", True),
        ("iam", "POST", "/", "", {"content-type": "application/x-www-form-urlencoded"}, b"Action=GetRole", False),
        ("sts", "POST", "/", "", {"content-type": "application/x-www-form-urlencoded"}, b"Action=AssumeRole", False),
        ("logs", "POST", "/", "", {"x-amz-target": "Logs_20140328.PutLogEvents"}, b"{}", False),
        ("logs", "POST", "/", "", {"x-amz-target": "Logs_20140328.CreateLogGroup"}, b"{}", True),
        ("monitoring", "POST", "/service/G/operation/PutMetricAlarm", "", {}, b"", True),
        ("monitoring", "POST", "/service/G/operation/DescribeAlarms", "", {}, b"", False),
        ("lambda", "POST", "/2015-03-31/functions", "", {}, b"", True),
        ("lambda", "GET", "/2015-03-31/functions", "", {}, b"", False),
    ],
)
def test_what_is_kept(
    service: str, method: str, path: str, query: str, headers: dict[str, str], body: bytes, kept: bool
) -> None:
    """What changes something, in each protocol."""
    assert is_change(method, path, query, headers, body, service) is kept


def entry(method: str, path: str, query: str = "", **more: Any) -> dict[str, Any]:
    """One kept request to S3."""
    return {"service": "s3", "method": method, "path": path, "query": query, "headers": {}, **more}


def test_what_no_longer_matters_is_dropped() -> None:
    """Objects that were replaced or deleted, uploads that were given up; nothing once objects were copied."""
    put, again, gone = entry("PUT", "/b/k"), entry("PUT", "/b/k"), entry("DELETE", "/b/k")
    bucket, tags = entry("PUT", "/b"), entry("PUT", "/b/k", "tagging=")
    assert compact([bucket, put, tags, again]) == [bucket, again]
    assert compact([bucket, put, again, tags]) == [bucket, again, tags]
    assert compact([bucket, put, gone]) == [bucket, gone]
    begun, part = (
        entry("POST", "/b/k", "uploads=", upload="u"),
        entry("PUT", "/b/k", "partNumber=1&uploadId=u", upload="u"),
    )
    done, aborted = entry("POST", "/b/k", "uploadId=u", upload="u"), entry("DELETE", "/b/k", "uploadId=u", upload="u")
    assert compact([begun, part, done]) == [begun, part, done]
    assert compact([begun, part]) == []
    assert compact([begun, part, aborted]) == []
    copied = entry("PUT", "/b/other", headers={"x-amz-copy-source": "/b/k"})
    assert compact([put, copied, again]) == [put, copied, again]
