"""Plans that are carried out on the emulated AWS: its control plane judges every request as SageMaker does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.aws_faults import fresh
from tests.support.deployments import (
    RecordedProgress,
    deploy,
    destroy,
    everything,
    make_repository,
    observe_deployment,
    operations,
    writes,
)
from tritonforge.emulator import Emulator
from tritonforge.errors import DeploymentError, ValidationError
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import (
    AsyncInference,
    Autoscaling,
    BlueGreen,
    DataCapture,
    Deployment,
    StepScaling,
    TargetTracking,
    Variant,
)
from tritonforge.sagemaker.endpoints.deployer import EndpointDeployment
from tritonforge.sagemaker.endpoints.local_repository import DeploymentSources

pytestmark = pytest.mark.process

TRACKING = TargetTracking(target_value=70, predefined_metric_type="SageMakerVariantInvocationsPerInstance")


def status(session: Session, name: str) -> tuple[str, str]:
    """An endpoint's status and configuration."""
    found = session.client("sagemaker").describe_endpoint(EndpointName=name)
    return found["EndpointStatus"], found["EndpointConfigName"]


def test_create_then_nothing_then_destroy(session: Session, wanted: Deployment, repository: Path, name: str) -> None:
    """The whole life: in service, a second run that calls nothing that writes, and nothing left."""
    received = RecordedProgress()
    made = deploy(session, wanted, repository, progress=received)
    assert status(session, name) == ("InService", made.config)
    assert any(begun.startswith("upload archive") for begun in received.begun)
    assert received.bytes[-1][0] == received.bytes[-1][1]
    with fresh(session) as other:
        calls = writes(other)
        assert deploy(other, wanted, repository).steps == ()
        assert calls == []
    destroy(session, wanted)
    assert not any(everything(session, name).values())


def test_a_plan_calls_nothing_that_writes(session: Session, wanted: Deployment, repository: Path, name: str) -> None:
    """Held by a hook on every request that botocore sends, for an empty account and for a changed repository."""
    with fresh(session) as other:
        calls = writes(other)
        assert deploy(other, wanted, repository, only_plan=True).steps
        assert calls == []
        assert not any(everything(session, name).values())
        deploy(other, wanted, repository)
        assert "CreateEndpoint" in calls
        calls.clear()
        assert deploy(other, wanted.with_settings(instance_type="ml.c5.large"), repository, only_plan=True).steps
        assert calls == []


def test_a_changed_repository_takes_over(session: Session, wanted: Deployment, tmp_path: Path, name: str) -> None:
    """The answers come from the new archive, and the old generation is there until it is pruned."""
    old, new = (make_repository(tmp_path / f"{seed}", seed=seed) for seed in (1, 2))
    deploy(session, wanted, old)
    made = deploy(session, wanted, new)
    assert "UpdateEndpoint" in operations(made)
    answer = session.client("sagemaker-runtime").invoke_endpoint(EndpointName=name, Body=b"{}")
    assert made.digests[""].removeprefix("sha256:") in answer["Body"].read().decode()
    assert len(everything(session, name)["configs"]) == 2
    deploy(session, wanted, new, prune=0)
    left = everything(session, name)
    assert [len(left[kind]) for kind in ("configs", "models", "objects")] == [1, 1, 1]
    assert status(session, name)[0] == "InService"


def test_a_failed_update_is_rolled_back_and_reported(
    session: Session, wanted: Deployment, repository: Path, name: str
) -> None:
    """The reason, the container's last lines, and what answers now."""
    first = deploy(session, wanted, repository)
    received = RecordedProgress()
    with pytest.raises(DeploymentError, match="did not pass the ping health check") as caught:
        deploy(session, replace(wanted, environment={"BROKEN": "1"}), repository, progress=received)
    assert "rolled it back" in str(caught.value)
    assert first.config in str(caught.value)
    assert any(
        "did not pass the ping" in message and "/aws/sagemaker/Endpoints/" in message for message in received.notes
    )
    assert status(session, name) == ("InService", first.config)
    assert deploy(session, wanted, repository).steps == ()


def test_a_failed_creation_is_reported_and_fixed_by_the_next_run(
    session: Session, wanted: Deployment, repository: Path, name: str
) -> None:
    """A failed endpoint is deleted and created anew."""
    with pytest.raises(DeploymentError, match=r"failed with .* did not pass the ping health check\. Fix the cause"):
        deploy(session, replace(wanted, environment={"BROKEN": "1"}), repository)
    assert status(session, name)[0] == "Failed"
    made = deploy(session, wanted, repository)
    assert operations(made)[-4:] == ["DeleteEndpoint", "DescribeEndpoint", "CreateEndpoint", "DescribeEndpoint"]
    assert status(session, name)[0] == "InService"


