"""HTTP transports: Triton's own HTTP front end, and its SageMaker front end.

The buffers of a payload are sent one after another, unjoined; an inference is sent once and never again, because it may
have reached the server even where its answer did not come back.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, cast
from urllib.parse import quote

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from tritonforge.errors import ConnectError, DecodeError, EncodeError, ServerError
from tritonforge.inference.transports import (
    Answer,
    Call,
    DecoupledError,
    ModelMetadata,
    TensorMetadata,
    UnnamedModelError,
    check_size,
    choose_model,
    refuse_options,
)
from tritonforge.inference.wire import Payload, decode_error, header_length, sagemaker_headers, triton_headers

__all__ = ["Address", "FrontEnd", "SageMakerTransport", "TritonTransport", "create_transport", "detect_front_end",
           "join_small_buffers"]  # fmt: skip

#: Which of Triton's two HTTP front ends answers at an address.
FrontEnd = Literal["sagemaker", "triton"]

_OK: Final = 200
_NOT_FOUND: Final = 404
_SERVER_ERROR: Final = 500
_NOT_IMPLEMENTED: Final = 501
#: The start of Triton's metrics, in Prometheus' text format.
_TRITON_METRICS: Final = b"# HELP nv_"
#: Paths of the front ends that a user may have pasted with the address.
_CALL: Final = re.compile(r"/(v2(/.*)?|invocations|ping|metrics)/?$")
#: The first frame of an HTTP/2 server, such as gRPC's: a length of less than 64 KiB in three bytes, then the type,
#: SETTINGS (RFC 9113, 4.1 and 6.5).
_HTTP2_SETTINGS: Final = re.compile("\x00..\x04", re.DOTALL)
#: Neighbouring buffers below this size are joined before they are sent: a copy costs less than a packet of its own.
_SMALL_BUFFER: Final = 16_384


class Address:
    """A pool of connections to one address, for use by several threads; every failure becomes ConnectError.

    ``timeout`` is in seconds, for connecting and for each wait for bytes; None waits for ever.
    """

    def __init__(self, url: str, *, timeout: float | None, connections: int) -> None:
        try:
            parsed = urllib3.util.parse_url(url)
            if not parsed.host:
                raise LocationParseError(url)
        except LocationParseError as error:
            raise EncodeError(f"{url!r} is not an address; write http://host:port") from error
        if _CALL.search(parsed.path or ""):
            raise EncodeError(f"{url!r} is the address of one call; leave {parsed.path} out")
        self.url = url.rstrip("/")
        self._path = (parsed.path or "").rstrip("/")
        self._timeout = timeout
        self._pool = urllib3.connectionpool.connection_from_url(
            f"{parsed.scheme}://{parsed.netloc}",
            maxsize=connections,
            timeout=urllib3.Timeout(connect=timeout, read=timeout),
        )

    def get(self, path: str) -> urllib3.BaseHTTPResponse:
        """Send a GET and return the response, whatever its status."""
        return self._request("GET", path, {}, None)

    def post(self, path: str, payload: Payload, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Send a POST of the payload and return the response, whatever its status."""
        check_size(payload)
        sized = {**headers, "Content-Length": str(payload.size)}
        return self._request("POST", path, sized, payload)

    def close(self) -> None:
        """Close the pooled connections."""
        self._pool.close()

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], payload: Payload | None
    ) -> urllib3.BaseHTTPResponse:
        try:
            # retries=False: neither an inference that may have been received nor a redirect is sent again.
            return self._pool.urlopen(
                method,
                self._path + path,
                # http.client sends whatever has a buffer; urllib3's types know bytes only.
                body=None if payload is None else cast("Iterator[bytes]", join_small_buffers(payload)),
                headers=headers,
                retries=False,
                redirect=False,
            )
        except (ConnectTimeoutError, NewConnectionError) as error:
            raise ConnectError(f"no server answers at {self.url}: {_find_reason(error)}; is it running?") from error
        except ReadTimeoutError as error:
            raise ConnectError(
                f"{self.url}{path} gave no answer within {self._timeout:g} s; the server may still work on it"
            ) from error
        except (HTTPError, OSError) as error:
            if isinstance(error, SSLError):
                raise ConnectError(
                    f"{self.url}: TLS failed ({_find_reason(error)}); use http:// if the server has no TLS"
                ) from error
            if _is_http2(error):
                raise ConnectError(
                    f"{self.url} is a gRPC port, which does not answer HTTP/1.1; use grpc://{self._pool.host}:"
                    f"{self._pool.port}"
                ) from error
            raise ConnectError(
                f"{self.url}{path}: the connection was cut before the answer came ({_find_reason(error)}); the server "
                "may have received the request, so it was not sent again"
            ) from error


