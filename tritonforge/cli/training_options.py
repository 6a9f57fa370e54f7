"""The options of train that describe the job, those for SageMaker, and a job's file."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

import click

from tritonforge.cli.options import (
    EXISTING_FILE,
    SAGEMAKER,
    declare_name_value_option,
    declare_option,
    split_attributes,
)
from tritonforge.cli.terminal import note
from tritonforge.errors import MissingExtraError, RequestError
from tritonforge.files import describe_error
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.jobs.kinds import build_job_name
from tritonforge.sagemaker.jobs.training import INSTANCE_TYPE, VOLUME_SIZE, SageMakerSettings, is_image
from tritonforge.training.algorithm import Algorithm
from tritonforge.training.job import (
    AlgorithmSpecification,
    Channel,
    CheckpointConfig,
    MetricDefinition,
    Output,
    S3Data,
    ShuffleConfig,
    Source,
    StoppingCondition,
    TrainingJob,
)
from tritonforge.training.job.training_job import InputMode, RecordWrapperType

__all__ = ["TrainingOptions", "TrainingSageMakerOptions"]

#: Members that SageMaker requires and a job on this machine does not.
_SAGEMAKER_MEMBERS: Final = ("TrainingJobName", "RoleArn", "ResourceConfig")
#: Members that are addresses, which may be paths of this machine.
_ADDRESSES: Final = ("S3Uri", "S3OutputPath")


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """The fields of a training job, wherever it runs."""

    channels: dict[str, str] = declare_name_value_option(
        "--channel", metavar="NAME=DATA[:ATTRIBUTE,...]",
        help="An input: a directory, a file or an s3:// prefix; with attributes an augmented manifest, such as "
        "train=a.manifest:source-ref,label.",
    )  # fmt: skip
    hyperparameters: dict[str, str] = declare_name_value_option(
        "--hyperparameter", help="A hyperparameter of the algorithm."
    )
    output: str | None = declare_option(
        "-o", "--output", metavar="OUTDIR", help="Write the model to this directory or s3:// prefix."
    )
    job_file: Path | None = declare_option(
        "--job", type=EXISTING_FILE, metavar="FILE",
        help="A JSON file in the shape of CreateTrainingJob; other options override it.",
    )  # fmt: skip
    input_mode: InputMode | None = declare_option(
        "--input-mode", type=click.Choice(get_args(InputMode)), help="The input mode of the channels. Default: File."
    )
    record_wrapper: RecordWrapperType | None = declare_option(
        "--record-wrapper", type=click.Choice(get_args(RecordWrapperType)),
        help="Wrap the records of channels in Pipe mode. Default: RecordIO for augmented manifests.",
    )  # fmt: skip
    shuffle: int | None = declare_option(
        "--shuffle", type=int, metavar="SEED", help="Shuffle the channels before every epoch."
    )
    metrics: dict[str, str] = declare_name_value_option(
        "--metric", metavar="NAME=REGEX", help="A metric in the program's log."
    )
    checkpoints: str | None = declare_option(
        "--checkpoints", metavar="DATA", help="Keep checkpoints in this directory or s3:// prefix."
    )
    max_runtime: int | None = declare_option(
        "--max-runtime", type=click.IntRange(1), metavar="SECONDS", help="Stop the job after this time. Default: a day."
    )
    environment: dict[str, str] = declare_name_value_option("--env", help="An environment variable of the container.")

    def build_job(self, program: str, *, needs_output: bool = True) -> TrainingJob:
        """Return the job of the file, if there is one, and the options. ``program`` takes the place of its image.

        Raises:
            click.UsageError: an option is invalid or the output is missing.
            RequestError: the file does not hold a training job.
        """
        if needs_output and self.job_file is None and self.output is None:
            raise click.UsageError("the output of the model is missing: give -o OUTDIR (or --job FILE)")
        job = TrainingJob(output=Output(uri="")) if self.job_file is None else _read_job(self.job_file)
        channels = {channel.name: channel for channel in job.channels or ()}
        channels |= {name: self._build_channel(name, address) for name, address in self.channels.items()}
        checkpoints = job.checkpoint_config
        if self.checkpoints is not None:
            checkpoints = replace(checkpoints or CheckpointConfig(uri=""), uri=self.checkpoints)
        condition = job.stopping_condition or StoppingCondition()
        if self.max_runtime is not None:
            condition = replace(condition, max_runtime_in_seconds=self.max_runtime)
        return replace(
            job,
            algorithm=self._build_algorithm(job, program),
            channels=tuple(channels.values()) or None,
            hyperparameters={**(job.hyperparameters or {}), **self.hyperparameters} or None,
            environment={**(job.environment or {}), **self.environment} or None,
            output=job.output if self.output is None else replace(job.output, uri=self.output),
            checkpoint_config=checkpoints,
            stopping_condition=None if condition == StoppingCondition() else condition,
        )

    def _build_algorithm(self, job: TrainingJob, program: str) -> AlgorithmSpecification:
        mode = self.input_mode
        algorithm = job.algorithm or AlgorithmSpecification(training_input_mode=mode or "File", training_image=program)
        if mode is not None:
            algorithm = replace(algorithm, training_input_mode=mode)
        if algorithm.training_image is None and algorithm.algorithm_name is None:
            algorithm = replace(algorithm, training_image=program)
        definitions = {definition.name: definition for definition in algorithm.metric_definitions or ()}
        definitions |= {name: MetricDefinition(name=name, regex=regex) for name, regex in self.metrics.items()}
        return replace(algorithm, metric_definitions=tuple(definitions.values()) or None)

    def _build_channel(self, name: str, address: str) -> Channel:
        if not address:
            raise click.UsageError(f"--channel {name}=: expected NAME=DATA or NAME=MANIFEST:ATTRIBUTE,ATTRIBUTE")
        uri, attributes = split_attributes(address)
        data, wrapper = S3Data(uri=address), self.record_wrapper
        if attributes:
            data = S3Data(uri=uri, data_type="AugmentedManifestFile", attribute_names=attributes)
            wrapper = wrapper or "RecordIO"
        return Channel(
            name=name,
            source=Source(s3=data),
            input_mode="Pipe" if attributes else None,
            record_wrapper_type=wrapper,
            content_type="application/x-recordio" if attributes and wrapper != "None" else None,
            shuffle=None if self.shuffle is None else ShuffleConfig(seed=self.shuffle),
        )


@dataclass(frozen=True, slots=True)
class TrainingSageMakerOptions:
    """The image, the role and the instances of a job on SageMaker."""

    name: str | None = declare_option(
        "--name", metavar="NAME", group=SAGEMAKER, help="The job's name. Default: the program's and the time."
    )
    image_uri: str | None = declare_option(
        "--image-uri", metavar="URI", group=SAGEMAKER, help="The image that contains PROGRAM."
    )
    algorithm: str | None = declare_option(
        "--algorithm", metavar="NAME", group=SAGEMAKER,
        help="Use this algorithm on SageMaker, by name or ARN, instead of an image.",
    )  # fmt: skip
    role: str | None = declare_option(
        "--role", metavar="ROLE", group=SAGEMAKER, help="The IAM role for SageMaker: an ARN or a name."
    )
    bucket: str | None = declare_option(
        "--bucket", metavar="NAME", group=SAGEMAKER,
        help="The bucket of local data. Default: SageMaker's own of the region.",
    )  # fmt: skip
    instance_type: str | None = declare_option(
        "--instance-type", metavar="ML.TYPE", group=SAGEMAKER,
        help=f"The instances. Default: the first that PROGRAM declares, or {INSTANCE_TYPE}.",
    )  # fmt: skip
    instance_count: int | None = declare_option(
        "--instance-count", type=click.IntRange(1), metavar="N", group=SAGEMAKER,
        help="The number of instances. Default: 1.",
    )  # fmt: skip
    volume_size: int | None = declare_option(
        "--volume-size", type=click.IntRange(1), metavar="GB", group=SAGEMAKER,
        help=f"The disk of each instance. Default: {VOLUME_SIZE}.",
    )  # fmt: skip
    spot: bool = declare_option(
        "--spot", is_flag=True, group=SAGEMAKER,
        help="Use spare capacity, which is cheaper and may be reclaimed; requires --max-wait.",
    )  # fmt: skip
    max_wait: int | None = declare_option(
        "--max-wait", type=click.IntRange(1), metavar="SECONDS", group=SAGEMAKER,
        help="With --spot: the time limit of waiting and training.",
    )  # fmt: skip
    network_isolation: bool = declare_option(
        "--network-isolation", is_flag=True, group=SAGEMAKER, help="Run the container without a network."
    )
    tags: dict[str, str] = declare_name_value_option("--tag", group=SAGEMAKER, help="A tag of the job.")

    def build_settings(self, job: TrainingJob, program: Path, declared: Algorithm | None) -> SageMakerSettings:
        """Return the settings. Raises click.UsageError if options exclude each other."""
        if self.image_uri and self.algorithm:
            raise click.UsageError("--image-uri and --algorithm exclude each other")
        image = self.image_uri
        if image is None and self.algorithm is None and not program.is_dir() and is_image(str(program)):
            image = str(program)
        base = declared.name if declared is not None else program.resolve().name.partition(":")[0]
        now = dt.datetime.now(dt.timezone.utc)
        return SageMakerSettings(
            name=self.name or job.name or build_job_name(base, now, default="training"),
            role=self.role,
            image=image,
            algorithm=self.algorithm,
            instance_type=self.instance_type,
            instance_count=self.instance_count,
            volume_size_in_gb=self.volume_size,
            max_wait_time_in_seconds=self.max_wait,
            spot=self.spot,
            network_isolation=self.network_isolation,
            tags=self.tags or None,
        )


def _read_job(file: Path) -> TrainingJob:
    """Return the job of a file, checked against AWS's service model; addresses may be paths."""
    try:
        request: Any = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{file}: not JSON: {error}") from error
    except OSError as error:
        raise RequestError(f"{file}: cannot read: {describe_error(error)}") from error
    if not isinstance(request, dict):
        raise RequestError(f"{file}: expected an object with the members of CreateTrainingJob")
    if isinstance(request.get("OutputDataConfig"), dict):
        request["OutputDataConfig"].setdefault("S3OutputPath", "")
    else:
        request.setdefault("OutputDataConfig", {"S3OutputPath": ""})
    try:
        shape = service_model.find_operation("sagemaker", "CreateTrainingJob").input_shape
    except MissingExtraError as error:
        note(f"{file} is not checked against AWS's service model: {error}")
    else:
        violations = [
            violation
            for violation in service_model.check_shape(shape, request)
            if not (violation.kind == "required" and violation.path[-1] in _SAGEMAKER_MEMBERS)
            and not (violation.kind == "pattern" and violation.path[-1] in _ADDRESSES)
        ]
        if violations:
            text = service_model.describe_violations(violations)
            raise RequestError(f"{file}: AWS would reject this request:\n{text}")
    return TrainingJob.from_request(request)
