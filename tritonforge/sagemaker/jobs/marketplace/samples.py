"""A validation profile made of sample data: what a declaration leaves open is filled in from it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tritonforge.errors import DefinitionError
from tritonforge.sagemaker.jobs.marketplace.profile import Profile
from tritonforge.training.algorithm.declaration import Algorithm, InputMode
from tritonforge.training.algorithm.declaration import Channel as DeclaredChannel
from tritonforge.training.algorithm.hyperparameters import suggest_name
from tritonforge.training.job.training_job import (
    AlgorithmSpecification,
    Channel,
    Output,
    Resources,
    S3Data,
    Source,
    StoppingCondition,
    TrainingJob,
)
from tritonforge.transform.job import Resources as TransformResources
from tritonforge.transform.job import TransformInput, TransformJob, TransformOutput

__all__ = ["Sample", "transform_job", "validation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Data to validate with: ``uri`` is an S3 prefix, or an augmented manifest where ``attributes`` are named."""

    uri: str
    attributes: Sequence[str] = ()
    content_type: str | None = None
    mode: InputMode | None = None


def validation(
    algorithm: Algorithm,
    *,
    channels: Mapping[str, Sample],
    output: str,
    hyperparameters: Mapping[str, str] | None = None,
    transform: str | None = None,
    name: str = "validation",
    volume_size_in_gb: int = 30,
    max_runtime_in_seconds: int = 3600,
) -> Profile:
    """The profile of an algorithm: one training job on samples, and a transform job on the objects below ``transform``.

    The jobs run on one instance of the first type that the algorithm declares; a channel comes in its first mode (an
    augmented manifest in Pipe mode, the only one for it) with its first content type, where its sample says no other.

    Raises:
        DefinitionError: a channel is unknown or missing, or the algorithm declares no instance type.
    """
    declared = {each.name: each for each in algorithm.channels}
    for each in channels:
        if each not in declared:
            raise DefinitionError(f"sample data for channel {each!r}, which is unknown{suggest_name(each, declared)}")
    missing = [each.name for each in algorithm.channels if each.required and each.name not in channels]
    if missing:
        raise DefinitionError(f"no sample data for channel {missing[0]}, which {algorithm.name} needs")
    training = TrainingJob(
        algorithm=AlgorithmSpecification(training_input_mode="File"),
        hyperparameters=dict(hyperparameters) if hyperparameters else None,
        channels=tuple(_channel(declared[each], sample) for each, sample in channels.items()),
        output=Output(uri=f"{output.rstrip('/')}/training"),
        resources=Resources(
            instance_type=_first(algorithm, "training_instance_types"),
            instance_count=1,
            volume_size_in_gb=volume_size_in_gb,
        ),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=max_runtime_in_seconds),
    )
    return Profile(
        name=name,
        training=training,
        transform=None
        if transform is None
        else transform_job(algorithm, transform, output=f"{output.rstrip('/')}/transform"),
    )


def _channel(declared: DeclaredChannel, sample: Sample) -> Channel:
    augmented = bool(sample.attributes)
    mode = sample.mode or ("Pipe" if augmented else declared.input_modes[0])
    return Channel(
        name=declared.name,
        source=Source(
            s3=S3Data(
                uri=sample.uri,
                data_type="AugmentedManifestFile" if augmented else "S3Prefix",
                distribution="FullyReplicated",
                attribute_names=tuple(sample.attributes) or None,
            )
        ),
        content_type=sample.content_type or (declared.content_types[0] if declared.content_types else None),
        record_wrapper_type="RecordIO" if augmented else None,
        input_mode=mode,
    )


def transform_job(algorithm: Algorithm, uri: str, *, output: str) -> TransformJob:
    """The transform job of a validation: the objects below ``uri``, on one instance of the first type declared.

    Raises:
        DefinitionError: the algorithm declares no instance type for it.
    """
    return TransformJob(
        input=TransformInput(uri=uri, content_type=algorithm.content_types[0] if algorithm.content_types else None),
        output=TransformOutput(uri=output, accept=algorithm.response_types[0] if algorithm.response_types else None),
        resources=TransformResources(instance_type=_first(algorithm, "transform_instance_types"), instance_count=1),
    )


def _first(algorithm: Algorithm, member: str) -> str:
    types: Sequence[str] = getattr(algorithm, member)
    if not types:
        raise DefinitionError(f"{algorithm.name} declares no {member}; its validation needs a machine to run on")
    return types[0]
