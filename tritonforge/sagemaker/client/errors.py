"""The errors of AWS and of the connection to it, and which of them are retried.

botocore's errors become this project's here only. Each is one sentence: the service, the operation and the resource,
AWS's own code and message, the request id, and what to do if that is known. No sentence repeats a credential: those
about credentials are worded here, because AWS's own may quote the signed request, and a helper program's whatever it
printed.

How often a failure is repeated, and after which delays:

- A request to S3 or any other service: botocore repeats what was throttled or lost, `ATTEMPTS` in all.
- The bytes of an object of S3: a download continues where the connection was cut, unless `RESUMES` in a row bring none.
- An inference: `INVOCATIONS`, only if SageMaker reports that the model did not receive it; a second run costs money.
- A request that refers to a resource created a moment ago: `NEW_RESOURCES`, because SageMaker reads its tables late.
- The status of something that takes its time: `grow_delays`, and `is_transient` for the failures to look past.

>>> attempts = []
>>> RetryPolicy((0.0, 0.0)).call(lambda attempt: attempts.append(attempt), is_retryable=is_transient)
>>> attempts
[1]
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tritonforge.errors import ConnectError, DeploymentError, EncodeError, RequestError, TritonForgeError

__all__ = [
    "ATTEMPTS", "INVOCATIONS", "NEW_RESOURCES", "RESUMES", "AwsError", "RetryPolicy", "botocore_retries", "grow_delays",
    "is_transient", "map_errors", "translate_error",
]  # fmt: skip

#: Errors of botocore about the caller, not about the request (botocore.exceptions).
_CREDENTIALS: Final[Mapping[str, str]] = {
    "NoCredentialsError": "there are no AWS credentials",
    "PartialCredentialsError": "the AWS credentials are not complete",
    "CredentialRetrievalError": "the AWS credentials could not be fetched",
    "MetadataRetrievalError": "the AWS credentials could not be fetched from the machine's metadata",
    "TokenRetrievalError": "the AWS sign-in has expired or is not valid",
    "NoAuthTokenError": "there is no AWS sign-in",
    "SSOError": "the AWS sign-in (SSO) has expired or is not valid",
    "LoginError": "the AWS sign-in has expired or is not valid",
    "RefreshWithMFAUnsupportedError": "the AWS credentials have expired and need an MFA token to be renewed",
    "InvalidConfigError": "the AWS credentials are not configured as boto3 expects",
}
_SIGN_IN: Final = (
    "set AWS_PROFILE (or --profile), or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or sign in with: aws sso login"
)
#: AWS's codes about the caller: expired credentials, and keys that are invalid.
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_UNKNOWN_KEY: Final = frozenset({
    "AuthFailure", "IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidSignatureException",
    "InvalidToken", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "SignatureDoesNotMatch",
    "UnrecognizedClientException",
})  # fmt: skip
_DENIED: Final = frozenset(
    {"403", "AccessDenied", "AccessDeniedException", "AllAccessDisabled", "NotAuthorized", "UnauthorizedOperation"}
)
_SKEWED: Final = frozenset({"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"})
#: What botocore's standard mode repeats as throttling (botocore.retries.standard, ThrottledRetryableChecker).
_THROTTLED: Final = frozenset({
    "BandwidthLimitExceeded", "EC2ThrottledException", "LimitExceededException", "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException",
    "SlowDown", "ThrottledException", "Throttling", "ThrottlingException", "TooManyRequestsException",
    "TransactionInProgressException",
})  # fmt: skip
_ADVICE: Final[Mapping[str, str]] = {
    "ResourceLimitExceeded": "ask for a higher quota under Service Quotas, or use another instance type",
    "NoSuchBucket": "create the bucket, or name another one",
    "NoSuchKey": "check the address",
    "PreconditionFailed": "the object was replaced meanwhile; run it again",
    "OptInRequired": "switch the service or the region on in the account",
    "PermanentRedirect": "the bucket is in another region; name that one",
    "AuthorizationHeaderMalformed": "the bucket is in another region; name that one",
}
_SERVER_ERROR: Final = 500


class AwsError(DeploymentError):
    """AWS answered a call with an error.

    ``service`` and ``operation`` name the call, ``resource`` what it is about (may be empty), ``code`` and ``message``
    are AWS's own, ``status`` is the HTTP status (0 unknown), ``request_id`` the id for AWS's support (may be empty),
    ``advice`` what to do, if that is known.
    """

    def __init__(
        self,
        sentence: str,
        *,
        service: str,
        operation: str,
        resource: str,
        code: str,
        message: str,
        status: int,
        request_id: str,
        advice: str = "",
    ) -> None:
        super().__init__(sentence)
        self.service = service
        self.operation = operation
        self.resource = resource
        self.code = code
        self.message = message
        self.status = status
        self.request_id = request_id
        self.advice = advice

    @property
    def denied(self) -> bool:
        """True if the caller is not permitted to do this; S3 also returns it for missing objects."""
        return self.code in _DENIED

    @property
    def throttled(self) -> bool:
        """True if AWS rejected the request because there were too many."""
        return self.code in _THROTTLED


@contextmanager
def map_errors(service: str, operation: str, resource: str = "") -> Iterator[None]:
    """Raise botocore's errors as this project's.

    AwsError for AWS's responses, ConnectError if there was none, RequestError for a request that botocore does not
    send, EncodeError for a region or profile that does not exist, DeploymentError for all others.
    """
    from botocore import exceptions

    try:
        yield
    except (exceptions.ClientError, exceptions.BotoCoreError) as error:
        translated, secret = translate_error(error, service=service, operation=operation, resource=resource)
        # A traceback shows the cause of an error, unless that may quote the signed request.
        raise translated from (None if secret else error)


def translate_error(error: Any, *, service: str, operation: str, resource: str) -> tuple[TritonForgeError, bool]:
    """Return the error in this project's words, and whether the original must not be shown."""
    from botocore import exceptions

    place = f"{service} {operation}" + (f" of {resource}" if resource else "")
    if isinstance(error, exceptions.ClientError):
        return _translate_response(error, place=place, service=service, operation=operation, resource=resource)
    for kind in type(error).__mro__:
        if (sentence := _CREDENTIALS.get(kind.__name__)) is not None:
            return DeploymentError(f"{place}: {sentence}; {_SIGN_IN}"), True
    if isinstance(error, exceptions.ProfileNotFound):
        profile = error.kwargs.get("profile", "")
        return EncodeError(f"there is no AWS profile {profile!r}; see: aws configure list-profiles"), False
    if isinstance(error, (exceptions.NoRegionError, exceptions.InvalidRegionError)):
        return EncodeError(
            f"{place}: {_take_first_line(error)}; name a region, for example AWS_DEFAULT_REGION=eu-west-1"
        ), False
    if isinstance(error, exceptions.ParamValidationError):
        report = "; ".join(str(error.kwargs.get("report", error)).splitlines())
        return RequestError(f"{place}: the request is invalid: {report}"), False
    if isinstance(error, (exceptions.ConnectTimeoutError, exceptions.ReadTimeoutError)):
        return ConnectError(f"{place}: {_read_url(error)} did not respond in time"), False
    if isinstance(error, exceptions.SSLError):
        return ConnectError(f"{place}: the certificate of {_read_url(error)} is not trusted; see AWS_CA_BUNDLE"), False
    if isinstance(error, exceptions.EndpointConnectionError):
        return ConnectError(
            f"{place}: no connection to {_read_url(error)}; check the network, the region, AWS_ENDPOINT_URL"
        ), False
    if isinstance(
        error,
        (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError),
    ):
        return ConnectError(
            f"{place}: the connection was cut before the response arrived: {_take_first_line(error)}"
        ), False
    if isinstance(error, exceptions.FlexibleChecksumError):
        return ConnectError(f"{place}: the response is damaged: {_take_first_line(error)}"), False
    return DeploymentError(f"{place}: {_take_first_line(error)}"), False


