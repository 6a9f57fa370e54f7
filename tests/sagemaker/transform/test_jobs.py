"""What a job does on the emulator: objects, records, precedence, environment, failures, logs, captured data."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest

from tritonforge.records import frame_tfrecord

pytestmark = pytest.mark.process

ONCE = {"InvocationsMaxRetries": 0}


def test_every_object_has_its_output_below_the_output_path(account: Any) -> None:
    found = account.run_job("objects", {"a.txt": b"a", "deep/er/b.txt": b"b", "deep/": b"", "empty": b""})
    assert found["TransformJobStatus"] == "Completed"
    assert account.keys("objects/out/") == ["a.txt.out", "deep/er/b.txt.out", "empty.out"]
    assert account.get("objects/out/deep/er/b.txt.out") == b"B"


def test_records_are_split_sent_and_assembled(account: Any) -> None:
    """TFRecords with SingleRecord go bare, in order, and their answers are lines."""
    records = [f"record {number}, pause".encode() for number in range(50)]
    source = {"DataSource": account.build_request("records")["TransformInput"]["DataSource"], "SplitType": "TFRecord"}
    found = account.run_job(
        "records",
        {"part-0": b"".join(map(frame_tfrecord, records))},
        BatchStrategy="SingleRecord",
        MaxConcurrentTransforms=8,
        TransformInput={**source, "ContentType": "application/x-tfexample"},
        TransformOutput={"S3OutputPath": f"s3://{account.bucket}/records/out", "AssembleWith": "Line", "Accept": "a/b"},
    )
    assert found["TransformJobStatus"] == "Completed"
    assert account.get("records/out/part-0.out") == b"".join(record.upper() + b"\n" for record in records)
    (container,) = [item for item in account.containers.started if item.variant.name == "records"]
    assert sorted(body for body, _, _ in container.seen) == sorted(records)
    headers = container.seen[0][1]
    assert (headers["Content-Type"], headers["Accept"]) == ("application/x-tfexample", "a/b")
    assert 1 < container.most_in_flight <= 8


def test_gzip_and_manifest(account: Any) -> None:
    """A manifest names the objects; compressed ones are unpacked before they are split."""
    account.put(
        {
            "listed/in/x": gzip.compress(b"one\ntwo\n"),
            "listed/in/y": b"not listed",
            "listed/in/z": gzip.compress(b"three\n"),
        }
    )
    manifest = [{"prefix": f"s3://{account.bucket}/listed/in/"}, "x", "z"]
    account.put({"listed/manifest": json.dumps(manifest).encode()})
    account.create_model("listed")
    request = account.build_request("listed", BatchStrategy="SingleRecord")
    request["TransformInput"] = {
        "DataSource": {
            "S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": f"s3://{account.bucket}/listed/manifest"}
        },
        "CompressionType": "Gzip",
        "SplitType": "Line",
    }
    request["TransformOutput"]["AssembleWith"] = "Line"
    request["DataCaptureConfig"] = {"DestinationS3Uri": f"s3://{account.bucket}/listed/captured/"}
    account.sagemaker.create_transform_job(**request)
    assert account.wait_for_end("listed")["TransformJobStatus"] == "Completed"
    assert account.keys("listed/out/") == ["x.out", "z.out"]
    assert account.get("listed/out/x.out") == b"ONE\nTWO\n"
    captured = account.keys("listed/captured/")
    assert [re.sub(r"\d{4}/\d\d/\d\d/\d\d/[0-9a-f-]{36}", "WHEN", item) for item in captured] == [
        "input/WHEN.jsonl",
        "output/WHEN.jsonl",
    ]
    assert json.loads(account.get(f"listed/captured/{captured[0]}")) == manifest
    outputs = [{"prefix": f"s3://{account.bucket}/listed/out/"}, "x.out", "z.out"]
    assert json.loads(account.get(f"listed/captured/{captured[1]}")) == outputs


def test_the_environment_of_the_container(account: Any) -> None:
    """SAGEMAKER_BATCH always, the settings where the request gave them, the job's variables over the model's."""
    account.run_job(
        "plain-environment", {"a": b"x"}, environment={"A": "model", "B": "model"}, Environment={"A": "job"}
    )
    (plain,) = [item for item in account.containers.started if item.variant.name == "plain-environment"]
    assert plain.variant.container.environment == {"A": "job", "B": "model", "SAGEMAKER_BATCH": "true"}
    account.run_job(
        "full-environment",
        {"a": b"x"},
        MaxPayloadInMB=1,
        MaxConcurrentTransforms=64,
        BatchStrategy="SingleRecord",
    )
    (full,) = [item for item in account.containers.started if item.variant.name == "full-environment"]
    assert full.variant.container.environment == {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "64",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
    }


def test_precedence(account: Any) -> None:
    """The request's values, then /execution-parameters, then AWS's defaults; the log says which hold."""
    reported = json.dumps({"MaxConcurrentTransforms": 3, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 5})

    def settings(name: str) -> str:
        (line,) = [item for item in account.read_data_log(name) if "MaxConcurrentTransforms" in item]
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}:\[sagemaker logs\]: ", line)
        return str(line.partition("]: ")[2])

    account.run_job("defaults", {"a": b"x"})
    assert settings("defaults") == "MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD"
    account.run_job("reported", {"a": b"x"}, environment={"PARAMETERS": reported})
    assert settings("reported") == "MaxConcurrentTransforms=3, MaxPayloadInMB=5, BatchStrategy=SINGLE_RECORD"
    account.run_job(
        "asked", {"a": b"x"}, environment={"PARAMETERS": reported}, MaxPayloadInMB=7, BatchStrategy="MultiRecord"
    )
    assert settings("asked") == "MaxConcurrentTransforms=3, MaxPayloadInMB=7, BatchStrategy=MULTI_RECORD"


def test_a_refused_object_has_no_output_and_the_others_have_theirs(account: Any) -> None:
    """The job is Failed, says which object it was, and its log has the model's words."""
    found = account.run_job("one-bad", {"a": b"x", "b": b"refuse", "c": b"y"}, ModelClientConfig=ONCE)
    assert found["TransformJobStatus"] == "Failed"
    assert account.keys("one-bad/out/") == ["a.out", "c.out"]
    uri = f"{account.bucket}/one-bad/in/b"
    reason = found["FailureReason"]
    assert reason.startswith("ClientError: See job logs for more information (1 of 3 objects have no output; ")
    assert f"s3://{uri}" in reason
    assert "this is not a record" in reason
    assert any(
        f"[sagemaker logs]: {uri}: " in line and "400: this is not a record" in line
        for line in account.read_data_log("one-bad")
    )


