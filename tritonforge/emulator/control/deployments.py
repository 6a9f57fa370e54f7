"""What takes time: an endpoint is brought up, updated, scaled, deleted, each in a thread of its own.

An update is blue/green on real containers: the new fleet starts beside the old one, traffic moves as the policy says
while its alarms are watched, then the old fleet ends. Whatever goes wrong on the way brings the old fleet back to all
of the traffic, and its reason into FailureReason.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from tritonforge.emulator.control import endpoint_states, fleet, job_runner
from tritonforge.emulator.control.fleet import Containers, Fleet
from tritonforge.emulator.control.preconditions import Preconditions
from tritonforge.emulator.control.records import Endpoint, VariantState
from tritonforge.emulator.control.resource_store import ResourceStore
from tritonforge.emulator.emulated_s3 import EmulatedS3
from tritonforge.emulator.hosting import ContainerError
from tritonforge.emulator.interfaces import AsyncInference, Capture, LiveEndpoint
from tritonforge.emulator.traffic import Bake, Shift, ShiftPlan, plan_shifts

__all__ = ["DeploymentRunner", "Invocations"]

_KIND: Final = "endpoint"


class Invocations(Protocol):
    """What the deployments tell the runtime of a region."""

    def flush(self, endpoint: str | None = None) -> None:
        """Write captured data before an endpoint changes."""
        ...

    def forget(self, endpoint: str) -> None:
        """An endpoint is gone."""
        ...


class _StoppedError(Exception):
    """The emulator is being stopped: the store stays as it is."""


class _RollbackError(Exception):
    """A deployment is to be rolled back; the message is the reason."""


@dataclass(slots=True)
class _Fleets:
    """The fleets of an endpoint, and the share of the traffic that the new one has."""

    blue: Fleet
    green: Fleet | None = None
    share: float = 0.0


class DeploymentRunner:
    """Runs what endpoints have to do; safe for use by many threads.

    ``invocations`` gives the runtime of a region, ``line`` takes a container's line (region, endpoint, stream, line),
    ``log`` sentences for the person. ``folder`` holds the containers' files.
    """

    def __init__(
        self,
        store: ResourceStore,
        preconditions: Preconditions,
        *,
        containers: Containers,
        objects: EmulatedS3,
        folder: Path,
        images: Mapping[str, str],
        speed: float,
        invocations: Callable[[str], Invocations],
        line: Callable[[str, str, str, str], None],
        log: Callable[[str], None],
    ) -> None:
        self._store = store
        self._preconditions = preconditions
        self._containers = containers
        self._objects = objects
        self._folder = folder
        self._images = images
        self._invocations = invocations
        self._line = line
        self._log = log
        self._closing = threading.Event()
        self._delays = job_runner.Delays(speed, self._closing)
        self._fleets: dict[tuple[str, str], _Fleets] = {}
        self._live: dict[tuple[str, str], LiveEndpoint] = {}
        self._threads: set[threading.Thread] = set()

    def live(self, region: str, name: str) -> LiveEndpoint | None:
        """What serves an endpoint now; its name's case counts here (CreateEndpoint, "must be matched")."""
        found = self._live.get((region, name))
        if found is not None:
            return found
        endpoint = self._store.endpoint(region, name)
        if endpoint is None or endpoint.name != name:
            return None
        return LiveEndpoint(name=name, status=endpoint.status)

    def begin(self, region: str, name: str) -> None:
        """Start what the status of an endpoint asks for."""
        thread = threading.Thread(target=self._run, args=(region, name), name=f"emulator-{name}", daemon=True)
        self._threads = {each for each in self._threads if each.is_alive()} | {thread}
        thread.start()

    def restore(self) -> None:
        """Take up every endpoint of the store again, after a restart."""
        for region, endpoint in self._store.endpoints():
            again = endpoint_states.mark_restarted(endpoint, self._store.now(endpoint.modified))
            if again.status in ("SystemUpdating", "Creating", "Deleting"):
                self._store.put(region, _KIND, again)
                self.begin(region, endpoint.name)

    def close(self) -> None:
        """Stop every thread and every container; the store stays as it is."""
        self._closing.set()
        for thread in list(self._threads):
            thread.join()
        for fleets in self._fleets.values():
            for each in (fleets.blue, fleets.green):
                if each is not None:
                    each.stop(drain=0.0)
        self._fleets.clear()
        self._live.clear()

    def _run(self, region: str, name: str) -> None:
        endpoint = self._store.endpoint(region, name)
        assert endpoint is not None
        try:
            if endpoint.status == "Creating":
                self._create(region, endpoint)
            elif endpoint.status == "SystemUpdating":
                self._start_again(region, endpoint)
            elif endpoint.status == "Deleting":
                self._delete(region, endpoint)
            elif endpoint.pending is not None:
                self._update(region, endpoint)
            else:
                self._scale(region, endpoint)
        except _StoppedError:
            return
        except Exception as error:  # a thread of its own: nobody else would ever hear of it
            self._log(f"endpoint {name}: {type(error).__name__}: {error}")
            self._unexpected(region, name, f"tritonforge's emulator failed: {error}")

    def _unexpected(self, region: str, name: str, reason: str) -> None:
        with self._store.lock:
            endpoint = self._store.endpoint(region, name)
            if endpoint is None:
                return
            now = self._store.now(endpoint.modified)
            if endpoint.status in ("Creating", "SystemUpdating"):
                self._put(region, endpoint_states.fail(endpoint, reason, now))
            elif endpoint.status == "Updating":
                self._put(region, endpoint_states.begin_rollback(endpoint, reason, now))
                self._back(region, name)
            elif endpoint.status == "RollingBack":
                self._back(region, name)
            elif endpoint.status == "Deleting":
                self._store.remove(region, _KIND, name)

    def _create(self, region: str, endpoint: Endpoint) -> None:
        begun = time.monotonic()
        assert endpoint.pending is not None
        try:
            green = self._started(region, endpoint, endpoint.pending.models, _list_variants(endpoint.pending))
        except ContainerError as error:
            self._rest(begun, job_runner.CREATION)
            self._fail(region, endpoint.name, str(error))
            return
        self._fleets[region, endpoint.name] = _Fleets(green)
        self._rest(begun, job_runner.CREATION)
        self._change(region, endpoint.name, lambda now, found: endpoint_states.enter_service(found, now))
        self._log(f"endpoint {endpoint.name} InService")

    def _fail(self, region: str, name: str, reason: str) -> None:
        self._change(region, name, lambda now, found: endpoint_states.fail(found, reason, now))
        self._log(f"endpoint {name} Failed: {reason}")

    def _start_again(self, region: str, endpoint: Endpoint) -> None:
        try:
            blue = self._started(region, endpoint, endpoint.models, _list_variants(endpoint))
        except ContainerError as error:
            self._fail(region, endpoint.name, str(error))
            return
        self._fleets[region, endpoint.name] = _Fleets(blue)
        if endpoint.pending is None:
            self._change(region, endpoint.name, lambda now, found: endpoint_states.enter_service(found, now))
            self._log(f"endpoint {endpoint.name} InService again")
        else:
            self._update(
                region,
                self._change(region, endpoint.name, lambda now, found: endpoint_states.resume_update(found, now)),
            )

    def _update(self, region: str, endpoint: Endpoint) -> None:
        assert endpoint.pending is not None
        fleets = self._fleets[region, endpoint.name]
        steps = plan_shifts(endpoint.pending.policy, instances=_count_instances(endpoint.pending.variants))
        begun = time.monotonic()
        try:
            self._watch(region, steps)
            try:
                fleets.green = self._started(
                    region, endpoint, endpoint.pending.models, _list_variants(endpoint.pending)
                )
            except ContainerError as error:
                self._rest(begun, job_runner.CREATION)
                raise _RollbackError(str(error)) from error
            self._rest(begun, job_runner.CREATION)
            self._change(region, endpoint.name, lambda now, found: endpoint_states.mark_started(found, now))
            self._shift(region, endpoint.name, steps, time.monotonic() - begun)
        except _RollbackError as error:
            reason = str(error)
            self._log(f"endpoint {endpoint.name} RollingBack: {reason}")
            self._change(region, endpoint.name, lambda now, found: endpoint_states.begin_rollback(found, reason, now))
            self._back(region, endpoint.name)
            return
        self._flush(region, endpoint.name)
        fleets.blue.stop()  # it takes no traffic any more
        assert fleets.green is not None
        with self._store.lock:  # the record and the fleet change together for whoever invokes
            fleets.blue, fleets.green, fleets.share = fleets.green, None, 0.0
            self._change(region, endpoint.name, lambda now, found: endpoint_states.enter_service(found, now))
        self._log(f"endpoint {endpoint.name} InService with {endpoint.pending.config_name}")

    def _shift(self, region: str, name: str, steps: ShiftPlan, spent: float) -> None:
        """Move the traffic step by step. Raises _UndoneError when an alarm trips, or the time is over."""
        for step in steps.steps:
            if spent > steps.timeout:
                raise _RollbackError(f"The deployment took longer than its {steps.timeout:.0f} seconds.")
            if isinstance(step, Shift):
                self._turn(region, name, step.share)
                self._watch(region, steps)
            else:
                self._bake(region, name, steps, step)
                spent += step.seconds

    def _turn(self, region: str, name: str, share: float) -> None:
        with self._store.lock:
            self._fleets[region, name].share = share
            self._change(region, name, lambda now, found: endpoint_states.shift_traffic(found, share, now))

    def _bake(self, region: str, name: str, steps: ShiftPlan, step: Bake) -> None:
        if not step.last:
            self._change(region, name, lambda now, found: endpoint_states.enter_stage(found, "Baking", now))
        if not steps.alarms:
            self._pause(step.seconds)
            return
        for piece in self._delays.split(step.seconds):
            self._pause(piece)
            self._watch(region, steps)

    def _watch(self, region: str, steps: ShiftPlan) -> None:
        tripped = self._preconditions.tripped(region, steps.alarms)
        if tripped:
            # The sentence is ours; what AWS says then was not found.
            raise _RollbackError(f"The deployment was rolled back: CloudWatch alarm {', '.join(tripped)} is in ALARM.")

    def _back(self, region: str, name: str) -> None:
        """All of the traffic to the old fleet, and the new one away."""
        fleets = self._fleets[region, name]
        green, fleets.green, fleets.share = fleets.green, None, 0.0
        self._show(region, name)
        if green is not None:
            green.stop()
        self._pause(job_runner.ROLLBACK)
        self._change(region, name, lambda now, found: endpoint_states.finish_rollback(found, now))

    def _scale(self, region: str, endpoint: Endpoint) -> None:
        self._pause(job_runner.SCALING)
        self._flush(region, endpoint.name)
        self._change(region, endpoint.name, lambda now, found: endpoint_states.enter_service(found, now))
        self._log(f"endpoint {endpoint.name} InService with new weights")

    def _delete(self, region: str, endpoint: Endpoint) -> None:
        self._show(region, endpoint.name)
        self._flush(region, endpoint.name)
        self._preconditions.unscaled(region, endpoint.name)
        fleets = self._fleets.pop((region, endpoint.name), None)
        if fleets is not None:
            fleets.blue.stop()
        self._pause(job_runner.DELETION)
        self._invocations(region).forget(endpoint.name)
        with self._store.lock:
            self._store.remove(region, _KIND, endpoint.name)
            self._live.pop((region, endpoint.name), None)
        self._log(f"endpoint {endpoint.name} deleted")

    def _started(
        self, region: str, endpoint: Endpoint, models: Mapping[str, Any], variants: list[tuple[VariantState, bool]]
    ) -> Fleet:
        try:
            made = fleet.start_fleet(
                self._containers,
                endpoint.name,
                variants,
                models=models,
                objects=self._objects,
                folder=self._folder,
                log=lambda stream, line: self._line(region, endpoint.name, stream, line),
                images=self._images,
                cancelled=self._closing,
            )
        except ContainerError:
            if self._closing.is_set():
                raise _StoppedError from None
            raise
        if self._closing.is_set():
            made.stop(drain=0.0)
            raise _StoppedError
        return made

    def _change(
        self,
        region: str,
        name: str,
        to: Callable[[float, Endpoint], Endpoint],
    ) -> Endpoint:
        with self._store.lock:
            found = self._store.endpoint(region, name)
            assert found is not None
            changed = to(self._store.now(found.modified), found)
            self._put(region, changed)
        return changed

    def _put(self, region: str, endpoint: Endpoint) -> None:
        self._store.put(region, _KIND, endpoint)
        self._show(region, endpoint.name)

    def _show(self, region: str, name: str) -> None:
        """Say anew what serves an endpoint."""
        with self._store.lock:
            endpoint = self._store.endpoint(region, name)
            fleets = self._fleets.get((region, name))
            if endpoint is None or fleets is None or endpoint.status not in endpoint_states.SERVING:
                self._live.pop((region, name), None)
                return
            variants = fleets.blue.live(endpoint.variants, share=1.0 - fleets.share) if fleets.share < 1.0 else ()
            if fleets.green is not None and endpoint.pending is not None and fleets.share > 0.0:
                variants += fleets.green.live(endpoint.pending.variants, share=fleets.share)
            self._live[region, name] = LiveEndpoint(
                name=name,
                status=endpoint.status,
                variants=variants,
                capture=Capture.of(endpoint.config.get("DataCaptureConfig")),
                asynchronous=AsyncInference.of(endpoint.config.get("AsyncInferenceConfig")),
                shadows=fleets.blue.live(endpoint.shadows, share=1.0, shadow=True),
            )

    def _flush(self, region: str, name: str) -> None:
        self._invocations(region).flush(name)

    def _pause(self, seconds: float) -> None:
        if not self._delays.wait(seconds):
            raise _StoppedError

    def _rest(self, begun: float, seconds: float) -> None:
        """Wait for what is left of a pause that began a while ago."""
        self._pause(seconds - self._delays.scaled(time.monotonic() - begun))


def _list_variants(what: Any) -> list[tuple[VariantState, bool]]:
    return [*((each, False) for each in what.variants), *((each, True) for each in what.shadows)]


def _count_instances(variants: tuple[VariantState, ...]) -> int:
    return sum(each.desired_instances for each in variants) or 1
