"""The session: credentials, region and timeouts of calls to AWS; the only module that imports boto3, when one is made.

Requests are repeated as `tritonforge.sagemaker.client.errors` says; errors are those of
`tritonforge.sagemaker.client.errors`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Final

from tritonforge.errors import EncodeError, MissingExtraError
from tritonforge.sagemaker.client.errors import ATTEMPTS, botocore_retries, map_errors

__all__ = ["CONNECT_TIMEOUT", "FOR_EVER", "READ_TIMEOUT", "Session"]

#: Seconds to wait for a connection.
CONNECT_TIMEOUT: Final = 10.0
#: Seconds to wait for bytes: a model may take 60 s, and AWS asks for a socket timeout of 70 (botocore's service model,
#: InvokeEndpoint).
READ_TIMEOUT: Final = 70.0
#: Seconds that mean "no limit": no call of AWS lasts a day, and None would mean the session's own limit.
FOR_EVER: Final = 86_400.0


class Session:
    """An identity and a region on AWS, and the clients for them; safe for use by several threads.

    ``region_name``, ``profile_name`` and ``endpoint_url`` are boto3's own; what is None, boto3 finds itself (variables
    such as ``AWS_PROFILE`` and ``AWS_ENDPOINT_URL``, ``~/.aws/config``, the instance's role). ``attempts`` counts the
    first one; ``connect_timeout`` and ``read_timeout`` are in seconds. ``sleep`` waits between two looks
    at what AWS does.

    Raises MissingExtraError if boto3 is not installed, EncodeError if the profile does not exist.
    """

    def __init__(
        self,
        *,
        region_name: str | None = None,
        profile_name: str | None = None,
        endpoint_url: str | None = None,
        attempts: int = ATTEMPTS,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise MissingExtraError("boto3", extra="aws") from error
        self.endpoint_url = endpoint_url
        self._attempts, self._connect_timeout, self._read_timeout = attempts, connect_timeout, read_timeout
        self._config = Config
        self._sleep = sleep
        self._clients: dict[tuple[str, int, float], Any] = {}
        self._lock = threading.RLock()
        self._account: str | None = None
        with map_errors("boto3", "Session", profile_name or ""):
            self._boto = boto3.session.Session(region_name=region_name, profile_name=profile_name)

    def __repr__(self) -> str:
        """Region and endpoint only, never credentials."""
        return f"Session(region_name={self._boto.region_name!r}, endpoint_url={self.endpoint_url!r})"

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def sleep(self, seconds: float) -> None:
        """Wait between two requests for a status, or before a request is repeated."""
        self._sleep(seconds)

    @property
    def region(self) -> str:
        """The region's name, such as ``eu-west-1``; raises EncodeError if none is configured."""
        name: str | None = self._boto.region_name
        if not name:
            raise EncodeError(
                "no AWS region is configured; name one with --region or set AWS_DEFAULT_REGION, for example "
                "AWS_DEFAULT_REGION=eu-west-1"
            )
        return name

    @property
    def partition(self) -> str:
        """The first word of the region's ARNs: ``aws``, ``aws-cn``, ``aws-us-gov``."""
        with map_errors("boto3", "GetPartitionForRegion", self.region):
            return str(self._boto.get_partition_for_region(self.region))

    def get_account(self) -> str:
        """Return the twelve digits of the caller's account; STS is called once."""
        if self._account is None:
            self._account = str(self.call("sts", "GetCallerIdentity")["Account"])
        return self._account

    def client(self, service: str, *, attempts: int | None = None, read_timeout: float | None = None) -> Any:
        """Return the boto3 client of a service, created once for each ``attempts`` and ``read_timeout`` (seconds).

        Without them the session's own apply. Calls on the client raise botocore's errors: make them through `call` and
        `paginate`, or within `map_errors`.
        """
        tries = self._attempts if attempts is None else attempts
        timeout = self._read_timeout if read_timeout is None else read_timeout
        with self._lock:
            client = self._clients.get((service, tries, timeout))
            if client is None:
                with map_errors(service, "client", ""), _map_endpoint_url_errors():
                    client = self._boto.client(
                        service,
                        region_name=self.region,
                        endpoint_url=self.endpoint_url,
                        config=self._config(
                            connect_timeout=self._connect_timeout,
                            read_timeout=timeout,
                            retries=botocore_retries(tries),
                            max_pool_connections=32,
                        ),
                    )
                self._clients[service, tries, timeout] = client
            return client

    def call(self, service: str, operation: str, /, *, resource: str = "", **request: Any) -> dict[str, Any]:
        """Call an operation by AWS's name, such as ``DescribeEndpoint``, with AWS's members, and return the response.

        ``resource`` is its name in errors; without one it is the first member of the request that is a name. Raises as
        `tritonforge.sagemaker.client.errors.map_errors`.
        """
        client = self.client(service)
        with map_errors(service, operation, resource or _find_name(request)):
            answer: dict[str, Any] = getattr(client, _name_method(operation))(**request)
        return answer

    def paginate(
        self, service: str, operation: str, /, *, resource: str = "", **request: Any
    ) -> Iterator[dict[str, Any]]:
        """Yield the responses of an operation that has pages; raises as `call`."""
        client = self.client(service)
        with map_errors(service, operation, resource or _find_name(request)):
            yield from client.get_paginator(_name_method(operation)).paginate(**request)

    def map_errors(self, service: str, operation: str, resource: str = "") -> AbstractContextManager[None]:
        """Return a context that raises botocore's errors as this project's, for calls on a `client`."""
        return map_errors(service, operation, resource)

    def close(self) -> None:
        """Close the connections of all clients."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


@contextmanager
def _map_endpoint_url_errors() -> Iterator[None]:
    """Raise botocore's ValueError about an endpoint URL as EncodeError."""
    try:
        yield
    except ValueError as error:
        if "endpoint" not in str(error).lower():
            raise
        raise EncodeError(f"{error}; write the endpoint URL as http://host:port or https://host") from error


def _name_method(operation: str) -> str:
    """Return the name of an operation's method by boto3's own rule."""
    from botocore import xform_name

    name: str = xform_name(operation)
    return name


def _find_name(request: Mapping[str, Any]) -> str:
    """Return the name, address or id in a request."""
    for member, value in request.items():
        if isinstance(value, str) and member.endswith(("Name", "Bucket", "Arn", "ResourceId", "Id")):
            return value
    return ""
