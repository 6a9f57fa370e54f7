"""Training jobs: CreateTrainingJob as a value, and the engine that runs one on this machine.

`run_training_job` runs a `TrainingJob` with a program folder and an object store, and returns an `Outcome`.
"""

from __future__ import annotations

from tritonforge.training.job.engine import run_training_job
from tritonforge.training.job.training_job import (
    AlgorithmSpecification,
    Channel,
    CheckpointConfig,
    InstanceGroup,
    MetricDefinition,
    MetricValue,
    Outcome,
    Output,
    Phase,
    Resources,
    RetryStrategy,
    S3Data,
    ShuffleConfig,
    Source,
    StoppingCondition,
    Tag,
    TrainingJob,
)

__all__ = [
    "AlgorithmSpecification", "Channel", "CheckpointConfig", "InstanceGroup", "MetricDefinition", "MetricValue",
    "Outcome", "Output", "Phase", "Resources", "RetryStrategy", "S3Data", "ShuffleConfig", "Source",
    "StoppingCondition", "Tag", "TrainingJob", "run_training_job",
]  # fmt: skip
