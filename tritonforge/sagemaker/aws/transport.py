"""The calls to AWS: the only module that imports boto3, and not before one is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tritonforge.errors import ConnectError, EncodeError, MissingExtraError, ServerError
from tritonforge.inference.client import Answer, Call, ModelMetadata
from tritonforge.inference.wire import decode_error, sagemaker_content_type, sagemaker_header_length

__all__ = ["EndpointTransport"]

#: The status of an error for which botocore carries none.
_BAD_REQUEST: Final = 400


class EndpointTransport:
    """A transport over SageMaker's ``InvokeEndpoint``, for ``Client("sagemaker://name", transport=...)``.

    ``endpoint_name`` is the endpoint's; a call's model is the ``TargetModel`` of a multi-model endpoint.
    ``region_name`` and ``endpoint_url`` go to boto3, which finds them itself otherwise; ``timeout`` is in seconds for
    each wait for bytes. ``runtime`` and ``control`` are boto3 clients of ``sagemaker-runtime`` and ``sagemaker`` to be
    used in place of own ones; a ``runtime`` of yours should not retry, because an inference that was received is then
    run again.

    Raises MissingExtraError where boto3 is not installed.
    """

    def __init__(
        self,
        endpoint_name: str,
        *,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        timeout: float = 60.0,
        runtime: Any = None,
        control: Any = None,
    ) -> None:
        try:
            import boto3
            from botocore import config, exceptions
        except ImportError as error:
            raise MissingExtraError("boto3", extra="aws") from error
        self._exceptions: Any = exceptions
        self.endpoint_name = endpoint_name
        once = config.Config(connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 1})
        place: Mapping[str, Any] = {"region_name": region_name, "endpoint_url": endpoint_url}
        self._runtime, self._control = runtime, control
        try:
            if runtime is None:
                self._runtime = boto3.client("sagemaker-runtime", config=once, **place)
            if control is None:
                self._control = boto3.client("sagemaker", **place)
        except (self._exceptions.BotoCoreError, ValueError) as error:
            raise EncodeError(f"sagemaker://{endpoint_name}: boto3 makes no client: {error}") from error

    def infer(self, call: Call) -> Answer:
        """Carry one inference. SageMaker takes bodies up to 25 MB (InvokeEndpoint, "Body")."""
        if call.model_version:
            raise EncodeError("a SageMaker endpoint serves one version of a model; leave model_version out")
        target = {} if call.model is None else {"TargetModel": call.model}
        try:
            answer = self._runtime.invoke_endpoint(
                EndpointName=self.endpoint_name,
                ContentType=sagemaker_content_type(call.payload),
                Body=call.payload.body,
                **target,
            )
            body = answer["Body"].read()
        except (self._exceptions.ClientError, self._exceptions.BotoCoreError) as error:
            raise self._mapped(error) from error
        return Answer(body, sagemaker_header_length(answer.get("ContentType"), size=len(body)))

    def ready(self, model: str | None) -> bool:
        """Whether ``DescribeEndpoint`` says InService."""
        try:
            answer = self._control.describe_endpoint(EndpointName=self.endpoint_name)
        except (self._exceptions.ClientError, self._exceptions.BotoCoreError) as error:
            raise self._mapped(error) from error
        return bool(answer["EndpointStatus"] == "InService")

    def metadata(self, model: str | None) -> ModelMetadata | None:
        """None: an endpoint has no such call."""
        return None

    def close(self) -> None:
        """Close the connections of the clients."""
        self._runtime.close()
        self._control.close()

    def _mapped(self, error: Any) -> ServerError | ConnectError:
        """A ModelError carries the container's own answer; every other ClientError is SageMaker's own."""
        if not isinstance(error, self._exceptions.ClientError):
            return ConnectError(f"sagemaker://{self.endpoint_name}: {error}")
        response: Mapping[str, Any] = error.response
        said: Mapping[str, Any] = response.get("Error", {})
        if said.get("Code") == "ModelError" and "OriginalStatusCode" in response:
            sentence = decode_error(str(response.get("OriginalMessage", "")).encode())
            return ServerError(sentence, status=int(response["OriginalStatusCode"]))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", _BAD_REQUEST)
        return ServerError(f"{said.get('Code', 'error')}: {said.get('Message', '')}", status=int(status))
