"""The contract between a request and a handler: the Context, and the address that a request is meant for. No I/O here.

Source: aws/deep-learning-containers scripts/docker/tensorflow/inference/sagemaker/tfs_utils.py `parse_request`,
`make_tfs_uri`; tensorflowServing.js `make_tfs_uri`, `parse_custom_attributes` (images of TensorFlow Serving 2.20).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tritonforge.serving.listener import Request

__all__ = ["CUSTOM_ATTRIBUTES", "Context", "attributes", "context", "model_path"]

CUSTOM_ATTRIBUTES: Final = "x-amzn-sagemaker-custom-attributes"

_ATTRIBUTE: Final = re.compile(r"(tfs-[a-z\-]+=[^,]+)")
_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_VERSION: Final = re.compile(r"[0-9]+")
_METHODS: Final = ("predict", "classify", "regress")
_JSON: Final = "application/json"


class Context(NamedTuple):
    """What a handler is told of a request, field by field as in the 2.20 container.

    ``model_name``, ``model_version`` and ``method`` are what the custom attributes say, None where they do not.
    ``rest_uri`` is the address to post the prediction request to, ``channel`` a gRPC channel to the same server (None
    where it has no gRPC), ``content_length`` in bytes, ``timeout`` in seconds.
    """

    model_name: str | None
    model_version: str | None
    method: str | None
    rest_uri: str
    grpc_port: str
    channel: Any
    custom_attributes: str | None
    request_content_type: str
    accept_header: str
    content_length: int | None
    timeout: int


def attributes(header: str | None) -> dict[str, str]:
    """The ``tfs-...=...`` pairs of a Custom-Attributes header."""
    pairs = (tuple(each.split("=", 1)) for each in _ATTRIBUTE.findall(header or ""))
    return dict(pairs)


def model_path(header: str | None, default_model: str, *, with_method: bool = True) -> str:
    """The path of TensorFlow Serving's REST API that a request with this Custom-Attributes header is meant for.

    Raises:
        ValueError: one of the attributes is none that the container takes; it answers 400 with this sentence.
    """
    found = attributes(header)
    name = found.get("tfs-model-name")
    version = found.get("tfs-model-version")
    method = found.get("tfs-method", "predict")
    if name is not None and not _MODEL_NAME.fullmatch(name):
        raise ValueError("invalid tfs-model-name")
    if version is not None and not _VERSION.fullmatch(version):
        raise ValueError("invalid tfs-model-version: must be a positive integer")
    if method not in _METHODS:
        raise ValueError("invalid tfs-method: must be one of predict|classify|regress")
    path = f"/v1/models/{name or default_model}"
    if version is not None:
        path += f"/versions/{version}"
    return f"{path}:{method}" if with_method else path


def context(
    request: Request,
    *,
    default_model: str,
    rest_address: str,
    grpc_port: str,
    channel: Any,
    timeout: int,
) -> Context:
    """The Context of a request; ``rest_address`` is that of TensorFlow Serving, ``http://host:port``.

    Raises:
        ValueError: as `model_path`.
    """
    headers: Mapping[str, str] = request.headers
    header = headers.get(CUSTOM_ATTRIBUTES)
    found = attributes(header)
    chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    return Context(
        model_name=found.get("tfs-model-name"),
        model_version=found.get("tfs-model-version"),
        method=found.get("tfs-method"),
        rest_uri=rest_address + model_path(header, default_model),
        grpc_port=grpc_port,
        channel=channel,
        custom_attributes=header,
        request_content_type=headers.get("content-type") or _JSON,
        accept_header=headers.get("accept") or _JSON,
        content_length=None if chunked or "content-length" not in headers else int(headers["content-length"]),
        timeout=timeout,
    )
