"""A tritonserver on this machine for one task of this process, and clients of it.

It listens at a random address of loopback, which no web page finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tritonforge.inference.client import Client
from tritonforge.serving.server import Server

__all__ = ["PrivateServer", "open_private_server"]


@dataclass(slots=True)
class PrivateServer:
    """A server with Triton's HTTP port, and its gRPC port if a model is decoupled, which HTTP clients cannot request.

    ``options`` are those of its clients.
    """

    server: Server
    options: Mapping[str, Any]
    _clients: ExitStack = field(default_factory=ExitStack)
    _client: Client | None = None
    _stream: Client | None = None

    @property
    def http_url(self) -> str:
        """The address of the HTTP port."""
        assert self.server.http_url is not None  # its port is on
        return self.server.http_url

    @property
    def client(self) -> Client:
        """The client of the HTTP port."""
        if self._client is None:
            self._client = self._clients.enter_context(Client(self.http_url, front_end="triton", **self.options))
        return self._client

    def open_stream(self) -> Client | None:
        """Return the client of the gRPC port; None if no model is decoupled.

        Raises:
            MissingExtraError: gRPC is not installed.
        """
        if self._stream is None and self.server.grpc_url is not None:
            self._stream = self._clients.enter_context(Client(self.server.grpc_url, **self.options))
        return self._stream

    def close(self) -> None:
        """Close the clients."""
        self._clients.close()


@contextmanager
def open_private_server(
    repository: Path,
    configs: Mapping[str, Any],
    *,
    models: Sequence[str] | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
    timeout: float = 300.0,
    on_progress: Callable[[str], None] = lambda sentence: None,
    on_warning: Callable[[str], None] = lambda sentence: None,
) -> Iterator[PrivateServer]:
    """Serve a repository while the context lasts, for this process only.

    Args:
        repository: the directory of the models.
        configs: the ModelConfig messages of its models.
        models: those that are loaded, in explicit model control; None for all of them.
        options: of the clients, such as ``timeout``.
        timeout: seconds until the models must be loaded.
        on_progress: gets short sentences while models load.
        on_warning: gets what differs from the server that the repository is for, such as a missing GPU.

    Raises:
        LaunchError: the repository does not load, with Triton's own reason.
        MissingExtraError: nvidia-pytriton is not installed.
    """
    is_decoupled = any(config.model_transaction_policy.decoupled for config in configs.values())
    with Server(
        repository,
        models=models,
        sagemaker_port=None,
        http_port=0,
        grpc_port=0 if is_decoupled else None,
        metrics_port=None,
        unguessable=True,
        startup_timeout=timeout,
        on_progress=on_progress,
    ) as server:
        for warning in server.warnings:
            on_warning(warning)
        private = PrivateServer(server, options)
        try:
            yield private
        finally:
            private.close()
