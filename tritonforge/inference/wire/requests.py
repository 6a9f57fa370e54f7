"""An inference request, as bytes and as a value, and images as its input. This module does no I/O.

The body is a JSON header and then the binary tensors in the order of ``inputs``: KServe v2 "Inference Request JSON
Object" with Triton's extensions for binary data, classification and parameters. The bytes equal tritonclient's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge.errors import DecodeError, EncodeError
from tritonforge.inference.wire.documents import (
    Parameter,
    check_parameters,
    is_unicode,
    load,
    read_list,
    read_object,
    read_parameters,
    read_string,
)
from tritonforge.inference.wire.payloads import (
    Payload,
    build_payload,
    choose_binary,
    encode_tensor,
    read_tensors,
    split_body,
)
from tritonforge.inference.wire.tensors import Array, Buffer

__all__ = ["Request", "RequestedOutput", "byte_batch", "decode_request", "encode_images", "encode_raw",
           "encode_request", "pad_batch", "sequence_parameters"]  # fmt: skip


_RESERVED: Final = {"binary_data_output": "use binary_output="}
_RESERVED_INPUT: Final = {
    "binary_data_size": "use binary=",
    "shared_memory_region": "tensors are sent in the body",
}
_RESERVED_OUTPUT: Final = {"classification": "use classification=", "binary_data": "use binary_data="}


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """A requested output.

    ``classification`` k > 0 requests the k best classes of each batch entry instead of the tensor (read them with
    `decode_classes`). ``binary_data`` is the form of the response; None leaves it to the request.
    """

    name: str
    classification: int = field(default=0, kw_only=True)
    binary_data: bool | None = field(default=None, kw_only=True)
    parameters: Mapping[str, Parameter] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or not is_unicode(self.name):
            raise EncodeError(f"an output's name must be a Unicode string that is not empty, found {self.name!r}")
        if type(self.classification) is not int or self.classification < 0:
            raise EncodeError(
                f"output {self.name!r}: classification must be an int from 0, found {self.classification!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """A decoded request.

    ``inputs`` maps names to read-only arrays. ``outputs`` is empty where all outputs are requested; then
    ``binary_output`` is their form. ``raw`` is the body of a raw binary request: one tensor, whose name, datatype and
    shape are in the model's configuration only.
    """

    inputs: Mapping[str, Array]
    outputs: tuple[RequestedOutput, ...] = ()
    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    binary_output: bool = False
    input_parameters: Mapping[str, Mapping[str, Parameter]] = field(default_factory=dict)
    raw: Buffer | None = None


def encode_request(
    inputs: Mapping[str, Any],
    *,
    outputs: Sequence[RequestedOutput | str] = (),
    id: str = "",  # noqa: A002 - the protocol's own name
    parameters: Mapping[str, Parameter] | None = None,
    binary: bool | Collection[str] = True,
    binary_output: bool | None = None,
    header_size: int | None = None,
    input_parameters: Mapping[str, Mapping[str, Parameter]] | None = None,
) -> Payload:
    """Return the request as a payload.

    ``inputs`` maps names to arrays of any shape, batch dimension included: numpy's booleans, integers, floats, and
    ``ml_dtypes.bfloat16`` are sent as the datatype of the same size; objects (``bytes``, or ``str`` written as UTF-8)
    and numpy's ``S`` and ``U`` as BYTES. Other values go through ``numpy.asarray``. ``binary`` selects the inputs in
    binary form: all, none, or those named; FP16 and BF16 have no other. ``binary_output`` requests outputs in binary
    form; the default is binary where any input is. ``header_size`` pads the JSON header with spaces to a fixed number
    of bytes, so that one content type serves many requests. Raises EncodeError.

    Examples:
        >>> import numpy as np
        >>> payload = encode_request({"x": np.zeros((1, 2), dtype=np.float32)})
        >>> payload.header_length, payload.size
        (134, 142)
    """
    if not isinstance(id, str) or not is_unicode(id):
        raise EncodeError(f"the request's id must be a Unicode string, found {id!r}")
    for name in set(input_parameters or {}) - set(inputs):
        raise EncodeError(f"input_parameters: {name!r} is none of the inputs {list(inputs)}")
    if binary_output is None:
        binary_output = binary if isinstance(binary, bool) else bool(binary)
    requested = [_encode_output(output, binary_output) for output in outputs]
    written = check_parameters(parameters, where="the request", reserved=_RESERVED)
    document: dict[str, Any] = {"id": id} if id else {}
    chosen = choose_binary(inputs, binary)
    buffers: list[Buffer] = []
    document["inputs"] = [
        encode_tensor(
            name,
            value,
            binary=name in chosen,
            parameters=check_parameters(
                (input_parameters or {}).get(name), where=f"input {name!r}", reserved=_RESERVED_INPUT
            ),
            buffers=buffers,
            shape_first=True,
        )
        for name, value in inputs.items()
    ]
    if requested:
        document["outputs"] = requested
    elif binary_output:
        # It counts only where no output is listed (http_server.cc, "binary_data_output").
        written = {"binary_data_output": True, **written}
    if written:
        document["parameters"] = written
    return build_payload(document, buffers, header_size=header_size)


def encode_raw(body: Buffer | bytearray) -> Payload:
    """Return the payload of a raw binary request: the body is the model's only input, unchanged.

    Triton deduces the shape: batch 1, at most one variable dimension; all outputs come back in binary form
    (http_server.cc, ``EVRequestToTritonRawInput``). For BYTES the model's dims must be [1], and the body is the
    element.
    """
    return Payload((memoryview(body).toreadonly().cast("B"),), 0)


def decode_request(body: Buffer | bytearray, *, header_length: int | None = None) -> Request:
    """Return the request in a body.

    ``header_length`` is from the content type or header (see `header_length`): None where all of the body is JSON, 0
    for a raw binary request. Arrays are read-only views of the body. Raises DecodeError, and nothing else, for any
    bytes.
    """
    source = body if isinstance(body, bytes) else memoryview(body).toreadonly().cast("B")
    if header_length == 0:
        return Request(inputs={}, raw=source, binary_output=True)
    text, start = split_body(source, header_length, what="the request")
    document = load(text, what="the request")
    parameters = read_parameters(document, where="the request")
    binary_output = parameters.pop("binary_data_output", False)
    if type(binary_output) is not bool:
        raise DecodeError(f"the request: parameter 'binary_data_output' must be a boolean, found {binary_output!r:.40}")
    entries = read_list(document, "inputs", where="the request")
    inputs, input_parameters = read_tensors(source, start, entries, role="input")
    outputs = read_list(document, "outputs", where="the request") if "outputs" in document else []
    return Request(
        inputs=inputs,
        outputs=tuple(_read_output(output, index) for index, output in enumerate(outputs)),
        id=read_string(document, "id", where="the request", default=""),
        parameters=parameters,
        binary_output=binary_output,
        input_parameters=input_parameters,
    )


def sequence_parameters(sequence_id: int | str, *, start: bool, end: bool) -> dict[str, Parameter]:
    """Return the parameters of a request of a sequence (Triton's extension_sequence.md); empty without an id.

    Raises EncodeError.
    """
    if not sequence_id:
        if start or end:
            raise EncodeError("sequence_start and sequence_end need a sequence_id: a number above 0, or a text")
        return {}
    if isinstance(sequence_id, bool) or (isinstance(sequence_id, int) and not 0 < sequence_id < 2**64):
        raise EncodeError(f"sequence_id: expected a number from 1 to 2**64 - 1 or a text, got {sequence_id!r}")
    return {"sequence_id": sequence_id, "sequence_start": start, "sequence_end": end}


def _encode_output(output: RequestedOutput | str, binary_output: bool) -> dict[str, Any]:
    if isinstance(output, str):
        output = RequestedOutput(output)
    parameters: dict[str, Parameter] = {}
    if output.classification:
        parameters["classification"] = output.classification
    if binary_output if output.binary_data is None else output.binary_data:
        parameters["binary_data"] = True
    parameters |= check_parameters(output.parameters, where=f"output {output.name!r}", reserved=_RESERVED_OUTPUT)
    return {"name": output.name, "parameters": parameters} if parameters else {"name": output.name}


def _read_output(value: object, index: int) -> RequestedOutput:
    entry = read_object(value, where=f"outputs[{index}]")
    name = read_string(entry, "name", where=f"outputs[{index}]")
    if not name:
        raise DecodeError(f"outputs[{index}]: 'name' is empty")
    parameters = read_parameters(entry, where=f"output {name!r}")
    classification = parameters.pop("classification", 0)
    binary_data = parameters.pop("binary_data", False)
    if type(classification) is not int or classification < 0:
        raise DecodeError(
            f"output {name!r}: 'classification' must be an unsigned integer, found {classification!r:.40}"
        )
    if type(binary_data) is not bool:
        raise DecodeError(f"output {name!r}: 'binary_data' must be a boolean, found {binary_data!r:.40}")
    return RequestedOutput(name, classification=classification, binary_data=binary_data, parameters=parameters)


def pad_batch(images: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    """Return the images as one UINT8 array of shape [N, longest], each row padded with zeros at its end.

    Decoders stop at the image's own end mark (JPEG's EOI marker: ITU-T T.81, B.2.1; PNG's IEND chunk: ISO/IEC 15948,
    11.2.5), so the decoding step of the model ignores the padding.

    Examples:
        >>> pad_batch([b"ab", b"c"]).tolist()
        [[97, 98], [99, 0]]
    """
    _check_images(images)
    batch = np.zeros((len(images), max(map(len, images))), dtype=np.uint8)
    for row, image in zip(batch, images, strict=True):
        row[: len(image)] = np.frombuffer(image, dtype=np.uint8)
    return batch


def byte_batch(images: Sequence[bytes], *, column: bool = True) -> npt.NDArray[Any]:
    """Make one object array for BYTES: shape [N, 1] (a batch of ``dims: [1]``), or [N] without ``column``."""
    _check_images(images)
    batch = np.empty(len(images), dtype=object)
    batch[:] = [bytes(image) for image in images]
    return batch.reshape(-1, 1) if column else batch


def encode_images(images: Sequence[bytes], name: str, datatype: str, rank: int) -> npt.NDArray[Any]:
    """Return the images for an input of this name, datatype and number of dimensions; raises EncodeError."""
    if datatype == "BYTES":
        return byte_batch(images, column=rank > 1)
    if datatype != "UINT8":
        raise EncodeError(
            f"input {name!r}: expected {datatype}, got an encoded image, which only inputs of UINT8 and BYTES take. "
            "Send decoded pixels as an array"
        )
    if rank == 1 and len(images) > 1:
        raise EncodeError(f"input {name!r} has no batch dimension; send one image in a request")
    batch = pad_batch(images)
    return batch[0] if rank == 1 else batch


def _check_images(images: Sequence[bytes]) -> None:
    if isinstance(images, (bytes, bytearray, memoryview, str)) or not len(images):
        raise EncodeError("expected a list of at least one encoded image, each as bytes")
    for index, image in enumerate(images):
        if not isinstance(image, (bytes, bytearray, memoryview)):
            raise EncodeError(f"image {index}: expected the bytes of an encoded image, found {type(image).__name__}")
        if not len(image):
            raise EncodeError(f"image {index}: it has no bytes")
