"""The containers behind one configuration of an endpoint: one for each variant, whatever its instance count."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from tritonforge.sagemaker.emulator.control.documents import VariantNow
from tritonforge.sagemaker.emulator.hosting import ContainerDefinition, ContainerError, Variant
from tritonforge.sagemaker.emulator.objects import ObjectStore
from tritonforge.sagemaker.emulator.requests import Answer, Container, LiveVariant

__all__ = ["Containers", "Fleet", "RunningContainer", "Started", "start"]

#: AWS's limits where a variant names none: ContainerStartupHealthCheckTimeoutInSeconds, ModelDataDownloadTimeout.
_STARTUP: Final = 240.0
_DOWNLOAD: Final = 3600.0


class RunningContainer(Container, Protocol):
    """A container that can be ended, and asked for more than inferences."""

    def get(self, path: str, *, timeout: float) -> Answer:
        """The container's answer to a GET; raises as ``invoke``."""
        ...

    def stop(self, *, drain: float = 30.0) -> None:
        """End it once its requests in flight have ended, ``drain`` seconds at most; may be called twice."""
        ...


class Containers(Protocol):
    """Who starts containers: the module `hosting`, or what a test puts in its place."""

    def start(
        self,
        variant: Variant,
        *,
        objects: ObjectStore,
        folder: Path,
        log: Callable[[str], None],
        images: Mapping[str, str] | None = None,
        cancelled: threading.Event | None = None,
    ) -> RunningContainer:
        """Start a variant's container; returns when it answers. Raises ContainerError with the FailureReason."""
        ...


@dataclass(frozen=True, slots=True)
class Started:
    """A variant's container, and the name of its log stream."""

    name: str
    stream: str
    container: RunningContainer
    shadow: bool


class Fleet:
    """Running containers, by variant; `stop` ends all of them."""

    def __init__(self, started: Sequence[Started]) -> None:
        self.started = tuple(started)

    def live(self, variants: Sequence[VariantNow], *, share: float, shadow: bool = False) -> tuple[LiveVariant, ...]:
        """The variants as the runtime sees them, with ``share`` of the traffic between them.

        A share of 1 leaves the weights as they are.
        """
        whole = sum(each.desired_weight for each in variants) or 1.0
        containers = {each.name: each.container for each in self.started if each.shadow is shadow}
        return tuple(
            LiveVariant(
                name=each.name,
                weight=each.desired_weight if share == 1.0 else each.desired_weight / whole * share,
                container=containers[each.name],
                instances=max(each.desired_instances, 1),
                serverless="ServerlessConfig" in each.config,
            )
            for each in variants
            if each.name in containers
        )

    def stop(self, *, drain: float = 30.0) -> None:
        """End every container."""
        for each in self.started:
            each.container.stop(drain=drain)


def start(
    containers: Containers,
    endpoint: str,
    variants: Sequence[tuple[VariantNow, bool]],
    *,
    models: Mapping[str, Any],
    objects: ObjectStore,
    folder: Path,
    log: Callable[[str, str], None],
    images: Mapping[str, str],
    cancelled: threading.Event,
) -> Fleet:
    """Start a container for each variant (with whether it is a shadow), one after the other.

    Raises ContainerError, with nothing left running.
    """
    started: list[Started] = []
    try:
        for each, shadow in variants:
            stream = f"{each.name}/i-{secrets.token_hex(8)}0"
            wanted = _variant(endpoint, each, models)
            running = containers.start(
                wanted,
                objects=objects,
                folder=folder / f"{endpoint}-{each.name}-{secrets.token_hex(4)}",
                log=lambda line, stream=stream: log(stream, line),  # type: ignore[misc]  # a default binds it now
                images=images,
                cancelled=cancelled,
            )
            started.append(Started(each.name, stream, running, shadow))
    except BaseException:
        Fleet(started).stop(drain=0.0)
        raise
    return Fleet(started)


def _variant(endpoint: str, variant: VariantNow, models: Mapping[str, Any]) -> Variant:
    config = variant.config
    if not config.get("ModelName"):
        raise ContainerError(
            f"Variant {variant.name} names no model: tritonforge's emulator has no inference components; give the "
            "variant a ModelName."
        )
    model = models[config["ModelName"]]
    found = [model["PrimaryContainer"]] if model.get("PrimaryContainer") else list(model.get("Containers") or ())
    if len(found) != 1:
        raise ContainerError(
            f"Model {config['ModelName']} has {len(found)} containers: tritonforge's emulator runs models of one "
            "container; put the steps into one Triton ensemble."
        )
    return Variant(
        name=variant.name,
        endpoint=endpoint,
        container=ContainerDefinition.of(found[0]),
        instance_type=config.get("InstanceType", ""),
        download_timeout=float(config.get("ModelDataDownloadTimeoutInSeconds") or _DOWNLOAD),
        startup_timeout=float(config.get("ContainerStartupHealthCheckTimeoutInSeconds") or _STARTUP),
    )
