"""Clients that a user else wrote: the seed's commands by AWS's command line, its SDK's job by sagemaker-core."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import TRITON_IMAGE, TransformAccount
from tests.support.peers import Peers
from tritonforge.records import frame_tfrecord

pytestmark = pytest.mark.process


def test_the_seed_s_commands(account: TransformAccount, peers: Peers) -> None:
    """create-model, create-transform-job in its shorthand, wait, describe, list, stop."""

    def aws(*arguments: str) -> Any:
        return peers.aws(account.emulator, "sagemaker", *arguments)

    place = f"s3://{account.bucket}"
    account.put({"cli/in/train-00000-of-00001": frame_tfrecord(b"one") + frame_tfrecord(b"two")})
    container = f"Image={TRITON_IMAGE},ModelDataUrl={place}/models/model.tar.gz"
    role = account.emulator.role_arn
    aws("create-model", "--model-name", "cli", "--primary-container", container, "--execution-role-arn", role)
    source = f"DataSource={{S3DataSource={{S3DataType=S3Prefix,S3Uri={place}/cli/in/}}}}"
    made = aws(
        "create-transform-job",
        *("--model-name", "cli"),
        *("--transform-input", f"{source},ContentType=application/x-tfexample,SplitType=TFRecord"),
        *("--transform-output", f"S3OutputPath={place}/cli/out,AssembleWith=Line"),
        *("--transform-resources", "InstanceType=ml.p3.2xlarge,InstanceCount=2"),
        *("--max-payload-in-mb", "1", "--max-concurrent-transforms", "64"),
        *("--transform-job-name", "cli-job", "--batch-strategy", "SingleRecord"),
        *("--environment", 'SAGEMAKER_TFS_ENABLE_BATCHING=true,SAGEMAKER_TFS_MAX_BATCH_SIZE="16"'),
    )
    assert made["TransformJobArn"].endswith(":transform-job/cli-job")
    account.wait_for_end("cli-job")  # the command's own wait looks once a minute
    aws("wait", "transform-job-completed-or-stopped", "--transform-job-name", "cli-job")
    found = aws("describe-transform-job", "--transform-job-name", "cli-job")
    assert found["TransformJobStatus"] == "Completed"
    assert found["Environment"]["SAGEMAKER_TFS_MAX_BATCH_SIZE"] == "16"
    listed = aws("list-transform-jobs", "--name-contains", "cli", "--status-equals", "Completed")
    assert [summary["TransformJobName"] for summary in listed["TransformJobSummaries"]] == ["cli-job"]
    assert account.get("cli/out/train-00000-of-00001.out") == b"ONE\nTWO\n"


def test_the_sdk_s_job(account: TransformAccount, peers: Peers) -> None:
    """sagemaker-core creates a job, waits for it, and finds it again."""
    account.put({"core/in/part": frame_tfrecord(b"one") + frame_tfrecord(b"two")})
    account.create_model("core")
    script = Path(__file__).with_name("core_job.py")
    stated = peers.sdk_3(account.emulator, script, "core", account.bucket)
    reported = json.loads(stated[stated.index('{"status"') :])  # after what the SDK draws while it waits
    assert reported["status"] == "Completed"
    assert reported["arn"].endswith(":transform-job/core-job")
    assert reported["names"] == ["core-job"]
    assert account.get("core/out/part.out") == b"ONE\nTWO\n"
