"""The transport to a SageMaker endpoint: InvokeEndpoint, once for each inference.

An inference is sent again only where SageMaker itself says that the model did not see it (`Endpoint.invoked`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tritonforge.errors import EncodeError
from tritonforge.inference.client import Answer, Call, ModelMetadata, Transport
from tritonforge.inference.wire import sagemaker_content_type, sagemaker_header_length
from tritonforge.sagemaker.client.asynchronous import AsyncTransport
from tritonforge.sagemaker.client.endpoints import PAUSES, Endpoint
from tritonforge.sagemaker.client.invocations import REAL_TIME, SERVERLESS, SESSION, EndpointAddress, members, too_large
from tritonforge.sagemaker.client.session import FOR_EVER, READ_TIMEOUT, Session

__all__ = ["EndpointTransport", "from_url"]

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
    others: AWS's names in small letters; a call's own options go before them. ``pauses`` are the seconds before each
    repetition of a call that SageMaker did not hand to the model.

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
        pauses: Sequence[float] = PAUSES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.session = session or Session(region_name=region_name, profile_name=profile_name, endpoint_url=endpoint_url)
        self.endpoint = Endpoint(endpoint_name, self.session, owned=session is None)
        self.options = dict(options or {})
        self._pauses, self._sleep = tuple(pauses), sleep
        members("InvokeEndpoint", endpoint_name, self.options)
        self._runtime = self.session.client(
            "sagemaker-runtime", attempts=1, read_timeout=FOR_EVER if timeout is None else timeout
        )

    def infer(self, call: Call) -> Answer:
        """Carry one inference; what is above `REAL_TIME` or `SERVERLESS` is an EncodeError, before the call."""
        if call.model_version:
            raise EncodeError("a SageMaker endpoint serves one version of a model; leave model_version out")
        target = {} if call.model is None else {"target_model": call.model}
        request = members("InvokeEndpoint", self.endpoint.name, {**self.options, **target, **call.options})
        self._weigh(call.payload.size, request.get("TargetVariant"))
        request |= {"ContentType": sagemaker_content_type(call.payload), "Body": call.payload.body}
        answer = self.endpoint.invoked(
            "InvokeEndpoint", lambda: self._runtime.invoke_endpoint(**request), pauses=self._pauses, sleep=self._sleep
        )
        with self.endpoint.asking("InvokeEndpoint"):
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
        if size > REAL_TIME:
            raise too_large(self.endpoint.name, size, REAL_TIME, "a real-time endpoint", instead=_INSTEAD)
        if size > SERVERLESS and self.endpoint.is_serverless(variant):
            raise too_large(self.endpoint.name, size, SERVERLESS, "a serverless endpoint", instead=_INSTEAD)


def from_url(url: str, *, timeout: float | None = READ_TIMEOUT, **options: Any) -> Transport:
    """The transport of ``sagemaker://name?option=value&...``, which `Client` looks up by its entry point.

    Options stand in the address or are given by name, which counts more:

    - ``region``, ``profile``, ``endpoint_url``, or by name only ``session``, a `Session` that is left open: who asks;
    - what each inference carries, as in `EndpointTransport`;
    - ``asynchronous`` (in an address also ``async``): ``s3://bucket/prefix`` for what an asynchronous endpoint is sent,
      and with it those of `AsyncTransport`: ``patience``, ``request_ttl``, ``invocation_timeout``, ``clean``.

    Raises EncodeError for what is none of these.
    """
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
