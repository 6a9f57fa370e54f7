"""A small AWS in memory: what a plan's requests do to it, and what would be observed of it afterwards.

It refuses what AWS refuses: names that are taken or missing, changes of an endpoint that has failed, another instance
type under a registered target.
"""

from __future__ import annotations

import itertools
from typing import Any

from botocore import xform_name

from tritonforge.sagemaker.endpoints import resources
from tritonforge.sagemaker.endpoints.resources import (
    IncompleteUpload,
    Observed,
    ObservedBucket,
    ObservedConfig,
    ObservedEndpoint,
    ObservedModel,
)
from tritonforge.sagemaker.plans.plan import Plan, Step, resolve_outputs

ACCOUNT = "123456789012"
REGION = "eu-west-1"
ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:"


class RefusedError(Exception):
    """AWS would have refused the call."""


class Memory:
    """Models, configurations, endpoints, objects, targets, policies and alarms, as plain dicts."""

    def __init__(self) -> None:
        self.clock = itertools.count(1)
        self.buckets: set[str] = set()
        self.objects: dict[tuple[str, str], int] = {}
        self.incomplete_uploads: dict[str, tuple[str, str]] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.targets: dict[tuple[str, str], dict[str, Any]] = {}
        self.policies: dict[tuple[str, str], dict[str, Any]] = {}
        self.alarms: dict[str, dict[str, Any]] = {}
        self.fails: set[str] = set()
        """Configurations whose containers do not start."""

    def list_names(self) -> list[str]:
        """The names of everything that is there, but for buckets."""
        groups = (self.models, self.configs, self.endpoints, self.objects, self.targets, self.policies, self.alarms)
        return [str(name) for group in groups for name in group]

    def observe(self, name: str, *, bucket: str | None = None, prefix: str = "tritonforge") -> Observed:
        """What `applying.observe` would see."""
        chosen = bucket or f"sagemaker-{REGION}-{ACCOUNT}"
        folder = f"{prefix}/{name}/"
        endpoint = self.endpoints.get(name)
        used = {endpoint["config"]} if endpoint else set()
        return Observed(
            region=REGION,
            account=ACCOUNT,
            bucket=self._bucket(chosen, folder),
            models={
                entry: ObservedModel(
                    name=entry,
                    arn=f"{ARN}model/{entry}",
                    data=tuple(filter(None, [_url(model["request"])])),
                    tags=dict(model["tags"]),
                    created=f"{model['created']:06}",
                )
                for entry, model in self.models.items()
                if resources.is_model(name, entry)
            },
            configs={
                entry: ObservedConfig(
                    name=entry,
                    arn=f"{ARN}endpoint-config/{entry}",
                    variants=tuple(config["request"]["ProductionVariants"]),
                    tags=dict(config["tags"]),
                    created=f"{config['created']:06}",
                )
                for entry, config in self.configs.items()
                if resources.is_config(name, entry) or entry in used
            },
            endpoint=endpoint
            and ObservedEndpoint(
                name=name,
                arn=f"{ARN}endpoint/{name}",
                status=endpoint["status"],
                config=endpoint["config"],
                variants=[
                    {"VariantName": entry, "DesiredWeight": weight, "DesiredInstanceCount": count}
                    for entry, (weight, count) in endpoint["variants"].items()
                ],
                tags=dict(endpoint["tags"]),
                failure_reason="it does not start" if endpoint["status"] == "Failed" else "",
            ),
            targets=[t for (r, _), t in self.targets.items() if r.startswith(f"endpoint/{name}/")],
            policies=[p for (r, _), p in self.policies.items() if r.startswith(f"endpoint/{name}/")],
            alarms=[a for a in self.alarms.values() if a["AlarmName"].startswith(f"tritonforge/{name}/")],
        )

    def _bucket(self, name: str, folder: str) -> ObservedBucket:
        return ObservedBucket(
            name=name,
            folder=folder,
            exists=name in self.buckets,
            objects={key: size for (b, key), size in self.objects.items() if b == name and key.startswith(folder)},
            incomplete_uploads=[
                IncompleteUpload(bucket=b, key=key, upload_id=i)
                for i, (b, key) in self.incomplete_uploads.items()
                if b == name and key.startswith(folder)
            ],
        )

    def apply(self, plan: Plan, *, stop: int | None = None) -> None:
        """Carry out a plan, or its first ``stop`` steps."""
        answers: dict[str, Any] = {}
        for step in plan.steps[:stop]:
            answers[step.id] = (
                getattr(self, f"_{xform_name(step.operation)}")(step, resolve_outputs(step.request, answers)) or {}
            )

    def _create_bucket(self, _: Step, request: Any) -> None:
        self.buckets.add(request["Bucket"])

    def _put_object(self, step: Step, request: Any) -> None:
        if request["Bucket"] not in self.buckets:
            raise RefusedError("NoSuchBucket")
        self.objects[request["Bucket"], request["Key"]] = step.size

    def _abort_multipart_upload(self, _: Step, request: Any) -> None:
        del self.incomplete_uploads[request["UploadId"]]

    def _delete_objects(self, _: Step, request: Any) -> None:
        for entry in request["Delete"]["Objects"]:
            del self.objects[request["Bucket"], entry["Key"]]

    def _create_model(self, step: Step, request: Any) -> None:
        url = _url(request)
        bucket, _, key = url.removeprefix("s3://").partition("/")
        if not any(b == bucket and k.startswith(key) for b, k in self.objects):
            raise RefusedError(f"Could not find model data at {url}")
        self._make(self.models, step.name, request)

    def _create_endpoint_config(self, step: Step, request: Any) -> None:
        for variant in request["ProductionVariants"]:
            if variant["ModelName"] not in self.models:
                raise RefusedError("Could not find model")
        self._make(self.configs, step.name, request)

    def _make(self, group: dict[str, Any], name: str, request: Any) -> None:
        if name in group:
            raise RefusedError(f"already existing {name}")
        group[name] = {"request": request, "tags": _tags(request), "created": next(self.clock)}

    def _create_endpoint(self, _: Step, request: Any) -> None:
        if request["EndpointName"] in self.endpoints:
            raise RefusedError("already existing")
        endpoint = {"tags": _tags(request)}
        self.endpoints[request["EndpointName"]] = endpoint
        self._becomes(endpoint, request["EndpointConfigName"])
        if endpoint["config"] in self.fails:
            endpoint["status"] = "Failed"

    def _becomes(self, endpoint: Any, config: str, *, counts: Any = None) -> None:
        if config not in self.configs:
            raise RefusedError("Could not find endpoint configuration")
        variants = self.configs[config]["request"]["ProductionVariants"]
        endpoint |= {
            "status": "InService",
            "config": config,
            "variants": {
                entry["VariantName"]: (
                    entry["InitialVariantWeight"],
                    (counts or {}).get(entry["VariantName"], entry.get("InitialInstanceCount")),
                )
                for entry in variants
            },
        }

    def _update_endpoint(self, _: Step, request: Any) -> None:
        name = request["EndpointName"]
        endpoint = self.endpoints[name]
        if endpoint["status"] == "Failed":
            raise RefusedError("it has failed")
        new = request["EndpointConfigName"]
        if new not in self.configs:
            raise RefusedError("Could not find endpoint configuration")
        types = {
            entry["VariantName"]: entry.get("InstanceType")
            for entry in self.configs[new]["request"]["ProductionVariants"]
        }
        old = self.configs.get(endpoint["config"])
        for entry in old["request"]["ProductionVariants"] if old else ():
            resource = f"endpoint/{name}/variant/{entry['VariantName']}"
            if types.get(entry["VariantName"]) != entry.get("InstanceType") and any(
                r == resource for r, _ in self.targets
            ):
                raise RefusedError("the variant is registered as a scalable target")
        if new in self.fails:
            return  # rolled back
        kept = None
        if request.get("RetainAllVariantProperties"):
            kept = {entry: count for entry, (_, count) in endpoint["variants"].items()}
        self._becomes(endpoint, new, counts=kept)

    def _update_endpoint_weights_and_capacities(self, _: Step, request: Any) -> None:
        endpoint = self.endpoints[request["EndpointName"]]
        for wish in request["DesiredWeightsAndCapacities"]:
            weight, count = endpoint["variants"][wish["VariantName"]]
            endpoint["variants"][wish["VariantName"]] = (
                wish.get("DesiredWeight", weight),
                wish.get("DesiredInstanceCount", count),
            )

    def _describe_endpoint(self, step: Step, _: Any) -> None:
        endpoint = self.endpoints.get(step.name)
        if step.until == "deleted":
            if endpoint is not None:
                raise RefusedError("it is still there")
        elif step.until != "settled" and (endpoint is None or endpoint["config"] != step.until):
            raise RefusedError("it did not become what was waited for")
        elif endpoint is not None and endpoint["status"] == "Failed":
            raise RefusedError("it failed")

    def _add_tags(self, _: Step, request: Any) -> None:
        kind, _, name = request["ResourceArn"].removeprefix(ARN).partition("/")
        group = {"model": self.models, "endpoint-config": self.configs, "endpoint": self.endpoints}[kind]
        group[name]["tags"] |= _tags(request)

    def _delete_endpoint(self, step: Step, _: Any) -> None:
        del self.endpoints[step.name]

    def _delete_endpoint_config(self, step: Step, _: Any) -> None:
        if any(entry["config"] == step.name for entry in self.endpoints.values()):
            raise RefusedError("an endpoint uses it")
        del self.configs[step.name]

    def _delete_model(self, step: Step, _: Any) -> None:
        if any(step.name in str(config["request"]["ProductionVariants"]) for config in self.configs.values()):
            raise RefusedError("a configuration uses it")
        del self.models[step.name]

    def _register_scalable_target(self, _: Step, request: Any) -> None:
        _, endpoint, _, variant = request["ResourceId"].split("/")
        if variant not in self.endpoints[endpoint]["variants"]:
            raise RefusedError("no such variant")
        self.targets[request["ResourceId"], request["ScalableDimension"]] = dict(request)

    def _deregister_scalable_target(self, _: Step, request: Any) -> None:
        del self.targets[request["ResourceId"], request["ScalableDimension"]]
        for key in [key for key in self.policies if key[0] == request["ResourceId"]]:
            del self.policies[key]

    def _put_scaling_policy(self, _: Step, request: Any) -> dict[str, str]:
        if (request["ResourceId"], request["ScalableDimension"]) not in self.targets:
            raise RefusedError("no such target")
        arn = f"arn:policy/{request['PolicyName']}"
        self.policies[request["ResourceId"], request["PolicyName"]] = {**request, "PolicyARN": arn}
        return {"PolicyARN": arn}

    def _delete_scaling_policy(self, _: Step, request: Any) -> None:
        del self.policies[request["ResourceId"], request["PolicyName"]]

    def _put_metric_alarm(self, _: Step, request: Any) -> None:
        self.alarms[request["AlarmName"]] = dict(request)

    def _delete_alarms(self, _: Step, request: Any) -> None:
        for name in request["AlarmNames"]:
            del self.alarms[name]


def _url(request: Any) -> str:
    container = request["PrimaryContainer"]
    source = container.get("ModelDataSource")
    return container["ModelDataUrl"] if source is None else source["S3DataSource"]["S3Uri"]


def _tags(request: Any) -> dict[str, str]:
    return {entry["Key"]: entry["Value"] for entry in request.get("Tags", ())}
