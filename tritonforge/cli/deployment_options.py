"""The options of a deployment: each overrides a field of `tritonforge.sagemaker.endpoints.Deployment`.

An option whose name is that of a field needs nothing else than its declaration here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final

import click

from tritonforge.cli.options import declare_name_value_option, declare_option
from tritonforge.sagemaker.endpoints import (
    AsyncInference,
    Autoscaling,
    BlueGreen,
    DataCapture,
    Deployment,
    Rolling,
    Serverless,
    TargetTracking,
    Variant,
    VpcConfig,
)

__all__ = ["DeploymentOptions"]

#: What autoscaling keeps near its target for an instance, each minute. Source: API PredefinedMetricSpecification.
_INVOCATIONS: Final = "SageMakerVariantInvocationsPerInstance"
#: The same for an asynchronous endpoint, whose requests wait. Source: developer guide, "Autoscale an asynchronous
#: endpoint".
_BACKLOG: Final = "ApproximateBacklogSizePerInstance"

_CONTAINER: Final = "Container options"
_FLEET: Final = "Instance options"
_NETWORK: Final = "Network and encryption options"
_TRAFFIC: Final = "Traffic options"
_UPDATE: Final = "Update options"


class _Numbers(click.ParamType):  # type: ignore[type-arg]  # click before 8.4 cannot subscript it
    """Numbers joined by colons, as many as the form has names."""

    def __init__(self, form: str) -> None:
        self.name = form

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in str(value).split(":"))
        except ValueError:
            numbers = ()
        if len(numbers) != self.name.count(":") + 1:
            self.fail(f"expected {self.name} in numbers, got {value!r}", param, ctx)
        return numbers


class _VariantType(click.ParamType):  # type: ignore[type-arg]
    """``NAME=PATH``, or ``NAME=PATH:WEIGHT``."""

    name = "NAME=PATH[:WEIGHT]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Variant:
        if isinstance(value, Variant):
            return value
        name, _, rest = str(value).partition("=")
        path, colon, weight = rest.rpartition(":")
        try:
            share = float(weight) if colon else 1.0
        except ValueError:
            share, colon = 1.0, ""
        path = path if colon else rest
        if not name or not path:
            self.fail(f"expected NAME=PATH or NAME=PATH:WEIGHT, got {value!r}", param, ctx)
        return Variant(variant_name=name, repository=path, initial_variant_weight=share)


class _Size(click.ParamType):  # type: ignore[type-arg]
    """A number of instances, or a share of the capacity such as 10%."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        text = str(value)
        return int(text) if text.isdigit() else text


