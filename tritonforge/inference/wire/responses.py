"""An inference response, as bytes and as a value, and the classes in it. This module does no I/O.

The body is a JSON header and then the binary tensors in the order of ``outputs``: KServe v2 "Inference Response JSON
Object" with Triton's extension for binary data. The bytes equal Triton's. A classification answer has datatype BYTES
and shape [batch, k], or [k] without a batch; each element is ``<score>:<index>`` and, where the model's output has a
label file, ``:<label>``, which may hold colons (extension_classification.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy.typing as npt

from tritonforge.errors import DecodeError
from tritonforge.inference.wire.documents import (
    Parameter,
    check_parameters,
    load,
    read_list,
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

__all__ = ["Class", "Response", "decode_class", "decode_classes", "decode_error", "decode_response", "encode_response"]


_RESERVED_OUTPUT: Final = {"binary_data_size": "use binary="}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Response:
    """A decoded response: ``outputs`` maps names to read-only arrays; BYTES are object arrays of ``bytes``.

    ``provenance`` is not part of the body: it is what the transport received beside it, for example SageMaker's
    ``invoked_production_variant``. ``classified`` names the outputs that were requested as classes.
    """

    outputs: Mapping[str, Array]
    model_name: str = ""
    model_version: str = ""
    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    output_parameters: Mapping[str, Mapping[str, Parameter]] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    classified: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Array:
        """Return the output with this name; raises DecodeError, which names the outputs of the response."""
        try:
            return self.outputs[name]
        except KeyError:
            raise DecodeError(
                f"the answer of {self.model_name!r} has no output {name!r}; it has {list(self.outputs)}"
            ) from None

    def classes(self, name: str | None = None) -> tuple[tuple[Class, ...], ...]:
        """Return the classes of an output that was requested with ``classification``: a row for each batch entry.

        The best class is first. ``name`` is needed where several outputs were requested so. Raises DecodeError.
        """
        if name is None:
            candidates = self.classified or tuple(self.outputs)
            if len(candidates) != 1:
                raise DecodeError(
                    f"the answer has the outputs {list(self.outputs)}; name the one that holds the classes"
                )
            (name,) = candidates
        return decode_classes(self[name], where=f"output {name!r}")


def encode_response(
    outputs: Mapping[str, Any],
    *,
    model_name: str,
    model_version: str = "1",
    id: str = "",  # noqa: A002 - the protocol's own name
    parameters: Mapping[str, Parameter] | None = None,
    binary: bool | Collection[str] = True,
    output_parameters: Mapping[str, Mapping[str, Parameter]] | None = None,
) -> Payload:
    """Return the response as a payload; arrays and ``binary`` as in `encode_request`. Raises EncodeError."""
    document: dict[str, Any] = {"id": id} if id else {}
    document["model_name"] = model_name
    document["model_version"] = model_version
    if parameters:
        document["parameters"] = check_parameters(parameters, where="the response", reserved={})
    chosen = choose_binary(outputs, binary)
    buffers: list[Buffer] = []
    document["outputs"] = [
        encode_tensor(
            name,
            value,
            binary=name in chosen,
            parameters=check_parameters(
                (output_parameters or {}).get(name), where=f"output {name!r}", reserved=_RESERVED_OUTPUT
            ),
            buffers=buffers,
            shape_first=False,
        )
        for name, value in outputs.items()
    ]
    return build_payload(document, buffers, header_size=None)


def decode_response(body: Buffer | bytearray, *, header_length: int | None = None) -> Response:
    """Return the response in a body.

    ``header_length`` is from the content type or header (see `header_length`), None where all of the body is JSON.
    Arrays are read-only views of the body. Raises DecodeError, and nothing else, for any bytes; the error of a body
    that is Triton's ``{"error": ...}`` quotes its sentence.
    """
    source = body if isinstance(body, bytes) else memoryview(body).toreadonly().cast("B")
    text, start = split_body(source, header_length, what="the response")
    document = load(text, what="the response")
    if "outputs" not in document and "error" in document:
        raise DecodeError(f"the response is an error: {read_string(document, 'error', where='the response')}")
    entries = read_list(document, "outputs", where="the response")
    arrays, output_parameters = read_tensors(source, start, entries, role="output")
    return Response(
        outputs=arrays,
        model_name=read_string(document, "model_name", where="the response", default=""),
        model_version=read_string(document, "model_version", where="the response", default=""),
        id=read_string(document, "id", where="the response", default=""),
        parameters=read_parameters(document, where="the response"),
        output_parameters=output_parameters,
    )


def decode_error(body: Buffer) -> str:
    """Return the sentence in the body of an error: Triton's ``error`` member, else the unchanged text.

    Never raises; SageMaker's own errors have ``message`` or ``Message`` instead.
    """
    try:
        document = load(body, what="the error")
    except DecodeError:
        return str(body, "utf-8", "replace").strip()
    for key in ("error", "message", "Message"):
        value = document.get(key)
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode()
    return str(body, "utf-8", "replace").strip()


@dataclass(frozen=True, slots=True)
class Class:
    """One class: its ``score``, its ``index`` in the output, and its ``label``, empty where the model has none."""

    score: float
    index: int
    label: str = ""


def decode_class(text: bytes, *, where: str = "classification") -> Class:
    """Return the class in ``<score>:<index>[:<label>]``; raises DecodeError.

    >>> decode_class(b"0.900000:1:dog")
    Class(score=0.9, index=1, label='dog')
    """
    score, _, rest = text.partition(b":")
    index, _, label = rest.partition(b":")
    try:
        if not index.isdigit():
            raise ValueError("the index is not a number")
        return Class(float(score), int(index), label.decode("utf-8", "replace"))
    except ValueError as error:
        raise DecodeError(f"{where}: expected '<score>:<index>[:<label>]', found {text!r:.60}") from error


def decode_classes(array: npt.NDArray[Any], *, where: str = "classification") -> tuple[tuple[Class, ...], ...]:
    """Return the classes of each batch entry, best first; ``array`` has ``bytes``, shape [batch, k] or [k]."""
    if array.dtype != object or array.ndim == 0:
        raise DecodeError(
            f"{where}: expected BYTES of shape [batch, k], found {array.dtype} of shape {list(array.shape)}"
        )
    rows = array.reshape(-1, array.shape[-1]) if array.size else array.reshape(0, 0)
    return tuple(tuple(decode_class(text, where=where) for text in row) for row in rows.tolist())
