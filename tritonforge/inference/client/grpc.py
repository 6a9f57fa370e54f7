"""The gRPC transport: Triton's ``GRPCInferenceService``, through the stubs that tritonclient ships.

gRPC carries the same tensors: ``raw_input_contents`` holds what binary form holds. protobuf copies each tensor, so HTTP
is the cheaper way for large ones. grpc is imported when a transport is made, not before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tritonforge.errors import ConnectError, EncodeError, MissingExtraError, ServerError
from tritonforge.inference.client.transports import Answer, Call, ModelMetadata, TensorMetadata, no_options
from tritonforge.inference.wire import Parameter, Request, decode_request
from tritonforge.inference.wire.payloads import assembled
from tritonforge.inference.wire.tensors import datatype_of, to_binary

__all__ = ["GrpcTransport"]

#: The HTTP status that Triton gives for an error with this gRPC code (server/src/http_server.cc,
#: ``HttpCodeFromError``, beside grpc's ``GrpcStatusUtil``); 400 for all others.
_HTTP_STATUS: Final[Mapping[str, int]] = {"INTERNAL": 500, "NOT_FOUND": 404, "UNAVAILABLE": 503, "UNIMPLEMENTED": 501}
#: UNAVAILABLE is also what grpc itself says of a connection; Triton says it of a full queue, for example. Only words
#: tell them apart: these are grpc's own (src/core, read on grpcio 1.85).
_UNREACHED: Final = re.compile(r"failed to connect|errors resolving|DNS resolution", re.IGNORECASE)
_CUT: Final = re.compile(
    r"stream removed|socket closed|broken pipe|goaway|endpoint closing|recvmsg|keepalive|"
    r"connection (reset|closed|aborted)",
    re.IGNORECASE,
)
_NO_LIMIT: Final = -1


class GrpcTransport:
    """A channel to ``host:port``; ``timeout`` is in seconds for a whole call, None waits for ever.

    Raises MissingExtraError where grpc is not installed.
    """

    def __init__(self, address: str, *, timeout: float | None) -> None:
        try:
            import grpc
            from tritonclient.grpc import service_pb2, service_pb2_grpc
        except ImportError as error:
            raise MissingExtraError("tritonclient[grpc]", extra="grpc") from error
        self._grpc: Any = grpc
        self._messages: Any = service_pb2
        self._address = address
        self._timeout = timeout
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_send_message_length", _NO_LIMIT),
                ("grpc.max_receive_message_length", _NO_LIMIT),
            ],
        )
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def infer(self, call: Call) -> Answer:
        """Carry one inference; the answer is in binary form, whatever was asked for."""
        no_options(call, at=f"grpc://{self._address}")
        request = decode_request(call.payload.body, header_length=call.payload.header_length)
        message = self._message(call, request)
        return self._answer(self._ask(self._stub.ModelInfer, message))

    def ready(self, model: str | None) -> bool:
        """Whether the server, or the model, is ready."""
        if model is None:
            return bool(self._ask(self._stub.ServerReady, self._messages.ServerReadyRequest()).ready)
        return bool(self._ask(self._stub.ModelReady, self._messages.ModelReadyRequest(name=model)).ready)

    def metadata(self, model: str | None) -> ModelMetadata | None:
        """The model's metadata, as ``ModelMetadata`` gives it."""
        answer = self._ask(self._stub.ModelMetadata, self._messages.ModelMetadataRequest(name=self._named(model)))
        return ModelMetadata(
            name=answer.name,
            inputs=tuple(TensorMetadata(each.name, each.datatype, tuple(each.shape)) for each in answer.inputs),
            outputs=tuple(TensorMetadata(each.name, each.datatype, tuple(each.shape)) for each in answer.outputs),
            versions=tuple(answer.versions),
            source="gRPC ModelMetadata",
        )

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _named(self, model: str | None) -> str:
        if not model:
            raise EncodeError(f"grpc://{self._address} serves models by name; say which one (model=, --model)")
        return model

    def _message(self, call: Call, request: Request) -> Any:
        if request.raw is not None:
            raise EncodeError("a raw body has no form in gRPC; name the input, or use an http:// address")
        message = self._messages.ModelInferRequest(
            model_name=self._named(call.model), model_version=call.model_version, id=request.id
        )
        _set_parameters(message.parameters, request.parameters)
        for name, array in request.inputs.items():
            datatype = datatype_of(name, array)
            tensor = message.inputs.add(name=name, datatype=datatype.wire, shape=array.shape)
            _set_parameters(tensor.parameters, request.input_parameters.get(name, {}))
            message.raw_input_contents.append(b"".join(to_binary(name, array, datatype)))
        for each in request.outputs:
            output = message.outputs.add(name=each.name)
            _set_parameters(output.parameters, each.parameters)
            if each.classification:
                output.parameters["classification"].int64_param = each.classification
        return message

    def _answer(self, message: Any) -> Answer:
        document: dict[str, Any] = {
            "id": message.id,
            "model_name": message.model_name,
            "model_version": message.model_version,
            "parameters": _parameters(message.parameters),
            "outputs": [
                {
                    "name": output.name,
                    "datatype": output.datatype,
                    "shape": list(output.shape),
                    "parameters": {**_parameters(output.parameters), "binary_data_size": len(content)},
                }
                for output, content in zip(message.outputs, message.raw_output_contents, strict=False)
            ],
        }
        payload = assembled(document, message.raw_output_contents, header_size=None)
        return Answer(payload.body, payload.header_length)

    def _ask(self, method: Any, message: Any) -> Any:
        try:
            return method(message, timeout=self._timeout)
        except self._grpc.RpcError as error:
            raise self._mapped(error) from error

    def _mapped(self, error: Any) -> ConnectError | ServerError:
        code, details = error.code().name, error.details() or ""
        if code == "DEADLINE_EXCEEDED":
            return ConnectError(
                f"grpc://{self._address} gave no answer within {self._timeout:g} s; the server may still work on it"
            )
        if code == "UNAVAILABLE" and _UNREACHED.search(details):
            return ConnectError(f"no server answers at grpc://{self._address}: {details.rstrip('.')}; is it running?")
        if code == "UNAVAILABLE" and _CUT.search(details):
            return ConnectError(
                f"grpc://{self._address}: the connection was cut before the answer came ({details}); the server "
                "may have received the request, so it was not sent again"
            )
        return ServerError(details, status=_HTTP_STATUS.get(code, 400))


def _set_parameters(target: Any, parameters: Mapping[str, Parameter]) -> None:
    for key, value in parameters.items():
        if isinstance(value, bool):
            target[key].bool_param = value
        elif isinstance(value, int):
            if key == "priority" or value >= 2**63:
                target[key].uint64_param = value
            else:
                target[key].int64_param = value
        elif isinstance(value, float):
            target[key].double_param = value
        else:
            target[key].string_param = value


def _parameters(source: Any) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for key, value in source.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is not None:
            found[key] = getattr(value, kind)
    return found
