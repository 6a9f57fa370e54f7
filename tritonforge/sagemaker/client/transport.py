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
from tritonforge.sagemaker.client.errors import AwsError, translate_error
from tritonforge.sagemaker.client.retries import INVOCATIONS, RetryPolicy
from tritonforge.sagemaker.client.session import FOR_EVER, READ_TIMEOUT, Session
from tritonforge.triton.service_limits import REAL_TIME_BODY, SERVERLESS_BODY, Limit

__all__ = ["SESSION", "Endpoint", "EndpointAddress", "EndpointTransport", "build_request", "build_size_error",
           "from_url"]  # fmt: skip

#: Options that say who asks, and where, by the argument of `Session` that they are.
SESSION: Final[Mapping[str, str]] = {
    "region": "region_name",
    "profile": "profile_name",
    "endpoint_url": "endpoint_url",
}
#: Options that an inference carries, by the member of AWS's request that they are.
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
    """An endpoint's name, and what its address says besides; raises EncodeError for what is no such address.

    >>> EndpointAddress.parse("sagemaker://inception?target_variant=blue").options["target_variant"]
    'blue'
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> EndpointAddress:
        """The address in ``sagemaker://name?option=value&...``."""
        scheme, _, rest = url.partition("://")
        name, _, query = rest.partition("?")
        name = name.rstrip("/")
        if scheme != "sagemaker" or not name:
            raise EncodeError(f"{url!r} is no endpoint; write sagemaker://endpoint-name")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        except ValueError as error:
            raise EncodeError(f"{url!r}: after the ? come option=value pairs joined by &") from error
        if len(dict(pairs)) != len(pairs):
            raise EncodeError(f"{url!r} says an option twice")
        return cls(name, dict(pairs))


def build_request(operation: str, endpoint_name: str, options: Mapping[str, str]) -> dict[str, Any]:
    """The request of an operation on an endpoint, without its body, held against AWS's own service model.

    Raises EncodeError for an option that the operation does not have, RequestError for a value that AWS would refuse.
    """
    shape = service_model.find_operation("sagemaker-runtime", operation).input_shape
    known = shape.members
    request = {"EndpointName": endpoint_name}
    for option, value in options.items():
        member = _MEMBERS.get(option, "")
        if member not in known:
            able = sorted(member for member, theirs in _MEMBERS.items() if theirs in known)
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
                variant["VariantName"]: "CurrentServerlessConfig" in variant
                for variant in told.get("ProductionVariants", ())
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
        """A context in which botocore's errors become a transport's: `ModelError`, `RelayError`, ConnectError.

        ``attempts`` is how many were made before. What is about credentials and permissions is worded as in `refusals`.
        """
        from botocore import exceptions

        try:
            yield
        except (exceptions.ClientError, exceptions.BotoCoreError) as error:
            told, secret = translate_error(error, service="sagemaker-runtime", operation=operation, resource=self.name)
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
        with self.session.map_errors("sagemaker", "DescribeEndpoint", self.name):
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


#: What the answer tells beside its body: botocore's member, and the name here.
_PROVENANCE: Final[Mapping[str, str]] = {
    "InvokedProductionVariant": "invoked_production_variant",
    "CustomAttributes": "custom_attributes",
    "NewSessionId": "new_session_id",
    "ClosedSessionId": "closed_session_id",
}
_INSTEAD: Final = "send it to an asynchronous endpoint, which takes 1 GB (--async s3://bucket/prefix)"


