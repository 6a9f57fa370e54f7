"""AWS's SageMaker SDK 3 as its users use it: a trainer, a model builder, an endpoint and a registered model.

Run in the environment that `tritonforge emulate --env` prints; the argument is the image of an algorithm. Nothing of
tritonforge is imported.
"""

import json
import sys
import tempfile
from pathlib import Path

from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.serve.model_builder import ModelBuilder
from sagemaker.train.configs import Compute, InputData
from sagemaker.train.model_trainer import ModelTrainer

image = sys.argv[1]
result = {}
session = Session()
role = get_execution_role()
result["identity"] = {"role": role, "bucket": session.default_bucket(), "account": session.account_id()}
folder = Path(tempfile.mkdtemp())
(folder / "a").write_text("a\n")
data = session.upload_data(str(folder), key_prefix="numbers")

trainer = ModelTrainer(
    training_image=image,
    compute=Compute(instance_type="ml.m5.xlarge", instance_count=1),
    hyperparameters={"epochs": 2},
)
trainer.train(input_data_config=[InputData(channel_name="train", data_source=data)], logs=False)
job = trainer._latest_training_job  # the SDK has no public name for it
result["job"] = job.training_job_status

builder = ModelBuilder(
    image_uri=image, s3_model_data_url=job.model_artifacts.s3_model_artifacts, sagemaker_session=session
)
builder.build(model_name="counter")
endpoint = builder.deploy(endpoint_name="counter", instance_type="ml.m5.xlarge", initial_instance_count=1)
answer = endpoint.invoke(body="1,2", content_type="text/csv", accept="application/json")
result["predicted"] = json.loads(answer.body.read())
result["package"] = builder.register(
    model_package_group_name="builders",
    content_types=["text/csv"],
    response_types=["application/json"],
    inference_instances=["ml.m5.xlarge"],
    transform_instances=["ml.m5.xlarge"],
)
endpoint.delete()
Path(sys.argv[2]).write_text(json.dumps(result, default=str))
