"""The transport to a SageMaker endpoint: InvokeEndpoint, once for each inference.

``sagemaker://name?region=eu-west-1&target_variant=blue`` and ``Client("sagemaker://name", region="eu-west-1")`` are
the same. An inference is sent again only if SageMaker itself reports that the model did not receive it
(`Endpoint.invoke`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from tritonforge.errors import ConnectError, EncodeError, TritonForgeError
from tritonforge.inference.client import Answer, Call, ModelError, ModelMetadata, RelayError, Transport
from tritonforge.inference.wire import decode_error, sagemaker_content_type, sagemaker_header_length
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.client.errors import INVOCATIONS, AwsError, RetryPolicy, translate_error
from tritonforge.sagemaker.client.session import FOR_EVER, READ_TIMEOUT, Session
from tritonforge.triton.service_limits import REAL_TIME_BODY, SERVERLESS_BODY, Limit

__all__ = ["SESSION", "Endpoint", "EndpointAddress", "EndpointTransport", "build_request", "build_size_error",
           "from_url"]  # fmt: skip

#: Options of the session, by the argument of `Session`.
SESSION: Final[Mapping[str, str]] = {
    "region": "region_name",
    "profile": "profile_name",
    "endpoint_url": "endpoint_url",
}
#: Options of an inference, by the member of AWS's request.
_MEMBERS: Final[Mapping[str, str]] = {
    "custom_attributes": "CustomAttributes",
    "enable_explanations": "EnableExplanations",
    "filename": "Filename",
    "inference_component_name": "InferenceComponentName",
    "inference_id": "InferenceId",
    "prefix_aware_id": "PrefixAwareId",
    "s3_output_path_extension": "S3OutputPathExtension",
    "session_id": "SessionId",
    "target_container_hostname": "TargetContainerHostname",
    "target_model": "TargetModel",
    "target_variant": "TargetVariant",
}


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """An endpoint's name and the options of its address; raises EncodeError for an invalid address.

    >>> EndpointAddress.parse("sagemaker://inception?target_variant=blue").options["target_variant"]
    'blue'
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> EndpointAddress:
        """Parse ``sagemaker://name?option=value&...``."""
        scheme, _, rest = url.partition("://")
        name, _, query = rest.partition("?")
        name = name.rstrip("/")
        if scheme != "sagemaker" or not name:
            raise EncodeError(f"{url!r} is not an endpoint; write sagemaker://endpoint-name")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        except ValueError as error:
            raise EncodeError(f"{url!r}: expected option=value pairs joined by & after the ?") from error
        if len(dict(pairs)) != len(pairs):
            raise EncodeError(f"{url!r} has an option twice")
        return cls(name, dict(pairs))