_SIZE: Final = _Size()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentOptions:
    """The options of deploy that describe the endpoint; what is not given does not override the definition."""

    name: str | None = declare_option("--name", help="The endpoint's name. Default: the definition's, or the path's.")
    execution_role_arn: str | None = declare_option(
        "--role", metavar="ROLE", help="The IAM role for SageMaker: an ARN, or a name."
    )
    bucket: str | None = declare_option(
        "--bucket", help="The bucket for the archive. Default: SageMaker's default bucket of the region."
    )
    prefix: str | None = declare_option("--prefix", help="The prefix in the bucket. Default: tritonforge.")
    tags: dict[str, str] = declare_name_value_option("--tag", help="Tag every resource that is created.")
    variants: tuple[Variant, ...] = declare_option(
        "--variant", multiple=True, type=_VariantType(), metavar="NAME=PATH[:WEIGHT]",
        help="One of several repositories behind the endpoint, with its share of the requests.",
    )  # fmt: skip

    image: str | None = declare_option(
        "--image", metavar="TAG", group=_CONTAINER,
        help="The server image: 24.09, a tag, a URI, 26.05+tensorflow, or tensorflow-inference:2.19.",
    )  # fmt: skip
    image_uri: str | None = declare_option(
        "--image-uri", metavar="URI", group=_CONTAINER, help="The URI of your own image; --image names its release."
    )
    environment: dict[str, str] = declare_name_value_option(
        "--env", group=_CONTAINER, help="A variable of the container."
    )
    multi_model: bool = declare_option(
        "--multi-model", is_flag=True, group=_CONTAINER,
        help="Serve all PATHs from one container; a request names its TargetModel.",
    )  # fmt: skip
    uncompressed: bool = declare_option(
        "--uncompressed", is_flag=True, group=_CONTAINER,
        help="Upload files one by one instead of an archive; the container starts faster.",
    )  # fmt: skip
    model_data_download_timeout_in_seconds: int | None = declare_option(
        "--download-timeout", type=int, metavar="SECONDS", group=_CONTAINER,
        help="The time to download the model: 60 to 3600.",
    )  # fmt: skip
    container_startup_health_check_timeout_in_seconds: int | None = declare_option(
        "--startup-timeout", type=int, metavar="SECONDS", group=_CONTAINER,
        help="The time until /ping must succeed: 60 to 3600.",
    )  # fmt: skip

    instance_type: str | None = declare_option(
        "--instance-type", metavar="ML.TYPE", group=_FLEET, help="The instance type, such as ml.g4dn.xlarge."
    )
    initial_instance_count: int | None = declare_option(
        "--instance-count", type=click.IntRange(1), metavar="N", group=_FLEET, help="Instances. Default: 1."
    )
    serverless: tuple[float, ...] | None = declare_option(
        "--serverless", type=_Numbers("MB:N"), metavar="MB:N", group=_FLEET,
        help="Run without instances: memory in MB and concurrent requests.",
    )  # fmt: skip
    scaling: tuple[float, ...] | None = declare_option(
        "--autoscaling", type=_Numbers("MIN:MAX:TARGET"), metavar="MIN:MAX:TARGET", group=_FLEET,
        help="Scale the instances to TARGET requests a minute each, or, with --async, TARGET waiting requests.",
    )  # fmt: skip
    inference_ami_version: str | None = declare_option(
        "--inference-ami", metavar="AMI", group=_FLEET, help="The machine image. Default: chosen by the image's CUDA."
    )
    volume_size_in_gb: int | None = declare_option(
        "--volume-size", type=int, metavar="GB", group=_FLEET, help="The disk of an instance."
    )

    routing_strategy: str | None = declare_option(
        "--routing-strategy", type=click.Choice(["RANDOM", "LEAST_OUTSTANDING_REQUESTS"]), group=_TRAFFIC,
        help="How the endpoint chooses an instance for a request. Default: RANDOM.",
    )  # fmt: skip
    asynchronous: bool = declare_option(
        "--async", is_flag=True, group=_TRAFFIC, help="Pass requests and responses through S3."
    )
    data_capture: int | None = declare_option(
        "--data-capture", type=click.IntRange(0, 100), metavar="PERCENT", group=_TRAFFIC,
        help="Percentage of requests to capture to S3.",
    )  # fmt: skip

    subnets: tuple[str, ...] = declare_option(
        "--subnet", multiple=True, group=_NETWORK, help="A subnet of your VPC; needs --security-group."
    )
    security_groups: tuple[str, ...] = declare_option(
        "--security-group", multiple=True, group=_NETWORK, help="A security group of your VPC; needs --subnet."
    )
    enable_network_isolation: bool = declare_option(
        "--network-isolation", is_flag=True, group=_NETWORK, help="Run the container without a network."
    )
    kms_key_id: str | None = declare_option(
        "--kms-key", metavar="KEY", group=_NETWORK, help="Encrypt the disks with this KMS key."
    )

    canary: int | str | None = declare_option(
        "--canary", type=_SIZE, metavar="SIZE", group=_UPDATE,
        help="Shift a part of the traffic first: 10%, or a number of instances.",
    )  # fmt: skip
    linear: int | str | None = declare_option(
        "--linear", type=_SIZE, metavar="SIZE", group=_UPDATE, help="Shift the traffic in equal steps of this size."
    )
    rolling: int | str | None = declare_option(
        "--rolling", type=_SIZE, metavar="SIZE", group=_UPDATE, help="Replace instances in batches of this size."
    )
    wait_interval: int = declare_option(
        "--wait-interval", type=int, default=0, metavar="SECONDS", group=_UPDATE,
        help="The time between the steps. Default: 0.",
    )  # fmt: skip
    termination_wait: int | None = declare_option(
        "--termination-wait", type=int, metavar="SECONDS", group=_UPDATE, help="Keep the old fleet for this time."
    )
    alarms: tuple[str, ...] = declare_option(
        "--alarm", multiple=True, metavar="NAME", group=_UPDATE, help="A CloudWatch alarm that rolls the update back."
    )

    def override(self, deployment: Deployment, *, region: str | None) -> Deployment:
        """Return the deployment with every option that was given.

        Raises:
            click.UsageError: two options exclude each other, or one needs another.
            DefinitionError: as `Deployment`.
        """
        names = {field.name for field in fields(Deployment)} & {field.name for field in fields(self)}
        settings: dict[str, Any] = {name: getattr(self, name) or None for name in names}
        settings["environment"] = {**deployment.environment, **self.environment}
        settings["tags"] = {**deployment.tags, **self.tags}
        settings |= {"region": region, "deployment_config": self._update_policy(), "vpc_config": self._vpc_config()}
        if self.data_capture is not None:
            capture = deployment.data_capture_config or DataCapture()
            settings["data_capture_config"] = replace(capture, initial_sampling_percentage=self.data_capture)
        if self.asynchronous:
            settings["async_inference_config"] = deployment.async_inference_config or AsyncInference()
        is_asynchronous = self.asynchronous or deployment.async_inference_config is not None
        settings["autoscaling"] = self._autoscaling(is_asynchronous=is_asynchronous)
        overridden = deployment.with_settings(**settings)
        if self.serverless is not None:
            memory, concurrency = self.serverless
            config = Serverless(memory_size_in_mb=int(memory), max_concurrency=int(concurrency))
            return replace(overridden, serverless_config=config, instance_type=None, initial_instance_count=None)
        return overridden if self.instance_type is None else replace(overridden, serverless_config=None)

    def _autoscaling(self, *, is_asynchronous: bool) -> Autoscaling | None:
        if self.scaling is None:
            return None
        least, most, target = self.scaling
        policy = (
            TargetTracking(target_value=target, metric_name=_BACKLOG)
            if is_asynchronous
            else TargetTracking(target_value=target, predefined_metric_type=_INVOCATIONS)
        )
        return Autoscaling(min_capacity=int(least), max_capacity=int(most), policies=(policy,))

    def _vpc_config(self) -> VpcConfig | None:
        if bool(self.subnets) != bool(self.security_groups):
            raise click.UsageError("--subnet and --security-group need each other; a VPC has both")
        return VpcConfig(security_group_ids=self.security_groups, subnets=self.subnets) if self.subnets else None

    def _update_policy(self) -> BlueGreen | Rolling | None:
        sizes = {"canary": self.canary, "linear": self.linear, "rolling": self.rolling}
        given = [name for name, size in sizes.items() if size is not None]
        if len(given) > 1:
            raise click.UsageError(f"--{given[0]} and --{given[1]} exclude each other")
        if self.wait_interval and not given:
            raise click.UsageError("--wait-interval needs --canary, --linear or --rolling")
        if self.rolling is not None and self.termination_wait is not None:
            raise click.UsageError("--termination-wait does not apply to --rolling, which keeps no old fleet")
        if not given:
            if self.termination_wait is None and not self.alarms:
                return None
            return BlueGreen(termination_wait_in_seconds=self.termination_wait, alarms=self.alarms)
        if self.rolling is not None:
            return Rolling(
                maximum_batch_size=self.rolling, wait_interval_in_seconds=self.wait_interval, alarms=self.alarms
            )
        return BlueGreen(
            type="CANARY" if self.canary is not None else "LINEAR",
            size=self.canary if self.canary is not None else self.linear,
            wait_interval_in_seconds=self.wait_interval,
            termination_wait_in_seconds=self.termination_wait,
            alarms=self.alarms,
        )
