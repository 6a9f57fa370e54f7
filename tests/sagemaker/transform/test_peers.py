"""Clients that somebody else wrote: the seed's commands by AWS's command line, its SDK's job by sagemaker-core."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.sagemaker.transform.conftest import IMAGE
from tritonforge.records import frame_tfrecord

PEERS = ROOT / ".venv" / "peers" / "bin"


def ran(account: Any, program: Path, *arguments: str) -> str:
    """What a client's program printed; nothing but the environment tells it where AWS is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**kept, **account.emulator.environment}
    done = subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_the_seed_s_commands(account: Any) -> None:
    """create-model, create-transform-job in its shorthand, wait, describe, list, stop."""

    def aws(*arguments: str) -> Any:
        said = ran(account, PEERS / "aws", "sagemaker", *arguments, "--output", "json")
        return json.loads(said) if said.strip() else None

    place = f"s3://{account.bucket}"
    account.put({"cli/in/train-00000-of-00001": frame_tfrecord(b"one") + frame_tfrecord(b"two")})
    container = f"Image={IMAGE},ModelDataUrl={place}/models/model.tar.gz"
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
    account.ended("cli-job")  # the command's own wait looks once a minute
    aws("wait", "transform-job-completed-or-stopped", "--transform-job-name", "cli-job")
    found = aws("describe-transform-job", "--transform-job-name", "cli-job")
    assert found["TransformJobStatus"] == "Completed"
    assert found["Environment"]["SAGEMAKER_TFS_MAX_BATCH_SIZE"] == "16"
    listed = aws("list-transform-jobs", "--name-contains", "cli", "--status-equals", "Completed")
    assert [each["TransformJobName"] for each in listed["TransformJobSummaries"]] == ["cli-job"]
    assert account.get("cli/out/train-00000-of-00001.out") == b"ONE\nTWO\n"


def test_the_sdk_s_job(account: Any) -> None:
    """sagemaker-core creates a job, waits for it, and finds it again."""
    account.put({"core/in/part": frame_tfrecord(b"one") + frame_tfrecord(b"two")})
    account.model("core")
    script = str(Path(__file__).with_name("core_job.py"))
    said = ran(account, PEERS / "python", script, "core", account.bucket)
    told = json.loads(said[said.index('{"status"') :])  # after what the SDK draws while it waits
    assert told["status"] == "Completed"
    assert told["arn"].endswith(":transform-job/core-job")
    assert told["names"] == ["core-job"]
    assert account.get("core/out/part.out") == b"ONE\nTWO\n"
