"""Transform jobs: CreateTransformJob, Describe, List and Stop, and the runner that brings a job to its end.

The form of the data-log's lines is that of the logs quoted in aws/amazon-sagemaker-examples issue 1620 and
aws/sagemaker-tensorflow-serving-container issue 93; the names of the streams are those of the developer guide, "Log
Amazon SageMaker Events with Amazon CloudWatch"; captured data are manifests, as "Capture data from batch transform job"
of that guide has them.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import job_runner
from tritonforge.emulator.control.api_errors import build_job_name_error, build_job_not_found_error, raise_violations
from tritonforge.emulator.control.fleet import BatchModelClient, InferencePipeline, RunningContainer, start_model
from tritonforge.emulator.control.job_runner import (
    INTERNAL_ERROR,
    UNFINISHED,
    Delays,
    JobRunner,
    Task,
    make_instance_id,
)
from tritonforge.emulator.control.model_operations import MODEL
from tritonforge.emulator.control.records import TransformRecord, build_page, describe_record
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resource_store import InstanceUsage, ResourceKind
from tritonforge.emulator.emulated_s3 import JobStore, ObjectMissingError, make_private_folder
from tritonforge.emulator.hosting import ContainerDefinition, ContainerError, UnhealthyError, Variant
from tritonforge.errors import TritonForgeError
from tritonforge.records.manifest import read_manifest_uris
from tritonforge.sagemaker.jobs.job_limits import check_batch_model
from tritonforge.transform import Outcome, TransformJob, run
from tritonforge.transform.job import EffectiveSettings, build_container_environment, resolve_settings
from tritonforge.transform.run_state import Failure

__all__ = ["OPERATIONS", "TRANSFORM_JOB", "TransformRunner", "describe_job"]


def _list_usage(job: TransformRecord) -> Iterable[InstanceUsage]:
    if job.status in UNFINISHED:
        resources = job.request["TransformResources"]
        yield InstanceUsage(resources["InstanceType"], "transform job usage", resources["InstanceCount"])


TRANSFORM_JOB: Final = ResourceKind(
    name="transform-job",
    noun="transform job",
    record=TransformRecord,
    missing=build_job_not_found_error,
    taken=build_job_name_error,
    usage=_list_usage,
    log_group="/aws/sagemaker/TransformJobs",
)

#: What Describe adds to a request that leaves it out. Source: the service model (TransformInput, DataProcessing), and
#: the answer in sagemaker-python-sdk, tests/unit/test_session.py (COMPLETED_DESCRIBE_TRANSFORM_JOB_RESULT).
_DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "TransformInput": {"CompressionType": "None", "SplitType": "None"},
        "TransformOutput": {"AssembleWith": "None", "KmsKeyId": ""},
        "DataProcessing": {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"},
    }
)


def _create(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = context.build_fields(TRANSFORM_JOB, request["TransformJobName"], request)
    model = context.find(MODEL, request["ModelName"]).model
    raise_violations(check_batch_model(model))
    source = request["TransformInput"]["DataSource"]["S3DataSource"]
    context.preconditions.check_input(context.region, source, model["ExecutionRoleArn"])
    context.create(TRANSFORM_JOB, TransformRecord(**fields, status="InProgress", model=model))
    return {"TransformJobArn": fields["arn"]}


def _stop(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return context.stop_job(TRANSFORM_JOB, request["TransformJobName"])


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return describe_job(context.find(TRANSFORM_JOB, request["TransformJobName"]))


def describe_job(job: TransformRecord) -> Mapping[str, Any]:
    """Return the answer to DescribeTransformJob: every member of the request, and the defaults that AWS shows."""
    answer: dict[str, Any] = {
        **job.request,
        **{name: {**defaults, **(job.request.get(name) or {})} for name, defaults in _DEFAULTS.items()},
        "TransformJobName": job.name,
        "TransformJobArn": job.arn,
        "TransformJobStatus": job.status,
        "CreationTime": job.created,
    }
    return answer | _describe_end(job) | ({} if job.began is None else {"TransformStartTime": job.began})


def _list(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return build_page(request, context.list(TRANSFORM_JOB), "TransformJobSummaries", _summarize)


def _summarize(job: TransformRecord) -> Mapping[str, Any]:
    return describe_record(job, "TransformJob") | _describe_end(job)


def _describe_end(job: TransformRecord) -> dict[str, Any]:
    """Return the time and the reason of the end, as far as there is one."""
    ended = {} if job.ended is None else {"TransformEndTime": job.ended}
    return ended | ({"FailureReason": job.failure} if job.failure else {})


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateTransformJob": _create,
        "DescribeTransformJob": _describe,
        "ListTransformJobs": _list,
        "StopTransformJob": _stop,
    }
)

_MB = 2**20


def _build_stream_name(job: str, instance: str, began: float) -> str:
    """Return the name of the log stream of an instance's container; its data log adds ``/data-log``.

    >>> _build_stream_name("seed-0", "i-0a1b", 1700000000.5)
    'seed-0/i-0a1b-1700000000'
    """
    return f"{job}/{instance}-{int(began)}"


def _write_settings(effective: EffectiveSettings, now: dt.datetime) -> str:
    """Return the first line of a job's log: the settings in effect."""
    strategy = "SINGLE_RECORD" if effective.strategy == "SingleRecord" else "MULTI_RECORD"
    payload = 0 if effective.chunked else effective.max_payload // _MB
    return _format_line(
        f"MaxConcurrentTransforms={effective.max_concurrent}, MaxPayloadInMB={payload}, BatchStrategy={strategy}", now
    )


