"""Inference components: models that share the instances of an endpoint whose variants name no model.

Each component is a container of its own, whatever its copy count. ::

    Creating -> InService | Failed      InService -> Updating -> InService      InService, Failed -> Deleting -> gone

Statuses are the service model's (InferenceComponentStatus). An update that fails leaves the container that serves, with
a FailureReason. What is not emulated: adapters (BaseInferenceComponentName), several specifications, and whether the
instances have the CPUs, accelerators and memory that the components require.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import job_runner
from tritonforge.emulator.control.api_errors import build_validation_error
from tritonforge.emulator.control.endpoints import ENDPOINT, INFERENCE_COMPONENT, InferenceComponent
from tritonforge.emulator.control.fleet import RunningContainer, start_model
from tritonforge.emulator.control.job_runner import Delays, JobRunner, Task, make_instance_id, shorten_reason
from tritonforge.emulator.control.model_operations import MODEL
from tritonforge.emulator.control.records import Endpoint, VariantState, build_page, describe_record
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.hosting import ContainerDefinition, ContainerError, Variant, list_container_definitions
from tritonforge.emulator.interfaces import Container

__all__ = ["OPERATIONS", "InferenceComponentRunner"]

#: AWS's limits if a specification names none: the service model's StartupParameters.
_STARTUP: Final = 240.0
_DOWNLOAD: Final = 3600.0


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a request asks for: the specification, the model that it names, and the number of copies."""

    specification: Mapping[str, Any]
    model: Mapping[str, Any]
    copies: int


