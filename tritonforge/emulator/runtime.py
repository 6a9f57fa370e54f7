"""SageMaker's runtime API: executes one request on an endpoint's containers and returns the response."""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote

from tritonforge.emulator import runtime_protocol
from tritonforge.emulator.asynchronous_inference import AsyncJob, AsyncQueue
from tritonforge.emulator.control.fleet import ComponentHost
from tritonforge.emulator.data_capture import CapturedExchange, CaptureRecorder
from tritonforge.emulator.emulated_s3 import EmulatedS3
from tritonforge.emulator.interfaces import (
    MAX_BODY,
    Container,
    ContainerResponse,
    LiveEndpoint,
    LiveVariant,
    Request,
    Response,
)
from tritonforge.emulator.runtime_protocol import CUSTOM_ATTRIBUTES, check_parameters, invoke_container, read_parameters
from tritonforge.emulator.traffic import Sampler, VariantBalancer
from tritonforge.triton.service_limits import INLINE_BODY, SERVERLESS_BODY

__all__ = ["Runtime"]

_ROUTE: Final = re.compile(r"/endpoints/(?P<name>[^/]+)/(?P<what>(?:async-)?invocations(?:-response-stream)?)")
_OPERATIONS: Final[Mapping[str, str]] = {
    "invocations": "InvokeEndpoint",
    "async-invocations": "InvokeEndpointAsync",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
}

#: Seconds that a container has for one synchronous inference. Source: developer guide, "Custom Inference Code with
#: Hosting Services": containers must respond within 60 seconds.
_TIMEOUT: Final = 60.0
_ASYNC_TIMEOUT: Final = 900.0
_ASYNC_AGE: Final = 21_600.0

_OK: Final = 200
_VARIANT_HEADER: Final = "x-Amzn-Invoked-Production-Variant"


