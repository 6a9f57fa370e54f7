"""Read the statistics and the metrics of a running server again and again, over kept connections."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import urllib3

from tritonforge.errors import ConnectError, DecodeError, EncodeError, ServerError, TritonForgeError
from tritonforge.inference.client import Client
from tritonforge.inference.transports import InspectableTransport
from tritonforge.profiling.activity import ServerReading
from tritonforge.profiling.metrics import ServerMetrics, parse_metrics
from tritonforge.profiling.statistics import parse_statistics
from tritonforge.profiling.target import read_configs

__all__ = ["ServerPoller"]

#: Bytes of metrics that are read.
_LARGEST: Final = 16 << 20

#: Seconds between two attempts to find metrics.
_RETRY: Final = 30.0


class ServerPoller:
    """Reads one server; safe for use by one thread at a time. Close it, or use it as a context manager.

    ``url`` is Triton's HTTP or gRPC address. ``metrics_url`` is that of its metrics; without it the usual port beside
    the address is tried (8002 beside 8000 and 8001), and used if it has the models of the server. ``timeout`` is in
    seconds, for each response.
    """

    def __init__(self, url: str, *, metrics_url: str | None = None, timeout: float = 5.0) -> None:
        self.url = url
        #: Why there are no metrics, a sentence; "" if there are.
        self.metrics_problem = ""
        self._client = Client(url, timeout=timeout, connections=1)
        self._pool = urllib3.PoolManager(num_pools=2, maxsize=1, timeout=urllib3.Timeout(timeout), retries=False)
        self._is_given = metrics_url is not None
        self._metrics_url = metrics_url if metrics_url is not None else _guess_metrics_url(url)
        self._next_attempt = 0.0
        self._configs: Mapping[str, Any] = {}

    def __enter__(self) -> ServerPoller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._pool.clear()

    def poll(self) -> ServerReading:
        """Return a reading.

        Raises:
            EncodeError: the address has no statistics, as that of the SageMaker front end.
            ConnectError, ServerError, DecodeError: the server gives no valid answer.
        """
        transport = self._client.transport
        if not isinstance(transport, InspectableTransport):
            raise EncodeError(
                f"{self.url}: this address has no statistics: it is not Triton's HTTP or gRPC address. Pass that one, "
                "such as http://127.0.0.1:8000"
            )
        statistics = parse_statistics(transport.read_statistics(), where=self.url)
        moment = time.monotonic()
        models = {name for name, _ in statistics}
        if models != self._configs.keys():
            self._configs = read_configs(self._client)
        return ServerReading(moment, statistics, self._configs, self._read_metrics(models))

    def _read_metrics(self, models: set[str]) -> ServerMetrics | None:
        if self._metrics_url is None:
            self.metrics_problem = f"{self.url}: no address of metrics is known; pass --metrics-url"
            return None
        if time.monotonic() < self._next_attempt:
            return None
        try:
            metrics = self._request_metrics(self._metrics_url)
            if not self._is_given and models and not metrics.models & models:
                raise DecodeError(f"{self._metrics_url}: the metrics of another server; pass --metrics-url")
        except TritonForgeError as error:
            self.metrics_problem = str(error)
            self._next_attempt = time.monotonic() + _RETRY
            return None
        self.metrics_problem = ""
        return metrics

    def _request_metrics(self, url: str) -> ServerMetrics:
        try:
            response = self._pool.request("GET", url, preload_content=False)
            try:
                content = response.read(_LARGEST + 1)
            finally:
                # A connection with bytes left must not serve the next request.
                response.close() if response.length_remaining else response.release_conn()
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            advice = "" if self._is_given else "; pass --metrics-url"
            raise ConnectError(f"{url}: no metrics there ({type(error).__name__}){advice}") from error
        if response.status != 200:
            raise ServerError(f"{url}: no metrics there", status=response.status)
        if len(content) > _LARGEST:
            raise DecodeError(f"{url}: the metrics have more than {_LARGEST} bytes")
        return parse_metrics(content.decode(errors="replace"), where=url)


def _guess_metrics_url(url: str) -> str | None:
    """Return where Triton's metrics usually are: 8002 beside 8000 (HTTP) and 8001 (gRPC); None for other ports."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.hostname is None or parts.scheme not in ("http", "grpc") or port is None:
        return None
    distance = 2 if parts.scheme == "http" else 1
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"http://{host}:{port + distance}/metrics" if port + distance < 65536 else None