def _translate_response(
    error: Any, *, place: str, service: str, operation: str, resource: str
) -> tuple[TritonForgeError, bool]:
    response: Mapping[str, Any] = error.response
    details: Mapping[str, Any] = response.get("Error", {})
    about: Mapping[str, Any] = response.get("ResponseMetadata", {})
    code, message = str(details.get("Code", "")), str(details.get("Message", "")).strip()
    request_id = str(about.get("RequestId", "") or about.get("HTTPHeaders", {}).get("x-amzn-requestid", ""))
    secret = code in _UNKNOWN_KEY
    advice = _find_advice(code, service=service, operation=operation, about=about)
    if secret:
        message = "AWS does not accept the credentials"
    words = ": ".join(filter(None, (code, message.rstrip(".")))) or "an error without a message"
    known = f" (request {request_id})" if request_id else ""
    translated = AwsError(
        f"{place}: {words}{known}" + (f"; {advice}" if advice else ""),
        service=service,
        operation=operation,
        resource=resource,
        code=code,
        message=message,
        status=int(about.get("HTTPStatusCode", 0)),
        request_id=request_id,
        advice=advice,
    )
    return translated, secret


def _find_advice(code: str, *, service: str, operation: str, about: Mapping[str, Any]) -> str:
    if code in _EXPIRED:
        return "the AWS credentials have expired; sign in again (aws sso login), or set new ones"
    if code in _UNKNOWN_KEY:
        return "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the profile, and the region"
    if code in _DENIED:
        prefix = {"sagemaker-runtime": "sagemaker"}.get(service, service)
        also = "; without s3:ListBucket S3 answers so for a missing object, too" if code == "403" else ""
        return f"the caller needs the permission {_name_permission(prefix, operation)}{also}"
    if code in _SKEWED:
        return "the clock of this machine is wrong"
    if code in _THROTTLED or int(about.get("HTTPStatusCode", 0)) >= _SERVER_ERROR:
        tries = int(about.get("RetryAttempts", 0)) + 1
        return "run it again later" if tries == 1 else f"{tries} attempts were made; run it again later"
    return _ADVICE.get(code, "")


