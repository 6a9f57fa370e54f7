"""Deployments: endpoints are created, updated, scaled and deleted.

An update is blue/green on real containers: the new fleet starts beside the old one, traffic moves as the policy states
while its alarms are watched, then the old fleet ends. Any failure brings the old fleet back to all of the traffic, and
its reason into FailureReason.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tritonforge.emulator.control import endpoint_states, job_runner
from tritonforge.emulator.control.endpoints import ENDPOINT
from tritonforge.emulator.control.fleet import Fleet, start_fleet
from tritonforge.emulator.control.job_runner import Delays, JobRunner, Services, Task
from tritonforge.emulator.control.records import Endpoint, PendingDeployment, VariantState
from tritonforge.emulator.control.resource_store import ResourceKind
from tritonforge.emulator.hosting import ContainerError
from tritonforge.emulator.interfaces import AsyncInference, Capture, LiveEndpoint
from tritonforge.emulator.traffic import Bake, Shift, ShiftPlan, plan_shifts

__all__ = ["DeploymentRunner"]


class _StoppedError(Exception):
    """The emulator is being stopped: the store stays as it is."""


class _RollbackError(Exception):
    """A deployment must be rolled back; the message is the reason."""


@dataclass(slots=True)
class _Fleets:
    """The fleets of an endpoint, and the share of the traffic that the new one has."""

    blue: Fleet
    green: Fleet | None = None
    share: float = 0.0


class DeploymentRunner(JobRunner[Endpoint]):
    """Brings endpoints to the state that their status asks for, and finds what serves them."""

    def __init__(self, services: Services, kind: ResourceKind[Endpoint]) -> None:
        super().__init__(services, kind)
        self._delays = Delays(services.speed, self.closing)
        self._fleets: dict[tuple[str, str], _Fleets] = {}
        self._live: dict[tuple[str, str], LiveEndpoint] = {}

    def find_live(self, region: str, name: str) -> LiveEndpoint | None:
        """Return the containers that serve an endpoint now, None if no container does.

        Upper and lower case of the name count, unlike in other operations (API CreateEndpoint: "the case in which
        you entered the name must be matched").
        """
        live = self._live.get((region, name))
        if live is not None:
            return live
        endpoint = self.store.find(ENDPOINT, region, name)
        if endpoint is None or endpoint.name != name:
            return None
        return LiveEndpoint(name=name, status=endpoint.status)

    def is_unfinished(self, record: Endpoint) -> bool:
        """Return True for endpoints whose containers must start again, and for those that change."""
        return record.status in ("SystemUpdating", "Creating", "Deleting")

    def restore(self) -> None:
        """Start the containers of every endpoint again, after a restart."""
        for region, endpoint in self.store.list_all(ENDPOINT):
            restarted = endpoint_states.mark_restarted(endpoint, self.store.now(endpoint.modified))
            if self.is_unfinished(restarted):
                self.store.put(ENDPOINT, region, restarted)
        super().restore()

    def close(self) -> None:
        """Stop every thread and every container; the store stays as it is."""
        super().close()
        for fleets in self._fleets.values():
            for fleet in (fleets.blue, fleets.green):
                if fleet is not None:
                    fleet.stop(drain=0.0)
        self._fleets.clear()
        self._live.clear()

    def run(self, task: Task) -> None:
        """Do what the status of an endpoint asks for."""
        endpoint = self.find(task)
        try:
            if endpoint.status == "Creating":
                self._create(task, endpoint)
            elif endpoint.status == "SystemUpdating":
                self._start_again(task, endpoint)
            elif endpoint.status == "Deleting":
                self._delete(task, endpoint)
            elif endpoint.pending is not None:
                self._update(task, endpoint.pending)
            else:
                self._scale(task, endpoint)
        except _StoppedError:
            return

    def fail(self, task: Task, reason: str) -> None:
        """End the change of an endpoint after an error of the emulator's own."""
        reason = f"tritonforge's emulator failed: {reason}"
        with self.store.lock:
            endpoint = self.store.find(ENDPOINT, task.region, task.name)
            if endpoint is None:
                return
            if endpoint.status in ("Creating", "SystemUpdating"):
                self._change(task, lambda record, now: endpoint_states.fail(record, reason, now))
            elif endpoint.status == "Updating":
                self._roll_back(task, reason)
            elif endpoint.status == "RollingBack":
                self._finish_rollback(task)
            elif endpoint.status == "Deleting":
                self.store.remove(ENDPOINT, task.region, task.name)

    def _create(self, task: Task, endpoint: Endpoint) -> None:
        began = time.monotonic()
        assert endpoint.pending is not None
        try:
            green = self._start_fleet(task, endpoint.pending)
        except ContainerError as error:
            self._wait_since(began, job_runner.CREATION)
            self._fail_start(task, str(error))
            return
        self._fleets[task.region, task.name] = _Fleets(green)
        self._wait_since(began, job_runner.CREATION)
        self._change(task, endpoint_states.enter_service)
        self._report(task, "InService")

    def _start_again(self, task: Task, endpoint: Endpoint) -> None:
        try:
            blue = self._start_fleet(task, endpoint)
        except ContainerError as error:
            self._fail_start(task, str(error))
            return
        self._fleets[task.region, task.name] = _Fleets(blue)
        if endpoint.pending is None:
            self._change(task, endpoint_states.enter_service)
            self._report(task, "InService again")
        else:
            self._change(task, endpoint_states.resume_update)
            self._update(task, endpoint.pending)

    def _fail_start(self, task: Task, reason: str) -> None:
        self._change(task, lambda endpoint, now: endpoint_states.fail(endpoint, reason, now))
        self._report(task, f"Failed: {reason}")

    def _update(self, task: Task, pending: PendingDeployment) -> None:
        fleets = self._fleets[task.region, task.name]
        instances = sum(variant.desired_instances for variant in pending.variants) or 1
        plan = plan_shifts(pending.policy, instances=instances)
        began = time.monotonic()
        try:
            self._check_alarms(task, plan)
            try:
                fleets.green = self._start_fleet(task, pending)
            except ContainerError as error:
                self._wait_since(began, job_runner.CREATION)
                raise _RollbackError(str(error)) from error
            self._wait_since(began, job_runner.CREATION)
            self._change(task, endpoint_states.mark_started)
            self._shift(task, plan, time.monotonic() - began)
        except _RollbackError as error:
            self._report(task, f"RollingBack: {error}")
            self._roll_back(task, str(error))
            return
        self._flush(task)
        fleets.blue.stop()  # it takes no traffic any more
        assert fleets.green is not None
        with self.store.lock:  # the record and the fleet change together for whoever invokes
            fleets.blue, fleets.green, fleets.share = fleets.green, None, 0.0
            self._change(task, endpoint_states.enter_service)
        self._report(task, f"InService with {pending.config_name}")

    def _shift(self, task: Task, plan: ShiftPlan, seconds: float) -> None:
        """Move the traffic step by step. Raises _RollbackError when an alarm trips, or the time is over."""
        for step in plan.steps:
            if seconds > plan.timeout:
                raise _RollbackError(f"The deployment took longer than its {plan.timeout:.0f} seconds.")
            if isinstance(step, Shift):
                self._set_share(task, step.share)
                self._check_alarms(task, plan)
            else:
                self._bake(task, plan, step)
                seconds += step.seconds

    def _set_share(self, task: Task, share: float) -> None:
        with self.store.lock:
            self._fleets[task.region, task.name].share = share
            self._change(task, lambda endpoint, now: endpoint_states.shift_traffic(endpoint, share, now))

    def _bake(self, task: Task, plan: ShiftPlan, step: Bake) -> None:
        if not step.last:
            self._change(task, lambda endpoint, now: endpoint_states.enter_stage(endpoint, "Baking", now))
        if not plan.alarms:
            self._wait(step.seconds)
            return
        for piece in self._delays.split(step.seconds):
            self._wait(piece)
            self._check_alarms(task, plan)

    def _check_alarms(self, task: Task, plan: ShiftPlan) -> None:
        tripped = self.services.preconditions.list_tripped_alarms(task.region, plan.alarms)
        if tripped:
            # The sentence is ours; that of AWS was not found.
            raise _RollbackError(f"The deployment was rolled back: CloudWatch alarm {', '.join(tripped)} is in ALARM.")

    def _roll_back(self, task: Task, reason: str) -> None:
        self._change(task, lambda endpoint, now: endpoint_states.begin_rollback(endpoint, reason, now))
        self._finish_rollback(task)

    def _finish_rollback(self, task: Task) -> None:
        """Give all of the traffic to the old fleet, and end the new one."""
        fleets = self._fleets[task.region, task.name]
        green, fleets.green, fleets.share = fleets.green, None, 0.0
        self._publish(task)
        if green is not None:
            green.stop()
        self._wait(job_runner.ROLLBACK)
        self._change(task, endpoint_states.finish_rollback)

    def _scale(self, task: Task, endpoint: Endpoint) -> None:
        self._wait(job_runner.SCALING)
        self._flush(task)
        self._change(task, endpoint_states.enter_service)
        self._report(task, "InService with new weights")

    def _delete(self, task: Task, endpoint: Endpoint) -> None:
        self._publish(task)
        self._flush(task)
        self.services.preconditions.deregister_scaling(task.region, endpoint.name)
        fleets = self._fleets.pop((task.region, task.name), None)
        if fleets is not None:
            fleets.blue.stop()
        self._wait(job_runner.DELETION)
        self.services.runtime(task.region).discard(endpoint.name)
        with self.store.lock:
            self.store.remove(ENDPOINT, task.region, endpoint.name)
            self._live.pop((task.region, task.name), None)
        self._report(task, "deleted")

    def _start_fleet(self, task: Task, deployment: Endpoint | PendingDeployment) -> Fleet:
        try:
            fleet = start_fleet(
                self.services,
                task.region,
                task.name,
                _list_variants(deployment),
                models=deployment.models,
                group=f"{self.kind.log_group}/{task.name}",
                cancelled=self.closing,
            )
        except ContainerError:
            if self.closing.is_set():
                raise _StoppedError from None
            raise
        if self.closing.is_set():
            fleet.stop(drain=0.0)
            raise _StoppedError
        return fleet

    def _change(self, task: Task, change: Any) -> None:
        with self.store.lock:
            self.change(task, change)
            self._publish(task)

    def _publish(self, task: Task) -> None:
        """Make what serves an endpoint visible to the runtime."""
        key = (task.region, task.name)
        with self.store.lock:
            endpoint = self.store.find(ENDPOINT, *key)
            fleets = self._fleets.get(key)
            if endpoint is None or fleets is None or endpoint.status not in endpoint_states.SERVING:
                self._live.pop(key, None)
                return
            variants = fleets.blue.list_live(endpoint.variants, share=1.0 - fleets.share) if fleets.share < 1.0 else ()
            if fleets.green is not None and endpoint.pending is not None and fleets.share > 0.0:
                variants += fleets.green.list_live(endpoint.pending.variants, share=fleets.share)
            self._live[key] = LiveEndpoint(
                name=task.name,
                status=endpoint.status,
                variants=variants,
                capture=Capture.from_request(endpoint.config.get("DataCaptureConfig")),
                asynchronous=AsyncInference.from_request(endpoint.config.get("AsyncInferenceConfig")),
                shadows=fleets.blue.list_live(endpoint.shadows, share=1.0, shadow=True),
            )

    def _report(self, task: Task, sentence: str) -> None:
        self.services.log(f"endpoint {task.name} {sentence}")

    def _flush(self, task: Task) -> None:
        self.services.runtime(task.region).flush(task.name)

    def _wait(self, seconds: float) -> None:
        if not self._delays.wait(seconds):
            raise _StoppedError

    def _wait_since(self, began: float, seconds: float) -> None:
        """Wait the rest of a wait that began at a time of the monotonic clock."""
        if not self._delays.wait_since(began, seconds):
            raise _StoppedError


def _list_variants(deployment: Endpoint | PendingDeployment) -> list[tuple[VariantState, bool]]:
    variants = [(variant, False) for variant in deployment.variants]
    return variants + [(variant, True) for variant in deployment.shadows]