def test_autoscaling_is_registered_changed_and_removed(
    session: Session, wanted: Deployment, repository: Path, name: str
) -> None:
    """Targets, policies and the alarm that a step policy needs, and an update to another instance type."""
    scaled = replace(
        wanted,
        async_inference_config=AsyncInference(),
        autoscaling=Autoscaling(min_capacity=0, max_capacity=3, policies=[TRACKING, StepScaling()]),
    )
    deploy(session, scaled, repository)
    left = everything(session, name)
    assert (len(left["targets"]), len(left["alarms"])) == (1, 1)
    alarm = session.client("cloudwatch").describe_alarms(AlarmNames=left["alarms"])["MetricAlarms"][0]
    assert "scalingPolicy" in alarm["AlarmActions"][0]
    assert deploy(session, scaled, repository).steps == ()
    retyped = replace(scaled, instance_type="ml.c5.xlarge")
    assert "DeregisterScalableTarget" in operations(deploy(session, retyped, repository))
    assert deploy(session, retyped, repository).steps == ()
    deploy(session, replace(retyped, autoscaling=None), repository)
    left = everything(session, name)
    assert left["targets"] == left["alarms"] == []


def test_changes_by_hand_are_reverted(session: Session, wanted: Deployment, repository: Path, name: str) -> None:
    """Weights, counts, tags, and the configuration that the endpoint points to."""
    wanted = replace(wanted, variants=(Variant(variant_name="a"), Variant(variant_name="b")))
    made = deploy(session, wanted, repository)
    sagemaker = session.client("sagemaker")
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": "b", "DesiredWeight": 9.0}]
    )
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 0.1})
    assert operations(deploy(session, wanted, repository)) == ["UpdateEndpointWeightsAndCapacities", "DescribeEndpoint"]
    assert deploy(session, wanted, repository).steps == ()
    arn = sagemaker.describe_endpoint(EndpointName=name)["EndpointArn"]
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["tritonforge:deployment"])
    assert operations(deploy(session, wanted, repository)) == ["AddTags"]
    config = sagemaker.describe_endpoint_config(EndpointConfigName=made.config)
    sagemaker.create_endpoint_config(
        EndpointConfigName=f"by-hand-{name}", ProductionVariants=config["ProductionVariants"][:1]
    )
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=f"by-hand-{name}")
    again = deploy(session, wanted, repository)
    assert operations(again) == ["UpdateEndpoint", "DescribeEndpoint"]
    assert status(session, name) == ("InService", made.config)


def test_foreign_things_are_left_alone(session: Session, wanted: Deployment, repository: Path, name: str) -> None:
    """Neither deploy nor destroy touches an endpoint, a configuration or an object of others."""
    deploy(session, wanted, repository)
    sagemaker, s3 = session.client("sagemaker"), session.client("s3")
    variants = sagemaker.describe_endpoint_config(
        EndpointConfigName=observe_deployment(session, wanted).endpoint.config
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=f"{name}-0123456789ab", ProductionVariants=variants["ProductionVariants"]
    )
    bucket = observe_deployment(session, wanted).bucket.name
    s3.put_object(Bucket=bucket, Key=f"tritonforge/{name}/notes.txt", Body=b"mine")
    made = destroy(session, wanted)
    assert any("notes.txt" in note for note in made.notes)
    left = everything(session, name)
    assert left["configs"] == [f"{name}-0123456789ab"]
    assert left["objects"] == [f"tritonforge/{name}/notes.txt"]
    assert left["models"] == left["endpoints"] == []
    theirs = Deployment(name=f"{name}-theirs")
    sagemaker.create_endpoint_config(EndpointConfigName=f"{name}-x", ProductionVariants=_renamed(session, variants))
    sagemaker.create_endpoint(EndpointName=theirs.name, EndpointConfigName=f"{name}-x")
    with pytest.raises(DeploymentError, match="is not tritonforge's"):
        deploy(session, replace(wanted, name=theirs.name), repository)
    destroy(session, theirs)
    assert everything(session, name)["endpoints"] == [theirs.name]