class SageMakerTransport:
    """Triton's SageMaker front end, or a SageMaker container: ``POST /invocations``, ``GET /ping``.

    A model can be named in multi-model mode only (``POST /models/<name>/invoke``). There is no call for metadata.
    """

    def __init__(self, address: Address) -> None:
        self._address = address

    def infer(self, call: Call) -> Answer:
        """Carry one inference."""
        refuse_options(call, at=self._address.url)
        if call.model_version:
            raise EncodeError("the SageMaker front end serves one version of a model; leave model_version out")
        path = "/invocations" if call.model is None else f"/models/{quote(call.model, safe='')}/invoke"
        response = self._address.post(path, call.payload, sagemaker_headers(call.payload))
        if call.model is not None and response.status == _NOT_FOUND and not response.data:
            raise ServerError(
                f"no model {call.model!r} is available at {self._address.url}; unless the server runs in "
                "multi-model mode, leave the model out: /invocations runs its default model",
                status=_NOT_FOUND,
            )
        return _read_answer(response)

    def ready(self, model: str | None) -> bool:
        """Return True if ``/ping`` answers 200; in multi-model mode, with a model, if it is loaded."""
        path = "/ping" if model is None else f"/models/{quote(model, safe='')}"
        return self._address.get(path).status == _OK

    def metadata(self, model: str | None) -> ModelMetadata | None:
        """Return None: this front end has no such call."""
        return None

    def close(self) -> None:
        """Close the pooled connections."""
        self._address.close()


