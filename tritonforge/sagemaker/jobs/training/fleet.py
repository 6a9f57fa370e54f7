"""A job made ready for SageMaker's machines: what runs there, on which, how long, and whether it may. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tritonforge.errors import DefinitionError, InputError
from tritonforge.training.algorithm.declaration import Algorithm, JobChannel
from tritonforge.training.job.training_job import (
    AlgorithmSpecification,
    MetricDefinition,
    Resources,
    StoppingCondition,
    Tag,
    TrainingJob,
)

__all__ = ["INSTANCE", "VOLUME", "Fleet", "held", "is_image"]

#: Where nothing is said: the machine, and the GB of its disk (SageMaker's own SDK has 30, too).
INSTANCE: Final = "ml.m5.xlarge"
VOLUME: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What SageMaker needs to know of a job beside the job: None is what the job itself says, or has by default.

    ``image`` is the training image's URI, ``algorithm`` an algorithm of SageMaker's by name or ARN: one of the two.
    ``role`` is an IAM role, by ARN or name. Seconds and GB as the API has them.
    """

    name: str
    role: str | None = None
    image: str | None = None
    algorithm: str | None = None
    instance_type: str | None = None
    instance_count: int | None = None
    volume_size_in_gb: int | None = None
    max_wait_time_in_seconds: int | None = None
    spot: bool = False
    network_isolation: bool = False
    tags: Mapping[str, str] | None = None

    def job(self, job: TrainingJob, declared: Algorithm | None) -> TrainingJob:
        """The job as the fleet is to run it; metrics and the machine come from the declaration where nothing is said.

        Raises:
            DefinitionError: it is not said which image or algorithm is run, or as whom.
        """
        job = replace(
            job,
            name=self.name,
            role_arn=self._role(job),
            algorithm=self._algorithm(job, declared),
            resources=self._resources(job, declared),
            enable_managed_spot_training=self.spot or job.enable_managed_spot_training,
            enable_network_isolation=self.network_isolation or job.enable_network_isolation,
            tags=(*(job.tags or ()), *(Tag(key=key, value=each) for key, each in (self.tags or {}).items())) or None,
        )
        condition = job.stopping_condition or StoppingCondition()
        wait = self.max_wait_time_in_seconds or condition.max_wait_time_in_seconds
        # AWS's own default is written out, so that the plan shows how long is paid for at most.
        condition = replace(condition, max_runtime_in_seconds=job.max_runtime, max_wait_time_in_seconds=wait)
        return replace(job, stopping_condition=condition)

    def _role(self, job: TrainingJob) -> str:
        role = self.role or job.role_arn
        if not role:
            raise DefinitionError("SageMaker runs a job as an IAM role; name one: --role NAME, or its ARN")
        return role

    def _algorithm(self, job: TrainingJob, declared: Algorithm | None) -> AlgorithmSpecification:
        found = job.algorithm or AlgorithmSpecification(training_input_mode="File")
        if self.image is not None or self.algorithm is not None:
            found = replace(found, training_image=self.image, algorithm_name=self.algorithm)
        image = found.training_image
        if found.algorithm_name is None and not is_image(image or ""):
            raise DefinitionError(
                f"{image or 'the job'} is no image that SageMaker can run; name the one that holds the program "
                "(--image-uri URI), or an algorithm that was published (--algorithm NAME)"
            )
        if declared is None or found.metric_definitions is not None or found.algorithm_name is not None:
            return found  # an algorithm of SageMaker's has its own metrics
        metrics = tuple(MetricDefinition(name=each.name, regex=each.regex) for each in declared.metrics)
        return replace(found, metric_definitions=metrics or None)

    def _resources(self, job: TrainingJob, declared: Algorithm | None) -> Resources:
        found = job.resources or Resources()
        several = found.instance_groups is not None or "InstancePreferences" in found.carried
        if several and self.instance_type is None:
            return found
        types = () if declared is None else declared.training_instance_types
        return replace(
            found,
            instance_type=self.instance_type or found.instance_type or (types[0] if types else INSTANCE),
            instance_count=self.instance_count or found.instance_count or 1,
            volume_size_in_gb=self.volume_size_in_gb or found.volume_size_in_gb or VOLUME,
        )


def is_image(text: str) -> bool:
    """Whether a text is the URI of an image: its first part is a registry's name, or it has a tag or a digest.

    >>> is_image("123456789012.dkr.ecr.eu-west-1.amazonaws.com/learner:1"), is_image("repos/detector")
    (True, False)
    """
    registry, slash, _ = text.partition("/")
    tagged = ":" in text.rpartition("/")[2]
    return not text.startswith((".", "/", "~")) and (tagged or (bool(slash) and "." in registry))


@dataclass(frozen=True, slots=True)
class _Channel:
    name: str
    mode: str
    content_type: str


def held(job: TrainingJob, declared: Algorithm) -> None:
    """Hold the hyperparameters and the channels of a job against what its program declares.

    Raises:
        InputError: with everything that the program would refuse once it runs.
    """
    offered: list[JobChannel] = [
        _Channel(each.name, job.mode(each), each.content_type or "") for each in job.channels or ()
    ]
    said = [
        _refusal(lambda: declared.read(job.hyperparameters or {})),
        _refusal(lambda: declared.check(offered)),
    ]
    if any(said):
        raise InputError("; ".join(each for each in said if each))


def _refusal(check: Callable[[], object]) -> str:
    """What a check says against a job, empty where it says nothing."""
    try:
        check()
    except InputError as error:
        return str(error)
    return ""