def _write_failure(failure: Failure, now: dt.datetime) -> Iterator[str]:
    """Yield the lines of an object that has no output, with the record, which AWS does not name."""
    name = failure.uri.removeprefix("s3://")
    where = "" if failure.record is None else f"record {failure.record}: "
    first, *rest = failure.reason.splitlines() or [""]
    yield _format_line(f"{name}: {where}{first}", now)
    for line in rest:
        yield _format_line(f"{name}: {line}", now)


def _format_line(text: str, now: dt.datetime) -> str:
    return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}:[sagemaker logs]: {text}"


def _build_manifest(
    uris: Sequence[str], *, destination: str, kind: str, name: str, now: dt.datetime
) -> tuple[str, bytes]:
    """Build the manifest of a job's inputs or outputs (``kind`` "input", "output"); return its URI and its content.

    >>> import datetime as dt
    >>> _build_manifest(["s3://b/in/a", "s3://b/in/c/d"], destination="s3://k", kind="input", name="n",
    ...          now=dt.datetime(2026, 1, 2, 3))
    ('s3://k/input/2026/01/02/03/n.jsonl', b'[{"prefix": "s3://b/in/"}, "a", "c/d"]')
    """
    prefix = _find_common_folder(uris)
    document = [{"prefix": prefix}, *(uri.removeprefix(prefix) for uri in uris)]
    return f"{destination.rstrip('/')}/{kind}/{now:%Y/%m/%d/%H}/{name}.jsonl", json.dumps(document).encode()


def _find_common_folder(uris: Sequence[str]) -> str:
    """Return the longest prefix up to a "/" that all URIs have in common."""
    first, last = min(uris), max(uris)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first[:length].rfind("/") + 1]


#: Instances that are distinguished.
_MAX_INSTANCES: Final = 8

#: Seconds that a container has to answer /ping. Source: aws/amazon-sagemaker-examples issue 815, where AWS says that a
#: job ends after 30 minutes of failing pings.
_STARTUP: Final = 1800.0

#: Source: AWS's FailureReason in aws/amazon-sagemaker-examples issue 852.
_NO_PING: Final = (
    "AlgorithmError: Model container failed to respond to ping. Please ensure /ping endpoint is implemented and "
    "responds with an HTTP 200 status code"
)


