"""Fleets: the running containers of an endpoint's variants, models of several containers among them, and their clients.

In Serial mode, which is the default, a request passes through the containers in their order; in Direct mode it names
one of them. Sources: SageMaker developer guide, "Inference pipelines in Amazon SageMaker AI" and "Multi-container
endpoints"; the names container-1, container-2 and that FailureReason has them: amazon-sagemaker-examples issue 1072.

A transform job has one container; `BatchModelClient` sends the engine's requests to it.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, cast

from tritonforge.emulator.control.job_runner import Services, make_instance_id
from tritonforge.emulator.control.records import VariantState
from tritonforge.emulator.emulated_s3 import EmulatedS3
from tritonforge.emulator.hosting import (
    ContainerDefinition,
    ContainerError,
    ContainerGoneError,
    ContainerTimeoutError,
    Variant,
    list_container_definitions,
)
from tritonforge.emulator.interfaces import Container, ContainerResponse, LiveVariant
from tritonforge.errors import ConnectError
from tritonforge.records import Buffer
from tritonforge.transform.model_client import Reply, ServerLostError

__all__ = [
    "BatchModelClient", "ComponentHost", "Containers", "Fleet", "InferencePipeline", "RunningContainer",
    "RunningVariant", "start_fleet", "start_model",
]  # fmt: skip

_OK: Final = 200
_ACCEPT: Final = "accept"
_CONTENT_TYPE: Final = "content-type"


class RunningContainer(Container, Protocol):
    """A container that takes GET requests as well as inferences, and can be stopped."""

    def get(self, path: str, *, timeout: float) -> ContainerResponse:
        """Send a GET and return the container's response; raises as ``invoke``."""
        ...

    def stop(self, *, drain: float = 30.0) -> None:
        """End it once its requests in flight have ended, ``drain`` seconds at most; may be called twice."""
        ...


class Containers(Protocol):
    """What starts containers: the module `hosting`, or a fake of the tests."""

    def start(
        self,
        variant: Variant,
        *,
        objects: EmulatedS3,
        folder: Path,
        log: Callable[[str], None],
        images: Mapping[str, str] | None = None,
        cancelled: threading.Event | None = None,
    ) -> RunningContainer:
        """Start a variant's container; returns when it answers. Raises ContainerError with the FailureReason."""
        ...