class Runtime:
    """SageMaker's runtime for the endpoints of one account in one region; for use by many threads.

    ``endpoints`` finds a live endpoint by name, and is called at every request. ``notify`` takes (topic ARN, message),
    ``log`` (endpoint, sentence) for messages of SageMaker itself. ``speed`` shortens the wait for captured
    data. ``timeout`` is the container's time for a synchronous inference, in seconds.
    """

    def __init__(
        self,
        endpoints: Callable[[str], LiveEndpoint | None],
        *,
        objects: EmulatedS3,
        account: str,
        region: str,
        notify: Callable[[str, str], None] = lambda topic, message: None,
        log: Callable[[str, str], None] = lambda endpoint, sentence: None,
        speed: float = 1.0,
        timeout: float = _TIMEOUT,
    ) -> None:
        self._endpoints = endpoints
        self._account = account
        self._region = region
        self._timeout = timeout
        self._recorder = CaptureRecorder(objects, speed=speed, log=log)
        self._backlog = AsyncQueue(
            objects=objects,
            region=region,
            endpoint=endpoints,
            choose=lambda endpoint: self._choose(endpoint, ""),
            notify=notify,
            log=log,
        )
        self._lock = threading.Lock()
        self._balances: dict[tuple[str, str], VariantBalancer] = {}
        self._shadowing: dict[str, Sampler] = {}

    def is_route(self, path: str) -> bool:
        """Return True if a path is one of the runtime's."""
        return _ROUTE.fullmatch(path) is not None

    def answer(self, request: Request) -> Response:
        """Execute a request and return its response; errors of the caller and of the container are responses too."""
        match = _ROUTE.fullmatch(request.path)
        if match is None or request.method != "POST" or match["what"] not in _OPERATIONS:
            return runtime_protocol.build_error("", code="UnknownOperationException", status=404)
        operation = _OPERATIONS[match["what"]]
        location = runtime_protocol.EndpointLocation(unquote(match["name"]), self._account, self._region)
        given = read_parameters(operation, request.headers)
        if sentence := check_parameters(operation, (("EndpointName", location.endpoint), *given.items())):
            return runtime_protocol.build_error(sentence)
        endpoint = self._endpoints(location.endpoint)
        if endpoint is None:
            return runtime_protocol.build_not_found(location)
        if not endpoint.variants:
            return runtime_protocol.build_error(
                f"Endpoint {location.endpoint} of account {location.account} cannot be invoked: its status is "
                f"{endpoint.status}."
            )
        if operation == "InvokeEndpointAsync":
            return self._enqueue(endpoint, request, given)
        if refusal := self._check_endpoint(endpoint, given):
            return refusal
        response = self._invoke(endpoint, request, given, location)
        return _to_event_stream(response) if operation == "InvokeEndpointWithResponseStream" else response

    def count_waiting(self, endpoint: str) -> int:
        """Return how many asynchronous inferences of an endpoint wait."""
        return self._backlog.count(endpoint)

    def flush(self, endpoint: str | None = None) -> None:
        """Write captured data now: before an endpoint is updated or deleted."""
        self._recorder.flush(endpoint)

    def discard(self, endpoint: str) -> None:
        """Write the captured data of a deleted endpoint, and drop its asynchronous inferences that wait."""
        self._recorder.flush(endpoint)
        self._backlog.discard(endpoint)
        with self._lock:
            for key in [key for key in self._balances if key[0] == endpoint]:
                del self._balances[key]

    def close(self) -> None:
        """Write all captured data, drop what waits."""
        self._backlog.close()
        self._recorder.close()

    def _check_endpoint(self, endpoint: LiveEndpoint, given: Mapping[str, str]) -> Response | None:
        """Return the error if an endpoint takes no synchronous request of this kind at all, else None."""
        name = endpoint.name
        if endpoint.asynchronous is not None:
            # AWS's own sentence is not on record; the code and status are.
            return runtime_protocol.build_error(
                f"Endpoint {name} is an asynchronous endpoint; call InvokeEndpointAsync."
            )
        if "EnableExplanations" in given:
            return runtime_protocol.build_error(
                f"Endpoint {name} has no ExplainerConfig and does not support EnableExplanations."
            )
        return None

    def _invoke(
        self,
        endpoint: LiveEndpoint,
        request: Request,
        given: Mapping[str, str],
        place: runtime_protocol.EndpointLocation,
    ) -> Response:
        component = given.get("InferenceComponentName", "")
        variant = self._choose(endpoint, given.get("TargetVariant", "") or _find_host(endpoint, component))
        if variant is None:
            if "TargetVariant" in given:
                return runtime_protocol.build_error(
                    f"Variant {given['TargetVariant']} of endpoint {endpoint.name} not found."
                )
            return runtime_protocol.build_error(f"Endpoint {endpoint.name} has no variant with a weight above 0.")
        limit = SERVERLESS_BODY.value if variant.serverless else MAX_BODY
        if request.size > limit:
            too_large = runtime_protocol.build_oversize(
                request.size, limit, serverless=variant.serverless, request_id=str(uuid.uuid4())
            )
            assert too_large is not None
            return too_large
        container = _find_container(endpoint, variant, given)
        if isinstance(container, Response):
            return container
        target = given.get("TargetModel", "")
        if target and not container.multi_model:
            # Sentence and code: amazon-sagemaker-examples issues 1026 and 1216.
            return runtime_protocol.build_error(
                f"Endpoint {endpoint.name} is not a multi-model endpoint and does not support target model header.",
                ErrorCode="TARGET_MODEL_HEADER_NOT_SUPPORTED",
            )
        if container.multi_model and not target:
            # Sentence: sagemaker-tensorflow-serving-container issue 166.
            return runtime_protocol.build_error(f"Request {uuid.uuid4()} is missing a target model header.")
        headers = _forward_headers(given)
        answer = invoke_container(container, request.body, headers, target_model=target, timeout=self._timeout)
        self._copy_to_shadows(endpoint, variant, request.body, headers, given.get("TargetContainerHostname", ""))
        if isinstance(answer, Response):
            return answer
        if answer.status != _OK:
            return runtime_protocol.build_model_error(answer, place)
        if endpoint.capture is not None and self._recorder.should_capture(endpoint):
            self._capture(endpoint, variant, request.body, given, answer)
        return _build_response(answer, variant)

    def _capture(
        self,
        endpoint: LiveEndpoint,
        variant: LiveVariant,
        body: bytes,
        given: Mapping[str, str],
        answer: ContainerResponse,
    ) -> None:
        assert endpoint.capture is not None
        exchange = CapturedExchange(
            event_id=str(uuid.uuid4()),
            time=dt.datetime.now(dt.timezone.utc),
            input=body,
            input_type=given.get("ContentType", ""),
            output=answer.body,
            output_type=answer.headers.get("content-type", ""),
            inference_id=given.get("InferenceId", ""),
            custom_attributes=given.get("CustomAttributes", ""),
        )
        self._recorder.add(endpoint.name, variant.name, endpoint.capture, exchange)

    def _copy_to_shadows(
        self, endpoint: LiveEndpoint, variant: LiveVariant, body: bytes, headers: Mapping[str, str], hostname: str
    ) -> None:
        """Send a copy of a request to the shadow variants, without waiting for the responses."""
        for shadow in endpoint.shadows:
            share = 100.0 * shadow.weight / variant.weight if variant.weight > 0 else 0.0
            with self._lock:
                takes = self._shadowing.setdefault(endpoint.name, Sampler()).should_take(share)
            container = shadow.targets.get(hostname) if shadow.targets else shadow.container
            if takes and container is not None:
                arguments = {"target_model": "", "timeout": self._timeout}
                threading.Thread(
                    target=invoke_container, args=(container, body, headers), kwargs=arguments, daemon=True
                ).start()

    def _enqueue(self, endpoint: LiveEndpoint, request: Request, given: Mapping[str, str]) -> Response:
        settings = endpoint.asynchronous
        if settings is None:
            # AWS's own sentence is not on record; the code and status are.
            return runtime_protocol.build_error(
                f"Endpoint {endpoint.name} is not an asynchronous endpoint; call InvokeEndpoint, or configure it with "
                "AsyncInferenceConfig."
            )
        if any(variant.targets for variant in endpoint.variants):
            # Direct invocation is synchronous: InvokeEndpointAsync has no member for it. The sentence is ours.
            return runtime_protocol.build_error(
                f"Endpoint {endpoint.name} has containers for direct invocation, which InvokeEndpointAsync does not "
                "support."
            )
        location = given.get("InputLocation", "")
        if bool(location) == bool(request.size):
            return runtime_protocol.build_error("Exactly one of InputLocation and Body must be given.")
        if request.size > INLINE_BODY.value:
            return runtime_protocol.build_error(
                f"Body must not be larger than {INLINE_BODY.value} bytes; give an InputLocation."
            )
        now = dt.datetime.now(dt.timezone.utc)
        inference_id = given.get("InferenceId") or str(uuid.uuid4())
        name = str(uuid.uuid4())
        output = _join_uri(settings.output, given, given.get("Filename") or f"{name}.out")
        failure = _join_uri(settings.failure, given, f"{name}-error.out")
        job = AsyncJob(
            endpoint=endpoint.name,
            inference_id=inference_id,
            input_location=location,
            body=request.body,
            headers=_forward_headers(given),
            received=now,
            expires=time.monotonic() + float(given.get("RequestTTLSeconds", _ASYNC_AGE)),
            timeout=float(given.get("InvocationTimeoutSeconds", _ASYNC_TIMEOUT)),
            output_location=output,
            failure_location=failure,
        )
        instances = sum(variant.instances for variant in endpoint.variants)
        self._backlog.put(job, workers=max(1, settings.concurrency * instances))
        headers = [("Content-Type", "application/json")]
        headers += [("X-Amzn-SageMaker-OutputLocation", output)] if output else []
        headers += [("X-Amzn-SageMaker-FailureLocation", failure)] if failure else []
        return Response(202, tuple(headers), json.dumps({"InferenceId": inference_id}).encode())

    def _choose(self, endpoint: LiveEndpoint, name: str) -> LiveVariant | None:
        """Choose the variant for the next request: the one called ``name``, or one by weight if ``name`` is empty."""
        candidates = [variant for variant in endpoint.variants if not name or variant.name == name]
        if not candidates:
            return None
        if len(candidates) == 1 and (name or candidates[0].weight > 0):
            return candidates[0]
        weights = [candidate.weight for candidate in candidates]
        if name and not any(weights):
            return candidates[0]
        with self._lock:
            balance = self._balances.setdefault((endpoint.name, name), VariantBalancer())
            try:
                return candidates[balance.choose(weights)]
            except ValueError:
                return None