class TritonTransport:
    """Triton's own HTTP front end: the KServe v2 API under ``/v2``."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._only_model = ""

    def infer(self, call: Call) -> Answer:
        """Carry one inference."""
        refuse_options(call, at=self._address.url)
        version = f"/versions/{quote(call.model_version, safe='')}" if call.model_version else ""
        path = f"{self._model(call.model)}{version}/infer"
        return _read_answer(self._address.post(path, call.payload, triton_headers(call.payload)))

    def ready(self, model: str | None) -> bool:
        """Return True if the server, or the model, is ready."""
        path = "/v2/health/ready" if model is None else f"{self._model(model)}/ready"
        return self._address.get(path).status == _OK

    def metadata(self, model: str | None) -> ModelMetadata | None:
        """Return the model's metadata, as ``GET /v2/models/<name>`` and its ``/config`` have them."""
        path = self._model(model)
        response = self._address.get(path)
        if response.status != _OK:
            raise ServerError(decode_error(response.data), status=response.status)
        try:
            document = json.loads(response.data)
            inputs, outputs = (
                tuple(map(_read_tensor, document["inputs"])),
                tuple(map(_read_tensor, document["outputs"])),
            )
            name, versions = str(document["name"]), tuple(map(str, document.get("versions", ())))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DecodeError(f"{self._address.url}{path}: the answer is not a model's metadata ({error!r})") from error
        return ModelMetadata(
            name=name,
            inputs=inputs,
            outputs=outputs,
            versions=versions,
            source="GET /v2/models",
            **self._read_config(path),
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._address.close()

    def list_models(self) -> tuple[str, ...]:
        """Return the models that are ready; empty where the server has no call for them."""
        return self._list_models()

    def read_config(self, model: str) -> bytes:
        """Return a model's configuration, as the server completed it, as JSON."""
        return self._read_document(f"{self._model(model)}/config")

    def read_statistics(self) -> bytes:
        """Return the statistics of all models as JSON."""
        return self._read_document("/v2/models/stats")

    def _read_document(self, path: str) -> bytes:
        response = self._address.get(path)
        if response.status != _OK:
            raise ServerError(decode_error(response.data), status=response.status)
        return response.data

    def _read_config(self, path: str) -> dict[str, Any]:
        """Return what the model's configuration adds; empty where the server has no call for it.

        Source: Triton's extension_model_configuration.md, which KServe's own protocol lacks.
        """
        response = self._address.get(f"{path}/config")
        if response.status != _OK:
            return {}
        try:
            document = json.loads(response.data)
            return {
                "max_batch_size": int(document.get("max_batch_size", 0)),
                "decoupled": bool((document.get("model_transaction_policy") or {}).get("decoupled", False)),
                "labelled_outputs": tuple(
                    str(output["name"]) for output in document.get("output", ()) if output.get("label_filename")
                ),
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def _model(self, model: str | None) -> str:
        name = model or self._only_model
        if not name:
            name = self._only_model = choose_model(self._list_models(), url=self._address.url)
        return f"/v2/models/{quote(name, safe='')}"

    def _list_models(self) -> tuple[str, ...]:
        """Return the models that are ready (Triton's extension_model_repository.md).

        Empty where the server has no such call; raises UnnamedModelError where the response is invalid.
        """
        response = self._address.post("/v2/repository/index", Payload((b'{"ready":true}',), 0), {})
        try:
            rows = json.loads(response.data) if response.status == _OK else []
            return tuple(dict.fromkeys(str(row["name"]) for row in rows))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UnnamedModelError(self._address.url, ()) from error


def create_transport(address: Address, front_end: FrontEnd) -> SageMakerTransport | TritonTransport:
    """Return the transport for a front end."""
    return TritonTransport(address) if front_end == "triton" else SageMakerTransport(address)


def detect_front_end(address: Address) -> FrontEnd:
    """Return which front end answers at the address.

    Only Triton's own has ``GET /v2``, KServe's server metadata. The SageMaker one answers it 400, and a container of
    another kind may answer anything. Raises DecodeError for Triton's metrics port, which answers 200 to every path.
    """
    response = address.get("/v2")
    if response.status >= _SERVER_ERROR:
        raise ServerError(decode_error(response.data), status=response.status)
    if response.status != _OK:
        return "sagemaker"
    try:
        if "name" in json.loads(response.data):
            return "triton"
    except (ValueError, TypeError, RecursionError):
        pass
    if address.get("/metrics").data.startswith(_TRITON_METRICS):
        raise DecodeError(f"{address.url} is Triton's metrics port; use its HTTP, gRPC or SageMaker port")
    return "sagemaker"


def join_small_buffers(payload: Payload) -> Iterator[bytes | memoryview]:
    """Yield the buffers in order: small neighbours joined, large ones unchanged."""
    small: list[bytes | memoryview] = []
    size = 0
    for buffer in payload.buffers:
        if len(buffer) >= _SMALL_BUFFER:
            if small:
                yield b"".join(small)
                small, size = [], 0
            yield buffer
            continue
        small.append(buffer)
        size += len(buffer)
        if size >= _SMALL_BUFFER:
            yield b"".join(small)
            small, size = [], 0
    if small:
        yield b"".join(small)


def _read_answer(response: urllib3.BaseHTTPResponse) -> Answer:
    if response.status != _OK:
        sentence = decode_error(response.data)
        if response.status == _NOT_IMPLEMENTED and "decoupled" in sentence:
            advice = "use Triton's gRPC port (grpc://host:port), which streams the responses"
            raise DecoupledError(sentence, status=response.status, advice=advice)
        raise ServerError(sentence, status=response.status)
    return Answer(response.data, header_length(response.headers, size=len(response.data)))


def _read_tensor(entry: Mapping[str, object]) -> TensorMetadata:
    shape = entry["shape"]
    if not isinstance(shape, list):
        raise TypeError("shape is not an array")
    return TensorMetadata(str(entry["name"]), str(entry["datatype"]), tuple(int(extent) for extent in shape))


def _find_reason(error: BaseException) -> str:
    """Return the operating system's text where there is one, without urllib3's object names."""
    last = error
    for last in _list_causes(error):
        if isinstance(last, OSError) and last.strerror:
            return last.strerror
        if line := _get_status_line(last).strip():
            return f"it answered {line!a:.60}, which is not HTTP"
    return str(last) or type(last).__name__


def _is_http2(error: BaseException) -> bool:
    return any(_HTTP2_SETTINGS.match(_get_status_line(cause)) for cause in _list_causes(error))


def _get_status_line(error: BaseException) -> str:
    """Return what was received instead of a status line; "" for any other error."""
    return str(getattr(error, "line", "")) if isinstance(error, http.client.BadStatusLine) else ""


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, outermost first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
