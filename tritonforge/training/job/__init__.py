"""Training jobs: CreateTrainingJob as a value, and the engine that runs one on this machine.

`run` takes a `TrainingJob`, a program folder and a place where objects are; it gives an `Outcome`.
"""

from __future__ import annotations

from tritonforge.training.job.channel import Channel, S3Data, ShuffleConfig, Source
from tritonforge.training.job.engine import run
from tritonforge.training.job.job import (
    AlgorithmSpecification,
    CheckpointConfig,
    InstanceGroup,
    MetricDefinition,
    Output,
    Resources,
    RetryStrategy,
    StoppingCondition,
    Tag,
    TrainingJob,
)
from tritonforge.training.job.outcomes import Measured, Outcome, Phase

__all__ = [
    "AlgorithmSpecification",
    "Channel",
    "CheckpointConfig",
    "InstanceGroup",
    "Measured",
    "MetricDefinition",
    "Outcome",
    "Output",
    "Phase",
    "Resources",
    "RetryStrategy",
    "S3Data",
    "ShuffleConfig",
    "Source",
    "StoppingCondition",
    "Tag",
    "TrainingJob",
    "run",
]
