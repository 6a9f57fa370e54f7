"""Whole runs of a deployment, as the command line makes them, and what they leave behind."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Deployment, Plan
from tritonforge.sagemaker.endpoints.deployer import EndpointDeployment, EndpointRemoval
from tritonforge.sagemaker.endpoints.local_repository import DeploymentSources
from tritonforge.sagemaker.endpoints.observation import observe
from tritonforge.sagemaker.endpoints.resources import DEPLOYMENT, Observed
from tritonforge.sagemaker.plans.plan import Progress


def make_repository(place: Path, *, size: int = 1000, seed: int = 0) -> Path:
    """A repository of one model whose file has ``size`` bytes that do not compress."""
    version = place / "echo" / "1"
    version.mkdir(parents=True)
    (place / "echo" / "config.pbtxt").write_text(
        'name: "echo"\nbackend: "python"\nmax_batch_size: 8\ndynamic_batching { }\n'
        'input [ { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] } ]\n'
        'output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] } ]\n'
    )
    (version / "model.py").write_text(f"# {seed}\n")
    (version / "weights.bin").write_bytes(random.Random(seed).randbytes(size))
    return place


def observe_deployment(session: Session, wanted: Deployment) -> Observed:
    """What AWS has of a deployment."""
    return observe(session, name=wanted.name, bucket=wanted.bucket, folder=wanted.folder)


def deploy(
    session: Session,
    wanted: Deployment,
    repository: Path,
    *,
    prune: int | None = None,
    progress: Progress | None = None,
    only_plan: bool = False,
) -> Plan:
    """Deploy; the plan that was carried out, or with ``only_plan`` only made."""
    sources = DeploymentSources.load([repository])
    with EndpointDeployment(
        wanted, sources, session, keep=prune, is_preview=only_plan, progress=progress
    ) as deployment:
        plan = deployment.plan()
        if not only_plan:
            deployment.submit()
    return plan


def destroy(session: Session, wanted: Deployment) -> Plan:
    """Remove a deployment."""
    with EndpointRemoval(wanted, session) as removal:
        removal.submit()
        return removal.plan()


def operations(made: Plan) -> list[str]:
    """The operations of a plan."""
    return [step.operation for step in made.steps]


def everything(session: Session, name: str) -> dict[str, list[str]]:
    """Every resource of the account whose name holds this one, found without tritonforge's own observation."""
    sagemaker, s3 = session.client("sagemaker"), session.client("s3")
    scaling, cloudwatch = session.client("application-autoscaling"), session.client("cloudwatch")

    def list_items(client: Any, operation: str, member: str, **request: Any) -> list[Any]:
        return [
            stored for page in client.get_paginator(operation).paginate(**request) for stored in page.get(member, ())
        ]

    targets = list_items(scaling, "describe_scalable_targets", "ScalableTargets", ServiceNamespace="sagemaker")
    alarms = list_items(cloudwatch, "describe_alarms", "MetricAlarms")
    models = list_items(sagemaker, "list_models", "Models", NameContains=name)
    configs = list_items(sagemaker, "list_endpoint_configs", "EndpointConfigs", NameContains=name)
    endpoints = list_items(sagemaker, "list_endpoints", "Endpoints", NameContains=name)
    found: dict[str, list[str]] = {
        "models": [model["ModelName"] for model in models],
        "configs": [config["EndpointConfigName"] for config in configs],
        "endpoints": [endpoint["EndpointName"] for endpoint in endpoints],
        "objects": [],
        "half uploads": [],
        "targets": [target["ResourceId"] for target in targets if f"/{name}/" in target["ResourceId"]],
        "alarms": [alarm["AlarmName"] for alarm in alarms if f"/{name}/" in alarm["AlarmName"]],
    }
    for bucket in s3.list_buckets()["Buckets"]:
        objects = list_items(s3, "list_objects_v2", "Contents", Bucket=bucket["Name"])
        found["objects"] += [stored["Key"] for stored in objects if f"/{name}/" in stored["Key"]]
        begun = list_items(s3, "list_multipart_uploads", "Uploads", Bucket=bucket["Name"])
        found["half uploads"] += [stored["Key"] for stored in begun if f"/{name}/" in stored["Key"]]
    return found


def list_untagged(session: Session, name: str) -> list[str]:
    """The resources of SageMaker whose name holds this one and that do not carry the deployment's tag."""
    sagemaker = session.client("sagemaker")
    arns = [model["ModelArn"] for model in sagemaker.list_models(NameContains=name)["Models"]]
    arns += [e["EndpointConfigArn"] for e in sagemaker.list_endpoint_configs(NameContains=name)["EndpointConfigs"]]
    arns += [endpoint["EndpointArn"] for endpoint in sagemaker.list_endpoints(NameContains=name)["Endpoints"]]
    tags = {arn: {e["Key"]: e["Value"] for e in sagemaker.list_tags(ResourceArn=arn)["Tags"]} for arn in arns}
    return [arn for arn, tag in tags.items() if tag.get(DEPLOYMENT) != name]


class RecordedProgress:
    """Progress that is remembered."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.notes: list[str] = []
        self.details: list[str] = []
        self.bytes: list[tuple[int, int | None]] = []

    def begin(self, what: str) -> None:
        """A step begins."""
        self.begun.append(what)

    def detail(self, text: str) -> None:
        """Where it is at."""
        self.details.append(text)

    def show_bytes(self, done: int, total: int | None) -> None:
        """Bytes moved."""
        self.bytes.append((done, total))

    def note(self, sentence: str) -> None:
        """A sentence."""
        self.notes.append(sentence)


def writes(session: Session) -> list[str]:
    """The calls that a session will have made that are none of reading, filled as they are made.

    Clients that it has already are not heard.
    """
    assert not session._clients
    made: list[str] = []

    def send(request: Any, event_name: str, **_: Any) -> None:
        operation = event_name.rpartition(".")[2]
        if not operation.startswith(("Get", "List", "Describe", "Head")):
            made.append(operation)

    session._boto.events.register("before-send", send)
    return made
