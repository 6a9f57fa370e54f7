"""A training job as the flags of `train` describe it, and as a file in the shape of CreateTrainingJob does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar, cast, get_args

import click
from rich.markup import escape

from tritonforge.cli.assignments import assigned, attributed
from tritonforge.cli.terminal import err
from tritonforge.errors import MissingExtraError, RequestError
from tritonforge.sagemaker import service_model
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

__all__ = ["job_flags", "job_of"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Members that SageMaker needs, and a job of this machine does without.
_FLEET: Final = ("TrainingJobName", "RoleArn", "ResourceConfig")
#: Members that are addresses, which on this machine may be paths.
_ADDRESSES: Final = ("S3Uri", "S3OutputPath")

_JOB: Final = (
    click.option(
        "--channel",
        "channels",
        multiple=True,
        metavar="NAME=DATA[:ATTRIBUTES]",
        help="Input: a folder, a file, an s3:// prefix; with attributes, an augmented manifest: train=a.manifest:"
        "source-ref,label.",
    ),
    click.option(
        "--hyperparameter", "hyperparameters", multiple=True, metavar="NAME=VALUE", help="Of the algorithm; a string."
    ),
    click.option("-o", "--output", metavar="OUTDIR", help="Where the model goes: a folder, or an s3:// prefix."),
    click.option(
        "--job",
        "job_file",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="A JSON file in the shape of CreateTrainingJob; other flags add to it, and win.",
    ),
    click.option("--input-mode", type=click.Choice(get_args(InputMode)), help="Of the channels; default File."),
    click.option(
        "--record-wrapper",
        type=click.Choice(get_args(RecordWrapperType)),
        help="Of the channels in Pipe mode; default RecordIO for augmented manifests.",
    ),
    click.option("--shuffle", type=int, metavar="SEED", help="Shuffle the channels, every epoch anew."),
    click.option("--metric", "metrics", multiple=True, metavar="NAME=REGEX", help="A value in the program's log."),
    click.option("--checkpoints", metavar="DATA", help="Where checkpoints are kept: a folder, or an s3:// prefix."),
    click.option("--max-runtime", type=click.IntRange(1), metavar="SECONDS", help="Stop after so long; default a day."),
    click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="A variable of the container."),
)


def job_flags(command: _Command) -> _Command:
    """The flags of a training job, wherever it runs."""
    for option in reversed(_JOB):
        command = option(command)
    return command


def job_of(program: str, **flags: Any) -> TrainingJob:
    """The job that a file, where one is given, and the flags describe; ``program`` stands for the image.

    Raises click.UsageError for a flag that cannot be read; RequestError for a file that is no such job.
    """
    file: Path | None = flags.get("job_file")
    output: str | None = flags.get("output")
    if file is None and output is None:
        raise click.UsageError("say where the model goes: -o OUTDIR (or --job FILE, which does)")
    job = _read(file) if file is not None else TrainingJob(output=Output(uri=output or ""))
    job = replace(job, algorithm=_algorithm(job, program, flags))
    channels = {each.name: each for each in job.channels or ()}
    for text in flags.get("channels") or ():
        channel = _channel(text, flags)
        channels[channel.name] = channel
    given = assigned(flags.get("hyperparameters") or (), "--hyperparameter")
    hyperparameters = {**(job.hyperparameters or {}), **given}
    environment = {**(job.environment or {}), **assigned(flags.get("environment") or (), "--env")}
    checkpoints: str | None = flags.get("checkpoints")
    condition = job.stopping_condition or StoppingCondition()
    seconds = flags.get("max_runtime") or condition.max_runtime_in_seconds
    condition = replace(condition, max_runtime_in_seconds=seconds)
    return replace(
        job,
        channels=tuple(channels.values()) or None,
        hyperparameters=hyperparameters or None,
        environment=environment or None,
        output=job.output if output is None else replace(job.output, uri=output),
        checkpoint_config=job.checkpoint_config
        if checkpoints is None
        else replace(job.checkpoint_config or CheckpointConfig(uri=""), uri=checkpoints),
        stopping_condition=None if condition == StoppingCondition() else condition,
    )


def _algorithm(job: TrainingJob, program: str, flags: Mapping[str, Any]) -> AlgorithmSpecification:
    mode: InputMode | None = flags.get("input_mode")
    algorithm = job.algorithm or AlgorithmSpecification(training_input_mode=mode or "File", training_image=program)
    if mode is not None:
        algorithm = replace(algorithm, training_input_mode=mode)
    if algorithm.training_image is None and algorithm.algorithm_name is None:
        algorithm = replace(algorithm, training_image=program)
    definitions = {each.name: each for each in algorithm.metric_definitions or ()}
    for name, regex in assigned(flags.get("metrics") or (), "--metric").items():
        definitions[name] = MetricDefinition(name=name, regex=regex)
    return replace(algorithm, metric_definitions=tuple(definitions.values()) or None)


def _channel(text: str, flags: Mapping[str, Any]) -> Channel:
    """``NAME=DATA[:ATTRIBUTE,...]``."""
    name, equals, address = text.partition("=")
    if not equals or not name or not address:
        raise click.UsageError(f"--channel {text!r}: write NAME=DATA, or NAME=MANIFEST:ATTRIBUTE,ATTRIBUTE")
    uri, attributes = attributed(address)
    wrapper: RecordWrapperType | None = flags.get("record_wrapper")
    seed: int | None = flags.get("shuffle")
    return Channel(
        name=name,
        source=Source(
            s3=S3Data(uri=uri, data_type="AugmentedManifestFile", attribute_names=attributes)
            if attributes
            else S3Data(uri=address)
        ),
        input_mode="Pipe" if attributes else None,
        record_wrapper_type=wrapper or ("RecordIO" if attributes else None),
        content_type="application/x-recordio" if attributes and wrapper != "None" else None,
        shuffle=None if seed is None else ShuffleConfig(seed=seed),
    )


def _read(file: Path) -> TrainingJob:
    """The job of a file, held against AWS's own model; only its addresses may be paths, and its machines be missing."""
    try:
        request = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{file}: it is no JSON: {error}") from error
    except OSError as error:
        raise RequestError(f"{file}: it cannot be read: {error.strerror or error}") from error
    if not isinstance(request, dict):
        raise RequestError(f"{file}: it must hold an object, the members of CreateTrainingJob")
    if isinstance(request.get("OutputDataConfig"), dict):
        request["OutputDataConfig"].setdefault("S3OutputPath", "")
    else:
        request.setdefault("OutputDataConfig", {"S3OutputPath": ""})
    try:
        shape = service_model.find_operation("sagemaker", "CreateTrainingJob").input_shape
        found = service_model.check_shape(shape, request)
    except MissingExtraError as error:
        err.print(
            f"[yellow]note:[/yellow] {escape(str(file))} is not held against AWS's own model: {escape(str(error))}"
        )
        found = ()
    broken = [
        each
        for each in found
        if not (each.kind == "required" and each.path[-1] in _FLEET)
        and not (each.kind == "pattern" and each.path[-1] in _ADDRESSES)
    ]
    if broken:
        raise RequestError(f"{file}: AWS would refuse this request:\n{service_model.describe_violations(broken)}")
    return TrainingJob.from_request(cast("dict[str, Any]", request))
