"""AWS's SageMaker SDK 2 as its users use it: from data of this machine to an endpoint, a registered model and a job.

Run in the environment that `tritonforge emulate --env` prints; the argument is the image of an algorithm. Nothing of
tritonforge is imported.
"""

import json
import sys
import tempfile
from pathlib import Path

import sagemaker
from sagemaker import ModelPackage
from sagemaker.deserializers import JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.serializers import CSVSerializer
from sagemaker.transformer import Transformer

image = sys.argv[1]
result = {}
session = sagemaker.Session()
role = sagemaker.get_execution_role()
result["identity"] = {"role": role, "bucket": session.default_bucket(), "account": session.account_id()}
folder = Path(tempfile.mkdtemp())
for name in ("a", "b"):
    (folder / name).write_text(f"{name}\n")
data = session.upload_data(str(folder))
source = Path(tempfile.mkdtemp())
(source / "train.py").write_text("print('the image decides what to do with it')\n")

estimator = Estimator(
    image,
    role,
    instance_count=1,
    instance_type="ml.m5.xlarge",
    hyperparameters={"epochs": 2},
    entry_point="train.py",
    source_dir=str(source),
)
estimator.fit({"train": data}, logs=True)
attached = Estimator.attach(estimator.latest_training_job.name)
result["attached"] = [attached.model_data == estimator.model_data, attached.hyperparameters()["epochs"]]

predictor = estimator.deploy(1, "ml.m5.xlarge", serializer=CSVSerializer(), deserializer=JSONDeserializer())
result["predicted"] = predictor.predict("1,2")
predictor.delete_model()
predictor.delete_endpoint()

package = estimator.register(
    content_types=["text/csv"],
    response_types=["application/json"],
    inference_instances=["ml.m5.xlarge"],
    transform_instances=["ml.m5.xlarge"],
    model_package_group_name="counters",
    approval_status="Approved",
)
result["package"] = package.model_package_arn
model = ModelPackage(role=role, model_package_arn=package.model_package_arn, sagemaker_session=session)
model.deploy(1, "ml.m5.xlarge", endpoint_name="from-package", wait=False)

transformer = estimator.transformer(
    1,
    "ml.m5.xlarge",
    strategy="SingleRecord",
    assemble_with="Line",
    accept="application/json",
    output_path=f"s3://{session.default_bucket()}/transformed",
)
transformer.transform(data, content_type="text/csv", split_type="Line", logs=False)
again = Transformer.attach(transformer.latest_transform_job.name)
result["transformer"] = [again.strategy, again.assemble_with, again.output_path == transformer.output_path]
result["outputs"] = session.list_s3_files(session.default_bucket(), "transformed")
result["deployed"] = session.wait_for_endpoint("from-package", poll=1)["EndpointStatus"]
Path(sys.argv[2]).write_text(json.dumps(result))
