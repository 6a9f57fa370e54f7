"""What a container of SageMaker finds below /opt/ml/input/config, and in its environment. This module does no I/O.

Source: SageMaker developer guide, "How Amazon SageMaker Provides Training Information".
"""

from __future__ import annotations

from typing import Any, Final

from tritonforge.training.job.job import TrainingJob

__all__ = ["HOST", "command", "environment", "hyperparameters", "input_data", "resources"]

#: The one host of a job on this machine, called as SageMaker calls its first.
HOST: Final = "algo-1"

#: As SageMaker calls the group of a cluster of equal instances.
_GROUP: Final = "homogeneousCluster"

#: The instance type of a job that names none, as SageMaker's local mode has it.
_HERE: Final = "local"


def hyperparameters(job: TrainingJob) -> dict[str, str]:
    """hyperparameters.json: every value is a string."""
    return dict(job.hyperparameters or {})


def input_data(job: TrainingJob) -> dict[str, dict[str, str]]:
    """inputdataconfig.json: the channels by name. A content type that the request leaves out is left out here too."""
    found = {}
    for channel in job.channels or ():
        told = {} if channel.content_type is None else {"ContentType": channel.content_type}
        told["TrainingInputMode"] = job.mode(channel)
        if channel.data is not None:
            told["S3DistributionType"] = channel.data.distribution or "FullyReplicated"
        told["RecordWrapperType"] = channel.record_wrapper_type or "None"
        found[channel.name] = told
    return found


def resources(job: TrainingJob) -> dict[str, Any]:
    """resourceconfig.json: this host, and that there is no other."""
    group, kind = _GROUP, (job.resources and job.resources.instance_type) or _HERE
    if job.resources is not None and job.resources.instance_groups:
        first = job.resources.instance_groups[0]
        group, kind = first.instance_group_name, first.instance_type
    return {
        "current_host": HOST,
        "current_instance_type": kind,
        "current_group_name": group,
        "hosts": [HOST],
        "instance_groups": [{"instance_group_name": group, "instance_type": kind, "hosts": [HOST]}],
        "network_interface_name": "eth0",
    }


def environment(job: TrainingJob, arn: str) -> dict[str, str]:
    """The variables of the container: the request's, and the job's name and ARN."""
    return {**(job.environment or {}), "TRAINING_JOB_NAME": job.name, "TRAINING_JOB_ARN": arn}


def command(job: TrainingJob) -> tuple[str, ...]:
    """What is run: the entry point and the arguments of the request; ``train`` where it names no entry point.

    Source: API_AlgorithmSpecification, `ContainerEntrypoint`: it takes precedence over the default instructions, which
    are ``docker run image train``.
    """
    algorithm = job.algorithm
    entrypoint = None if algorithm is None else algorithm.container_entrypoint
    arguments = () if algorithm is None else algorithm.container_arguments or ()
    return (*(entrypoint or ("train",)), *arguments)
