"""Processing jobs: CreateProcessingJob, Describe, List and Stop, and the runner that brings a job to its end.

Inputs are copied from S3, the program runs in namespaces, its outputs are written to S3 when it ends, also those of
S3UploadMode Continuous. The container has what SageMaker's has: inputs and outputs below /opt/ml/processing, the
request in /opt/ml/config/processingjobconfig.json, and the hosts in /opt/ml/config/resourceconfig.json. The first
kilobyte of /opt/ml/output/message is the job's ExitMessage. Source: SageMaker developer guide, "Build Your Own
Processing Container".
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from tritonforge.emulator.control import job_runner
from tritonforge.emulator.control.api_errors import (
    build_image_error,
    build_job_name_error,
    build_job_not_found_error,
    build_validation_error,
)
from tritonforge.emulator.control.job_runner import INTERNAL_ERROR, UNFINISHED, Delays, JobRunner, Task
from tritonforge.emulator.control.records import JobRecord, build_page, describe_record
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resource_store import InstanceUsage, ResourceKind
from tritonforge.emulator.emulated_s3 import JobStore, make_private_folder
from tritonforge.emulator.hosting import program_containers
from tritonforge.errors import TritonForgeError
from tritonforge.files import describe_error
from tritonforge.training.job.objects import JobStoppedError, copy_objects, list_objects
from tritonforge.training.job.opt_ml import HOST, copy_file, list_regular_files, read_start
from tritonforge.training.job.training_job import S3Data
from tritonforge.training.sandbox import PROGRAM, Bind, Process, start_container

__all__ = ["BASE", "OPERATIONS", "PROCESSING_JOB", "ProcessingRecord", "ProcessingRunner", "list_outputs"]

#: Inputs and outputs are below this directory of the container. Source: API ProcessingS3Input, LocalPath.
BASE: Final = PurePosixPath("/opt/ml/processing")

#: What Describe adds to a request that omits it. Source: the service model (ProcessingStoppingCondition, "1 day"), and
#: the answers that aws/sagemaker-python-sdk prints of its inputs and outputs (amazon-sagemaker-examples issue 1604).
_INPUT_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(
    {"S3InputMode": "File", "S3DataDistributionType": "FullyReplicated", "S3CompressionType": "None"}
)
_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType({"StoppingCondition": {"MaxRuntimeInSeconds": 86400}})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingRecord(JobRecord):
    """A processing job; ``message`` is its ExitMessage."""

    message: str = ""


def _list_usage(job: ProcessingRecord) -> Iterable[InstanceUsage]:
    if job.status in UNFINISHED:
        cluster = job.request["ProcessingResources"]["ClusterConfig"]
        yield InstanceUsage(cluster["InstanceType"], "processing job usage", int(cluster.get("InstanceCount") or 1))


PROCESSING_JOB: Final = ResourceKind(
    name="processing-job",
    noun="processing job",
    record=ProcessingRecord,
    missing=build_job_not_found_error,
    taken=build_job_name_error,
    usage=_list_usage,
    log_group="/aws/sagemaker/ProcessingJobs",
)


def list_outputs(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the outputs of a request, as it has them."""
    return list((request.get("ProcessingOutputConfig") or {}).get("Outputs") or ())


