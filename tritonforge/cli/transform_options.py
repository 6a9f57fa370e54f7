"""The options of transform that describe the job, and those for SageMaker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

import click

from tritonforge.cli.options import SAGEMAKER, declare_name_value_option, declare_option
from tritonforge.records import AssembleWith, BatchStrategy, SplitType
from tritonforge.sagemaker.jobs.transform import INSTANCE_TYPE
from tritonforge.transform import (
    RAW,
    DataProcessing,
    ModelClientConfig,
    TransformInput,
    TransformJob,
    TransformOutput,
)
from tritonforge.transform.job import CompressionType, JoinSource

__all__ = ["TransformOptions", "TransformSageMakerOptions"]

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
