"""An endpoint as both of its transports see it: whether it serves, of which kind it is, and what its errors mean."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from tritonforge.errors import ConnectError, TritonForgeError
from tritonforge.inference.client import ModelError, RelayError
from tritonforge.inference.wire import decode_error
from tritonforge.sagemaker.client.errors import AwsError, translated
from tritonforge.sagemaker.client.session import Session

__all__ = ["PAUSES", "Endpoint"]

#: Seconds before each repetition of a call that was not run; every pause is cut by up to half at random.
PAUSES: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
#: Codes by which SageMaker says that the model did not see a request: it was refused at the door, or the model is still
#: being fetched or loaded. ServiceUnavailable and InternalFailure do not say so.
_NOT_RUN: Final = frozenset({"ModelNotReadyException", "Throttling", "ThrottlingException", "TooManyRequestsException"})

_BAD_REQUEST: Final = 400
#: Seconds that asking for an endpoint's kind may take; it is a courtesy.
_PATIENCE: Final = 10.0
#: SageMaker's words, all of code ValidationError: for an endpoint that does not serve, and for one of another kind.
_ABSENT: Final = re.compile(r"not found|could not find|does not exist|in ?service", re.IGNORECASE)
_OTHER_KIND: Final = re.compile(r"inference type|asynchronous", re.IGNORECASE)


class Endpoint:
    """An endpoint's name, and the session by which it is reached; ``owned`` closes the session with it."""

    def __init__(self, name: str, session: Session, *, owned: bool) -> None:
        self.name = name
        self.session = session
        self._owned = owned
        self._serverless: Mapping[str, bool] | None = None

    @property
    def url(self) -> str:
        """The address, for sentences."""
        return f"sagemaker://{self.name}"

    def ready(self) -> bool:
        """Whether ``DescribeEndpoint`` says InService."""
        return bool(self._described(self.session.client("sagemaker"))["EndpointStatus"] == "InService")

    def is_serverless(self, variant: str | None) -> bool:
        """Whether the variant, or every variant where none is named, is serverless.

        False where that cannot be learned: who may invoke an endpoint need not be allowed to describe it. Asked once.
        """
        if self._serverless is None:
            try:
                told = self._described(self.session.client("sagemaker", attempts=1, read_timeout=_PATIENCE))
            except TritonForgeError:
                told = {}
            self._serverless = {
                each["VariantName"]: "CurrentServerlessConfig" in each for each in told.get("ProductionVariants", ())
            }
        if variant is not None:
            return self._serverless.get(variant, False)
        return bool(self._serverless) and all(self._serverless.values())

    def invoked(
        self,
        operation: str,
        invoke: Callable[[], dict[str, Any]],
        *,
        pauses: Sequence[float] = PAUSES,
        sleep: Callable[[float], None],
    ) -> dict[str, Any]:
        """What an invocation answers.

        boto3 itself would repeat one whose answer got lost, when it may have run already, so that ``invoke`` must be
        one attempt. Here it is repeated, after ``pauses`` in seconds, where the code of SageMaker's error says that the
        model did not see it. Raises as `asking`.
        """
        for attempt, pause in enumerate((*pauses, None), start=1):
            try:
                with self.asking(operation, attempts=attempt):
                    answer = invoke()
                break
            except RelayError as error:
                if pause is None or error.code not in _NOT_RUN:
                    raise
                sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - keeps clients apart, guards nothing
        return answer

    @contextmanager
    def asking(self, operation: str, *, attempts: int = 1) -> Iterator[None]:
        """A context in which botocore's errors become a transport's: `ModelError`, `RelayError`, ConnectError.

        ``attempts`` is how many were made before. What is about credentials and permissions is worded as in `refusals`.
        """
        from botocore import exceptions

        try:
            yield
        except (exceptions.ClientError, exceptions.BotoCoreError) as error:
            told, secret = translated(error, service="sagemaker-runtime", operation=operation, resource=self.name)
            if isinstance(told, AwsError):
                told = self._refusal(error, told, attempts=attempts)
            elif isinstance(told, ConnectError) and not isinstance(
                error, (exceptions.EndpointConnectionError, exceptions.ConnectTimeoutError)
            ):
                told = ConnectError(f"{told}; the inference may have run, so it was not sent again")
            raise told from (None if secret else error)

    def close(self) -> None:
        """Close the connections, where they are no one else's."""
        if self._owned:
            self.session.close()

    def _described(self, client: Any) -> dict[str, Any]:
        with self.session.asking("sagemaker", "DescribeEndpoint", self.name):
            told: dict[str, Any] = client.describe_endpoint(EndpointName=self.name)
        return told

    def _refusal(self, error: Any, told: AwsError, *, attempts: int) -> ModelError | RelayError:
        """A ModelError carries the container's own answer; every other error is SageMaker's own."""
        response: Mapping[str, Any] = error.response
        if told.code == "ModelError" and "OriginalStatusCode" in response:
            sentence = decode_error(str(response.get("OriginalMessage") or "").encode()) or told.message
            # 0 stands for a container that gave no answer in time.
            status = int(response["OriginalStatusCode"]) or told.status or _BAD_REQUEST
            return ModelError(sentence, status=status, log=str(response.get("LogStreamArn") or ""))
        advice = told.advice
        tries = "" if attempts == 1 else f"{attempts} attempts were made; "
        if told.code == "ModelNotReadyException":
            advice = f"{tries}the model is still being fetched or loaded, ask again later"
        elif told.throttled:
            advice = f"{tries}ask again later, more slowly, or give the endpoint more capacity"
        elif told.code in ("ServiceUnavailable", "InternalFailure", "InternalDependencyException"):
            advice = "the inference may have run, so it was not sent again"
        elif told.code == "ValidationError" and _OTHER_KIND.search(told.message):
            advice = "an asynchronous endpoint wants --async s3://bucket/prefix, a real-time one does not"
        elif told.code == "ValidationError" and _ABSENT.search(told.message):
            advice = (
                f"check the name, the region ({self.session.region}) and the account, and that it is InService: "
                f"aws sagemaker describe-endpoint --endpoint-name {self.name}"
            )
        words = f"{told.code}: {told.message.rstrip('.')}"
        known = f" (request {told.request_id})" if told.request_id else ""
        return RelayError(f"{words}{known}", status=told.status or _BAD_REQUEST, code=told.code, advice=advice)
