"""The fourth seed's job by AWS's sagemaker-core, as a user's script: BUCKET ROLE IMAGE; it prints what became of it."""

import json
import sys

from sagemaker.core.resources import TrainingJob
from sagemaker.core.shapes import (
    AlgorithmSpecification,
    Channel,
    DataSource,
    OutputDataConfig,
    ResourceConfig,
    S3DataSource,
    StoppingCondition,
)

bucket, role, image = sys.argv[1:]
source = S3DataSource(
    s3_data_type="AugmentedManifestFile",
    s3_uri=f"s3://{bucket}/seed4/output.manifest",
    s3_data_distribution_type="FullyReplicated",
    attribute_names=["source-ref", "sthakur-groundtruth-demo"],
)
job = TrainingJob.create(
    training_job_name="core-job",
    role_arn=role,
    algorithm_specification=AlgorithmSpecification(training_image=image, training_input_mode="Pipe"),
    input_data_config=[
        Channel(
            channel_name=name,
            data_source=DataSource(s3_data_source=source),
            content_type="application/x-recordio",
            record_wrapper_type="RecordIO",
        )
        for name in ("train", "validation")
    ],
    output_data_config=OutputDataConfig(s3_output_path=f"s3://{bucket}/out"),
    resource_config=ResourceConfig(instance_type="ml.p3.2xlarge", instance_count=1, volume_size_in_gb=50),
    stopping_condition=StoppingCondition(max_runtime_in_seconds=360000),
)
job.wait(poll=1)
job.refresh()
names = [item.training_job_name for item in TrainingJob.get_all(name_contains="core")]
reported = {
    "status": job.training_job_status,
    "arn": job.training_job_arn,
    "artifacts": job.model_artifacts.s3_model_artifacts,
    "names": names,
}
sys.stdout.write(json.dumps(reported))