def test_a_model_that_breaks_is_an_algorithm_error(account: Any) -> None:
    """5xx and time-outs are the container's fault; the retries are as many as were asked for."""
    found = account.run_job("broken", {"a": b"break"}, ModelClientConfig={"InvocationsMaxRetries": 2})
    assert found["FailureReason"].startswith("AlgorithmError: See job logs for more information")
    (container,) = [item for item in account.containers.started if item.variant.name == "broken"]
    assert len(container.seen) == 3
    limit = {"InvocationsMaxRetries": 0, "InvocationsTimeoutInSeconds": 7}
    found = account.run_job("slow", {"a": b"slow"}, ModelClientConfig=limit)
    assert found["FailureReason"].startswith("AlgorithmError: ")
    assert "no answer within 7 s" in found["FailureReason"]


def test_an_object_above_the_limit_of_payloads(account: Any) -> None:
    """It fails without being sent, the others are done."""
    found = account.run_job("large", {"a": b"x", "b": b"y" * (2**20 + 1)}, MaxPayloadInMB=1)
    assert found["TransformJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("ClientError: ")
    assert "large/in/b" in found["FailureReason"]
    assert account.keys("large/out/") == ["a.out"]
    (container,) = [item for item in account.containers.started if item.variant.name == "large"]
    assert [body for body, _, _ in container.seen] == [b"x"]


def test_payloads_of_any_size_go_chunked(account: Any) -> None:
    """MaxPayloadInMB 0 has no limit."""
    found = account.run_job("chunked", {"a": b"x" * (7 * 2**20)}, MaxPayloadInMB=0)
    assert found["TransformJobStatus"] == "Completed"
    assert len(account.get("chunked/out/a.out")) == 7 * 2**20
    assert any("MaxPayloadInMB=0," in line for line in account.read_data_log("chunked"))


def test_a_container_that_does_not_start(account: Any) -> None:
    """AWS's FailureReason for a container that does not answer, and for model data that cannot be fetched."""
    found = account.run_job("unhealthy", {"a": b"x"}, environment={"UNHEALTHY": "1"})
    assert found["TransformJobStatus"] == "Failed"
    assert found["FailureReason"] == (
        "AlgorithmError: Model container failed to respond to ping. Please ensure /ping endpoint is implemented and "
        "responds with an HTTP 200 status code (No weights.)"
    )
    assert "TransformStartTime" not in found
    found = account.run_job("dataless", {"a": b"x"}, environment={"MISSING": "1"})
    assert found["FailureReason"] == "ClientError: Failed to download model data."


def test_an_output_bucket_that_is_not_there(account: Any) -> None:
    """The job fails before the model is asked."""
    found = account.run_job("nowhere", {"a": b"x"}, TransformOutput={"S3OutputPath": "s3://absent-bucket/out"})
    assert found["TransformJobStatus"] == "Failed"
    assert "the bucket does not exist" in found["FailureReason"]
    (container,) = [item for item in account.containers.started if item.variant.name == "nowhere"]
    assert container.seen == []


def test_objects_are_dealt_out_to_instances(account: Any) -> None:
    """Each instance has its own part of the log and its own requests in flight; the outputs are the same."""
    objects = {f"{number:02}": f"object {number}".encode() for number in range(20)}
    found = account.run_job(
        "spread",
        {**objects, "bad": b"refuse"},
        MaxConcurrentTransforms=2,
        ModelClientConfig=ONCE,
        TransformResources={"InstanceType": "ml.m5.xlarge", "InstanceCount": 3},
    )
    assert "1 of 21 objects have no output" in found["FailureReason"]
    assert account.keys("spread/out/") == [f"{key}.out" for key in objects]
    assert all(account.get(f"spread/out/{key}.out") == body.upper() for key, body in objects.items())
    streams = account.read_log("spread")
    names = sorted(name for name in streams if name.endswith("/data-log"))
    assert len(names) == 3
    assert all(re.fullmatch(r"spread/i-[0-9a-f]{17}-\d{10}/data-log", name) for name in names)
    assert sum("bad" in line for name in names for line in streams[name]) == 1
    (container,) = [item for item in account.containers.started if item.variant.name == "spread"]
    assert len(container.seen) == 21  # one container is for the three
    assert container.most_in_flight <= 6


def test_the_container_writes_to_the_job_s_log(account: Any) -> None:
    """What the container says goes to JOB/INSTANCE-TIME."""
    account.run_job("talkative", {"a": b"x"})
    streams = account.read_log("talkative")
    (name,) = [name for name in streams if not name.endswith("/data-log")]
    assert re.fullmatch(r"talkative/i-[0-9a-f]{17}-\d{10}", name)
    assert streams[name][0].startswith("a container of ")
