"""The steps of AWS's notebook for the DALI and Inception ensemble, written anew, with request building of its own.

Source of the steps: aws/amazon-sagemaker-examples, sagemaker-triton/ensemble/dali-tf-inception: a repository packed
with tar, uploaded to the default bucket, an image URI from a table of accounts, model, configuration, endpoint, polling
of DescribeEndpoint, a JSON and a binary+json request, deletion in the order model, configuration, endpoint. Nothing of
tritonforge is imported. Run with AWS_ENDPOINT_URL set; arguments: the repository, the role, a JPEG.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
import numpy as np

repository, role, image = sys.argv[1:]
session = boto3.Session()
region = session.region_name
sagemaker, runtime, s3, sts = (session.client(name) for name in ("sagemaker", "sagemaker-runtime", "s3", "sts"))
stamp = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime())
name = f"triton-tf-dali-ensemble-{stamp}"
accounts = {"us-east-1": "785573368785", "us-west-2": "301217895009"}
uri = f"{accounts[region]}.dkr.ecr.{region}.amazonaws.com/sagemaker-tritonserver:21.08-py3"

bucket = f"sagemaker-{region}-{sts.get_caller_identity()['Account']}"
if bucket not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
with tempfile.TemporaryDirectory() as folder:
    archive = Path(folder) / "model.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", repository, "."], check=True)  # members are ./, ./dali/, ...
    s3.upload_file(str(archive), bucket, "triton-serve-tf-dali-ensemble/model.tar.gz")

environment = {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "ensemble_dali_inception"}
container = {
    "Image": uri,
    "ModelDataUrl": f"s3://{bucket}/triton-serve-tf-dali-ensemble/model.tar.gz",
    "Environment": environment,
}
sagemaker.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
variant = {
    "InstanceType": "ml.g4dn.4xlarge",
    "InitialVariantWeight": 1,
    "InitialInstanceCount": 1,
    "ModelName": name,
    "VariantName": "AllTraffic",
}
sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
seen = []
while not seen or seen[-1] == "Creating":
    if seen:
        time.sleep(0.5)
    described = sagemaker.describe_endpoint(EndpointName=name)
    seen.append(described["EndpointStatus"])
assert seen[-1] == "InService", described.get("FailureReason")

# The request, by hand: a JSON header, and the file's bytes behind it.
jpeg = Path(image).read_bytes()
listed = {"name": "INPUT", "shape": [1, len(jpeg)], "datatype": "UINT8", "data": list(jpeg)}
answer = runtime.invoke_endpoint(
    EndpointName=name, ContentType="application/json", Body=json.dumps({"inputs": [listed]})
)
as_json = json.loads(answer["Body"].read())["outputs"][0]["data"]

header = json.dumps(
    {
        "inputs": [
            {
                "name": "INPUT",
                "shape": [1, len(jpeg)],
                "datatype": "UINT8",
                "parameters": {"binary_data_size": len(jpeg)},
            }
        ],
        "outputs": [{"name": "OUTPUT", "parameters": {"binary_data": True}}],
    }
).encode()
content_type = "application/vnd.sagemaker-triton.binary+json;json-header-size="
answer = runtime.invoke_endpoint(EndpointName=name, ContentType=f"{content_type}{len(header)}", Body=header + jpeg)
body = answer["Body"].read()
split = int(answer["ContentType"][len(content_type) :])
result = json.loads(body[:split])["outputs"][0]
as_binary = np.frombuffer(body[split:], "<f4").reshape(result["shape"])[0].tolist()

sagemaker.delete_model(ModelName=name)
sagemaker.delete_endpoint_config(EndpointConfigName=name)
sagemaker.delete_endpoint(EndpointName=name)
print(json.dumps({"statuses": sorted(set(seen)), "json": as_json, "binary": as_binary}))
