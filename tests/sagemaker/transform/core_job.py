"""The seed's second job by AWS's sagemaker-core, as a user's script: MODEL BUCKET; it prints what became of it."""

import json
import sys

from sagemaker.core.resources import TransformJob
from sagemaker.core.shapes import (
    TransformDataSource,
    TransformInput,
    TransformOutput,
    TransformResources,
    TransformS3DataSource,
)

model, bucket = sys.argv[1:]
source = TransformS3DataSource(s3_data_type="S3Prefix", s3_uri=f"s3://{bucket}/core/in/")
job = TransformJob.create(
    transform_job_name="core-job",
    model_name=model,
    transform_input=TransformInput(
        data_source=TransformDataSource(s3_data_source=source),
        content_type="application/x-tfexample",
        split_type="TFRecord",
    ),
    transform_output=TransformOutput(
        s3_output_path=f"s3://{bucket}/core/out", assemble_with="Line", accept="application/jsonlines"
    ),
    transform_resources=TransformResources(instance_type="ml.p3.2xlarge", instance_count=2),
    max_concurrent_transforms=64,
    max_payload_in_mb=1,
    batch_strategy="SingleRecord",
    environment={"SAGEMAKER_TFS_ENABLE_BATCHING": "true"},
)
job.wait(poll=1)
names = [item.transform_job_name for item in TransformJob.get_all(name_contains="core")]
sys.stdout.write(json.dumps({"status": job.transform_job_status, "arn": job.transform_job_arn, "names": names}))
