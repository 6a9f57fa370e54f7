"""The objects of AWS's sagemaker-core make an endpoint, wait for it, ask it and delete it.

Run in an environment that has sagemaker-core and not tritonforge, with AWS_ENDPOINT_URL set; arguments: the archive's
S3 URI, the role, the image, a picture.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")  # the SDK's own, about its dependencies

from sagemaker.core.resources import Endpoint, EndpointConfig, Model  # noqa: E402 - after the filter
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant  # noqa: E402

model_uri, role, image, picture = sys.argv[1:]
model = Model.create(
    model_name="core-digits",
    primary_container=ContainerDefinition(
        image=image,
        model_data_url=model_uri,
        environment={"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "digits"},
    ),
    execution_role_arn=role,
)
config = EndpointConfig.create(
    endpoint_config_name="core-digits",
    production_variants=[
        ProductionVariant(
            variant_name="AllTraffic",
            model_name="core-digits",
            instance_type="ml.g4dn.xlarge",
            initial_instance_count=1,
        )
    ],
)
endpoint = Endpoint.create(endpoint_name="core-digits", endpoint_config_name="core-digits")
endpoint.wait_for_status("InService", poll=1)
with open(picture, "rb") as file:  # noqa: PTH123 - a user's script
    content = file.read()
answer = endpoint.invoke(body=content, content_type="application/vnd.sagemaker-triton.binary+json;json-header-size=0")
body = answer.body.read()
names = [endpoint.endpoint_name for endpoint in Endpoint.get_all(name_contains="core-")]
endpoint.delete()
endpoint.wait_for_delete(poll=1)
config.delete()
model.delete()
print(json.dumps({"names": names, "content_type": answer.content_type, "bytes": len(body)}))