def _name_permission(prefix: str, operation: str) -> str:
    """Return the IAM action that allows an operation; S3's have names of their own."""
    theirs = {
        "HeadObject": "GetObject",
        "HeadBucket": "ListBucket",
        "ListObjectsV2": "ListBucket",
        "CreateMultipartUpload": "PutObject",
        "UploadPart": "PutObject",
        "CompleteMultipartUpload": "PutObject",
        "ListMultipartUploads": "ListBucketMultipartUploads",
        "DeleteObjects": "DeleteObject",
    }
    return f"{prefix}:{theirs.get(operation, operation) if prefix == 's3' else operation}"


def _read_url(error: Any) -> str:
    return str(error.kwargs.get("endpoint_url", "AWS")).split("?")[0]


def _take_first_line(error: Any) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


_Result = TypeVar("_Result")

#: The first attempt and the repetitions of a request (botocore's own default is 3).
ATTEMPTS: Final = 5
#: How often in a row a download is resumed without a new byte.
RESUMES: Final = 3


def botocore_retries(attempts: int) -> dict[str, Any]:
    """Return botocore's setting for this number of attempts: mode "standard", with exponential backoff and jitter."""
    return {"mode": "standard", "total_max_attempts": attempts}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The delays in seconds before each repetition of a call; ``jitter`` is the share that is cut at random."""

    delays: tuple[float, ...]
    jitter: float = 0.0

    def call(
        self,
        function: Callable[[int], _Result],
        *,
        is_retryable: Callable[[TritonForgeError], bool],
        sleep: Callable[[float], None] | None = None,
    ) -> _Result:
        """Call a function with the number of the attempt, from 1, until it returns or its error is not retryable."""
        for attempt, delay in enumerate(self.delays, start=1):
            try:
                return function(attempt)
            except TritonForgeError as error:
                if not is_retryable(error):
                    raise
            # The jitter keeps clients apart, it guards nothing.
            (sleep or time.sleep)(delay * random.uniform(1.0 - self.jitter, 1.0))  # noqa: S311
        return function(len(self.delays) + 1)


INVOCATIONS: Final = RetryPolicy((0.5, 1.0, 2.0, 4.0, 8.0), jitter=0.5)
NEW_RESOURCES: Final = RetryPolicy((1.0, 2.0, 4.0, 8.0, 16.0))


def grow_delays(first: float, *, growth: float, longest: float) -> Iterator[float]:
    """Yield the seconds between two requests for a status, short at first, without end."""
    delay = first
    while True:
        yield delay
        delay = min(delay * growth, longest)


def is_transient(error: TritonForgeError) -> bool:
    """Return True if a failure may pass by itself: no connection, throttling, an error inside AWS."""
    if isinstance(error, AwsError):
        return error.throttled or error.status >= _SERVER_ERROR
    return isinstance(error, ConnectError)