def _renamed(session: Session, config: dict[str, object]) -> list[dict[str, object]]:
    """The variants of a configuration with a model that is still there."""
    sagemaker = session.client("sagemaker")
    variants = [dict(variant) for variant in config["ProductionVariants"]]  # type: ignore[attr-defined]  # a list of dicts
    for variant in variants:
        data = session.client("s3")
        bucket = f"sagemaker-{session.region}-{session.get_account()}"
        data.put_object(Bucket=bucket, Key="theirs/model.tar.gz", Body=b"theirs")
        role = session.client("iam").list_roles()["Roles"][0]["Arn"]
        sagemaker.create_model(
            ModelName="theirs",
            ExecutionRoleArn=role,
            PrimaryContainer={
                "Image": "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3",
                "ModelDataUrl": f"s3://{bucket}/theirs/model.tar.gz",
            },
        )
        variant["ModelName"] = "theirs"
    return variants


def test_a_bucket_of_ones_own_is_found_again_by_destroy(
    session: Session, wanted: Deployment, repository: Path, name: str
) -> None:
    """Destroy has only the name; the models state where their archives lie."""
    session.client("s3").create_bucket(Bucket=f"bucket-{name}")
    deploy(session, replace(wanted, bucket=f"bucket-{name}", prefix="some/where"), repository)
    assert everything(session, name)["objects"]
    destroy(session, Deployment(name=name))
    assert not any(everything(session, name).values())


def test_every_setting_is_taken(session: Session, wanted: Deployment, repository: Path, name: str) -> None:
    """The emulator's control plane holds every request against AWS's model and limits."""
    rich = replace(
        wanted,
        instance_type="ml.g5.xlarge",
        variants=(Variant(variant_name="a", initial_variant_weight=0.9), Variant(variant_name="b", image="26.05")),
        data_capture_config=DataCapture(initial_sampling_percentage=50),
        model_data_download_timeout_in_seconds=600,
        container_startup_health_check_timeout_in_seconds=600,
        volume_size_in_gb=64,
        tags={"team": "vision"},
        deployment_config=BlueGreen(type="CANARY", size="10%", wait_interval_in_seconds=60),
    )
    deploy(session, rich, repository)
    changed = replace(rich, environment={"LEVEL": "2"})
    update = next(s for s in deploy(session, changed, repository).steps if s.operation == "UpdateEndpoint")
    assert update.request["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert deploy(session, changed, repository).steps == ()


def test_files_one_by_one(session: Session, wanted: Deployment, repository: Path, name: str) -> None:
    """An uncompressed repository: every file is an object below its digest."""
    wanted = replace(wanted, uncompressed=True)
    made = deploy(session, wanted, repository)
    assert len(everything(session, name)["objects"]) == 3
    assert deploy(session, wanted, repository).steps == ()
    lost = next(key for key in everything(session, name)["objects"] if key.endswith("weights.bin"))
    session.client("s3").delete_object(Bucket=observe_deployment(session, wanted).bucket.name, Key=lost)
    again = deploy(session, wanted, repository)
    assert (operations(again), again.upload_bytes) == (["PutObject"], 1000)
    assert again.config == made.config
    destroy(session, wanted)
    assert not any(everything(session, name).values())


def test_a_repository_that_would_not_run_is_not_sent(
    session: Session, wanted: Deployment, tmp_path: Path, name: str
) -> None:
    """The image's own rules are asked before anything is called that writes."""
    repository = make_repository(tmp_path / "old")
    config = repository / "echo" / "config.pbtxt"
    config.write_text(config.read_text().replace('backend: "python"', 'platform: "tensorflow_graphdef"'))
    with fresh(session) as other:
        calls = writes(other)
        with pytest.raises(ValidationError, match="E601"):
            deploy(other, replace(wanted, image="26.05"), repository)
        assert calls == []


def test_a_repository_that_changes_under_the_plan_is_noticed(
    session: Session, wanted: Deployment, repository: Path, name: str
) -> None:
    """What goes up is what was planned, or nothing."""
    with EndpointDeployment(wanted, DeploymentSources.load([repository]), session) as deployment:
        deployment.plan()
        (repository / "echo" / "1" / "model.py").write_text("# another\n")
        with pytest.raises(DeploymentError, match="has changed since the plan was made"):
            deployment.submit()
    assert everything(session, name)["objects"] == []


def test_the_default_bucket_is_made_where_there_is_none(
    emulator: Emulator, wanted: Deployment, repository: Path
) -> None:
    """In a region where SageMaker was never used; its endpoint lives there too."""
    with Session(endpoint_url=emulator.url, region_name="eu-central-1") as session:
        made = deploy(session, wanted, repository)
        assert operations(made)[0] == "CreateBucket"
        assert deploy(session, wanted, repository).steps == ()
        destroy(session, wanted)