def _create(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = context.build_fields(PROCESSING_JOB, request["ProcessingJobName"], request)
    if sentences := list(_find_unsupported(request)):
        raise build_validation_error("; ".join(sentences))
    context.preconditions.check_role(context.region, request["RoleArn"])
    image = request["AppSpecification"]["ImageUri"]
    if program_containers.find_program(image, context.images) is None:
        raise build_image_error(image, program_containers.ADVICE)
    for processing_input in request.get("ProcessingInputs") or ():
        context.preconditions.check_input(context.region, processing_input["S3Input"], request["RoleArn"])
    context.create(PROCESSING_JOB, ProcessingRecord(**fields, status="InProgress"))
    return {"ProcessingJobArn": fields["arn"]}


def _find_unsupported(request: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a request has that is invalid or not emulated; the sentences are ours."""
    cluster = request["ProcessingResources"]["ClusterConfig"]
    if not cluster.get("InstanceType"):
        yield "ClusterConfig.InstanceType is required: tritonforge's emulator has no instance preferences"
    if int(cluster.get("InstanceCount") or 1) > 1:
        yield "ClusterConfig.InstanceCount is more than 1: tritonforge's emulator runs a processing job on one instance"
    paths: list[str] = []
    for processing_input in request.get("ProcessingInputs") or ():
        where, source = f"ProcessingInputs[{processing_input['InputName']}]", processing_input.get("S3Input")
        if source is None:
            yield f"{where}: tritonforge's emulator takes S3Input only, no DatasetDefinition"
            continue
        if source.get("S3InputMode") == "Pipe" or source.get("S3CompressionType") == "Gzip":
            yield f"{where}: tritonforge's emulator takes S3InputMode File without S3CompressionType only"
        paths.append(source.get("LocalPath", ""))
        yield from _check_path(where, paths[-1])
    for output in list_outputs(request):
        where, target = f"ProcessingOutputConfig.Outputs[{output['OutputName']}]", output.get("S3Output")
        if target is None:
            yield f"{where}: tritonforge's emulator takes S3Output only, no FeatureStoreOutput"
            continue
        yield from _check_path(where, target.get("LocalPath", ""))
    if len(paths) != len(set(paths)):
        # aws/sagemaker-python-sdk issue 4939 states the rule.
        yield "ProcessingInputs: the LocalPath of each input must be unique"


def _check_path(where: str, text: str) -> Iterator[str]:
    path = PurePosixPath(text)
    if ".." in path.parts or not path.is_relative_to(BASE) or path == BASE:
        yield f"{where}: LocalPath is {text!r} (expected a directory below {BASE})"


def _stop(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return context.stop_job(PROCESSING_JOB, request["ProcessingJobName"])


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    job = context.find(PROCESSING_JOB, request["ProcessingJobName"])
    answer: dict[str, Any] = {**_DEFAULTS, **job.request, **_summarize(job)}
    if "ProcessingInputs" in answer:
        answer["ProcessingInputs"] = [
            {"AppManaged": False, **given, "S3Input": {**_INPUT_DEFAULTS, **given["S3Input"]}}
            for given in answer["ProcessingInputs"]
        ]
    if outputs := list_outputs(job.request):
        described = [{"AppManaged": False, **output} for output in outputs]
        answer["ProcessingOutputConfig"] = {**job.request["ProcessingOutputConfig"], "Outputs": described}
    return answer | ({} if job.began is None else {"ProcessingStartTime": job.began})


def _list(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return build_page(request, context.list(PROCESSING_JOB), "ProcessingJobSummaries", _summarize, order="Ascending")


def _summarize(job: ProcessingRecord) -> dict[str, Any]:
    optional = {
        "ProcessingEndTime": job.ended,
        "FailureReason": job.failure or None,
        "ExitMessage": job.message or None,
    }
    return {
        **describe_record(job, "ProcessingJob"),
        **{name: value for name, value in optional.items() if value is not None},
    }


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateProcessingJob": _create,
        "DescribeProcessingJob": _describe,
        "ListProcessingJobs": _list,
        "StopProcessingJob": _stop,
    }
)

#: Seconds between SIGTERM and SIGKILL. Source: API StopProcessingJob.
_GRACE: Final = 120.0

#: Seconds between two checks whether a job is stopped or its time is over.
_PERIOD: Final = 0.1

#: Bytes of an ExitMessage. Source: API DescribeProcessingJob, "up to one KB in size".
_MAX_MESSAGE: Final = 1024

#: What runs in a program folder if the request has no ContainerEntrypoint: the ENTRYPOINT of the image.
_ENTRYPOINT: Final = "process"

_OPT_ML: Final = PurePosixPath("/opt/ml")

#: How a job ends at a time.
_End: TypeAlias = Callable[[ProcessingRecord, float], ProcessingRecord]


class ProcessingRunner(JobRunner[ProcessingRecord]):
    """Runs processing jobs; after a restart of the emulator a job starts again."""

    #: Programs have this many seconds to end when the emulator is stopped.
    grace = 5.0

    def restore(self) -> None:
        """Start every unfinished job again, after a restart."""
        shutil.rmtree(self.services.work / "processing", ignore_errors=True)  # what killed emulators left
        super().restore()

    def run(self, task: Task) -> None:
        """Run a job to its end, and remove its folder."""
        job = self.find(task)
        folder = self.services.work / "processing" / task.region / job.name.lower()
        make_private_folder(folder)
        try:
            end = job_runner.stop if job.status == "Stopping" else self._process(task, job, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if not self.closing.is_set():
            self._end(task, end)

    def fail(self, task: Task, reason: str) -> None:
        """End a job with AWS's sentence for an error of its own."""
        self._end(task, _fail(f"{INTERNAL_ERROR} ({reason})"))

    def _end(self, task: Task, end: _End) -> None:
        self.log_status(
            self.change(task, lambda job, now: job_runner.stop(job, now) if job.status == "Stopping" else end(job, now))
        )

    def _process(self, task: Task, job: ProcessingRecord, folder: Path) -> _End:
        """Run a job unless it is stopped; return how it ends."""
        specification = job.request["AppSpecification"]
        program = program_containers.find_program(specification["ImageUri"], self.services.images)
        if program is None:
            return _fail(f"ClientError: Requested image {specification['ImageUri']} not found.")
        if not Delays(self.services.speed, task.stop).wait(job_runner.CREATION):
            return job_runner.stop
        self.change(task, job_runner.mark_started)
        base, store = folder / "ml", JobStore(self.services.s3, folder)
        try:
            _lay_out(job, base)
            _copy_inputs(job, base, store, task.stop)
            command = specification.get("ContainerEntrypoint") or [_ENTRYPOINT]
            code = self._run_program(
                task,
                job,
                [*command, *(specification.get("ContainerArguments") or ())],
                [Bind(base, str(_OPT_ML)), Bind(program, PROGRAM, read_only=True)],
            )
            message = _read_message(base)
            self.change(task, lambda record, now: replace(record, message=message, modified=now))
            if code in (0, None) and not task.kill.is_set():
                _upload_outputs(job, base, store, folder / "upload")
        except JobStoppedError:
            return job_runner.stop
        except TritonForgeError as error:
            return _fail(f"ClientError: {error}")
        except OSError as error:
            return _fail(f"ClientError: the data cannot be kept on this machine: {describe_error(error)}")
        if code:
            # The sentence is as remembered of AWS; its source was not at hand. The exit code is ours.
            return _fail(f"AlgorithmError: See job logs for more information (exit code: {code})")
        return job_runner.stop if code is None else job_runner.complete

    def _run_program(self, task: Task, job: ProcessingRecord, command: list[str], binds: list[Bind]) -> int | None:
        """Return the program's exit code, None if it was stopped or its time was over."""
        stream = f"{job.name}/{HOST}-{int(time.time())}"
        limit = (job.request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds", 86400)
        deadline = time.monotonic() + limit

        def write(line: str) -> None:
            self.services.write_line(task.region, self.kind.log_group, stream, line)

        try:
            with start_container(
                command, binds=binds, environment=job.request.get("Environment") or {}, hostname=HOST, log=write
            ) as process:
                while True:
                    with contextlib.suppress(TimeoutError):
                        return process.wait(_PERIOD)
                    if task.stop.is_set() or time.monotonic() > deadline:
                        _terminate(process, task.kill)
                        return None
        finally:
            self.services.flush_lines()


def _fail(reason: str) -> _End:
    return lambda job, now: job_runner.fail(job, reason, now)


def _terminate(process: Process, kill: threading.Event) -> None:
    """End a program by SIGTERM, and by SIGKILL after the grace period or when ``kill`` is set."""
    thread = threading.Thread(target=process.terminate, args=(_GRACE,), daemon=True)
    thread.start()
    while not kill.is_set():
        with contextlib.suppress(TimeoutError):
            process.wait(_PERIOD)
            break
    else:
        process.kill()
    thread.join()


def _find_folder(base: Path, local_path: str) -> Path:
    """Return the folder of this machine that a path of the container is; the request was checked to be below BASE."""
    return base / PurePosixPath(local_path).relative_to(_OPT_ML)


def _lay_out(job: ProcessingRecord, base: Path) -> None:
    """Make the directories of the container, and write its configuration. Raises OSError."""
    config = base / "config"
    for folder in (config, base / "output", base / "processing"):
        folder.mkdir(parents=True)
    request: Mapping[str, Any] = job.request
    for output in list_outputs(request):
        _find_folder(base, output["S3Output"]["LocalPath"]).mkdir(parents=True, exist_ok=True)
    documents = {
        "processingjobconfig.json": {"ProcessingJobArn": job.arn, **request},
        "resourceconfig.json": {"current_host": HOST, "hosts": [HOST]},
    }
    for name, document in documents.items():
        (config / name).write_text(json.dumps(document), encoding="utf-8")


def _copy_inputs(job: ProcessingRecord, base: Path, store: JobStore, stop: threading.Event) -> None:
    """Copy the inputs of a job. Raises TritonForgeError, OSError, and JobStoppedError once ``stop`` is set."""
    for processing_input in job.request.get("ProcessingInputs") or ():
        source = processing_input["S3Input"]
        folder = _find_folder(base, source["LocalPath"])
        folder.mkdir(parents=True, exist_ok=True)
        data = S3Data(uri=source["S3Uri"], data_type=source["S3DataType"])
        copy_objects(list_objects(data, store, stop), store, folder, stop)


def _upload_outputs(job: ProcessingRecord, base: Path, store: JobStore, scratch: Path) -> None:
    """Write the regular files of every output to S3. Raises TritonForgeError and OSError."""
    for output in list_outputs(job.request):
        target = output["S3Output"]
        folder, uri = PurePosixPath(target["LocalPath"]).relative_to(_OPT_ML), target["S3Uri"].rstrip("/")
        with contextlib.suppress(NotADirectoryError):  # the program replaced the directory, for example by a link
            for path, _ in list_regular_files(base, folder):
                copy_file(base, folder / path, scratch)  # the store removes what it has put
                store.put(scratch, f"{uri}/{path}")


def _read_message(base: Path) -> str:
    """Return the start of the message that a program leaves, empty if it is missing or not a regular file."""
    return read_start(base, "output/message", _MAX_MESSAGE).decode(errors="replace").strip()
