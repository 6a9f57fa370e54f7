"""Transform jobs under way, each in a thread of its own: a container is started, and the engine sends it the objects.

The engine is that of `tritonforge transform`, over the emulated S3. Instances share one container: the objects are
dealt out to them one by one in the order of their keys, and each instance has its own requests in flight, its own part
of the log and its own journal. More than `_MOST` instances are as so many.
"""

from __future__ import annotations

import datetime as dt
import secrets
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonforge.emulator.control import delays, transform_states
from tritonforge.emulator.control.pipelines import Containers, InferencePipeline, RunningContainer, start_model
from tritonforge.emulator.control.records import Transform
from tritonforge.emulator.control.resource_store import Ledger
from tritonforge.emulator.control.threads import Task, Threads
from tritonforge.emulator.hosting import ContainerDefinition, ContainerError, UnhealthyError, Variant
from tritonforge.emulator.jobs import datalog
from tritonforge.emulator.jobs.asker import ContainerAsker
from tritonforge.emulator.jobs.place import EmulatedPlace
from tritonforge.emulator.objects import ObjectMissingError, ObjectStore
from tritonforge.emulator.private_files import make_private
from tritonforge.errors import TritonForgeError
from tritonforge.records.manifest import manifest_uris
from tritonforge.transform import Outcome, TransformJob, run
from tritonforge.transform.precedence import container_environment, resolved

__all__ = ["Transforms"]

_KIND: Final = "transform-job"

#: Instances that are told apart.
_MOST: Final = 8

#: Seconds that a container has to answer /ping. Source: aws/amazon-sagemaker-examples issue 815, where AWS says that a
#: job ends after 30 minutes of failing pings.
_STARTUP: Final = 1800.0

#: Seconds that requests in flight have when a job is stopped.
_DRAIN: Final = 5.0

#: Source: AWS's FailureReason in aws/amazon-sagemaker-examples issue 852.
_NO_PING: Final = (
    "AlgorithmError: Model container failed to respond to ping. Please ensure /ping endpoint is implemented and "
    "responds with an HTTP 200 status code"
)


_UNDER_WAY: Final = transform_states.UNDER_WAY


@dataclass(slots=True)
class _Work(Task):
    """A job that a thread is at; its container is there once it runs."""

    container: RunningContainer | None = None
    stopper: threading.Thread | None = None


