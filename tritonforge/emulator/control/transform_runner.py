"""What SageMaker itself writes of a transform job: the lines of its data-log, and its captured data. No I/O.

The form of the lines is that of the logs quoted in aws/amazon-sagemaker-examples issue 1620 and
aws/sagemaker-tensorflow-serving-container issue 93; the names of the streams are those of the developer guide, "Log
Amazon SageMaker Events with Amazon CloudWatch"; captured data are manifests, as "Capture data from batch transform job"
of that guide has them.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonforge.emulator.control import job_runner, transform_jobs
from tritonforge.emulator.control.batch_container import BatchModelClient
from tritonforge.emulator.control.fleet import Containers, InferencePipeline, RunningContainer, start_model
from tritonforge.emulator.control.job_runner import Task, Threads
from tritonforge.emulator.control.records import TransformRecord
from tritonforge.emulator.control.resource_store import ResourceStore
from tritonforge.emulator.emulated_s3 import EmulatedS3, JobStore, ObjectMissingError, make_private_folder
from tritonforge.emulator.hosting import ContainerDefinition, ContainerError, UnhealthyError, Variant
from tritonforge.errors import TritonForgeError
from tritonforge.records.manifest import read_manifest_uris
from tritonforge.transform import Outcome, TransformJob, run
from tritonforge.transform.run_state import Failure
from tritonforge.transform.settings import EffectiveSettings, build_container_environment, resolve_settings

__all__ = ["TransformRunner", "build_manifest", "build_stream_name", "write_failure", "write_settings"]

_MB = 2**20


def build_stream_name(job: str, instance: str, began: float) -> str:
    """The log stream of an instance's container; that of its data-log is ``/data-log`` behind it.

    >>> stream("seed-0", "i-0a1b", 1700000000.5)
    'seed-0/i-0a1b-1700000000'
    """
    return f"{job}/{instance}-{int(began)}"


def write_settings(effective: EffectiveSettings, now: dt.datetime) -> str:
    """The line that a job begins with: the values that it runs with."""
    strategy = "SINGLE_RECORD" if effective.strategy == "SingleRecord" else "MULTI_RECORD"
    payload = 0 if effective.chunked else effective.max_payload // _MB
    return _format_line(
        f"MaxConcurrentTransforms={effective.max_concurrent}, MaxPayloadInMB={payload}, BatchStrategy={strategy}", now
    )


def write_failure(failure: Failure, now: dt.datetime) -> Iterator[str]:
    """The lines of an object that has no output; the record is told besides what AWS tells."""
    name = failure.uri.removeprefix("s3://")
    where = "" if failure.record is None else f"record {failure.record}: "
    first, *rest = failure.reason.splitlines() or [""]
    yield _format_line(f"{name}: {where}{first}", now)
    for each in rest:
        yield _format_line(f"{name}: {each}", now)


def _format_line(text: str, now: dt.datetime) -> str:
    return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}:[sagemaker logs]: {text}"


def build_manifest(
    uris: Sequence[str], *, destination: str, kind: str, name: str, now: dt.datetime
) -> tuple[str, bytes]:
    """The manifest of a job's inputs or outputs (``kind`` "input", "output"): its address and its content.

    >>> import datetime as dt
    >>> captured(["s3://b/in/a", "s3://b/in/c/d"], destination="s3://k", kind="input", name="n",
    ...          now=dt.datetime(2026, 1, 2, 3))
    ('s3://k/input/2026/01/02/03/n.jsonl', b'[{"prefix": "s3://b/in/"}, "a", "c/d"]')
    """
    prefix = _find_common_folder(uris)
    document = [{"prefix": prefix}, *(uri.removeprefix(prefix) for uri in uris)]
    return f"{destination.rstrip('/')}/{kind}/{now:%Y/%m/%d/%H}/{name}.jsonl", json.dumps(document).encode()


def _find_common_folder(uris: Sequence[str]) -> str:
    """The folder that all addresses have in common."""
    first, last = min(uris), max(uris)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first[:length].rfind("/") + 1]


_KIND: Final = "transform-job"

#: Instances that are told apart.
_MAX_INSTANCES: Final = 8

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


_UNDER_WAY: Final = transform_jobs.UNDER_WAY


@dataclass(slots=True)
class _Work(Task):
    """A job that a thread is at; its container is there once it runs."""

    container: RunningContainer | None = None
    stopper: threading.Thread | None = None


class TransformRunner:
    """Runs transform jobs; safe for use by many threads.

    ``line`` takes a line of the log (region, stream, line), ``log`` sentences for the person. ``folder`` holds the
    containers' files, ``work`` what is kept of a job until it has ended: with it the job goes on after a restart.
    """

    def __init__(
        self,
        store: ResourceStore,
        *,
        containers: Containers,
        objects: EmulatedS3,
        folder: Path,
        work: Path,
        images: Mapping[str, str],
        speed: float,
        line: Callable[[str, str, str], None],
        log: Callable[[str], None],
    ) -> None:
        self._store = store
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
        waiting = [(region, job.name) for region, job in self._store.transforms() if job.status in _UNDER_WAY]
        needed = {self._work / region / name.lower() for region, name in waiting}
        for folder in self._work.glob("*/*"):
            if folder not in needed:
                shutil.rmtree(folder, ignore_errors=True)
        for region, name in waiting:
            self.begin(region, name)

    def close(self) -> None:
        """Stop every thread and every container; the store stays as it is."""
        jobs = self._threads.close()
        for work in jobs:
            if work.container is not None:
                work.container.stop(drain=0.0)
        self._threads.join(jobs)

    def _run(self, region: str, name: str, work: _Work) -> None:
        try:
            job = self._store.transform(region, name)
            assert job is not None
            folder = self._work / region / job.name.lower()
            make_private_folder(folder)
            place = JobStore(self._objects, folder)
            reason = "" if job.status == "Stopping" else self._worked(region, job, folder, place, work)
            if not self._threads.closing:
                self._end(region, name, place, reason)
                shutil.rmtree(folder, ignore_errors=True)
        except Exception as error:  # a thread of its own: nobody else would ever hear of it
            self._log(f"transform job {name}: {type(error).__name__}: {error}")
            if not self._threads.closing:
                internal = "InternalServerError: We encountered an internal error. Please try again."
                self._end(region, name, None, f"{internal} ({type(error).__name__}: {error})")

    def _worked(self, region: str, job: TransformRecord, folder: Path, place: JobStore, work: _Work) -> str:
        """Do a job, as far as it is not stopped; why it failed, empty where it did not."""
        stream = build_stream_name(job.name, _make_instance_id(), time.time())
        begun = time.monotonic()
        try:
            container = self._started(region, job, stream, work)
        except UnhealthyError as error:
            return f"{_NO_PING} ({error.detail})" if error.detail else _NO_PING
        except ContainerError as error:
            return f"ClientError: {error}"
        try:
            waits = job_runner.Delays(self._speed, work.stop)
            waits.wait(job_runner.CREATION - waits.scaled(time.monotonic() - begun))
            if work.stop.is_set():
                return ""
            self._change(region, job.name, transform_jobs.mark_started)
            return self._transformed(region, job, folder, place, container, stream, work.stop)
        finally:
            container.stop(drain=0.0)
            if work.stopper is not None:
                work.stopper.join()

    def _started(self, region: str, job: TransformRecord, stream: str, work: _Work) -> RunningContainer:
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
            environment=build_container_environment(TransformJob.from_request(job.request)),
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
        record: TransformRecord,
        folder: Path,
        place: JobStore,
        container: RunningContainer,
        stream: str,
        stop: threading.Event,
    ) -> str:
        job = TransformJob.from_request(record.request)
        assert job.resources is not None
        client = BatchModelClient(container)
        instances = min(job.resources.instance_count, _MAX_INSTANCES)
        streams = [
            stream,
            *(build_stream_name(record.name, _make_instance_id(), time.time()) for _ in range(instances - 1)),
        ]

        def one(index: int) -> Outcome:
            log = f"{streams[index]}/data-log"
            self._line(region, log, write_settings(resolve_settings(job, client.fetch_parameters()), _now()))
            outcome = run(
                job,
                source=place,
                sink=place,
                client=client,
                work=folder / f"instance-{index + 1}",
                share=(index, instances),
                stop=stop,
            )
            for failure in outcome.failures:
                for line in write_failure(failure, _now()):
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
        return _find_reason(outcomes, client)

    def _capture(self, record: TransformRecord, job: TransformJob, place: JobStore) -> None:
        """Write the manifests of the captured data: what came in, and what went out."""
        outputs = sorted(place.outputs())  # as S3 lists them: objects are finished in any order
        if job.data_capture is None or not outputs:
            return
        if job.input.data_type == "ManifestFile":
            inputs = [uri for uri, _ in read_manifest_uris(place.open(job.input.uri))]
        else:
            inputs = [each.uri for each in place.list(job.input.uri)]
        for kind, uris in (("input", inputs), ("output", outputs)):
            uri, content = build_manifest(
                uris, destination=job.data_capture.uri, kind=kind, name=str(uuid.uuid4()), now=_now()
            )
            try:
                self._objects.put(uri, content, content_type="application/jsonlines")
            except ObjectMissingError as error:
                self._log(f"transform job {record.name}: captured data were not written to {uri}: {error}")

    def _end(self, region: str, name: str, place: JobStore | None, reason: str) -> None:
        with self._store.lock:
            job = self._store.transform(region, name)
            assert job is not None
            now = self._store.now(job.modified)
            if job.status == "Stopping":
                if place is not None:
                    place.withdraw()  # API StopTransformJob: SageMaker "doesn't store the job's output in Amazon S3"
                ended = transform_jobs.stop(job, now)
            elif reason:
                ended = transform_jobs.fail(job, reason, now)
            else:
                ended = transform_jobs.complete(job, now)
            self._store.put(region, _KIND, ended)
        self._log(f"transform job {name} {ended.status}{f': {ended.failure}' if ended.failure else ''}")

    def _change(self, region: str, name: str, to: Callable[[TransformRecord, float], TransformRecord]) -> None:
        with self._store.lock:
            job = self._store.transform(region, name)
            assert job is not None
            self._store.put(region, _KIND, to(job, self._store.now(job.modified)))


def _find_reason(outcomes: Sequence[Outcome], client: BatchModelClient) -> str:
    """AWS's FailureReason, which leaves all else to the log, and in brackets what went wrong first."""
    failed = [each for each in outcomes if each.state == "Failed"]
    if not failed:
        return ""
    kind = "AlgorithmError" if client.broke and not client.refused else "ClientError"
    lost, all_ = sum(each.failed for each in outcomes), sum(each.failed + each.objects for each in outcomes)
    first = next((each.failures[0] for each in failed if each.failures), None)
    if first is None:
        said = failed[0].reason
    else:
        where = "" if first.record is None else f", record {first.record}"
        said = f"{lost} of {all_} objects have no output; {first.uri}{where}: {first.reason}"
    return f"{kind}: See job logs for more information ({said})"


def _make_instance_id() -> str:
    return f"i-{secrets.token_hex(8)}0"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