class EndpointTransport:
    """A transport over SageMaker's ``InvokeEndpoint``; `Client` makes one of ``sagemaker://name`` by itself.

    ``session`` says who asks and where; without one, one is made of ``region_name``, ``profile_name`` and
    ``endpoint_url``, as boto3 finds them. ``timeout`` is in seconds for each wait for bytes, None waits for ever.
    ``options`` go with every inference: ``target_model`` (of a multi-model endpoint; a call's model goes before it),
    ``target_variant``, ``target_container_hostname``, ``inference_id``, ``custom_attributes``, ``session_id`` and
    others: AWS's names in small letters; a call's own options go before them. ``retries`` repeats calls that SageMaker
    did not hand to the model.

    Raises MissingExtraError where boto3 is not installed, EncodeError and RequestError for what AWS would refuse.
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
        """Carry one inference; a body that is too large is an EncodeError, before the call."""
        if call.model_version:
            raise EncodeError("a SageMaker endpoint serves one version of a model; leave model_version out")
        target = {} if call.model is None else {"target_model": call.model}
        request = build_request("InvokeEndpoint", self.endpoint.name, {**self.options, **target, **call.options})
        self._weigh(call.payload.size, request.get("TargetVariant"))
        request |= {"ContentType": sagemaker_content_type(call.payload), "Body": call.payload.body}
        answer = self.endpoint.invoke(
            "InvokeEndpoint", lambda: self._runtime.invoke_endpoint(**request), retries=self._retries, sleep=self._sleep
        )
        with self.endpoint.map_errors("InvokeEndpoint"):
            body: bytes = answer["Body"].read()
        provenance = {name: str(answer[member]) for member, name in _PROVENANCE.items() if answer.get(member)}
        return Answer(body, sagemaker_header_length(answer.get("ContentType"), size=len(body)), provenance)

    def ready(self, model: str | None) -> bool:
        """Whether ``DescribeEndpoint`` says InService."""
        return self.endpoint.ready()

    def metadata(self, model: str | None) -> ModelMetadata | None:
        """None: an endpoint has no such call."""
        return None

    def close(self) -> None:
        """Close the connections, where the session is its own."""
        self.endpoint.close()

    def _weigh(self, size: int, variant: str | None) -> None:
        if size > REAL_TIME_BODY.value:
            raise build_size_error(self.endpoint.name, size, REAL_TIME_BODY, "a real-time endpoint", instead=_INSTEAD)
        if size > SERVERLESS_BODY.value and self.endpoint.is_serverless(variant):
            raise build_size_error(self.endpoint.name, size, SERVERLESS_BODY, "a serverless endpoint", instead=_INSTEAD)


def from_url(url: str, *, timeout: float | None = READ_TIMEOUT, **options: Any) -> Transport:
    """The transport of ``sagemaker://name?option=value&...``, which `Client` looks up by its entry point.

    Options stand in the address or are given by name, which counts more:

    - ``region``, ``profile``, ``endpoint_url``, or by name only ``session``, a `Session` that is left open: who asks;
    - what each inference carries, as in `EndpointTransport`;
    - ``asynchronous`` (in an address also ``async``): ``s3://bucket/prefix`` for what an asynchronous endpoint is sent,
      and with it those of `AsyncTransport`: ``patience``, ``request_ttl``, ``invocation_timeout``, ``clean``.

    Raises EncodeError for what is none of these.
    """
    from tritonforge.sagemaker.client.async_transport import AsyncTransport  # which uses this module

    address = EndpointAddress.parse(url)
    said: dict[str, Any] = dict(address.options)
    if "async" in said:
        said["asynchronous"] = said.pop("async")
    said |= {name: value for name, value in options.items() if value is not None}
    place: dict[str, Any] = {argument: said.pop(name) for name, argument in SESSION.items() if name in said}
    session = said.pop("session", None)
    if session is not None:
        if not isinstance(session, Session) or place:
            raise EncodeError(
                f"{url}: session= takes a tritonforge.sagemaker.client.Session, and then no region, profile or "
                "endpoint_url; a stateful session's id goes as session_id"
            )
        place = {"session": session}
    if "asynchronous" not in said:
        return EndpointTransport(address.name, timeout=timeout, options=said, **place)
    waiting = {name: read(url, name, said.pop(name)) for name, read in _WAITING.items() if name in said}
    return AsyncTransport(
        address.name, prefix=said.pop("asynchronous") or None, timeout=timeout, options=said, **waiting, **place
    )


def _number(url: str, name: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError as error:
        raise EncodeError(f"{url}: {name} takes a number of seconds, found {value!r}") from error


def _whole(url: str, name: str, value: object) -> int:
    return round(_number(url, name, value))


def _switch(url: str, name: str, value: object) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    found = known.get(str(value).lower())
    if found is None:
        raise EncodeError(f"{url}: {name} is true or false, found {value!r}")
    return found


#: The options of `AsyncTransport` that are no words, and what reads them from an address.
_WAITING: Final[Mapping[str, Callable[[str, str, object], Any]]] = {
    "patience": _number,
    "request_ttl": _whole,
    "invocation_timeout": _whole,
    "clean": _switch,
}
