"""The gRPC transport: Triton's ``GRPCInferenceService``, through the stubs that tritonclient ships.

gRPC carries the same tensors: ``raw_input_contents`` holds what binary form holds. protobuf copies each tensor, so HTTP
is the cheaper way for large ones. grpc is imported when a transport is made, not before.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from tritonforge.datatypes import BY_WIRE
from tritonforge.errors import ConnectError, DecodeError, EncodeError, MissingExtraError, ServerError
from tritonforge.inference.transports import (
    Answer,
    Call,
    DecoupledError,
    ModelMetadata,
    TensorMetadata,
    check_size,
    choose_model,
    refuse_options,
)
from tritonforge.inference.wire import Parameter, Request, decode_request
from tritonforge.inference.wire.payloads import build_payload
from tritonforge.inference.wire.tensors import datatype_of, to_binary

__all__ = ["GrpcTransport"]

#: The HTTP status that Triton gives for an error with this gRPC code (server/src/http_server.cc,
#: ``HttpCodeFromError``, beside grpc's ``GrpcStatusUtil``); 400 for all others.
_HTTP_STATUS: Final[Mapping[str, int]] = {"INTERNAL": 500, "NOT_FOUND": 404, "UNAVAILABLE": 503, "UNIMPLEMENTED": 501}
#: UNAVAILABLE is grpc's own code for a lost connection, and Triton's for a full queue, for example. Only the words
#: differ: these are grpc's own (src/core, read on grpcio 1.85).
_UNREACHED: Final = re.compile(r"failed to connect|errors resolving|DNS resolution", re.IGNORECASE)
_CUT: Final = re.compile(
    r"stream removed|socket closed|broken pipe|goaway|endpoint closing|recvmsg|keepalive|"
    r"connection (reset|closed|aborted)",
    re.IGNORECASE,
)
#: The server accepted the connection and has another protocol: Triton's HTTP port closes it at once.
_NOT_GRPC: Final = re.compile(r"socket closed|http1\.x|http/1|connection reset", re.IGNORECASE)
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
        self._only_model = ""
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_send_message_length", _NO_LIMIT),
                ("grpc.max_receive_message_length", _NO_LIMIT),
            ],
        )
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def infer(self, call: Call) -> Answer:
        """Send one inference; the answer is in binary form, whatever was requested."""
        refuse_options(call, at=f"grpc://{self._address}")
        check_size(call.payload)
        request = decode_request(call.payload.body, header_length=call.payload.header_length)
        message = self._build_message(call, request)
        return self._read_answer(self._call(self._stub.ModelInfer, message))

    def prepare(self, call: Call) -> Callable[[], None]:
        """Return a function that sends one inference, as `infer` does, and discards the answer.

        The message is built once, and the answer is not parsed: for requests that are sent again and again.
        """
        refuse_options(call, at=f"grpc://{self._address}")
        check_size(call.payload)
        request = decode_request(call.payload.body, header_length=call.payload.header_length)
        message = self._build_message(call, request).SerializeToString()
        method = self._channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")  # bytes to bytes

        def send() -> None:
            self._call(method, message)

        return send

    def stream(self, call: Call) -> Iterator[Answer]:
        """Send one request through ``ModelStreamInfer``, and yield its responses as they arrive.

        The timeout is for each response. Errors inside of the stream have no code in the protocol, so that
        ServerError.status is 0. (The header ``triton_grpc_error``, which requests codes, is not sent: tritonserver 2.51
        ends after such an error.)
        """
        refuse_options(call, at=f"grpc://{self._address}")
        check_size(call.payload)
        request = decode_request(call.payload.body, header_length=call.payload.header_length)
        responses = self._stub.ModelStreamInfer(iter([self._build_message(call, request)]))
        try:
            while True:
                late = threading.Event()
                timer = None
                if self._timeout is not None:
                    timer = threading.Timer(self._timeout, lambda late=late: (late.set(), responses.cancel()))
                    timer.daemon = True
                    timer.start()
                try:
                    response = next(responses)
                except StopIteration:
                    return
                except self._grpc.RpcError as error:
                    if late.is_set():
                        raise self._late_error() from error
                    raise self._map_error(error) from error
                finally:
                    if timer is not None:
                        timer.cancel()
                if response.error_message:
                    raise ServerError(response.error_message, status=0)
                yield self._read_answer(response.infer_response)
        finally:
            responses.cancel()

    def ready(self, model: str | None) -> bool:
        """Return True if the server, or the model, is ready."""
        if model is None:
            return bool(self._call(self._stub.ServerReady, self._messages.ServerReadyRequest()).ready)
        return bool(self._call(self._stub.ModelReady, self._messages.ModelReadyRequest(name=model)).ready)

    def metadata(self, model: str | None) -> ModelMetadata | None:
        """Return the model's metadata, as ``ModelMetadata`` has it."""
        name = self._choose_model(model)
        answer = self._call(self._stub.ModelMetadata, self._messages.ModelMetadataRequest(name=name))
        return ModelMetadata(
            name=answer.name,
            inputs=tuple(TensorMetadata(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in answer.inputs),
            outputs=tuple(
                TensorMetadata(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in answer.outputs
            ),
            versions=tuple(answer.versions),
            source="gRPC ModelMetadata",
            **self._read_config(name),
        )

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def list_models(self) -> tuple[str, ...]:
        """Return the models that are ready; empty where the server has no call for them."""
        return self._list_models()

    def read_config(self, model: str) -> str:
        """Return a model's configuration, as the server completed it, as JSON."""
        answer = self._call(self._stub.ModelConfig, self._messages.ModelConfigRequest(name=model))
        return self._render(answer.config)

    def read_statistics(self) -> str:
        """Return the statistics of all models as JSON."""
        return self._render(self._call(self._stub.ModelStatistics, self._messages.ModelStatisticsRequest()))

    @staticmethod
    def _render(message: Any) -> str:
        from google.protobuf import json_format

        return json_format.MessageToJson(message, preserving_proto_field_name=True)

    def _read_config(self, model: str) -> dict[str, Any]:
        """Return what the model's configuration adds; empty where the server has no call for it."""
        try:
            config = self._call(self._stub.ModelConfig, self._messages.ModelConfigRequest(name=model)).config
        except ServerError:
            return {}
        return {
            "max_batch_size": config.max_batch_size,
            "decoupled": config.model_transaction_policy.decoupled,
            "labelled_outputs": tuple(output.name for output in config.output if output.label_filename),
        }

    def _choose_model(self, model: str | None) -> str:
        name = model or self._only_model
        if not name:
            name = self._only_model = choose_model(self._list_models(), url=f"grpc://{self._address}")
        return name

    def _list_models(self) -> tuple[str, ...]:
        """Return the models that are ready; empty where the server has no call for them."""
        try:
            answer = self._call(self._stub.RepositoryIndex, self._messages.RepositoryIndexRequest(ready=True))
        except ServerError:
            return ()
        return tuple(dict.fromkeys(model.name for model in answer.models))

    def _build_message(self, call: Call, request: Request) -> Any:
        if request.raw is not None:
            raise EncodeError("a raw body has no form in gRPC; name the input, or use an http:// address")
        message = self._messages.ModelInferRequest(
            model_name=self._choose_model(call.model), model_version=call.model_version, id=request.id
        )
        _set_parameters(message.parameters, request.parameters)
        for name, array in request.inputs.items():
            datatype = datatype_of(name, array)
            tensor = message.inputs.add(name=name, datatype=datatype.wire, shape=array.shape)
            _set_parameters(tensor.parameters, request.input_parameters.get(name, {}))
            message.raw_input_contents.append(b"".join(to_binary(name, array, datatype)))
        for requested in request.outputs:
            output = message.outputs.add(name=requested.name)
            _set_parameters(output.parameters, requested.parameters)
            if requested.classification:
                output.parameters["classification"].int64_param = requested.classification
        return message

    def _read_answer(self, message: Any) -> Answer:
        contents = list(message.raw_output_contents)
        if not contents:
            contents = [_pack_contents(output) for output in message.outputs]
        if len(contents) != len(message.outputs):
            raise DecodeError(
                f"grpc://{self._address}: expected the contents of {len(message.outputs)} outputs, got {len(contents)}"
            )
        document: dict[str, Any] = {
            "id": message.id,
            "model_name": message.model_name,
            "model_version": message.model_version,
            "parameters": _read_parameters(message.parameters),
            "outputs": [
                {
                    "name": output.name,
                    "datatype": output.datatype,
                    "shape": list(output.shape),
                    "parameters": {**_read_parameters(output.parameters), "binary_data_size": len(content)},
                }
                for output, content in zip(message.outputs, contents, strict=True)
            ],
        }
        payload = build_payload(document, contents, header_size=None)
        return Answer(payload.body, payload.header_length)

    def _call(self, method: Any, message: Any) -> Any:
        try:
            return method(message, timeout=self._timeout)
        except self._grpc.RpcError as error:
            raise self._map_error(error) from error

    def _map_error(self, error: Any) -> ConnectError | ServerError:
        code, details = error.code().name, error.details() or ""
        if code == "DEADLINE_EXCEEDED":
            return self._late_error()
        if code == "UNAVAILABLE" and _UNREACHED.search(details) and _NOT_GRPC.search(details):
            return ConnectError(
                f"grpc://{self._address} is not a gRPC port: what listens there closed the connection. For Triton's "
                f"HTTP port use http://{self._address}"
            )
        if code == "UNAVAILABLE" and _UNREACHED.search(details):
            return ConnectError(f"no server answers at grpc://{self._address}: {details.rstrip('.')}; is it running?")
        if code == "UNAVAILABLE" and _CUT.search(details):
            return ConnectError(
                f"grpc://{self._address}: the connection was cut before the answer came ({details}); the server "
                "may have received the request, so it was not sent again"
            )
        if code == "UNIMPLEMENTED" and "decoupled" in details:
            return DecoupledError(details, status=501, advice="stream its responses (Client.infer_stream)")
        return ServerError(details, status=_HTTP_STATUS.get(code, 400))

    def _late_error(self) -> ConnectError:
        return ConnectError(
            f"grpc://{self._address} gave no answer within {self._timeout:g} s; the server may still work on it"
        )


def _set_parameters(target: Any, parameters: Mapping[str, Parameter]) -> None:
    for key, value in parameters.items():
        if isinstance(value, bool):
            target[key].bool_param = value
        elif isinstance(value, int):
            if key == "sequence_id" and value >= 2**63:
                # Triton reads an int64 here and uses its bits as the uint64 of its HTTP API.
                target[key].int64_param = value - 2**64
            elif key == "priority" or value >= 2**63:
                target[key].uint64_param = value
            else:
                target[key].int64_param = value
        elif isinstance(value, float):
            target[key].double_param = value
        else:
            target[key].string_param = value


def _read_parameters(source: Any) -> dict[str, Parameter]:
    parameters: dict[str, Parameter] = {}
    for key, value in source.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is not None:
            parameters[key] = getattr(value, kind)
    return parameters


def _pack_contents(output: Any) -> bytes:
    """Return a tensor of typed contents as raw contents.

    KServe allows both (grpc_predict_v2.proto, ``InferTensorContents``); Triton writes raw contents only.
    """
    fields = output.contents.ListFields()
    datatype = BY_WIRE.get(output.datatype)
    if datatype is None:
        raise DecodeError(f"output {output.name!r}: {output.datatype!r:.40} is not a KServe datatype")
    elements = list(fields[0][1]) if fields else []
    array = np.array(elements, dtype=datatype.dtype) if datatype.size is not None else np.array(elements, dtype=object)
    return b"".join(to_binary(output.name, array, datatype))
