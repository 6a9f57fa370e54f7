"""The code of AWS's post "Run ensemble ML models on Amazon SageMaker", from create_model to both invoke_endpoint calls.

Between the two lines of dashes stands the post's code: only the names that it leaves open are filled in above, and
the two places where it shows no code (waiting, building the binary body) are done as its text says. Run with
AWS_ENDPOINT_URL set to the emulator; arguments: the model archive's S3 URI, the role, the image, a JPEG.
"""

import json
import sys

import boto3
import numpy as np
import tritonclient.http as httpclient

model_uri, role, triton_image_uri, image = sys.argv[1:]
sm_client = boto3.client("sagemaker")
runtime_sm_client = boto3.client("sagemaker-runtime")
sm_model_name = "triton-tf-dali-ensemble"
endpoint_config_name = "triton-tf-dali-ensemble-config"
endpoint_name = "triton-tf-dali-ensemble-endpoint"
instance_type = "ml.g4dn.4xlarge"
rv2 = np.expand_dims(np.fromfile(image, np.uint8), 0)

# ----------------------------------------------------------------------------------------------------------------------
container = {
    "Image": triton_image_uri,
    "ModelDataUrl": model_uri,
    "Environment": {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "ensemble_dali_inception"},
}
create_model_response = sm_client.create_model(
    ModelName=sm_model_name, ExecutionRoleArn=role, PrimaryContainer=container
)

create_endpoint_config_response = sm_client.create_endpoint_config(
    EndpointConfigName=endpoint_config_name,
    ProductionVariants=[
        {
            "InstanceType": instance_type,
            "InitialVariantWeight": 1,
            "InitialInstanceCount": 1,
            "ModelName": sm_model_name,
            "VariantName": "AllTraffic",
        }
    ],
)
endpoint_config_arn = create_endpoint_config_response["EndpointConfigArn"]

create_endpoint_response = sm_client.create_endpoint(
    EndpointName=endpoint_name, EndpointConfigName=endpoint_config_name
)
endpoint_arn = create_endpoint_response["EndpointArn"]

sm_client.get_waiter("endpoint_in_service").wait(EndpointName=endpoint_name, WaiterConfig={"Delay": 1})

payload = {
    "inputs": [
        {
            "name": "INPUT",
            "shape": rv2.shape,
            "datatype": "UINT8",
            "data": rv2.tolist(),
        }
    ]
}

response = runtime_sm_client.invoke_endpoint(
    EndpointName=endpoint_name, ContentType="application/octet-stream", Body=json.dumps(payload)
)
as_json = json.loads(response["Body"].read().decode("utf8"))

inputs = [httpclient.InferInput("INPUT", rv2.shape, "UINT8")]
inputs[0].set_data_from_numpy(rv2, binary_data=True)
outputs = [httpclient.InferRequestedOutput("OUTPUT", binary_data=True)]
request_body, header_length = httpclient.InferenceServerClient.generate_request_body(inputs, outputs=outputs)

response = runtime_sm_client.invoke_endpoint(
    EndpointName=endpoint_name,
    ContentType="application/vnd.sagemaker-triton.binary+json;json-header-size={}".format(
        header_length
    ),
    Body=request_body,
)
# ----------------------------------------------------------------------------------------------------------------------

prefix = "application/vnd.sagemaker-triton.binary+json;json-header-size="
as_binary = httpclient.InferenceServerClient.parse_response_body(
    response["Body"].read(), header_length=int(response["ContentType"].removeprefix(prefix))
)
result = {
    "arns": [create_model_response["ModelArn"], endpoint_config_arn, endpoint_arn],
    "json": as_json["outputs"][0]["data"],
    "binary": as_binary.as_numpy("OUTPUT").reshape(-1).tolist(),
    "variant": response["InvokedProductionVariant"],
}
print(json.dumps(result))