def _create(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = context.build_fields(INFERENCE_COMPONENT, request["InferenceComponentName"], request)
    del fields["request"]  # kept as what it resolves to
    with context.store.lock:
        context.check_name(INFERENCE_COMPONENT, fields["name"])
        endpoint = context.find(ENDPOINT, request["EndpointName"])
        variant = _find_variant(endpoint, request.get("VariantName"))
        wanted = _read_specification(context, endpoint, request)
        if wanted is None:
            raise build_validation_error("Specification is required.")  # ours
        component = InferenceComponent(
            **fields,
            status="Creating",
            endpoint=endpoint.name,
            variant=variant.name,
            specification=wanted.specification,
            model=wanted.model,
            desired_copies=wanted.copies,
        )
        context.create(INFERENCE_COMPONENT, component)
    return {"InferenceComponentArn": fields["arn"]}


def _find_variant(endpoint: Endpoint, name: str | None) -> VariantState:
    """Return the variant that hosts a component. Raises ApiError; the sentences without a source are ours."""
    if not endpoint.variants:
        raise build_validation_error(
            f'Endpoint "{endpoint.arn}" is {endpoint.status}; create components once it is InService.'
        )
    if not name:
        raise build_validation_error("VariantName is required for an inference component with a model.")
    variant = next((variant for variant in endpoint.variants if variant.name == name), None)
    if variant is None:
        names = ", ".join(variant.name for variant in endpoint.variants)
        raise build_validation_error(f'Endpoint "{endpoint.arn}" has no variant {name}; its variants are {names}.')
    if variant.config.get("ModelName"):
        # pulumi/pulumi-aws issue 4940
        raise build_validation_error(
            "Inference Components are not supported in this Endpoint. Please make sure this endpoint can deploy "
            "inference components."
        )
    return variant


def _read_specification(context: RequestContext, endpoint: Endpoint, request: Mapping[str, Any]) -> _Wanted | None:
    """Return what a request asks for, None if it has no specification. Raises ApiError; the sentences are ours."""
    specification: Mapping[str, Any] | None = request.get("Specification")
    if request.get("Specifications"):
        raise build_validation_error(
            "tritonforge's emulator runs inference components with one Specification, not Specifications."
        )
    if specification is None:
        return None
    if specification.get("BaseInferenceComponentName"):
        raise build_validation_error("BaseInferenceComponentName: tritonforge's emulator does not run adapters.")
    container = specification.get("Container")
    if bool(specification.get("ModelName")) == bool(container):
        raise build_validation_error("Specification needs exactly one of ModelName and Container.")
    if not specification.get("ComputeResourceRequirements"):
        raise build_validation_error("Specification.ComputeResourceRequirements is required.")
    copies = int((request.get("RuntimeConfig") or {}).get("CopyCount", 1))
    if not container:
        return _Wanted(specification, context.find(MODEL, specification["ModelName"]).model, copies)
    definition = {
        "Image": container.get("Image", ""),
        "Environment": container.get("Environment") or {},
        **({"ModelDataUrl": container["ArtifactUrl"]} if container.get("ArtifactUrl") else {}),
    }
    context.preconditions.check_model_data(context.region, definition, endpoint.config.get("ExecutionRoleArn", ""))
    return _Wanted(specification, {"PrimaryContainer": definition}, copies)


def _update(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        component = context.find(INFERENCE_COMPONENT, request["InferenceComponentName"])
        endpoint = context.find(ENDPOINT, component.endpoint)
        wanted = _read_specification(context, endpoint, request)
        copies = (request.get("RuntimeConfig") or {}).get("CopyCount", component.desired_copies)
    return _begin_update(context, component.name, wanted, int(copies), request.get("DeploymentConfig"))


def _update_runtime(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    copies = int(request["DesiredRuntimeConfig"]["CopyCount"])
    return _begin_update(context, request["InferenceComponentName"], None, copies, None)


def _begin_update(
    context: RequestContext, name: str, wanted: _Wanted | None, copies: int, deployment: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    def update(component: InferenceComponent, now: float) -> InferenceComponent:
        if component.status != "InService":
            raise _build_status_error("update", component)
        return replace(
            component,
            status="Updating",
            modified=now,
            failure="",
            desired_copies=copies,
            next_specification=None if wanted is None else wanted.specification,
            next_model=None if wanted is None else wanted.model,
            deployment=deployment or component.deployment,
        )

    component = context.change(INFERENCE_COMPONENT, name, update)
    context.begin(INFERENCE_COMPONENT, component.name)
    return {"InferenceComponentArn": component.arn}


def _delete(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    def delete(component: InferenceComponent, now: float) -> InferenceComponent:
        # A component that is stuck in Creating cannot be deleted: aws/amazon-sagemaker-examples issue 3432.
        if component.status not in ("InService", "Failed"):
            raise _build_status_error("delete", component)
        return replace(component, status="Deleting", modified=now)

    component = context.change(INFERENCE_COMPONENT, request["InferenceComponentName"], delete)
    context.begin(INFERENCE_COMPONENT, component.name)
    return {}


def _build_status_error(verb: str, component: InferenceComponent) -> Exception:
    """Build the error of a component's status. The sentence is ours, after that of endpoints."""
    return build_validation_error(
        f'Cannot {verb} inference component "{component.arn}" with status "{component.status}".'
    )


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    component = context.find(INFERENCE_COMPONENT, request["InferenceComponentName"])
    specification = dict(component.specification)
    if container := specification.get("Container"):
        images = [definition.get("Image", "") for definition in list_container_definitions(component.model)]
        specification["Container"] = {
            **{name: value for name, value in container.items() if name != "Image"},
            "DeployedImage": {"SpecifiedImage": images[0], "ResolutionTime": component.created},
        }
    answer = {
        **_summarize(context, component),
        "Specification": specification,
        "RuntimeConfig": {"DesiredCopyCount": component.desired_copies, "CurrentCopyCount": component.copies},
    }
    if component.failure:
        answer["FailureReason"] = component.failure
    if component.deployment:
        answer["LastDeploymentConfig"] = component.deployment
    return answer


def _list(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    endpoint, variant = request.get("EndpointNameEquals"), request.get("VariantNameEquals")
    components = [
        component
        for component in context.list(INFERENCE_COMPONENT)
        if (not endpoint or component.endpoint == endpoint) and (not variant or component.variant == variant)
    ]
    return build_page(request, components, "InferenceComponents", lambda component: _summarize(context, component))


def _summarize(context: RequestContext, component: InferenceComponent) -> dict[str, Any]:
    return {
        **describe_record(component, "InferenceComponent"),
        "EndpointName": component.endpoint,
        "EndpointArn": context.arn(ENDPOINT, component.endpoint),
        "VariantName": component.variant,
    }


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateInferenceComponent": _create,
        "DescribeInferenceComponent": _describe,
        "ListInferenceComponents": _list,
        "UpdateInferenceComponent": _update,
        "UpdateInferenceComponentRuntimeConfig": _update_runtime,
        "DeleteInferenceComponent": _delete,
    }
)


class InferenceComponentRunner(JobRunner[InferenceComponent]):
    """Starts, replaces and ends the containers of inference components; `find_container` is for the runtime."""

    def __init__(self, services: job_runner.Services, kind: Any) -> None:
        super().__init__(services, kind)
        self._containers: dict[tuple[str, str], RunningContainer] = {}
        self._delays = Delays(services.speed, self.closing)

    def find_container(self, region: str, endpoint: str, variant: str, name: str) -> Container | None:
        """Return the container of a component that a variant of an endpoint hosts, None if it does not serve."""
        component = self.store.find(self.kind, region, name)
        if component is None or (component.endpoint, component.variant) != (endpoint, variant):
            return None
        return self._containers.get((region, component.name))

    def is_unfinished(self, record: InferenceComponent) -> bool:
        """Return True for components whose container must start again, and for those that change."""
        return record.status != "Failed"

    def restore(self) -> None:
        """Start the containers of every component again, after a restart."""
        for region, component in self.store.list_all(self.kind):
            if component.status == "InService":
                self.store.put(self.kind, region, replace(component, status="Updating"))
        super().restore()

    def close(self) -> None:
        """Stop every thread and every container; the store stays as it is."""
        super().close()
        for container in self._containers.values():
            container.stop(drain=0.0)
        self._containers.clear()

    def run(self, task: Task) -> None:
        """Do what the status of a component asks for."""
        component = self.find(task)
        began = time.monotonic()
        if component.status == "Deleting":
            self._stop_container(task)
            if self._delays.wait(job_runner.DELETION):
                self.store.remove(self.kind, task.region, task.name)
                self.services.log(f"inference component {task.name} deleted")
            return
        try:
            reason = self._replace_container(task, component)
        except ContainerError as error:
            reason = str(error)
        if self._delays.wait_since(began, job_runner.CREATION):
            self._end(task, reason)

    def fail(self, task: Task, reason: str) -> None:
        """End the change of a component after an error of the emulator's own."""
        self._end(task, f"tritonforge's emulator failed: {reason}")

    def _replace_container(self, task: Task, component: InferenceComponent) -> str:
        """Start the container that a component asks for, then end the one before. Raises ContainerError."""
        if component.desired_copies == 0:
            self._stop_container(task)
            return ""
        key = (task.region, task.name)
        if component.next_model is None and key in self._containers:
            return ""  # only the number of copies changes, which share a container
        model = component.model if component.next_model is None else component.next_model
        specification = component.next_specification or component.specification
        container = start_model(
            self.services,
            model,
            self._to_variant(task.region, component, specification),
            log=self._write_lines(task, component),
            cancelled=self.closing,
        )
        before, self._containers[key] = self._containers.get(key), container
        if before is not None:
            before.stop()
        return ""

    def _to_variant(self, region: str, component: InferenceComponent, specification: Mapping[str, Any]) -> Variant:
        endpoint = self.store.find(ENDPOINT, region, component.endpoint)
        variants = () if endpoint is None else endpoint.variants
        config = next((variant.config for variant in variants if variant.name == component.variant), {})
        startup = specification.get("StartupParameters") or {}
        return Variant(
            name=component.name,
            endpoint=component.endpoint,
            container=ContainerDefinition(image=""),
            instance_type=config.get("InstanceType", ""),
            download_timeout=float(startup.get("ModelDataDownloadTimeoutInSeconds") or _DOWNLOAD),
            startup_timeout=float(startup.get("ContainerStartupHealthCheckTimeoutInSeconds") or _STARTUP),
        )

    def _write_lines(self, task: Task, component: InferenceComponent) -> Any:
        group, stream = f"{self.kind.log_group}/{component.name}", f"{component.variant}/{make_instance_id()}"
        return lambda end, line: self.services.write_line(task.region, group, f"{stream}{end}", line)

    def _stop_container(self, task: Task) -> None:
        container = self._containers.pop((task.region, task.name), None)
        if container is not None:
            container.stop()

    def _end(self, task: Task, reason: str) -> None:
        is_serving = (task.region, task.name) in self._containers

        def end(component: InferenceComponent, now: float) -> InferenceComponent:
            settled = replace(
                component, modified=now, failure=shorten_reason(reason), next_specification=None, next_model=None
            )
            if reason and not is_serving:
                return replace(settled, status="Failed", copies=0)
            if reason:
                return replace(settled, status="InService", desired_copies=component.copies)
            return replace(
                settled,
                status="InService",
                copies=component.desired_copies,
                specification=component.next_specification or component.specification,
                model=component.model if component.next_model is None else component.next_model,
            )

        self.log_status(self.change(task, end))