def build_request(operation: str, endpoint_name: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Return the request of an operation on an endpoint, without its body, checked against AWS's service model.

    Raises EncodeError for an option that the operation does not have, RequestError for a value that AWS would reject.
    """
    shape = service_model.find_operation("sagemaker-runtime", operation).input_shape
    members = shape.members
    request = {"EndpointName": endpoint_name}
    for option, value in options.items():
        member = _MEMBERS.get(option, "")
        if member not in members:
            able = sorted(name for name, theirs in _MEMBERS.items() if theirs in members)
            raise EncodeError(f"sagemaker://{endpoint_name}: {operation} has no option {option!r}; it has {able}")
        request[member] = value
    body = {"Body": b""} if "Body" in shape.required_members else {}
    service_model.check_request("sagemaker-runtime", operation, {**request, **body})
    return request


def build_size_error(endpoint_name: str, size: int, limit: Limit, kind: str, *, instead: str) -> EncodeError:
    """Return the error of a body above a limit."""
    most = f"{limit.value >> 30} GB" if limit.value >= 1 << 30 else f"{limit.value >> 20} MB"
    return EncodeError(
        f"sagemaker://{endpoint_name}: the body has {size:,} bytes and {kind} takes {most} ({limit.value:,} bytes); "
        f"{instead}"
    )


#: Codes of requests that the model did not receive: they were rejected at once, or the model is still being fetched or
#: loaded. ServiceUnavailable and InternalFailure do not exclude that it ran.
_NOT_RUN: Final = frozenset({"ModelNotReadyException", "Throttling", "ThrottlingException", "TooManyRequestsException"})

_BAD_REQUEST: Final = 400
#: Seconds for reading an endpoint's kind, which is not necessary.
_PATIENCE: Final = 10.0
#: SageMaker's messages of code ValidationError: for an endpoint that does not serve, and for one of another kind.
_ABSENT: Final = re.compile(r"not found|could not find|does not exist|in ?service", re.IGNORECASE)
_OTHER_KIND: Final = re.compile(r"inference type|asynchronous", re.IGNORECASE)


class Endpoint:
    """An endpoint as both transports use it: its name and session; ``owned`` closes the session with it."""

    def __init__(self, name: str, session: Session, *, owned: bool) -> None:
        self.name = name
        self.session = session
        self._owned = owned
        self._serverless: Mapping[str, bool] | None = None

    @property
    def url(self) -> str:
        """The address, for messages."""
        return f"sagemaker://{self.name}"

    def ready(self) -> bool:
        """Return True if ``DescribeEndpoint`` returns InService."""
        return bool(self._describe(self.session.client("sagemaker"))["EndpointStatus"] == "InService")

    def is_serverless(self, variant: str | None) -> bool:
        """Return True if the variant, or every variant if none is named, is serverless; it is read once.

        False if it cannot be read: a caller may be permitted to invoke an endpoint and not to describe it.
        """
        if self._serverless is None:
            try:
                description = self._describe(self.session.client("sagemaker", attempts=1, read_timeout=_PATIENCE))
            except TritonForgeError:
                description = {}
            self._serverless = {
                variant["VariantName"]: "CurrentServerlessConfig" in variant
                for variant in description.get("ProductionVariants", ())
            }
        if variant is not None:
            return self._serverless.get(variant, False)
        return bool(self._serverless) and all(self._serverless.values())

    def invoke(
        self,
        operation: str,
        invoke: Callable[[], dict[str, Any]],
        *,
        retries: RetryPolicy = INVOCATIONS,
        sleep: Callable[[float], None],
    ) -> dict[str, Any]:
        """Call an operation that runs an inference, and return AWS's response.

        boto3 itself would repeat a call whose response was lost although it may have run, so that ``invoke`` must be
        one attempt. It is repeated only if SageMaker's code of the error says that the model did not receive the
        request. Raises as `map_errors`.
        """

        def attempt(number: int) -> dict[str, Any]:
            with self.map_errors(operation, attempts=number):
                return invoke()

        def was_not_run(error: TritonForgeError) -> bool:
            return isinstance(error, RelayError) and error.code in _NOT_RUN

        return retries.call(attempt, is_retryable=was_not_run, sleep=sleep)

    @contextmanager
    def map_errors(self, operation: str, *, attempts: int = 1) -> Iterator[None]:
        """Raise botocore's errors as a transport's: `ModelError`, `RelayError`, ConnectError.

        ``attempts`` is the number of this attempt. Errors about credentials and permissions are worded as in
        `tritonforge.sagemaker.client.errors`.
        """
        from botocore import exceptions

        try:
            yield
        except (exceptions.ClientError, exceptions.BotoCoreError) as error:
            translated, secret = translate_error(
                error, service="sagemaker-runtime", operation=operation, resource=self.name
            )
            if isinstance(translated, AwsError):
                translated = self._classify(error, translated, attempts=attempts)
            elif isinstance(translated, ConnectError) and not isinstance(
                error, (exceptions.EndpointConnectionError, exceptions.ConnectTimeoutError)
            ):
                translated = ConnectError(f"{translated}; the inference may have run, so it was not sent again")
            raise translated from (None if secret else error)

    def close(self) -> None:
        """Close the connections of a session of its own."""
        if self._owned:
            self.session.close()

    def _describe(self, client: Any) -> dict[str, Any]:
        with self.session.map_errors("sagemaker", "DescribeEndpoint", self.name):
            description: dict[str, Any] = client.describe_endpoint(EndpointName=self.name)
        return description

    def _classify(self, error: Any, refusal: AwsError, *, attempts: int) -> ModelError | RelayError:
        """Return a ModelError with the container's own response, or a RelayError of SageMaker itself."""
        response: Mapping[str, Any] = error.response
        if refusal.code == "ModelError" and "OriginalStatusCode" in response:
            sentence = decode_error(str(response.get("OriginalMessage") or "").encode()) or refusal.message
            # 0 means that the container did not respond in time.
            status = int(response["OriginalStatusCode"]) or refusal.status or _BAD_REQUEST
            return ModelError(sentence, status=status, log=str(response.get("LogStreamArn") or ""))
        advice = refusal.advice
        tries = "" if attempts == 1 else f"{attempts} attempts were made; "
        if refusal.code == "ModelNotReadyException":
            advice = f"{tries}the model is still being fetched or loaded, ask again later"
        elif refusal.throttled:
            advice = f"{tries}ask again later, more slowly, or give the endpoint more capacity"
        elif refusal.code in ("ServiceUnavailable", "InternalFailure", "InternalDependencyException"):
            advice = "the inference may have run, so it was not sent again"
        elif refusal.code == "ValidationError" and _OTHER_KIND.search(refusal.message):
            advice = "an asynchronous endpoint needs --async s3://bucket/prefix, a real-time one does not"
        elif refusal.code == "ValidationError" and _ABSENT.search(refusal.message):
            advice = (
                f"check the name, the region ({self.session.region}) and the account, and that it is InService: "
                f"aws sagemaker describe-endpoint --endpoint-name {self.name}"
            )
        request_id = f" (request {refusal.request_id})" if refusal.request_id else ""
        return RelayError(
            f"{refusal.code}: {refusal.message.rstrip('.')}{request_id}",
            status=refusal.status or _BAD_REQUEST,
            code=refusal.code,
            advice=advice,
        )


#: What a response has beside its body: botocore's member, and its name here.
_PROVENANCE: Final[Mapping[str, str]] = {
    "InvokedProductionVariant": "invoked_production_variant",
    "CustomAttributes": "custom_attributes",
    "NewSessionId": "new_session_id",
    "ClosedSessionId": "closed_session_id",
}
_INSTEAD: Final = "send it to an asynchronous endpoint, which takes 1 GB (--async s3://bucket/prefix)"


class EndpointTransport:
    """A transport over SageMaker's ``InvokeEndpoint``; `Client` makes one of ``sagemaker://name`` by itself.

    Without a ``session`` one is made of ``region_name``, ``profile_name`` and ``endpoint_url``, as boto3 finds them.
    ``timeout`` is in seconds for each wait for bytes, None for no limit. ``options`` go with every inference:
    ``target_model`` (of a multi-model endpoint; a call's model overrides it), ``target_variant``,
    ``target_container_hostname``, ``inference_id``, ``custom_attributes``, ``session_id`` and others: AWS's names in
    lower case; a call's own options override them. ``retries`` repeats calls that SageMaker did not hand to the model.

    Raises MissingExtraError if boto3 is not installed, EncodeError and RequestError for what AWS would reject.
    """

    def __init__(
        self,
        endpoint_name: str,
        *,
        session: Session | None = None,
        region_name: str | None = None,
        profile_name: str | None = None,
        endpoint_url: str | None = None,
        timeout: float | None = READ_TIMEOUT,
        options: Mapping[str, str] | None = None,
        retries: RetryPolicy = INVOCATIONS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.session = session or Session(region_name=region_name, profile_name=profile_name, endpoint_url=endpoint_url)
        self.endpoint = Endpoint(endpoint_name, self.session, owned=session is None)
        self.options = dict(options or {})
        self._retries, self._sleep = retries, sleep
        build_request("InvokeEndpoint", endpoint_name, self.options)
        self._runtime = self.session.client(
            "sagemaker-runtime", attempts=1, read_timeout=FOR_EVER if timeout is None else timeout
        )

    def infer(self, call: Call) -> Answer:
        """Run one inference; a body that is too large is an EncodeError, before the call."""
        if call.model_version:
            raise EncodeError("a SageMaker endpoint serves one version of a model; leave model_version out")
        target = {} if call.model is None else {"target_model": call.model}
        request = build_request("InvokeEndpoint", self.endpoint.name, {**self.options, **target, **call.options})
        self._check_size(call.payload.size, request.get("TargetVariant"))
        request |= {"ContentType": sagemaker_content_type(call.payload), "Body": call.payload.body}
        answer = self.endpoint.invoke(
            "InvokeEndpoint", lambda: self._runtime.invoke_endpoint(**request), retries=self._retries, sleep=self._sleep
        )
        with self.endpoint.map_errors("InvokeEndpoint"):
            body: bytes = answer["Body"].read()
        provenance = {name: str(answer[member]) for member, name in _PROVENANCE.items() if answer.get(member)}
        return Answer(body, sagemaker_header_length(answer.get("ContentType"), size=len(body)), provenance)

    def ready(self, model: str | None) -> bool:
        """Return True if ``DescribeEndpoint`` returns InService."""
        return self.endpoint.ready()

    def metadata(self, model: str | None) -> ModelMetadata | None:
        """Return None: an endpoint has no such call."""
        return None

    def close(self) -> None:
        """Close the connections of a session of its own."""
        self.endpoint.close()

    def _check_size(self, size: int, variant: str | None) -> None:
        if size > REAL_TIME_BODY.value:
            raise build_size_error(self.endpoint.name, size, REAL_TIME_BODY, "a real-time endpoint", instead=_INSTEAD)
        if size > SERVERLESS_BODY.value and self.endpoint.is_serverless(variant):
            raise build_size_error(self.endpoint.name, size, SERVERLESS_BODY, "a serverless endpoint", instead=_INSTEAD)


def from_url(url: str, *, timeout: float | None = READ_TIMEOUT, **options: Any) -> Transport:
    """Return the transport of ``sagemaker://name?option=value&...``; `Client` finds this function by its entry point.

    Options are given in the address or by name, which overrides the address:

    - ``region``, ``profile``, ``endpoint_url``, or by name only ``session``, a `Session` that is left open;
    - the options of each inference, as in `EndpointTransport`;
    - ``asynchronous`` (in an address also ``async``): ``s3://bucket/prefix`` for the requests of an asynchronous
      endpoint, and with it those of `AsyncTransport`: ``patience``, ``request_ttl``, ``invocation_timeout``, ``clean``.

    Raises EncodeError for any other option.
    """
    from tritonforge.sagemaker.client.async_transport import AsyncTransport  # which uses this module

    address = EndpointAddress.parse(url)
    settings: dict[str, Any] = dict(address.options)
    if "async" in settings:
        settings["asynchronous"] = settings.pop("async")
    settings |= {name: value for name, value in options.items() if value is not None}
    place: dict[str, Any] = {argument: settings.pop(name) for name, argument in SESSION.items() if name in settings}
    session = settings.pop("session", None)
    if session is not None:
        if not isinstance(session, Session) or place:
            raise EncodeError(
                f"{url}: session= takes a tritonforge.sagemaker.client.Session, and then no region, profile or "
                "endpoint_url; a stateful session's id goes as session_id"
            )
        place = {"session": session}
    if "asynchronous" not in settings:
        return EndpointTransport(address.name, timeout=timeout, options=settings, **place)
    waiting = {name: read(url, name, settings.pop(name)) for name, read in _WAITING.items() if name in settings}
    return AsyncTransport(
        address.name, prefix=settings.pop("asynchronous") or None, timeout=timeout, options=settings, **waiting, **place
    )


def _read_number(url: str, name: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError as error:
        raise EncodeError(f"{url}: {name}: expected a number of seconds, got {value!r}") from error


def _read_integer(url: str, name: str, value: object) -> int:
    return round(_read_number(url, name, value))


def _read_switch(url: str, name: str, value: object) -> bool:
    switches = {"true": True, "1": True, "false": False, "0": False}
    switch = switches.get(str(value).lower())
    if switch is None:
        raise EncodeError(f"{url}: {name}: expected true or false, got {value!r}")
    return switch


#: The options of `AsyncTransport` that are not text, and the functions that read them from an address.
_WAITING: Final[Mapping[str, Callable[[str, str, object], Any]]] = {
    "patience": _read_number,
    "request_ttl": _read_integer,
    "invocation_timeout": _read_integer,
    "clean": _read_switch,
}
