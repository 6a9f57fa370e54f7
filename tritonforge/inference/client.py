"""The client: one interface to a model over any transport (HTTP, gRPC, SageMaker, or a function)."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar, cast, get_args

from tritonforge.errors import ConnectError, DecodeError, EncodeError, ServerError
from tritonforge.inference.http_transport import Address, FrontEnd, create_transport, detect_front_end
from tritonforge.inference.model_inputs import Send, correct_input, probe_inputs, probe_names, send_invalid
from tritonforge.inference.transports import (
    Answer,
    Call,
    DecoupledError,
    FunctionTransport,
    ModelError,
    ModelMetadata,
    RelayError,
    StreamingTransport,
    TensorMetadata,
    Transport,
    UnnamedModelError,
    describe_outputs,
)
from tritonforge.inference.wire import (
    Parameter,
    Payload,
    RequestedOutput,
    Response,
    decode_response,
    encode_raw,
    encode_request,
)
from tritonforge.inference.wire.requests import encode_images, sequence_parameters

__all__ = ["Answer", "Call", "Client", "DecoupledError", "FunctionTransport", "ModelError", "ModelMetadata",
           "RelayError", "StreamingTransport", "TensorMetadata", "Transport", "UnnamedModelError"]  # fmt: skip

_T = TypeVar("_T")
#: Seconds: a model on SageMaker may take 60, and AWS advises a socket timeout of 70 (service model, InvokeEndpoint).
_TIMEOUT: Final = 70.0
#: Where packages say what carries ``<scheme>://...``: a callable ``(url, *, timeout, **options) -> Transport``.
_TRANSPORTS: Final = "tritonforge.transports"


class Client:
    """A client for one address; a context manager, safe for use by several threads.

    ``url`` is ``http://host:8080`` (Triton's SageMaker front end), ``http://host:8000`` (Triton's own), ``https://``
    for either, ``grpc://host:8001`` (needs the ``grpc`` extra), ``sagemaker://endpoint-name`` (needs the ``aws`` extra;
    ``options`` are those of `tritonforge.sagemaker.client.transport.from_url`, and may be in the address as well), or
    anything at all with a ``transport`` handed in. Which front end answers at an ``http`` address is asked once, with
    the first request (``GET /v2``); ``front_end`` ("sagemaker" or "triton") avoids that request. ``model`` is the
    default of all calls. ``timeout`` is in seconds, None waits for ever; ``connections`` is how many are kept open for
    the next request.

    All calls raise ServerError (with the server's own sentence and status), ConnectError (no answer; an inference is
    never sent twice), EncodeError (what you passed) and DecodeError (what came back).
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        timeout: float | None = _TIMEOUT,
        transport: Transport | None = None,
        front_end: FrontEnd | None = None,
        connections: int = 8,
        **options: Any,
    ) -> None:
        if front_end is not None and front_end not in get_args(FrontEnd):
            raise EncodeError(
                f"front_end is {front_end!r}; write one of {', '.join(map(repr, get_args(FrontEnd)))}, or leave it out"
            )
        self.url = url
        self.model = model
        self._lock = threading.Lock()
        self._metadata: dict[str | None, ModelMetadata] = {}
        self._outputs: dict[str | None, tuple[TensorMetadata, ...]] = {}
        self._input_names: dict[str | None, tuple[str, ...]] = {}
        self._image_inputs: dict[tuple[str | None, str], TensorMetadata] = {}
        self._address: Address | None = None
        self._transport = transport
        scheme, separator, rest = url.partition("://")
        if options and (transport is not None or scheme in ("http", "https", "grpc")):
            raise EncodeError(f"{url} takes no option {sorted(options)[0]!r}")
        if transport is not None:
            return
        if scheme in ("http", "https") and separator:
            self._address = Address(url, timeout=timeout, connections=connections)
            if front_end is not None:
                self._transport = create_transport(self._address, front_end)
        elif scheme == "grpc" and rest:
            from tritonforge.inference.grpc_transport import GrpcTransport

            self._transport = GrpcTransport(rest.rstrip("/"), timeout=timeout)
        else:
            self._transport = _load_transport(url, scheme if rest else "", timeout=timeout, options=options)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._transport is not None:
            self._transport.close()
        elif self._address is not None:
            self._address.close()

    def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        model: str | None = None,
        model_version: str = "",
        outputs: Sequence[RequestedOutput | str] = (),
        classification: int | None = None,
        binary: bool | Collection[str] = True,
        id: str = "",  # noqa: A002 - the protocol's own name
        parameters: Mapping[str, Parameter] | None = None,
        sequence_id: int | str = 0,
        sequence_start: bool = False,
        sequence_end: bool = False,
        header_size: int | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Response:
        """Return the model's response; arrays, ``binary`` and ``header_size`` are as in `encode_request`.

        ``outputs`` requests some outputs only. ``classification`` requests the k best classes of each output of numbers
        (or of those in ``outputs``) instead of its numbers: read them with `Response.classes`. Triton needs the
        outputs' names for that: where the address has no metadata they are read from one plain response to the same
        inputs, once for each model. ``sequence_id`` (a number above 0 or a text) makes the request part of a sequence,
        for models with ``sequence_batching``; ``sequence_start`` and ``sequence_end`` mark its first and last request
        (extension_sequence.md). ``options`` are the address's own for this inference only, such as SageMaker's
        ``inference_id``.
        """
        model = model or self.model
        sequence = sequence_parameters(sequence_id, start=sequence_start, end=sequence_end)
        parameters = {**(parameters or {}), **sequence}
        if classification is not None:
            if sequence and not outputs and not self._fetch_outputs(model):
                raise EncodeError(
                    f"{self.url} does not report the outputs of the model, and a request for them would be part of "
                    "the sequence; name the outputs to classify"
                )
            outputs = self._request_classes(inputs, model, model_version, outputs, classification, parameters, options)
        payload = encode_request(
            inputs, outputs=outputs, id=id, parameters=parameters, binary=binary, header_size=header_size
        )
        return _mark_classified(self._infer(payload, model, model_version, options), outputs)

    def infer_stream(
        self,
        inputs: Mapping[str, Any],
        *,
        model: str | None = None,
        model_version: str = "",
        outputs: Sequence[RequestedOutput | str] = (),
        id: str = "",  # noqa: A002 - the protocol's own name
        parameters: Mapping[str, Parameter] | None = None,
        sequence_id: int | str = 0,
        sequence_start: bool = False,
        sequence_end: bool = False,
    ) -> Iterator[Response]:
        """Yield the responses of a decoupled model as they arrive; there may be none. Any other model gives one.

        It needs a ``grpc://`` address (``ModelStreamInfer``). The request is sent at the first ``next``; closing the
        iterator cancels it. An error of the model ends the iterator with ServerError, after the responses before it.
        ``timeout`` holds for each response. Arguments as in `infer`.
        """
        transport = self._get_transport()
        if not isinstance(transport, StreamingTransport):
            raise EncodeError(
                f"{self.url} answers each request once; use Triton's gRPC port (grpc://host:port) for streams"
            )
        sequence = sequence_parameters(sequence_id, start=sequence_start, end=sequence_end)
        payload = encode_request(inputs, outputs=outputs, id=id, parameters={**(parameters or {}), **sequence})
        answers = transport.stream(Call(payload, model or self.model, model_version))
        return (_mark_classified(_decode_answer(answer), outputs) for answer in answers)

    def infer_images(
        self,
        images: Sequence[bytes],
        *,
        input: str | None = None,  # noqa: A002 - the protocol's own name
        model: str | None = None,
        model_version: str = "",
        outputs: Sequence[RequestedOutput | str] = (),
        classification: int | None = None,
        binary: bool | Collection[str] = True,
        id: str = "",  # noqa: A002 - the protocol's own name
        parameters: Mapping[str, Parameter] | None = None,
        sequence_id: int | str = 0,
        sequence_start: bool = False,
        sequence_end: bool = False,
        options: Mapping[str, str] | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> Response:
        """Return the model's response to a batch of encoded images (JPEG, PNG, ...), which may differ in size.

        An input of UINT8 gets one zero-padded batch, whose padding the decoding step of the model ignores (see
        `pad_batch`), one of BYTES gets each image as an element. ``input`` names the input where the model has several;
        ``inputs`` are the arrays of its others, with a row for each image. The rest is as in `infer`.
        """
        model = model or self.model
        tensor = self.find_image_input(input, model, given=inputs or {})
        while True:
            try:
                return self.infer(
                    {
                        tensor.name: encode_images(images, tensor.name, tensor.datatype, rank=len(tensor.shape)),
                        **(inputs or {}),
                    },
                    model=model,
                    model_version=model_version,
                    outputs=outputs,
                    classification=classification,
                    binary=binary,
                    id=id,
                    parameters=parameters,
                    sequence_id=sequence_id,
                    sequence_start=sequence_start,
                    sequence_end=sequence_end,
                    options=options,
                )
            except ServerError as error:  # noqa: PERF203 - a request that was refused before a model ran is sent again
                corrected = correct_input(tensor, error.message) if self.fetch_metadata(model) is None else None
                if corrected is None:
                    raise
                tensor = self._image_inputs[model, tensor.name] = corrected

    def infer_raw(self, body: bytes, *, model: str | None = None, options: Mapping[str, str] | None = None) -> Response:
        """Return the model's response to a body that is its one input unchanged: the file of one JPEG, for example.

        Triton takes it as a batch of one (see `encode_raw`). ``options`` as in `infer`.
        """
        return self._infer(encode_raw(body), model or self.model, "", options)

    @property
    def transport(self) -> Transport:
        """What carries the requests; the front end of an ``http`` address is asked with the first use."""
        return self._get_transport()

    @property
    def can_stream(self) -> bool:
        """Whether the address can carry `infer_stream`."""
        return isinstance(self._get_transport(), StreamingTransport)

    def ready(self, model: str | None = None) -> bool:
        """Return True if the server, or the model named here, is ready; raises ConnectError without a server."""
        return self._get_transport().ready(model)

    def metadata(self, model: str | None = None, *, inputs: Collection[str] = ()) -> ModelMetadata:
        """Return the model's inputs and outputs, requested once for each model.

        The SageMaker front end, and so an endpoint, has no call for metadata: there the inputs are read from the
        messages that refuse invalid requests (`model_inputs`; a few answers of status 400, which an endpoint counts
        as Invocation4XXErrors; no model runs), and the outputs from the answers so far; ``source`` states this.
        Optional inputs can only be found there by the names in ``inputs``.
        """
        model = model or self.model
        metadata = self.fetch_metadata(model)
        if metadata is None:
            tensors = self._probe(model, lambda send: probe_inputs(send, named=inputs))
            source = "the server's refusals of requests that are wrong on purpose"
            metadata = self._metadata[model] = ModelMetadata(model or "", tensors, outputs=(), source=source)
        return metadata if metadata.outputs else dataclasses.replace(metadata, outputs=self._outputs.get(model, ()))

    def fetch_metadata(self, model: str | None = None) -> ModelMetadata | None:
        """Return the metadata that the server has, None if the address has no call for them; nothing is probed."""
        model = model or self.model
        metadata = self._metadata.get(model) or self._get_transport().metadata(model)
        if metadata is not None:
            self._metadata[model] = metadata
        return metadata

    def _infer(
        self, payload: Payload, model: str | None, model_version: str, options: Mapping[str, str] | None
    ) -> Response:
        return _decode_answer(self._get_transport().infer(Call(payload, model, model_version, dict(options or {}))))

    def _get_transport(self) -> Transport:
        if self._transport is None:
            with self._lock:
                if self._transport is None:
                    if self._address is None:
                        raise ConnectError(f"{self.url}: no transport")
                    self._transport = create_transport(self._address, detect_front_end(self._address))
        return self._transport

    def _request_classes(
        self,
        inputs: Mapping[str, Any],
        model: str | None,
        model_version: str,
        outputs: Sequence[RequestedOutput | str],
        classification: int,
        parameters: Mapping[str, Parameter] | None,
        options: Mapping[str, str] | None,
    ) -> list[RequestedOutput | str]:
        if outputs:
            return [
                RequestedOutput(output, classification=classification) if isinstance(output, str) else output
                for output in outputs
            ]
        tensors = self._outputs.get(model) or self._fetch_outputs(model)
        if not tensors:
            plain = self._infer(encode_request(inputs, parameters=parameters), model, model_version, options)
            tensors = self._outputs[model] = describe_outputs(plain)
        if all(tensor.datatype == "BYTES" for tensor in tensors):
            names = [tensor.name for tensor in tensors]
            raise EncodeError(f"classification: the model has no output of numbers, only {names}")
        # Triton gives no classes of text: "class result not available for output due to unsupported type".
        return [
            RequestedOutput(tensor.name, classification=classification if tensor.datatype != "BYTES" else 0)
            for tensor in tensors
        ]

    def _fetch_outputs(self, model: str | None) -> tuple[TensorMetadata, ...]:
        metadata = self.fetch_metadata(model)
        return () if metadata is None else metadata.outputs

    def find_image_input(self, name: str | None, model: str | None, *, given: Collection[str]) -> TensorMetadata:
        """Return the input that takes the images.

        Where the server has no metadata, it is the only required input without a value, taken for UINT8 until the
        server corrects that; several such inputs are probed one by one.
        """
        if self.fetch_metadata(model) is None:
            names = self._input_names.get(model, ()) if name is None else (name,)
            if not names:
                names = self._input_names[model] = self._probe(model, lambda send: probe_names(send) or ())
            missing = [required for required in names if required not in given]
            if len(missing) == 1:
                return self._image_inputs.get((model, missing[0])) or TensorMetadata(missing[0], "UINT8", (-1, -1))
        every = self.metadata(model, inputs=given).inputs
        inputs = tuple(tensor for tensor in every if tensor.name not in given and name in (None, tensor.name))
        listed = ", ".join(tensor.name for tensor in every)
        if not inputs:
            problem = "has no input left for images" if name is None else f"has no input {name!r}"
            raise EncodeError(f"the model {problem}; its inputs are {listed}")
        takers = tuple(tensor for tensor in inputs if tensor.datatype in ("UINT8", "BYTES")) or (inputs[0],)
        # Where one input takes UINT8, those of BYTES are texts beside the image.
        likely = tuple(tensor for tensor in takers if tensor.datatype == "UINT8") or takers
        if len(likely) > 1:
            raise EncodeError(f"the model has the inputs {listed}; name the one that takes the images")
        return likely[0]

    def _probe(self, model: str | None, probe: Callable[[Send], tuple[_T, ...]]) -> tuple[_T, ...]:
        """Read something of a model from the messages that refuse invalid requests."""
        messages: list[str] = []

        def send(payload: Payload) -> str:
            messages.append(send_invalid(self._get_transport(), Call(payload, model)))
            return messages[-1]

        if not (result := probe(send)):
            reason = messages[-1] or "it refuses requests without a reason"
            raise DecodeError(f"{self.url} does not report the model's inputs: {reason}")
        return result


def _decode_answer(answer: Answer) -> Response:
    response = decode_response(answer.body, header_length=answer.header_length)
    return dataclasses.replace(response, provenance=answer.provenance)


def _mark_classified(response: Response, outputs: Sequence[RequestedOutput | str]) -> Response:
    classified = tuple(
        output.name for output in outputs if isinstance(output, RequestedOutput) and output.classification
    )
    return dataclasses.replace(response, classified=classified) if classified else response


def _load_transport(url: str, scheme: str, *, timeout: float | None, options: Mapping[str, Any]) -> Transport:
    """Create the transport that an installed package declares for a scheme (entry points)."""
    from importlib.metadata import entry_points

    for entry_point in entry_points(group=_TRANSPORTS, name=scheme) if scheme else ():
        return cast("Transport", entry_point.load()(url, timeout=timeout, **options))
    raise EncodeError(
        f"{url!r} is not an address; write http://host:port, https://host:port, grpc://host:port or "
        "sagemaker://endpoint-name"
    )