class InferencePipeline:
    """The running containers of a model, by name and in their order; a `RunningContainer` itself.

    ``targets`` has them by hostname in Direct mode, and is empty in Serial mode.
    """

    def __init__(self, containers: Mapping[str, RunningContainer], *, direct: bool) -> None:
        self._containers = dict(containers)
        self.targets: Mapping[str, Container] = self._containers if direct else {}

    @property
    def multi_model(self) -> bool:
        """Whether one of the containers has many models, so that requests must name a TargetModel."""
        return any(container.multi_model for container in self._containers.values())

    def invoke(self, body: bytes, headers: Mapping[str, str], *, timeout: float) -> ContainerResponse:
        """Return the last container's answer, or the first one that is an error.

        Raises ContainerGoneError and ContainerTimeoutError, which name the container. ``timeout`` in seconds is for all
        containers together.
        """
        return self._pass_through("", body, headers, timeout=timeout)

    def invoke_model(
        self, target_model: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> ContainerResponse:
        """Invoke one model of a multi-model container; raises as `invoke`."""
        return self._pass_through(target_model, body, headers, timeout=timeout)

    def get(self, path: str, *, timeout: float) -> ContainerResponse:
        """Return the first container's answer to a GET that is not 200, or that of the first container."""
        answers = [container.get(path, timeout=timeout) for container in self._containers.values()]
        return next((answer for answer in answers if answer.status != _OK), answers[0])

    def stop(self, *, drain: float = 30.0) -> None:
        """End every container, the first one first, since it feeds the others."""
        for container in self._containers.values():
            container.stop(drain=drain)

    def _pass_through(
        self, target_model: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> ContainerResponse:
        deadline = time.monotonic() + timeout
        *_, last = self._containers
        given = dict(headers)
        accept = {name: given.pop(name) for name in list(given) if name.lower() == _ACCEPT}
        answer = ContainerResponse(_OK, {}, body)
        for name, container in self._containers.items():
            # Only the last container gets what the client accepts: the others have their own default, such as
            # SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT (amazon-sagemaker-examples issue 729).
            sent = {**given, **accept} if name == last else given
            left = max(deadline - time.monotonic(), 0.0)
            try:
                if container.multi_model:
                    answer = container.invoke_model(target_model, answer.body, sent, timeout=left)
                else:
                    answer = container.invoke(answer.body, sent, timeout=left)
            except TimeoutError as error:
                raise ContainerTimeoutError(str(error), container=name) from error
            except ContainerGoneError as error:
                raise ContainerGoneError(str(error), in_flight=error.in_flight, container=name) from error
            if answer.status != _OK:
                return replace(answer, container=name)
            given = {header: value for header, value in given.items() if header.lower() != _CONTENT_TYPE}
            if _CONTENT_TYPE in answer.headers:
                given["Content-Type"] = answer.headers[_CONTENT_TYPE]
        return answer


def start_model(
    services: Services,
    model: Mapping[str, Any],
    variant: Variant,
    *,
    environment: Mapping[str, str] | None = None,
    log: Callable[[str, str], None],
    cancelled: threading.Event,
) -> RunningContainer:
    """Start the containers of a model, one after the other, and return them as one.

    ``variant`` has all but the container; ``environment`` is added to each container's. ``log`` takes the end of the
    log stream's name, "" for a model of one container, and a line.

    Raises:
        ContainerError: a container did not start; nothing is left running.
    """
    definitions = list_container_definitions(model)
    if not definitions:
        raise ContainerError(f"Model {model.get('ModelName', '')} has no container.")
    has_several = len(definitions) > 1
    if sum(definition.get("Mode") == "MultiModel" for definition in definitions) > 1:
        raise ContainerError(
            f"Model {model.get('ModelName', '')} has several multi-model containers; a pipeline takes one."
        )
    names = [variant.name] if variant.endpoint == variant.name else [variant.endpoint, variant.name]
    folder = services.folder / "-".join([*names, secrets.token_hex(4)])
    started: dict[str, RunningContainer] = {}
    try:
        for number, definition in enumerate(definitions, start=1):
            name = definition.get("ContainerHostname") or f"container-{number}"
            container = ContainerDefinition.from_request(definition)
            started[name] = services.containers.start(
                replace(
                    variant,
                    container=replace(container, environment={**container.environment, **(environment or {})}),
                    container_name=name if has_several else variant.container_name,
                ),
                objects=services.s3,
                folder=folder / name if has_several else folder,
                log=partial(log, f"/{name}" if has_several else ""),
                images=services.images,
                cancelled=cancelled,
            )
    except BaseException:
        for running in started.values():
            running.stop(drain=0.0)
        raise
    if not has_several:
        (only,) = started.values()
        return only
    mode = (model.get("InferenceExecutionConfig") or {}).get("Mode", "Serial")
    return InferencePipeline(started, direct=mode == "Direct")


#: AWS's limits where a variant names none: ContainerStartupHealthCheckTimeoutInSeconds, ModelDataDownloadTimeout.
_STARTUP: Final = 240.0
_DOWNLOAD: Final = 3600.0


class ComponentHost:
    """What runs behind a variant that names no model: nothing but its inference components, each on its own."""

    multi_model = False

    def __init__(self, find: Callable[[str], Container | None]) -> None:
        self.find = find

    def invoke(self, body: bytes, headers: Mapping[str, str], *, timeout: float) -> ContainerResponse:
        """Raise ContainerGoneError: requests are sent to the container of a component."""
        raise ContainerGoneError("the variant has inference components")

    def invoke_model(
        self, target_model: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> ContainerResponse:
        """Raise as `invoke` does."""
        return self.invoke(body, headers, timeout=timeout)

    def get(self, path: str, *, timeout: float) -> ContainerResponse:
        """Raise as `invoke` does."""
        return self.invoke(b"", {}, timeout=timeout)

    def stop(self, *, drain: float = 30.0) -> None:
        """Do nothing: components end by themselves."""


@dataclass(frozen=True, slots=True)
class RunningVariant:
    """A variant's container."""

    name: str
    container: RunningContainer
    shadow: bool


class Fleet:
    """Running containers, by variant; `stop` ends all of them."""

    def __init__(self, started: Sequence[RunningVariant]) -> None:
        self.started = tuple(started)

    def list_live(
        self, variants: Sequence[VariantState], *, share: float, shadow: bool = False
    ) -> tuple[LiveVariant, ...]:
        """Return the variants as the runtime sees them, with ``share`` of the traffic between them.

        A share of 1 leaves the weights as they are.
        """
        total = sum(variant.desired_weight for variant in variants) or 1.0
        containers = {variant.name: variant.container for variant in self.started if variant.shadow is shadow}
        return tuple(
            LiveVariant(
                name=variant.name,
                weight=variant.desired_weight if share == 1.0 else variant.desired_weight / total * share,
                container=containers[variant.name],
                instances=max(variant.desired_instances, 1),
                serverless="ServerlessConfig" in variant.config,
                targets=_find_targets(containers[variant.name]),
            )
            for variant in variants
            if variant.name in containers
        )

    def stop(self, *, drain: float = 30.0) -> None:
        """End every container."""
        for variant in self.started:
            variant.container.stop(drain=drain)


def start_fleet(
    services: Services,
    region: str,
    endpoint: str,
    variants: Sequence[tuple[VariantState, bool]],
    *,
    models: Mapping[str, Any],
    group: str,
    cancelled: threading.Event,
) -> Fleet:
    """Start a container for each variant (with whether it is a shadow) that names a model, one after the other.

    ``group`` is the log group. Raises ContainerError, with nothing left running.
    """
    started: list[RunningVariant] = []
    try:
        for variant, shadow in variants:
            stream = f"{variant.name}/{make_instance_id()}"

            def log(end: str, line: str, stream: str = stream) -> None:
                services.write_line(region, group, f"{stream}{end}", line)

            model = models.get(variant.config.get("ModelName", ""))
            running: RunningContainer
            if model is None:
                components: Any = services.runners["inference-component"]
                running = ComponentHost(partial(components.find_container, region, endpoint, variant.name))
            else:
                running = start_model(services, model, _to_variant(endpoint, variant), log=log, cancelled=cancelled)
            started.append(RunningVariant(variant.name, running, shadow))
    except BaseException:
        Fleet(started).stop(drain=0.0)
        raise
    return Fleet(started)


def _find_targets(container: RunningContainer) -> Mapping[str, Container]:
    """Return the containers by the hostname that requests may name; only InferenceExecutionMode Direct has any."""
    return container.targets if isinstance(container, InferencePipeline) else {}


def _to_variant(endpoint: str, variant: VariantState) -> Variant:
    """Describe a variant for the start of its containers."""
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


_SERVER_ERROR: Final = 500

#: Seconds between two requests of /ping, and for each. Source: developer guide, "Use Your Own Inference Code with Batch
#: Transform": a container must answer a ping within 2 seconds.
_PERIOD: Final = 0.1
_PING_TIMEOUT: Final = 2.0
_PARAMETERS_TIMEOUT: Final = 5.0

#: Seconds that a container may be away; the host starts it again by itself.
_PATIENCE: Final = 120.0


class BatchModelClient:
    """The model client of one job; for use by many threads.

    ``refused`` and ``broke`` state afterwards whether the container answered with a status of its client's fault (4xx),
    and whether it failed (5xx), ended or was too slow.
    """

    def __init__(self, container: RunningContainer, *, patience: float = _PATIENCE) -> None:
        self._container = container
        self._patience = patience
        self.refused = False
        self.broke = False

    def invoke(self, body: Buffer | Iterator[Buffer], headers: Mapping[str, str], *, timeout: float) -> Reply:
        """Send POST /invocations and return the container's response."""
        try:
            # urllib3 sends whatever has a buffer, and an iterator by chunked encoding; its types know bytes only.
            answer = self._container.invoke(cast("bytes", body), headers, timeout=timeout)
        except TimeoutError as error:
            self.broke = True
            raise ConnectError(str(error)) from error
        except ContainerGoneError as error:
            self.broke = True
            raise ServerLostError(str(error), received=error.in_flight) from error
        self.broke = self.broke or answer.status >= _SERVER_ERROR
        self.refused = self.refused or _OK != answer.status < _SERVER_ERROR
        return Reply(answer.status, answer.headers, answer.body)

    def fetch_parameters(self) -> Mapping[str, Any] | None:
        """Return the answer to GET /execution-parameters; None unless its status is 200."""
        try:
            answer = self._container.get("/execution-parameters", timeout=_PARAMETERS_TIMEOUT)
            parameters = json.loads(answer.body) if answer.status == _OK else None
        except (ContainerGoneError, TimeoutError, ValueError):
            return None
        return parameters if isinstance(parameters, dict) else None

    def recover(self, stop: threading.Event) -> None:
        """Wait until the host has started the container again."""
        deadline = time.monotonic() + self._patience
        while not self._is_healthy():
            if stop.wait(_PERIOD):
                return
            if time.monotonic() > deadline:
                raise ConnectError(f"the container ended, and did not come back within {self._patience:g} s")

    def _is_healthy(self) -> bool:
        try:
            return self._container.get("/ping", timeout=_PING_TIMEOUT).status == _OK
        except (ContainerGoneError, TimeoutError):
            return False
