"""Kill -9 at every write of the store, and clocks that are set: nothing is lost, nothing hangs, times stay in order.

TRITONFORGE_KILLS=all kills at every write instead of at some of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.checkout import ROOT
from tests.support.fakes import FakeContainers
from tritonforge.emulator import Emulator
from tritonforge.emulator.control.dispatcher import KINDS
from tritonforge.emulator.control.records import from_json, to_json
from tritonforge.emulator.control.resource_store import ResourceStore
from tritonforge.emulator.front.request_journal import Journal
from tritonforge.errors import LaunchError

pytestmark = pytest.mark.process

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"

#: Writes of the scenario: made, in service, updating, traffic moved, rolling back, scaling, jobs under way and ended.
SOME = (5, 10, 16, 22)


def test_whatever_was_under_way_comes_to_its_end_after_a_kill() -> None:
    """Endpoints serve again with the configuration that they had or were getting; jobs end with all their outputs."""
    kills = range(1, 25) if os.environ.get("TRITONFORGE_KILLS") == "all" else SOME
    command = [sys.executable, "-m", "tests.support.killed_emulators", *map(str, kills)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=1200)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row["killed"] for row in rows] == list(kills)
    for row in rows:
        assert "error" not in row, row
        endpoint = row.get("endpoint")
        if endpoint:
            assert (endpoint["status"], endpoint["answers"], endpoint["pending"]) == ("InService", True, False), row
            assert endpoint["config"] in ("a", "b"), row
            assert endpoint["instances"] in (2, 4), row
        assert row["transform"] in (None, "Completed"), row
        assert row["out"] == ([f"out/{index}.out" for index in range(3)] if row["transform"] else []), row
        assert row["training"] in (None, "Completed"), row
        assert row["trained"] == (["trained/j/output/model.tar.gz"] if row["training"] else []), row
        assert row.get("ordered", True), row
        assert row["left"] == [], row
    assert any(row["writes"] == 0 for row in rows)  # they were killed


def test_times_stay_in_order_however_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes back by a day, and one that jumps by a year: no change is before the one before it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    offset = 0.0
    with Emulator(containers=FakeContainers(), speed=1000, clock=lambda: time.time() + offset) as emulator:

        def act(operation: str, **request: Any) -> dict[str, Any]:
            answer = emulator._dispatcher.answer(operation, "us-east-1", json.dumps(request).encode())
            assert answer.status == 200, answer.body
            return dict(json.loads(answer.body or b"{}"))

        def settled() -> dict[str, Any]:
            for _ in range(1000):
                found = act("DescribeEndpoint", EndpointName="e")
                if found["EndpointStatus"] == "InService":
                    return found
                time.sleep(0.01)
            raise AssertionError(found)

        emulator._moto.client("s3", "us-east-1").put_object(Bucket=emulator.bucket, Key="m", Body=b"x")
        container = {"Image": "my/triton:1", "ModelDataUrl": f"s3://{emulator.bucket}/m"}
        image = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"
        act(
            "CreateModel",
            ModelName="m",
            ExecutionRoleArn=emulator.role_arn,
            PrimaryContainer={**container, "Image": image},
        )
        variant = {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": 1, "InstanceType": "ml.m5.xlarge"}
        act("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant])
        act("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
        moments = [settled()["CreationTime"]]
        for jump in (-86_400.0, 365 * 86_400.0, 0.0):
            offset = jump
            changes = [{"VariantName": "v", "DesiredWeight": 2.0}]
            act("UpdateEndpointWeightsAndCapacities", EndpointName="e", DesiredWeightsAndCapacities=changes)
            moments.append(settled()["LastModifiedTime"])
        assert moments == sorted(moments)


def test_bodies_of_a_clock_that_was_set_back_replace_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal's files have numbers that go on where they were."""
    journal = Journal(tmp_path)
    (tmp_path / "bodies" / "1764400000000").write_bytes(b"kept")
    journal.close()
    monkeypatch.setattr(time, "time", lambda: 1.0)
    again = Journal(tmp_path)
    assert next(again._numbers) == 1764400000001
    again.close()


def test_a_damaged_resource_is_named(tmp_path: Path) -> None:
    """In one sentence; what a killed process left of a write does no harm, and is removed."""
    folder = tmp_path / "us-east-1" / "model"
    folder.mkdir(parents=True)
    (folder / ".m.json.0.part").write_text("{")
    ResourceStore(KINDS, tmp_path)
    assert not (folder / ".m.json.0.part").exists()
    (folder / "m.json").write_text("{")
    with pytest.raises(LaunchError, match=r"m\.json: not a resource .* Remove the file"):
        ResourceStore(KINDS, tmp_path)


def test_components_serve_again_after_a_restart(tmp_path: Path) -> None:
    """The state folder has them; their containers start again."""

    def client(emulator: Emulator, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=emulator.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    containers = FakeContainers()
    variant = {"VariantName": "all", "InitialInstanceCount": 1, "InstanceType": "ml.m5.xlarge"}
    with Emulator(state=tmp_path, containers=containers, speed=500) as emulator:
        sagemaker = client(emulator, "sagemaker")
        client(emulator, "s3").put_object(Bucket=emulator.bucket, Key="m.tar.gz", Body=b"an archive")
        sagemaker.create_endpoint_config(
            EndpointConfigName="c", ExecutionRoleArn=emulator.role_arn, ProductionVariants=[variant]
        )
        sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig={"Delay": 1})
        container = {
            "Image": "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3",
            "ArtifactUrl": f"s3://{emulator.bucket}/m.tar.gz",
        }
        sagemaker.create_inference_component(
            InferenceComponentName="i",
            EndpointName="e",
            VariantName="all",
            Specification={"Container": container, "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 128}},
        )
    assert containers.running == []
    with Emulator(state=tmp_path, containers=containers, speed=500) as emulator:
        sagemaker, runtime = client(emulator, "sagemaker"), client(emulator, "sagemaker-runtime")
        for _ in range(1000):
            described = sagemaker.describe_inference_component(InferenceComponentName="i")
            if described["InferenceComponentStatus"] == "InService":
                break
            time.sleep(0.01)
        answer = runtime.invoke_endpoint(EndpointName="e", InferenceComponentName="i", Body=b"{}")
        assert json.loads(answer["Body"].read())["variant"] == "i"
        component = emulator._services.runners["inference-component"].store.find(
            emulator._services.runners["inference-component"].kind, "us-east-1", "i"
        )
        assert from_json(type(component), to_json(component)) == component
