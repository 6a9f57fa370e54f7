"""A deployment to an emulated endpoint whose container is a real tritonserver."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.deployments import deploy, destroy, everything
from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Deployment
from tritonforge.testing import emulated

pytestmark = pytest.mark.server

#: A model that tritonserver loads without a framework.
ECHO = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", request.inputs()[0].as_numpy())]) for request in requests
        ]
"""


def test_a_model_is_served_and_a_broken_update_is_rolled_back(repository: Path) -> None:
    (repository / "echo" / "1" / "model.py").write_text(ECHO)
    with emulated() as aws, Session(endpoint_url=aws.url, region_name=aws.region) as session:
        sagemaker = session.client("sagemaker")
        wanted = Deployment(name="echo", image="24.09", execution_role_arn=aws.role_arn, instance_type="ml.g4dn.xlarge")
        deploy(session, wanted, repository)
        assert deploy(session, wanted, repository).steps == ()
        served = sagemaker.describe_endpoint(EndpointName="echo")
        assert served["EndpointStatus"] == "InService"
        broken = wanted.with_settings(
            environment={
                "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "echo",
                "SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--no-such-flag",
            }
        )
        with pytest.raises(DeploymentError, match="rolled it back"):
            deploy(session, broken, repository)
        now = sagemaker.describe_endpoint(EndpointName="echo")
        assert (now["EndpointStatus"], now["EndpointConfigName"]) == ("InService", served["EndpointConfigName"])
        destroy(session, wanted)
        assert not any(everything(session, "echo").values())
