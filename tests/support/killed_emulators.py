"""Emulators that are killed at a write of their store, and what a new one finds; a program, since it forks.

``python -m tests.support.killed_emulators 3 5`` runs a scenario (an endpoint is made, updated, rolled back, scaled and
deleted; a transform job and a training job run) with kill -9 after write 3, then anew after write 5, starts an emulator
on the same state folder each time, and prints a line of JSON for each. 0 means no kill: then the number of writes
is printed as well.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.support.fakes import FakeContainers, FakeTrainer
from tritonforge.emulator import Emulator
from tritonforge.emulator.control.resource_store import ResourceStore

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"
CANARY = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {
            "Type": "CANARY",
            "WaitIntervalInSeconds": 5,
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        },
        "TerminationWaitInSeconds": 1,
    }
}
UNDER_WAY = ("InProgress", "Stopping")

_Found = TypeVar("_Found")


class EmulatorWithoutHttp:
    """An emulator in this process whose operations are called without HTTP."""

    def __init__(self, state: Path, program: Path) -> None:
        self.emulator = Emulator(
            state=state,
            containers=FakeContainers(fails=lambda variant: variant.container.environment.get("FAILS")),
            trainer=FakeTrainer(),
            speed=100,
            images={"my/algorithm:1": program},
        )
        self.s3 = self.emulator._moto.client("s3", "us-east-1")

    def act(self, operation: str, **request: Any) -> dict[str, Any] | None:
        """The answer of an operation, None where it is refused."""
        answer = self.emulator._dispatcher.answer(operation, "us-east-1", json.dumps(request).encode())
        return json.loads(answer.body or b"{}") if answer.status == 200 else None

    def endpoint(self) -> dict[str, Any] | None:
        """The endpoint, once nothing is under way; None if it does not exist."""
        return until(
            lambda: (
                [found]
                if (found := self.act("DescribeEndpoint", EndpointName="e")) is None
                or found["EndpointStatus"] in ("InService", "Failed", "UpdateRollbackFailed")
                else None
            )
        )[0]

    def job(self, kind: str) -> dict[str, Any] | None:
        """A job, once it has ended; None if it does not exist."""
        return until(
            lambda: (
                [found]
                if (found := self.act(f"Describe{kind}Job", **{f"{kind}JobName": "j"})) is None
                or found[f"{kind}JobStatus"] not in UNDER_WAY
                else None
            )
        )[0]


def until(look: Callable[[], _Found | None]) -> _Found:
    """What is seen, once it is there."""
    for _ in range(6000):
        found = look()
        if found is not None:
            return found
        time.sleep(0.01)
    raise TimeoutError("nothing changes any more")


def prepare(account: EmulatorWithoutHttp) -> None:
    """What the scenario needs: objects, models, configurations."""
    emulator, role = account.emulator, account.emulator.role_arn
    for key in ("m.tar.gz", "in/0", "in/1", "in/2"):
        account.s3.put_object(Bucket=emulator.bucket, Key=key, Body=b"content")
    for name, environment in (("a", {}), ("b", {}), ("bad", {"FAILS": "it fails"})):
        container = {"Image": IMAGE, "ModelDataUrl": f"s3://{emulator.bucket}/m.tar.gz", "Environment": environment}
        assert account.act("CreateModel", ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
        variant = {"VariantName": "v", "ModelName": name, "InitialInstanceCount": 2, "InstanceType": "ml.m5.xlarge"}
        assert account.act("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=[variant])


def scenario(account: EmulatorWithoutHttp) -> None:
    """Everything that a kill may interrupt, one after another."""
    bucket, act = account.emulator.bucket, account.act
    assert act("CreateEndpoint", EndpointName="e", EndpointConfigName="a")
    account.endpoint()
    assert act("UpdateEndpoint", EndpointName="e", EndpointConfigName="b", DeploymentConfig=CANARY)
    account.endpoint()
    assert act("UpdateEndpoint", EndpointName="e", EndpointConfigName="bad")
    account.endpoint()
    changes = [{"VariantName": "v", "DesiredWeight": 3.0, "DesiredInstanceCount": 4}]
    assert act("UpdateEndpointWeightsAndCapacities", EndpointName="e", DesiredWeightsAndCapacities=changes)
    account.endpoint()
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/in/"}}
    resources = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1}
    assert act(
        "CreateTransformJob",
        TransformJobName="j",
        ModelName="a",
        TransformInput={"DataSource": source},
        TransformOutput={"S3OutputPath": f"s3://{bucket}/out"},
        TransformResources=resources,
    )
    account.job("Transform")
    assert act(
        "CreateTrainingJob",
        TrainingJobName="j",
        RoleArn=account.emulator.role_arn,
        AlgorithmSpecification={"TrainingImage": "my/algorithm:1", "TrainingInputMode": "File"},
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/trained"},
        ResourceConfig={**resources, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    account.job("Training")
    assert act("DeleteEndpoint", EndpointName="e") is not None
    account.endpoint()


def run_killed(state: Path, program: Path, number: int) -> int:
    """Run the scenario and kill the process after a write; gives how many writes there were, 0 after a kill."""
    account = EmulatorWithoutHttp(state, program)
    prepare(account)
    count, guard = 0, threading.Lock()

    def counting(write: Callable[..., Any]) -> Callable[..., Any]:
        def write_counted(*given: Any) -> Any:
            nonlocal count
            done = write(*given)
            with guard:
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return done

        return write_counted

    for name in ("put", "remove"):
        setattr(ResourceStore, name, counting(getattr(ResourceStore, name)))
    scenario(account)
    account.emulator.stop()
    return count


def inspect(state: Path, program: Path) -> dict[str, Any]:
    """What becomes of everything with a new emulator on the folder."""
    account = EmulatorWithoutHttp(state, program)
    endpoint, transform, training = account.endpoint(), account.job("Transform"), account.job("Training")
    seen: dict[str, Any] = {"out": [], "trained": []}
    listed = account.s3.list_objects_v2(Bucket=account.emulator.bucket).get("Contents", [])
    for key in (entry["Key"] for entry in listed):
        if (kind := key.partition("/")[0]) in seen:
            seen[kind].append(key)
    if endpoint is not None:
        live = account.emulator._services.runners["endpoint"].find_live("us-east-1", "e")
        variant = (endpoint.get("ProductionVariants") or [{}])[0]
        seen["endpoint"] = {
            "status": endpoint["EndpointStatus"],
            "config": endpoint["EndpointConfigName"],
            "instances": variant.get("CurrentInstanceCount"),
            "answers": live is not None and bool(live.variants),
            "pending": "PendingDeploymentSummary" in endpoint,
        }
    seen["transform"] = transform and transform["TransformJobStatus"]
    seen["training"] = training and training["TrainingJobStatus"]
    if training:
        moments = [transition["StartTime"] for transition in training["SecondaryStatusTransitions"]]
        seen["ordered"] = moments == sorted(moments)
    account.emulator.stop()
    left = (
        path for name in ("containers", "transforms", "trainings", "sagemaker") for path in (state / name).rglob("*")
    )
    seen["left"] = sorted(str(path.relative_to(state)) for path in left if path.is_file() and path.suffix != ".json")
    return seen


def run_forked(work: Callable[[], Any]) -> Any:
    """What a child process gives; 0 where it was killed."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            answer = work()
        except BaseException:
            answer = {"error": traceback.format_exc()[-2000:]}
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as output:
        text = output.read()
    os.waitpid(pid, 0)
    return json.loads(text) if text else 0


def warm_up() -> None:
    """Read what every emulator reads once, for all children: modules, and AWS's service models."""
    from botocore.loaders import JSONFileLoader

    load = JSONFileLoader.load_file
    JSONFileLoader.load_file = functools.cache(load)  # type: ignore[method-assign]  # of this process only
    JSONFileLoader.__hash__ = lambda self: 0  # type: ignore[method-assign]
    JSONFileLoader.__eq__ = lambda self, other: isinstance(other, JSONFileLoader)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "program")
        program.mkdir()
        (program / "train").touch(mode=0o755)
        account = EmulatorWithoutHttp(Path(folder, "state"), program)
        prepare(account)
        account.emulator.stop()


def main() -> None:
    """Each write that is named."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    warm_up()
    for number in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            program, state = Path(folder, "program"), Path(folder, "state")
            program.mkdir()
            (program / "train").write_text("#!/bin/sh\n")
            (program / "train").chmod(0o755)
            writes = run_forked(lambda: run_killed(state, program, number))  # noqa: B023 - called at once
            seen = run_forked(lambda: inspect(state, program))  # noqa: B023 - called at once
            sys.stdout.write(json.dumps({"killed": number, "writes": writes, **seen}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