def _find_host(endpoint: LiveEndpoint, component: str) -> str:
    """Return the name of the variant that hosts an inference component, empty if none does."""
    for variant in endpoint.variants if component else ():
        if isinstance(variant.container, ComponentHost) and variant.container.find(component) is not None:
            return variant.name
    return ""


def _find_container(endpoint: LiveEndpoint, variant: LiveVariant, given: Mapping[str, str]) -> Container | Response:
    """Return the container that a request is for, or the error.

    The developer guide, "Invoke a multi-container endpoint with direct invocation", names the three errors; the
    sentences are ours.
    """
    component = given.get("InferenceComponentName", "")
    if isinstance(variant.container, ComponentHost):
        if not component:
            # Sentence and code: BerriAI/litellm pull request 37766, langchain-ai/langchain issue 16150.
            return runtime_protocol.build_error(
                "Inference Component Name header is required for endpoints to which you plan to deploy inference "
                "components. Please include Inference Component Name header or consider using SageMaker models.",
                ErrorCode="INFERENCE_COMPONENT_NAME_MISSING",
            )
        return variant.container.find(component) or runtime_protocol.build_error(
            f"Inference component {component} of endpoint {endpoint.name} not found, or it does not serve."
        )
    if component:
        return runtime_protocol.build_error(
            f"Endpoint {endpoint.name} has no inference components and does not support inference component name "
            "header."
        )
    hostname = given.get("TargetContainerHostname", "")
    if not variant.targets:
        if not hostname:
            return variant.container
        return runtime_protocol.build_error(
            f"Endpoint {endpoint.name} is not a multi-container endpoint with direct invocation and does not support "
            "target container hostname header."
        )
    if not hostname:
        return runtime_protocol.build_error(
            f"Endpoint {endpoint.name} is configured for direct invocation: the request is missing a target container "
            f"hostname header. Its containers are {', '.join(variant.targets)}."
        )
    if hostname not in variant.targets:
        return runtime_protocol.build_error(
            f"Endpoint {endpoint.name} has no container {hostname}. Its containers are {', '.join(variant.targets)}."
        )
    return variant.targets[hostname]