class Transforms:
    """Runs transform jobs; safe for use by many threads.

    ``line`` takes a line of the log (region, stream, line), ``log`` sentences for the person. ``folder`` holds the
    containers' files, ``work`` what is kept of a job until it has ended: with it the job goes on after a restart.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        containers: Containers,
        objects: ObjectStore,
        folder: Path,
        work: Path,
        images: Mapping[str, str],
        speed: float,
        line: Callable[[str, str, str], None],
        log: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._containers = containers
        self._objects = objects
        self._folder = folder
        self._work = work
        self._images = images
        self._speed = speed
        self._line = line
        self._log = log
        self._threads = Threads(_Work, self._run)

    def begin(self, region: str, name: str) -> None:
        """Start what the status of a job asks for."""
        self._threads.begin(region, name)

    def stop(self, region: str, name: str) -> None:
        """End a job early; its status says so already."""
        with self._threads.guard:
            work = self._threads.find(region, name)
            if work is None or work.stop.is_set():
                return
            work.stop.set()
            if work.container is not None:
                # In a thread: whoever asked does not wait for the requests that are in flight.
                work.stopper = threading.Thread(target=work.container.stop, kwargs={"drain": _DRAIN}, daemon=True)
                work.stopper.start()

    def restore(self) -> None:
        """Take up every job that was under way, after a restart; what killed emulators left of others is removed."""
        waiting = [(region, job.name) for region, job in self._ledger.transforms() if job.status in _UNDER_WAY]
        needed = {self._work / region / name.lower() for region, name in waiting}
        for folder in self._work.glob("*/*"):
            if folder not in needed:
                shutil.rmtree(folder, ignore_errors=True)
        for region, name in waiting:
            self.begin(region, name)

    def close(self) -> None:
        """Stop every thread and every container; the ledger stays as it is."""
        jobs = self._threads.close()
        for work in jobs:
            if work.container is not None:
                work.container.stop(drain=0.0)
        self._threads.join(jobs)

    def _run(self, region: str, name: str, work: _Work) -> None:
        try:
            job = self._ledger.transform(region, name)
            assert job is not None
            folder = self._work / region / job.name.lower()
            make_private(folder)
            place = EmulatedPlace(self._objects, folder)
            reason = "" if job.status == "Stopping" else self._worked(region, job, folder, place, work)
            if not self._threads.closing:
                self._end(region, name, place, reason)
                shutil.rmtree(folder, ignore_errors=True)
        except Exception as error:  # a thread of its own: nobody else would ever hear of it
            self._log(f"transform job {name}: {type(error).__name__}: {error}")
            if not self._threads.closing:
                internal = "InternalServerError: We encountered an internal error. Please try again."
                self._end(region, name, None, f"{internal} ({type(error).__name__}: {error})")

    def _worked(self, region: str, job: Transform, folder: Path, place: EmulatedPlace, work: _Work) -> str:
        """Do a job, as far as it is not stopped; why it failed, empty where it did not."""
        stream = datalog.stream(job.name, _instance(), time.time())
        begun = time.monotonic()
        try:
            container = self._started(region, job, stream, work)
        except UnhealthyError as error:
            return f"{_NO_PING} ({error.detail})" if error.detail else _NO_PING
        except ContainerError as error:
            return f"ClientError: {error}"
        try:
            waits = delays.Pauses(self._speed, work.stop)
            waits.wait(delays.CREATION - waits.scaled(time.monotonic() - begun))
            if work.stop.is_set():
                return ""
            self._change(region, job.name, transform_states.began)
            return self._transformed(region, job, folder, place, container, stream, work.stop)
        finally:
            container.stop(drain=0.0)
            if work.stopper is not None:
                work.stopper.join()

    def _started(self, region: str, job: Transform, stream: str, work: _Work) -> RunningContainer:
        container = start_model(
            self._containers,
            job.model,
            Variant(
                name=job.name,
                endpoint=job.name,
                container=ContainerDefinition(image=""),
                instance_type=job.request["TransformResources"]["InstanceType"],
                startup_timeout=_STARTUP,
            ),
            environment=container_environment(TransformJob.from_request(job.request)),
            objects=self._objects,
            folder=self._folder / f"{job.name}-{secrets.token_hex(4)}",
            log=lambda end, line: self._line(region, f"{stream}{end}", line),
            images=self._images,
            cancelled=work.stop,
        )
        if isinstance(container, InferencePipeline) and container.targets:
            container.stop(drain=0.0)
            raise ContainerError(
                f"Model {job.request['ModelName']} has InferenceExecutionConfig.Mode Direct: a transform job cannot "
                "name the container that a record is for."
            )
        with self._threads.guard:
            work.container = container
        return container

    def _transformed(
        self,
        region: str,
        record: Transform,
        folder: Path,
        place: EmulatedPlace,
        container: RunningContainer,
        stream: str,
        stop: threading.Event,
    ) -> str:
        job = TransformJob.from_request(record.request)
        assert job.resources is not None
        asker = ContainerAsker(container)
        instances = min(job.resources.instance_count, _MOST)
        streams = [stream, *(datalog.stream(record.name, _instance(), time.time()) for _ in range(instances - 1))]

        def one(index: int) -> Outcome:
            log = f"{streams[index]}/data-log"
            self._line(region, log, datalog.settings(resolved(job, asker.execution_parameters()), _now()))
            outcome = run(
                job,
                source=place,
                sink=place,
                asker=asker,
                work=folder / f"instance-{index + 1}",
                share=(index, instances),
                stop=stop,
            )
            for failure in outcome.failures:
                for line in datalog.failed(failure, _now()):
                    self._line(region, log, line)
            for note in outcome.notes:
                self._line(region, log, note)
            return outcome

        try:
            with ThreadPoolExecutor(instances, thread_name_prefix=f"emulator-{record.name}") as pool:
                outcomes = list(pool.map(one, range(instances)))
        except TritonForgeError as error:
            return f"ClientError: {error}"
        if stop.is_set():
            return ""
        self._capture(record, job, place)
        return _reason(outcomes, asker)

    def _capture(self, record: Transform, job: TransformJob, place: EmulatedPlace) -> None:
        """Write the manifests of the captured data: what came in, and what went out."""
        outputs = sorted(place.outputs())  # as S3 lists them: objects are finished in any order
        if job.data_capture is None or not outputs:
            return
        if job.input.data_type == "ManifestFile":
            inputs = [uri for uri, _ in manifest_uris(place.open(job.input.uri))]
        else:
            inputs = [each.uri for each in place.list(job.input.uri)]
        for kind, uris in (("input", inputs), ("output", outputs)):
            uri, content = datalog.captured(
                uris, destination=job.data_capture.uri, kind=kind, name=str(uuid.uuid4()), now=_now()
            )
            try:
                self._objects.put(uri, content, content_type="application/jsonlines")
            except ObjectMissingError as error:
                self._log(f"transform job {record.name}: captured data were not written to {uri}: {error}")

    def _end(self, region: str, name: str, place: EmulatedPlace | None, reason: str) -> None:
        with self._ledger.lock:
            job = self._ledger.transform(region, name)
            assert job is not None
            now = self._ledger.now(job.modified)
            if job.status == "Stopping":
                if place is not None:
                    place.withdraw()  # API StopTransformJob: SageMaker "doesn't store the job's output in Amazon S3"
                ended = transform_states.stopped(job, now)
            elif reason:
                ended = transform_states.failed(job, reason, now)
            else:
                ended = transform_states.completed(job, now)
            self._ledger.put(region, _KIND, ended)
        self._log(f"transform job {name} {ended.status}{f': {ended.failure}' if ended.failure else ''}")

    def _change(self, region: str, name: str, to: Callable[[Transform, float], Transform]) -> None:
        with self._ledger.lock:
            job = self._ledger.transform(region, name)
            assert job is not None
            self._ledger.put(region, _KIND, to(job, self._ledger.now(job.modified)))


def _reason(outcomes: Sequence[Outcome], asker: ContainerAsker) -> str:
    """AWS's FailureReason, which leaves all else to the log, and in brackets what went wrong first."""
    failed = [each for each in outcomes if each.state == "Failed"]
    if not failed:
        return ""
    kind = "AlgorithmError" if asker.broke and not asker.refused else "ClientError"
    lost, all_ = sum(each.failed for each in outcomes), sum(each.failed + each.objects for each in outcomes)
    first = next((each.failures[0] for each in failed if each.failures), None)
    if first is None:
        said = failed[0].reason
    else:
        where = "" if first.record is None else f", record {first.record}"
        said = f"{lost} of {all_} objects have no output; {first.uri}{where}: {first.reason}"
    return f"{kind}: See job logs for more information ({said})"


def _instance() -> str:
    return f"i-{secrets.token_hex(8)}0"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