class TransformRunner(JobRunner[TransformRecord]):
    """Runs transform jobs: a container is started, and the engine of `tritonforge transform` sends it the objects.

    Instances share one container: the objects are distributed among them one by one in the order of their keys, and
    each instance has its own requests in flight, its own part of the log and its own journal. More than
    `_MAX_INSTANCES` instances count as that many.
    """

    def restore(self) -> None:
        """Resume every unfinished job with the folder that it left, after a restart; remove all other folders."""
        needed = {
            self._find_folder(region, job.name)
            for region, job in self.store.list_all(self.kind)
            if self.is_unfinished(job)
        }
        for folder in set((self.services.work / "transforms").glob("*/*")) - needed:
            shutil.rmtree(folder, ignore_errors=True)
        super().restore()

    def run(self, task: Task) -> None:
        """Run a job to its end, and remove its folder."""
        job = self.find(task)
        folder = self._find_folder(task.region, job.name)
        make_private_folder(folder)
        store = JobStore(self.services.s3, folder)
        reason = "" if job.status == "Stopping" else self._run_job(task, job, folder, store)
        if not self.closing.is_set():
            self._end(task, store, reason)
            shutil.rmtree(folder, ignore_errors=True)

    def fail(self, task: Task, reason: str) -> None:
        """End a job with AWS's sentence for an error of its own."""
        self._end(task, None, f"{INTERNAL_ERROR} ({reason})")

    def _find_folder(self, region: str, name: str) -> Path:
        return self.services.work / "transforms" / region / name.lower()

    def _write(self, task: Task, stream: str, line: str) -> None:
        self.services.write_line(task.region, self.kind.log_group, stream, line)

    def _run_job(self, task: Task, job: TransformRecord, folder: Path, store: JobStore) -> str:
        """Run a job unless it is stopped; return why it failed, empty if it did not."""
        stream = _build_stream_name(job.name, make_instance_id(), time.time())
        began = time.monotonic()
        try:
            container = self._start_container(task, job, stream)
        except UnhealthyError as error:
            return f"{_NO_PING} ({error.detail})" if error.detail else _NO_PING
        except ContainerError as error:
            return f"ClientError: {error}"
        try:
            if not Delays(self.services.speed, task.stop).wait_since(began, job_runner.CREATION):
                return ""
            self.change(task, job_runner.mark_started)
            return self._transform(task, job, folder, store, container, stream)
        finally:
            container.stop(drain=0.0)
            task.join()

    def _start_container(self, task: Task, job: TransformRecord, stream: str) -> RunningContainer:
        container = start_model(
            self.services,
            job.model,
            Variant(
                name=job.name,
                endpoint=job.name,
                container=ContainerDefinition(image=""),
                instance_type=job.request["TransformResources"]["InstanceType"],
                startup_timeout=_STARTUP,
            ),
            environment=build_container_environment(TransformJob.from_request(job.request)),
            log=lambda end, line: self._write(task, f"{stream}{end}", line),
            cancelled=task.stop,
        )
        if isinstance(container, InferencePipeline) and container.targets:
            container.stop(drain=0.0)
            raise ContainerError(
                f"Model {job.request['ModelName']} has InferenceExecutionConfig.Mode Direct: a transform job cannot "
                "name the container that a record is for."
            )
        self.set_interrupt(task, lambda drain: container.stop(drain=drain))
        return container

    def _transform(
        self,
        task: Task,
        record: TransformRecord,
        folder: Path,
        store: JobStore,
        container: RunningContainer,
        stream: str,
    ) -> str:
        job = TransformJob.from_request(record.request)
        assert job.resources is not None
        client = BatchModelClient(container)
        instances = min(job.resources.instance_count, _MAX_INSTANCES)
        streams = [stream]
        streams += [_build_stream_name(record.name, make_instance_id(), time.time()) for _ in range(instances - 1)]

        def run_instance(index: int) -> Outcome:
            log = f"{streams[index]}/data-log"
            self._write(task, log, _write_settings(resolve_settings(job, client.fetch_parameters()), _get_time()))
            outcome = run(
                job,
                source=store,
                sink=store,
                client=client,
                work=folder / f"instance-{index + 1}",
                share=(index, instances),
                stop=task.stop,
            )
            for failure in outcome.failures:
                for line in _write_failure(failure, _get_time()):
                    self._write(task, log, line)
            for note in outcome.notes:
                self._write(task, log, note)
            return outcome

        try:
            with ThreadPoolExecutor(instances, thread_name_prefix=f"emulator-{record.name}") as pool:
                outcomes = list(pool.map(run_instance, range(instances)))
        except TritonForgeError as error:
            return f"ClientError: {error}"
        if task.stop.is_set():
            return ""
        self._capture(record, job, store)
        return _find_reason(outcomes, client)

    def _capture(self, record: TransformRecord, job: TransformJob, store: JobStore) -> None:
        """Write the manifests of the captured data: what came in, and what went out."""
        outputs = sorted(store.list_outputs())  # as S3 lists them: objects are finished in any order
        if job.data_capture is None or not outputs:
            return
        if job.input.data_type == "ManifestFile":
            inputs = [uri for uri, _ in read_manifest_uris(store.open(job.input.uri))]
        else:
            inputs = [entry.uri for entry in store.list(job.input.uri)]
        for kind, uris in (("input", inputs), ("output", outputs)):
            uri, content = _build_manifest(
                uris, destination=job.data_capture.uri, kind=kind, name=str(uuid.uuid4()), now=_get_time()
            )
            try:
                self.services.s3.put(uri, content, content_type="application/jsonlines")
            except ObjectMissingError as error:
                self.services.log(f"transform job {record.name}: captured data were not written to {uri}: {error}")

    def _end(self, task: Task, store: JobStore | None, reason: str) -> None:
        def end(job: TransformRecord, now: float) -> TransformRecord:
            if job.status == "Stopping":
                if store is not None:
                    store.withdraw()  # API StopTransformJob: SageMaker "doesn't store the job's output in Amazon S3"
                return job_runner.stop(job, now)
            return job_runner.fail(job, reason, now) if reason else job_runner.complete(job, now)

        self.log_status(self.change(task, end))


def _find_reason(outcomes: Sequence[Outcome], client: BatchModelClient) -> str:
    """Return AWS's FailureReason, which leaves all else to the log, and in brackets the first error."""
    failed = [outcome for outcome in outcomes if outcome.state == "Failed"]
    if not failed:
        return ""
    kind = "AlgorithmError" if client.broke and not client.refused else "ClientError"
    lost = sum(outcome.failed for outcome in outcomes)
    total = lost + sum(outcome.objects for outcome in outcomes)
    first = next((outcome.failures[0] for outcome in failed if outcome.failures), None)
    if first is None:
        detail = failed[0].reason
    else:
        where = "" if first.record is None else f", record {first.record}"
        detail = f"{lost} of {total} objects have no output; {first.uri}{where}: {first.reason}"
    return f"{kind}: See job logs for more information ({detail})"


def _get_time() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
