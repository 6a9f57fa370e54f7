"""The containers behind one configuration of an endpoint: one for each variant, whatever its instance count."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tritonforge.emulator.control.pipelines import Containers, InferencePipeline, RunningContainer, start_model
from tritonforge.emulator.control.records import VariantNow
from tritonforge.emulator.hosting import ContainerDefinition, ContainerError, Variant
from tritonforge.emulator.objects import ObjectStore
from tritonforge.emulator.requests import Container, LiveVariant

__all__ = ["Fleet", "Started", "start"]

#: AWS's limits where a variant names none: ContainerStartupHealthCheckTimeoutInSeconds, ModelDataDownloadTimeout.
_STARTUP: Final = 240.0
_DOWNLOAD: Final = 3600.0


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
                targets=_targets(containers[each.name]),
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
            running = start_model(
                containers,
                _model(each, models),
                _variant(endpoint, each),
                objects=objects,
                folder=folder / f"{endpoint}-{each.name}-{secrets.token_hex(4)}",
                log=lambda end, line, stream=stream: log(f"{stream}{end}", line),  # type: ignore[misc]  # binds it now
                images=images,
                cancelled=cancelled,
            )
            started.append(Started(each.name, stream, running, shadow))
    except BaseException:
        Fleet(started).stop(drain=0.0)
        raise
    return Fleet(started)


def _targets(container: RunningContainer) -> Mapping[str, Container]:
    """The containers that requests address by their hostname; empty but for models with Direct mode."""
    return container.targets if isinstance(container, InferencePipeline) else {}


def _model(variant: VariantNow, models: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model of a variant, as CreateModel has it."""
    name = variant.config.get("ModelName")
    if not name:
        raise ContainerError(
            f"Variant {variant.name} names no model: tritonforge's emulator has no inference components; give the "
            "variant a ModelName."
        )
    model: Mapping[str, Any] = models[name]
    return model


def _variant(endpoint: str, variant: VariantNow) -> Variant:
    """A variant as its containers are started from it."""
    config = variant.config
    return Variant(
        name=variant.name,
        endpoint=endpoint,
        container=ContainerDefinition(image=""),
        instance_type=config.get("InstanceType", ""),
        serverless="ServerlessConfig" in config,
        download_timeout=float(config.get("ModelDataDownloadTimeoutInSeconds") or _DOWNLOAD),
        startup_timeout=float(config.get("ContainerStartupHealthCheckTimeoutInSeconds") or _STARTUP),
    )
