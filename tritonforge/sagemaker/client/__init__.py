"""AWS: the session, S3 as a store, and the transports to SageMaker endpoints; boto3 is loaded when one is made."""

from __future__ import annotations

from tritonforge.sagemaker.client.async_transport import AsyncTransport, PendingInference
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.client.store import S3Object, Store, UploadResult
from tritonforge.sagemaker.client.sync import Difference, UploadedTree
from tritonforge.sagemaker.client.transfers import Location
from tritonforge.sagemaker.client.transport import EndpointTransport

__all__ = ["AsyncTransport", "AwsError", "Difference", "EndpointTransport", "Location", "PendingInference",
           "S3Object", "Session", "Store", "UploadResult", "UploadedTree"]  # fmt: skip
