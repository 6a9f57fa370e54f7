"""What is profiled: an address and a model, with what its server reports about them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tritonforge.errors import DecodeError, ServerError
from tritonforge.inference.client import Client
from tritonforge.inference.http_transport import FrontEnd, TritonTransport
from tritonforge.inference.transports import InspectableTransport
from tritonforge.profiling.statistics import ServerStatistics, parse_statistics
from tritonforge.triton.schema import ModelConfig, new_model_config

__all__ = ["Target", "open_target", "read_configs"]


@dataclass(frozen=True, slots=True)
class Target:
    """The address and the model that requests are sent to.

    Attributes:
        url: http://, https://, grpc:// or sagemaker://, as for `Client`.
        model: the model; None for the default of a SageMaker address.
        front_end: of an ``http`` address.
        model_version: "" for the one that its policy chooses.
        is_decoupled: whether a request has any number of responses; the latency is that of the last one.
        options: of the transport, such as region and profile of a SageMaker address.
        read_statistics: reads the server's statistics; None if the address has none.
    """

    url: str
    model: str | None = None
    front_end: FrontEnd | None = None
    model_version: str = ""
    is_decoupled: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    read_statistics: Callable[[], ServerStatistics] | None = None

    @property
    def is_direct(self) -> bool:
        """Whether requests are sent as prepared HTTP, without a transport."""
        return self.url.startswith("http://") and self.front_end is not None


def open_target(client: Client, *, model: str | None = None, options: Mapping[str, Any] | None = None) -> Target:
    """Return the target of a client's address and model.

    Args:
        client: stays open while the target is used: the server's statistics are read through it.
        model: the model. Default: the client's, or the only one of the server.
        options: what the client was created with beside its address, such as the region of an endpoint.

    Raises:
        UnnamedModelError: the server has several models, and ``model`` is None.
        ConnectError, ServerError, DecodeError: the server gives no valid answer.
    """
    transport = client.transport
    scheme = client.url.partition("://")[0]
    if not isinstance(transport, InspectableTransport):
        front_end: FrontEnd | None = "sagemaker" if scheme in ("http", "https") else None
        return Target(client.url, model or client.model, front_end, options=options or {})
    metadata = client.metadata(model)
    front_end = "triton" if isinstance(transport, TritonTransport) else None

    def read_statistics() -> ServerStatistics:
        return parse_statistics(transport.read_statistics(), where=client.url)

    return Target(
        client.url,
        metadata.name,
        front_end,
        is_decoupled=bool(metadata.decoupled),
        options=options or {},
        read_statistics=read_statistics if _has_statistics(transport) else None,
    )


def read_configs(client: Client) -> dict[str, ModelConfig]:
    """Return the configurations of a server's models, as it completed them; empty where it has no call for them.

    Raises:
        DecodeError: a configuration is not one.
    """
    transport = client.transport
    if not isinstance(transport, InspectableTransport):
        return {}
    configs = {}
    for name in transport.list_models():
        try:
            text = transport.read_config(name)
        except ServerError:  # it was unloaded meanwhile
            continue
        configs[name] = _parse_config(text, where=f"{client.url}: configuration of {name}")
    return configs


def _has_statistics(transport: InspectableTransport) -> bool:
    """Return whether a server has the call for statistics, which is an extension of KServe's protocol."""
    try:
        transport.read_statistics()
    except ServerError:
        return False
    return True


def _parse_config(text: bytes | str, *, where: str) -> ModelConfig:
    from google.protobuf import json_format

    try:
        document = json.loads(text)
        if isinstance(document.get("config"), dict):  # gRPC's answer has it inside
            document = document["config"]
        return json_format.ParseDict(document, new_model_config(), ignore_unknown_fields=True)
    except (ValueError, AttributeError, RecursionError, json_format.ParseError) as error:
        raise DecodeError(f"{where}: expected a ModelConfig as JSON: {str(error)[:200]}") from error
