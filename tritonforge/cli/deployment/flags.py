"""The flags of a deployment, and what they make of one: a flag that is given wins over the definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import click

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

__all__ = ["deployment_flags", "overridden", "place_flags"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: What an instance of a scaled variant is to have a minute. Source: API PredefinedMetricSpecification.
_INVOCATIONS = "SageMakerVariantInvocationsPerInstance"
#: The same for an asynchronous endpoint, whose requests wait. Source: developer guide, "Autoscale an asynchronous
#: endpoint".
_BACKLOG = "ApproximateBacklogSizePerInstance"

_PLACE = (
    click.option("--region", help="The AWS region; otherwise the configured one."),
    click.option("--profile", help="The profile in ~/.aws/config."),
    click.option("--endpoint-url", metavar="URL", help="Another address of AWS: tritonforge emulate's, say."),
)

_DEPLOYMENT = (
    click.option("--name", help="The endpoint's name; default: the definition's, or the folder's."),
    click.option("--image", metavar="TAG", help="24.09, a tag, a URI, 26.05+tensorflow; tensorflow-inference:2.19."),
    click.option("--image-uri", metavar="URI", help="Where an image of your own lies; --image says what it is."),
    click.option("--role", "execution_role_arn", help="The IAM role for SageMaker: an ARN, or a name."),
    click.option("--bucket", help="The bucket for the archive; default: SageMaker's own of the region."),
    click.option("--prefix", help="Where in the bucket; default: tritonforge."),
    click.option("--instance-type", metavar="ML.TYPE", help="The instances: ml.g4dn.xlarge, say."),
    click.option("--instance-count", "initial_instance_count", type=click.IntRange(1), help="How many; default 1."),
    click.option("--serverless", metavar="MB:N", help="No instances: memory in MB and concurrent requests."),
    click.option(
        "--variant",
        "variants",
        multiple=True,
        metavar="NAME=PATH[:WEIGHT]",
        help="One of several repositories behind the endpoint, with its share of the requests.",
    ),
    click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="A variable of the container."),
    click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="A tag for everything that is made."),
    click.option(
        "--autoscaling",
        metavar="MIN:MAX:TARGET",
        help="Instances, and what each is to get: requests a minute, or, with --async, waiting requests.",
    ),
    click.option("--data-capture", type=click.IntRange(0, 100), metavar="PERCENT", help="Keep so many requests in S3."),
    click.option("--async", "asynchronous", is_flag=True, help="Requests and answers go through S3."),
    click.option("--download-timeout", type=int, metavar="SECONDS", help="For the model data: 60 to 3600."),
    click.option("--startup-timeout", type=int, metavar="SECONDS", help="Until /ping must answer: 60 to 3600."),
    click.option("--inference-ami", metavar="AMI", help="The machine image; default: chosen by the image's CUDA."),
    click.option("--volume-size", type=int, metavar="GB", help="The disk of an instance."),
    click.option("--subnet", "subnets", multiple=True, help="A subnet of your VPC."),
    click.option("--security-group", "security_groups", multiple=True, help="A security group of your VPC."),
    click.option("--network-isolation", is_flag=True, help="The container gets no network."),
    click.option("--kms-key", help="The key for the disks."),
    click.option("--canary", metavar="SIZE", help="Update: a part first, 10% or a number of instances."),
    click.option("--linear", metavar="SIZE", help="Update: in equal steps of this size."),
    click.option("--rolling", metavar="SIZE", help="Update: replace batches of this size."),
    click.option("--wait-interval", type=int, default=0, metavar="SECONDS", help="Between the steps of an update."),
    click.option("--termination-wait", type=int, metavar="SECONDS", help="How long the old fleet is kept."),
    click.option("--alarm", "alarms", multiple=True, help="A CloudWatch alarm that rolls an update back."),
    click.option("--multi-model", is_flag=True, help="One container for all PATHs; a request names its TargetModel."),
    click.option("--uncompressed", is_flag=True, help="Files one by one instead of an archive; starts faster."),
)


def place_flags(command: _Command) -> _Command:
    """The flags that say where: region, profile, address."""
    return _decorated(command, _PLACE)


def deployment_flags(command: _Command) -> _Command:
    """The flags that say what."""
    return _decorated(command, _DEPLOYMENT)


def _decorated(command: _Command, options: Sequence[Callable[[_Command], _Command]]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command


def overridden(deployment: Deployment, flags: Mapping[str, Any]) -> Deployment:
    """The deployment with every flag that was given.

    Raises:
        click.UsageError: a flag cannot be read, or two of them exclude each other.
        DefinitionError: as `Deployment`.
    """
    plain = ("image", "image_uri", "execution_role_arn", "bucket", "prefix", "instance_type", "initial_instance_count")
    settings: dict[str, Any] = {name: flags[name] for name in plain}
    settings |= {
        "model_data_download_timeout_in_seconds": flags["download_timeout"],
        "container_startup_health_check_timeout_in_seconds": flags["startup_timeout"],
        "inference_ami_version": flags["inference_ami"],
        "volume_size_in_gb": flags["volume_size"],
        "kms_key_id": flags["kms_key"],
        "region": flags["region"],
        "enable_network_isolation": flags["network_isolation"] or None,
        "multi_model": flags["multi_model"] or None,
        "uncompressed": flags["uncompressed"] or None,
        "environment": {**deployment.environment, **_pairs("--env", flags["environment"])},
        "tags": {**deployment.tags, **_pairs("--tag", flags["tags"])},
        "variants": tuple(_variant(each) for each in flags["variants"]) or None,
        "serverless_config": _serverless(flags["serverless"]),
        "vpc_config": _vpc(flags["subnets"], flags["security_groups"]),
        "deployment_config": _update(flags),
    }
    if flags["data_capture"] is not None:
        before = deployment.data_capture_config or DataCapture()
        settings["data_capture_config"] = replace(before, initial_sampling_percentage=flags["data_capture"])
    if flags["asynchronous"]:
        settings["async_inference_config"] = deployment.async_inference_config or AsyncInference()
    queued = flags["asynchronous"] or deployment.async_inference_config is not None
    settings["autoscaling"] = _autoscaling(flags["autoscaling"], queued=queued)
    found = deployment.with_settings(**settings)
    if flags["serverless"] is not None:
        found = replace(found, instance_type=None, initial_instance_count=None)
    elif flags["instance_type"] is not None:
        found = replace(found, serverless_config=None)
    return found


def _pairs(flag: str, texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{flag} {name}: write NAME=VALUE")
        found[name] = value
    return found


def _variant(text: str) -> Variant:
    name, equals, rest = text.partition("=")
    path, colon, weight = rest.rpartition(":")
    if not colon or not _is_number(weight):
        path, weight = rest, "1"
    if not equals or not name or not path:
        raise click.UsageError(f"--variant {text}: write NAME=PATH, or NAME=PATH:WEIGHT")
    return Variant(variant_name=name, repository=path, initial_variant_weight=float(weight))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(flag: str, text: str, form: str) -> list[float]:
    parts = text.split(":")
    if len(parts) != form.count(":") + 1 or not all(_is_number(part) for part in parts):
        raise click.UsageError(f"{flag} {text}: write {form}, in numbers")
    return [float(part) for part in parts]


def _serverless(text: str | None) -> Serverless | None:
    if text is None:
        return None
    memory, concurrency = _numbers("--serverless", text, "MB:N")
    return Serverless(memory_size_in_mb=int(memory), max_concurrency=int(concurrency))


def _autoscaling(text: str | None, *, queued: bool) -> Autoscaling | None:
    if text is None:
        return None
    least, most, target = _numbers("--autoscaling", text, "MIN:MAX:TARGET")
    policy = (
        TargetTracking(target_value=target, metric_name=_BACKLOG)
        if queued
        else TargetTracking(target_value=target, predefined_metric_type=_INVOCATIONS)
    )
    return Autoscaling(min_capacity=int(least), max_capacity=int(most), policies=(policy,))


def _vpc(subnets: Sequence[str], groups: Sequence[str]) -> VpcConfig | None:
    if bool(subnets) != bool(groups):
        raise click.UsageError("--subnet and --security-group go together; a VPC needs both")
    return VpcConfig(security_group_ids=groups, subnets=subnets) if subnets else None


def _update(flags: Mapping[str, Any]) -> BlueGreen | Rolling | None:
    ways = [name for name in ("canary", "linear", "rolling") if flags[name] is not None]
    if len(ways) > 1:
        raise click.UsageError(f"--{ways[0]} and --{ways[1]} exclude each other")
    wait, end, alarms = flags["wait_interval"], flags["termination_wait"], flags["alarms"]
    if not ways:
        return BlueGreen(termination_wait_in_seconds=end, alarms=alarms) if end is not None or alarms else None
    text = flags[ways[0]]
    size: int | str = int(text) if text.isdigit() else text
    if ways[0] == "rolling":
        return Rolling(maximum_batch_size=size, wait_interval_in_seconds=wait, alarms=alarms)
    return BlueGreen(
        type="CANARY" if ways[0] == "canary" else "LINEAR",
        size=size,
        wait_interval_in_seconds=wait,
        termination_wait_in_seconds=end,
        alarms=alarms,
    )
