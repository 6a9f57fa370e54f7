"""The client: one way to ask a model, whatever carries the question."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, cast

from tritonforge.errors import ConnectError, DecodeError, EncodeError, ServerError
from tritonforge.inference.client.http import Address, Flavour, SageMakerFrontEnd, TritonFrontEnd, flavour_of
from tritonforge.inference.client.metadata_probe import learn_inputs
from tritonforge.inference.client.transports import (
    Answer,
    Call,
    ModelMetadata,
    RelayError,
    StreamingTransport,
    TensorMetadata,
    Transport,
)
from tritonforge.inference.wire import (
    Parameter,
    Payload,
    RequestedOutput,
    Response,
    byte_batch,
    decode_response,
    encode_raw,
    encode_request,
    pad_batch,
)
from tritonforge.inference.wire.requests import sequence_parameters
from tritonforge.inference.wire.tensors import datatype_of

__all__ = ["Client"]

_FLAVOURS: Final = ("sagemaker", "triton")
#: Seconds: a model behind a SageMaker endpoint may take 60, and AWS asks for a socket timeout of 70 (botocore's service
#: model, InvokeEndpoint).
_TIMEOUT: Final = 70.0
#: Where packages say what carries ``<scheme>://...``: a callable ``(url, *, timeout, **options) -> Transport``.
_TRANSPORTS: Final = "tritonforge.transports"


class Client:
    """A client for one address; a context manager, safe for use by several threads.

    ``url`` is ``http://host:8080`` (Triton's SageMaker front end), ``http://host:8000`` (Triton's own), ``https://``
    for either, ``grpc://host:8001`` (needs the ``grpc`` extra), ``sagemaker://endpoint-name`` (needs the ``aws`` extra;
    ``options`` are those of `tritonforge.sagemaker.client.transport.from_url`, and may be in the address as well), or
    anything at all with a ``transport`` handed in. Which front end answers at an ``http`` address is asked once, with
    the first request (``GET /v2``); ``flavour`` ("sagemaker" or "triton") says it beforehand. ``model`` is asked where
    a call names none. ``timeout`` is in seconds, None waits for ever; ``connections`` is how many are kept open for the
    next request.

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
        flavour: Flavour | None = None,
        connections: int = 8,
        **options: Any,
    ) -> None:
        if flavour is not None and flavour not in _FLAVOURS:
            raise EncodeError(
                f"flavour is {flavour!r}; write one of {', '.join(map(repr, _FLAVOURS))}, or leave it out"
            )
        self.url = url
        self.model = model
        self._lock = threading.Lock()
        self._learned: dict[str | None, ModelMetadata] = {}
        self._outputs: dict[str | None, tuple[TensorMetadata, ...]] = {}
        self._address: Address | None = None
        self._transport = transport
        scheme, separator, rest = url.partition("://")
        if options and (transport is not None or scheme in ("http", "https", "grpc")):
            raise EncodeError(f"{url} takes no option {sorted(options)[0]!r}")
        if transport is not None:
            return
        if scheme in ("http", "https") and separator:
            self._address = Address(url, timeout=timeout, connections=connections)
            if flavour is not None:
                self._transport = _front_end(self._address, flavour)
        elif scheme == "grpc" and rest:
            from tritonforge.inference.client.grpc import GrpcTransport

            self._transport = GrpcTransport(rest.rstrip("/"), timeout=timeout)
        else:
            self._transport = _announced(url, scheme if rest else "", timeout=timeout, options=options)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connections."""
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
        """The model's answer to these inputs; arrays, ``binary`` and ``header_size`` as in `encode_request`.

        ``options`` are the address's own for this inference only, such as SageMaker's ``inference_id``.
        ``outputs`` asks for some outputs only. ``classification`` asks for the k best classes of each output of
        numbers (or of those in ``outputs``) instead of its numbers: read them with `Response.classes`; outputs of text
        come as they are. Triton must be told an output's name for that; where the address has no metadata the names
        are learned from one plain answer to the same inputs, once for each model.

        ``sequence_id`` (a number above 0 or a text) makes the request part of a sequence, for models with
        ``sequence_batching``; ``sequence_start`` and ``sequence_end`` mark its first and last request
        (extension_sequence.md).
        """
        model = model or self.model
        sequence = sequence_parameters(sequence_id, start=sequence_start, end=sequence_end)
        parameters = {**(parameters or {}), **sequence}
        if classification is not None:
            if sequence and not outputs and not self._told_outputs(model):
                raise EncodeError(
                    f"{self.url} does not tell the outputs of the model, and a request to learn them would be part of "
                    "the sequence; name the outputs to classify"
                )
            outputs = self._classified(inputs, model, model_version, outputs, classification, parameters, options)
        payload = encode_request(
            inputs, outputs=outputs, id=id, parameters=parameters, binary=binary, header_size=header_size
        )
        return _marked(self._infer(payload, model, model_version, options), outputs)

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
        carrier = self._carrier()
        if not isinstance(carrier, StreamingTransport):
            raise EncodeError(
                f"{self.url} answers each request once; use Triton's gRPC port (grpc://host:port) for streams"
            )
        sequence = sequence_parameters(sequence_id, start=sequence_start, end=sequence_end)
        payload = encode_request(inputs, outputs=outputs, id=id, parameters={**(parameters or {}), **sequence})
        answers = carrier.stream(Call(payload, model or self.model, model_version))
        return (_marked(_decoded(answer), outputs) for answer in answers)

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
        """The model's answer to a batch of encoded images (JPEG, PNG, ...), which may differ in size.

        The model's input is looked up (see `metadata`): UINT8 gets one zero-padded batch, whose padding the decoding
        step of the model ignores (see `pad_batch`), BYTES gets each image as an element. ``input`` names the input
        where the model has several; ``inputs`` are the arrays of its others, with a row for each image. The rest as in
        `infer`.
        """
        tensor = self._image_input(input, model or self.model, given=inputs or {})
        is_flat = len(tensor.shape) == 1
        batch = pad_batch(images) if tensor.datatype == "UINT8" else byte_batch(images, column=not is_flat)
        if tensor.datatype == "UINT8" and is_flat:
            if len(images) > 1:
                raise EncodeError(f"input {tensor.name!r} has no batch dimension; send one image in a request")
            batch = batch[0]
        return self.infer(
            {tensor.name: batch, **(inputs or {})},
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

    def infer_raw(self, body: bytes, *, model: str | None = None, options: Mapping[str, str] | None = None) -> Response:
        """The model's answer to a body that is its one input as it stands: the file of one JPEG, for example.

        Triton takes it as a batch of one (see `encode_raw`). ``options`` as in `infer`.
        """
        return self._infer(encode_raw(body), model or self.model, "", options)

    @property
    def can_stream(self) -> bool:
        """Whether the address can carry `infer_stream`."""
        return isinstance(self._carrier(), StreamingTransport)

    def ready(self, model: str | None = None) -> bool:
        """Whether the server, or the model where one is named here, says that it is ready.

        Without a server it raises ConnectError.
        """
        return self._carrier().ready(model)

    def metadata(self, model: str | None = None, *, inputs: Collection[str] = ()) -> ModelMetadata:
        """The model's inputs and outputs.

        Triton tells them itself. The SageMaker front end, and so an endpoint, has no call for it: there the inputs are
        learned from the sentences that refuse requests which are wrong on purpose (`refusals`; a few answers of status
        400, which an endpoint counts as Invocation4XXErrors; no model runs), and the outputs from the answers so far;
        ``source`` says so. Optional inputs can only be learned there by the names in ``inputs``. Asked once for each
        model.
        """
        model = model or self.model
        told = self._learned.get(model)
        if told is None:
            told = self._carrier().metadata(model) or self._from_refusals(model, inputs)
            self._learned[model] = told
        return told if told.outputs else dataclasses.replace(told, outputs=self._outputs.get(model, ()))

    def _infer(
        self, payload: Payload, model: str | None, model_version: str, options: Mapping[str, str] | None
    ) -> Response:
        return _decoded(self._carrier().infer(Call(payload, model, model_version, dict(options or {}))))

    def _carrier(self) -> Transport:
        if self._transport is None:
            with self._lock:
                if self._transport is None:
                    if self._address is None:
                        raise ConnectError(f"{self.url}: no transport")
                    self._transport = _front_end(self._address, flavour_of(self._address))
        return self._transport

    def _classified(
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
                RequestedOutput(each, classification=classification) if isinstance(each, str) else each
                for each in outputs
            ]
        known = self._outputs.get(model) or self._told_outputs(model)
        if not known:
            plain = self._infer(encode_request(inputs, parameters=parameters), model, model_version, options)
            known = self._outputs[model] = tuple(
                TensorMetadata(name, datatype_of(name, array).wire, array.shape)
                for name, array in plain.outputs.items()
            )
        if all(each.datatype == "BYTES" for each in known):
            raise EncodeError(
                f"classification: the model has no output of numbers, only {[each.name for each in known]}"
            )
        # Triton gives no classes of text: "class result not available for output due to unsupported type".
        return [
            RequestedOutput(each.name, classification=classification if each.datatype != "BYTES" else 0)
            for each in known
        ]

    def _told_outputs(self, model: str | None) -> tuple[TensorMetadata, ...]:
        told = self._learned.get(model) or self._carrier().metadata(model)
        if told is None:
            return ()
        if told.outputs:
            self._outputs[model] = told.outputs
        return told.outputs

    def _image_input(self, name: str | None, model: str | None, *, given: Collection[str]) -> TensorMetadata:
        every = self.metadata(model).inputs
        inputs = tuple(tensor for tensor in every if tensor.name not in given and name in (None, tensor.name))
        names = ", ".join(tensor.name for tensor in every)
        if not inputs:
            asked = "has no input left for images" if name is None else f"has no input {name!r}"
            raise EncodeError(f"the model {asked}; its inputs are {names}")
        takers = tuple(tensor for tensor in inputs if tensor.datatype in ("UINT8", "BYTES"))
        if not takers:
            raise EncodeError(
                f"input {inputs[0].name!r}: expected {inputs[0].datatype}, got an encoded image, which only inputs of "
                "UINT8 and BYTES take. Send decoded pixels as an array"
            )
        # Where one input takes UINT8, those of BYTES are texts beside the image.
        likely = tuple(tensor for tensor in takers if tensor.datatype == "UINT8") or takers
        if len(likely) > 1:
            raise EncodeError(f"the model has the inputs {names}; name the one that takes the images")
        return likely[0]

    def _from_refusals(self, model: str | None, named: Collection[str] = ()) -> ModelMetadata:
        carrier = self._carrier()
        sentences: list[str] = []

        def refusal(payload: Payload) -> str:
            try:
                carrier.infer(Call(payload, model))
            except RelayError:
                # The model did not see the question, so that this is no answer to it.
                raise
            except ServerError as error:
                if error.status >= 500 or error.status == 404:
                    raise
                sentences.append(error.message)
                return error.message
            return ""

        inputs = learn_inputs(refusal, named=named)
        if not inputs:
            said = f": {sentences[-1] or 'it refuses requests without a reason'}" if sentences else ""
            raise DecodeError(f"{self.url} does not tell the model's inputs{said}")
        return ModelMetadata(
            name=model or "",
            inputs=inputs,
            outputs=(),
            source="the server's refusals of requests that are wrong on purpose",
        )


def _decoded(answer: Answer) -> Response:
    response = decode_response(answer.body, header_length=answer.header_length)
    return dataclasses.replace(response, provenance=answer.provenance) if answer.provenance else response


def _marked(response: Response, outputs: Sequence[RequestedOutput | str]) -> Response:
    """The response, which knows the outputs that were asked for as classes."""
    classified = tuple(each.name for each in outputs if isinstance(each, RequestedOutput) and each.classification)
    return dataclasses.replace(response, classified=classified) if classified else response


def _front_end(address: Address, flavour: Flavour) -> Transport:
    return TritonFrontEnd(address) if flavour == "triton" else SageMakerFrontEnd(address)


def _announced(url: str, scheme: str, *, timeout: float | None, options: Mapping[str, Any]) -> Transport:
    """The transport of a scheme that an installed package announces, this one's SageMaker wing among them."""
    from importlib.metadata import entry_points

    for found in entry_points(group=_TRANSPORTS, name=scheme) if scheme else ():
        return cast("Transport", found.load()(url, timeout=timeout, **options))
    raise EncodeError(
        f"{url!r} is not an address; write http://host:port, https://host:port, grpc://host:port or "
        "sagemaker://endpoint-name"
    )
