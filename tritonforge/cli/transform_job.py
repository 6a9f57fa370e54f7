"""The job of the command transform: its options, and its run on SageMaker.

With --on sagemaker the model is prepared, then the job is planned, submitted and watched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

import click

from tritonforge.building import build_definitions
from tritonforge.cli import job_monitor
from tritonforge.cli.job_monitor import INTERRUPTED, SubmitOptions, format_state, print_error_line
from tritonforge.cli.options import SAGEMAKER, AwsOptions, declare_name_value_option, declare_option
from tritonforge.cli.printing import echo_json
from tritonforge.cli.terminal import Steps, escape_markup, out, steps
from tritonforge.records import AssembleWith, BatchStrategy, SplitType
from tritonforge.repository.definition.loading import load
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Deployment
from tritonforge.sagemaker.endpoints.local_repository import find_deployment, is_definition
from tritonforge.sagemaker.jobs.kinds import build_resource_name
from tritonforge.sagemaker.jobs.transform import INSTANCE_TYPE, TransformRun
from tritonforge.transform import RAW, DataProcessing, ModelClientConfig, TransformInput, TransformJob, TransformOutput
from tritonforge.transform.job import CompressionType, JoinSource

__all__ = ["TransformOptions", "TransformSageMakerOptions", "run_on_sagemaker"]

_RECORDS: Final = "Record options"


@dataclass(frozen=True, slots=True)
class TransformOptions:
    """The fields of a transform job."""

    content_type: str | None = declare_option(
        "--content-type", metavar="TYPE", group=_RECORDS,
        help="The content type of the input. Default: the model's one input without a header.",
    )  # fmt: skip
    accept: str | None = declare_option(
        "--accept", metavar="TYPE", group=_RECORDS, help="The content type to request from the model."
    )
    split_type: SplitType | None = declare_option(
        "--split-type", type=click.Choice(get_args(SplitType)), group=_RECORDS, help="Split objects into records."
    )
    batch_strategy: BatchStrategy | None = declare_option(
        "--batch-strategy", type=click.Choice(get_args(BatchStrategy)), group=_RECORDS,
        help="Send one record or several in a request.",
    )  # fmt: skip
    assemble_with: AssembleWith | None = declare_option(
        "--assemble-with", type=click.Choice(get_args(AssembleWith)), group=_RECORDS,
        help="Write this between the answers of an object.",
    )  # fmt: skip
    compression_type: CompressionType | None = declare_option(
        "--compression-type", type=click.Choice(get_args(CompressionType)), group=_RECORDS,
        help="The compression of the input's objects.",
    )  # fmt: skip
    input_filter: str | None = declare_option(
        "--input-filter", metavar="JSONPATH", group=_RECORDS, help="Send only this part of a record to the model."
    )
    output_filter: str | None = declare_option(
        "--output-filter", metavar="JSONPATH", group=_RECORDS, help="Write only this part of the (joined) answer."
    )
    join_source: JoinSource | None = declare_option(
        "--join-source", type=click.Choice(get_args(JoinSource)), group=_RECORDS, help="Join each answer to its record."
    )
    manifest: bool = declare_option(
        "--manifest", is_flag=True, group=_RECORDS, help="INPUT is a manifest: a list of objects."
    )
    max_concurrent: int | None = declare_option(
        "--max-concurrent", type=click.IntRange(0), metavar="N", help="The number of requests in flight."
    )
    max_payload: int | None = declare_option(
        "--max-payload", type=click.IntRange(0, 100), metavar="MB",
        help="The size limit of a request; 0 for none, with chunked encoding. Default: 6.",
    )  # fmt: skip
    retries: int | None = declare_option(
        "--retries", type=click.IntRange(0, 3), metavar="N", help="Retry a failed request this often. Default: 3."
    )
    timeout: int | None = declare_option(
        "--timeout", type=click.IntRange(1, 3600), metavar="SECONDS", help="Wait this long for an answer. Default: 600."
    )
    environment: dict[str, str] = declare_name_value_option("--env", help="An environment variable of the container.")

    def build_job(self, source: str, target: str) -> TransformJob:
        """Return the job. Records of TFRecord and RecordIO files without a header are sent one by one by default."""
        processing = DataProcessing(
            input_filter=self.input_filter, output_filter=self.output_filter, join_source=self.join_source
        )
        client = ModelClientConfig(invocations_timeout_in_seconds=self.timeout, invocations_max_retries=self.retries)
        content_type, strategy = self.content_type or RAW, self.batch_strategy
        if strategy is None and content_type == RAW and self.split_type not in (None, "None"):
            strategy = "SingleRecord"
        return TransformJob(
            input=TransformInput(
                uri=source,
                data_type="ManifestFile" if self.manifest else "S3Prefix",
                content_type=content_type,
                compression_type=self.compression_type,
                split_type=self.split_type,
            ),
            output=TransformOutput(uri=target, accept=self.accept, assemble_with=self.assemble_with),
            max_concurrent_transforms=self.max_concurrent,
            max_payload_in_mb=self.max_payload,
            batch_strategy=strategy,
            model_client=None if client == ModelClientConfig() else client,
            environment=self.environment or None,
            data_processing=None if processing == DataProcessing() else processing,
        )


@dataclass(frozen=True, slots=True)
class TransformSageMakerOptions:
    """The model and the instances of a job on SageMaker."""

    name: str | None = declare_option(
        "--name", metavar="NAME", group=SAGEMAKER, help="The job's name. Default: the model's and the time."
    )
    sagemaker_model: str | None = declare_option(
        "--sagemaker-model", metavar="NAME", group=SAGEMAKER,
        help="Use this existing model on SageMaker instead of --repository.",
    )  # fmt: skip
    image: str | None = declare_option(
        "--image", metavar="TAG", group=SAGEMAKER,
        help="The image: 24.09, a tag, a URI, 26.05+tensorflow or tensorflow-inference:2.19.",
    )  # fmt: skip
    image_uri: str | None = declare_option(
        "--image-uri", metavar="URI", group=SAGEMAKER, help="The address of your own image; --image states what it has."
    )
    role: str | None = declare_option(
        "--role", metavar="ROLE", group=SAGEMAKER, help="The IAM role for SageMaker: an ARN or a name."
    )
    bucket: str | None = declare_option(
        "--bucket", metavar="NAME", group=SAGEMAKER,
        help="The bucket of the model's archive. Default: SageMaker's own of the region.",
    )  # fmt: skip
    instance_type: str | None = declare_option(
        "--instance-type", metavar="ML.TYPE", group=SAGEMAKER, help=f"The instances. Default: {INSTANCE_TYPE}."
    )
    instance_count: int | None = declare_option(
        "--instance-count", type=click.IntRange(1, 100), metavar="N", group=SAGEMAKER,
        help="The number of instances that share the objects. Default: 1.",
    )  # fmt: skip


def run_on_sagemaker(
    job: TransformJob,
    repository: Path | None,
    options: TransformSageMakerOptions,
    submit_options: SubmitOptions,
    aws: AwsOptions,
    *,
    as_json: bool,
) -> int:
    """Run a job on SageMaker and return the exit code; without ``repository`` the options name a model."""
    with steps() as progress, Session(**aws.session_arguments) as session:
        source, deployment = _prepare_model(repository, options, progress)
        transform_run = TransformRun(
            replace(job, name=options.name or ""),
            source,
            session=session,
            deployment=deployment,
            instance_type=options.instance_type or INSTANCE_TYPE,
            instance_count=options.instance_count or 1,
            progress=progress,
        )
        with transform_run:
            if not job_monitor.submit(transform_run, submit_options, progress, as_json=as_json):
                return 0
            if submit_options.no_wait:
                _print_result({"job": transform_run.name, "state": "InProgress"}, as_json=as_json)
                return 0
            result = job_monitor.watch(transform_run, progress)
    if result is None:
        return INTERRUPTED
    document = {
        "job": result.name,
        "state": result.status,
        "arn": result.arn,
        "reason": result.reason,
        "seconds": result.seconds,
        "output": result.output,
    }
    _print_result(document, as_json=as_json)
    return job_monitor.choose_exit_code(document)


def _print_result(document: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo_json(document)
        return
    where = ""
    if "output" in document:
        where = f" -> {escape_markup(document['output'])}  [dim]{document['seconds']:.0f} s per instance[/dim]"
    out.print(f"{format_state(document['state'])}  {escape_markup(document['job'])}{where}")
    if document.get("reason"):
        print_error_line(document["reason"])


def _prepare_model(
    path: Path | None, options: TransformSageMakerOptions, progress: Steps
) -> tuple[Path | str, Deployment | None]:
    """Return the repository or archive of a model with its deployment; a definition is built. Else a model's name."""
    if path is None:
        return options.sagemaker_model or "", None
    repository = path
    deployment: Deployment | None = None
    name = path.resolve().name.removesuffix(".tar.gz")
    if is_definition(path):
        definitions = load(path)
        name = definitions.folder.name
        deployment = find_deployment(definitions, name=None)
        repository = Path("build") / name
        build_definitions(definitions, repository, on_progress=progress.on_build)
    deployment = deployment or Deployment(name=build_resource_name(name))
    return repository, deployment.with_settings(
        image=options.image,
        image_uri=options.image_uri,
        bucket=options.bucket,
        execution_role_arn=options.role,
    )
