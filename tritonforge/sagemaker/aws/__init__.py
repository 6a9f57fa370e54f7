"""AWS: the session, S3 as a store, and the transports to SageMaker endpoints; boto3 is loaded when one is made."""

from __future__ import annotations

from tritonforge.sagemaker.aws.asynchronous import AsyncTransport, Pending
from tritonforge.sagemaker.aws.locations import Location
from tritonforge.sagemaker.aws.refusals import AwsError
from tritonforge.sagemaker.aws.session import Session
from tritonforge.sagemaker.aws.store import Store, Stored, Uploaded
from tritonforge.sagemaker.aws.transport import EndpointTransport
from tritonforge.sagemaker.aws.trees import Difference, UploadedTree

__all__ = [
    "AsyncTransport",
    "AwsError",
    "Difference",
    "EndpointTransport",
    "Location",
    "Pending",
    "Session",
    "Store",
    "Stored",
    "Uploaded",
    "UploadedTree",
]