def _forward_headers(given: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that reach the container: SageMaker strips all others."""
    names = {
        "ContentType": "Content-Type",
        "Accept": "Accept",
        "CustomAttributes": CUSTOM_ATTRIBUTES,
        "SessionId": "X-Amzn-SageMaker-Session-Id",
    }
    return {header: given[name] for name, header in names.items() if name in given}


def _build_response(answer: ContainerResponse, variant: LiveVariant) -> Response:
    named = ((name, answer.headers.get(name.lower(), "")) for name in ("Content-Type", CUSTOM_ATTRIBUTES))
    return Response(_OK, ((_VARIANT_HEADER, variant.name), *(header for header in named if header[1])), answer.body)


def _to_event_stream(response: Response) -> Response:
    """Convert a response to a stream of events; an error comes before the stream and is returned as it is."""
    if response.status != _OK:
        return response
    headers = [
        ("X-Amzn-SageMaker-Content-Type" if name == "Content-Type" else name, value) for name, value in response.headers
    ]
    headers.append(("Content-Type", runtime_protocol.EVENT_STREAM))
    return Response(_OK, tuple(headers), runtime_protocol.encode_event_stream(response.body))


def _join_uri(folder: str, given: Mapping[str, str], name: str) -> str:
    """Return the URI of a result below the path of the configuration; "" if the configuration has none."""
    if not folder:
        return ""
    extension = given.get("S3OutputPathExtension", "").strip("/")
    return "/".join(part for part in (folder.rstrip("/"), extension, name) if part)
