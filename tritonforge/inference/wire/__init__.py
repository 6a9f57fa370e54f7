"""KServe v2 bodies, binary+json: bytes in, bytes out. This package does no I/O.

`encode_request` -> `Payload` -> (a transport) -> bytes -> `decode_response`. Encoding gives views of the caller's
arrays, decoding gives views of the body. Encoding what the protocol cannot carry raises EncodeError; decoding any
bytes gives a result or DecodeError, nothing else.
"""

from __future__ import annotations

from tritonforge.inference.wire.documents import Parameter
from tritonforge.inference.wire.payloads import (
    INFERENCE_HEADER_CONTENT_LENGTH,
    JSON,
    OCTET_STREAM,
    SAGEMAKER_BINARY_JSON,
    Payload,
    find_header_length,
    header_length,
    sagemaker_content_type,
    sagemaker_header_length,
    sagemaker_headers,
    triton_header_length,
    triton_headers,
)
from tritonforge.inference.wire.requests import (
    Request,
    RequestedOutput,
    byte_batch,
    decode_request,
    encode_raw,
    encode_request,
    pad_batch,
)
from tritonforge.inference.wire.responses import (
    Class,
    Response,
    decode_class,
    decode_classes,
    decode_error,
    decode_response,
    encode_response,
)

__all__ = ["INFERENCE_HEADER_CONTENT_LENGTH", "JSON", "OCTET_STREAM", "SAGEMAKER_BINARY_JSON", "Class", "Parameter",
           "Payload", "Request", "RequestedOutput", "Response", "byte_batch", "decode_class", "decode_classes",
           "decode_error", "decode_request", "decode_response", "encode_raw", "encode_request", "encode_response",
           "find_header_length", "header_length", "pad_batch", "sagemaker_content_type", "sagemaker_header_length",
           "sagemaker_headers", "triton_header_length", "triton_headers"]  # fmt: skip
