"""The client: one way to ask a model, whatever carries the question."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, cast

from tritonforge.errors import ConnectError, DecodeError, EncodeError, ServerError
from tritonforge.inference.client.http import Address, Flavour, SageMakerFrontEnd, TritonFrontEnd, flavour_of
from tritonforge.inference.client.refusals import learn_inputs
from tritonforge.inference.client.transports import Call, ModelMetadata, RelayError, TensorMetadata, Transport
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
    ``options`` are those of `tritonforge.sagemaker.aws.transport.from_url`, and may stand in the address as well), or
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
        header_size: int | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Response:
        """The model's answer to these inputs; arrays, ``binary`` and ``header_size`` as in `encode_request`.

        ``options`` are the address's own for this inference only, such as SageMaker's ``inference_id``.
        ``outputs`` asks for some outputs only. ``classification`` asks for the k best classes of each output (or of
        those in ``outputs``) in place of its numbers: read them with `Response.classes`. Triton must be told an
        output's name for that; where the address has no metadata the names are learned from one plain answer to the
        same inputs, once for each model.
        """
        model = model or self.model
        if classification is not None:
            outputs = self._classified(inputs, model, model_version, outputs, classification, parameters, options)
        payload = encode_request(
            inputs, outputs=outputs, id=id, parameters=parameters, binary=binary, header_size=header_size
        )
        return self._infer(payload, model, model_version, options)

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
        options: Mapping[str, str] | None = None,
    ) -> Response:
        """The model's answer to a batch of encoded images (JPEG, PNG, ...), which may differ in size.

        The model's input is looked up (see `metadata`): UINT8 gets one zero-padded batch, whose padding the decoding
        step of the model ignores (see `pad_batch`), BYTES gets each image as an element. ``input`` names the input
        where the model has several. ``options`` as in `infer`.
        """
        tensor = self._image_input(input, model or self.model)
        batch = pad_batch(images) if tensor.datatype == "UINT8" else byte_batch(images, column=len(tensor.shape) != 1)
        return self.infer(
            {tensor.name: batch},
            model=model,
            model_version=model_version,
            outputs=outputs,
            classification=classification,
            binary=binary,
            id=id,
            parameters=parameters,
            options=options,
        )

    def infer_raw(self, body: bytes, *, model: str | None = None, options: Mapping[str, str] | None = None) -> Response:
        """The model's answer to a body that is its one input as it stands: the file of one JPEG, for example.

        Triton takes it as a batch of one (see `encode_raw`). ``options`` as in `infer`.
        """
        return self._infer(encode_raw(body), model or self.model, "", options)

    def ready(self, model: str | None = None) -> bool:
        """Whether the server, or the model where one is named here, says that it is ready.

        Without a server it raises ConnectError.
        """
        return self._carrier().ready(model)

    def metadata(self, model: str | None = None) -> ModelMetadata:
        """The model's inputs and outputs.

        Triton tells them itself. The SageMaker front end, and so an endpoint, has no call for it: there the inputs are
        learned from the sentences that refuse requests which are wrong on purpose (`refusals`; a few answers of status
        400, which an endpoint counts as Invocation4XXErrors; no model runs), and the outputs from the answers so far;
        ``source`` says so. Asked once for each model.
        """
        model = model or self.model
        told = self._learned.get(model)
        if told is None:
            told = self._carrier().metadata(model) or self._from_refusals(model)
            self._learned[model] = told
        if told.outputs:
            return told
        return ModelMetadata(
            name=told.name,
            inputs=told.inputs,
            outputs=self._outputs.get(model, ()),
            versions=told.versions,
            source=told.source,
        )

    def _infer(
        self, payload: Payload, model: str | None, model_version: str, options: Mapping[str, str] | None
    ) -> Response:
        answer = self._carrier().infer(Call(payload, model, model_version, dict(options or {})))
        response = decode_response(answer.body, header_length=answer.header_length)
        return dataclasses.replace(response, provenance=answer.provenance) if answer.provenance else response

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
        # Triton gives no classes of text: "class result not available for output due to unsupported type".
        names = [each.name for each in known if each.datatype != "BYTES"]
        if not names:
            raise EncodeError(
                f"classification: the model has no output of numbers, only {[each.name for each in known]}"
            )
        return [RequestedOutput(name, classification=classification) for name in names]

    def _told_outputs(self, model: str | None) -> tuple[TensorMetadata, ...]:
        told = self._learned.get(model) or self._carrier().metadata(model)
        if told is None:
            return ()
        if told.outputs:
            self._outputs[model] = told.outputs
        return told.outputs

    def _image_input(self, name: str | None, model: str | None) -> TensorMetadata:
        inputs = self.metadata(model).inputs
        if name is not None:
            inputs = tuple(each for each in inputs if each.name == name)
        if len(inputs) != 1:
            asked = "one input" if name is None else f"an input {name!r}"
            raise EncodeError(
                f"images need {asked}; the model has {[each.name for each in self.metadata(model).inputs]}"
            )
        if inputs[0].datatype not in ("UINT8", "BYTES"):
            raise EncodeError(
                f"input {inputs[0].name!r} takes {inputs[0].datatype}; encoded images go to UINT8 or BYTES. "
                "Decode them and call infer"
            )
        return inputs[0]

    def _from_refusals(self, model: str | None) -> ModelMetadata:
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

        inputs = learn_inputs(refusal)
        if not inputs:
            said = f": {sentences[-1]}" if sentences else ""
            raise DecodeError(f"{self.url} does not tell the model's inputs; name them in infer{said}")
        return ModelMetadata(
            name=model or "",
            inputs=inputs,
            outputs=(),
            source="the server's refusals of requests that are wrong on purpose",
        )


def _front_end(address: Address, flavour: Flavour) -> Transport:
    return TritonFrontEnd(address) if flavour == "triton" else SageMakerFrontEnd(address)


def _announced(url: str, scheme: str, *, timeout: float | None, options: Mapping[str, Any]) -> Transport:
    """The transport of a scheme that an installed package announces, this one's SageMaker wing among them."""
    from importlib.metadata import entry_points

    for found in entry_points(group=_TRANSPORTS, name=scheme) if scheme else ():
        return cast("Transport", found.load()(url, timeout=timeout, **options))
    raise EncodeError(
        f"{url!r} is no address; write http://host:port, https://host:port, grpc://host:port or "
        "sagemaker://endpoint-name"
    )
