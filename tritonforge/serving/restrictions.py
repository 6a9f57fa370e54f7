"""Triton's own HTTP APIs that are closed on a laptop, where any web page can send requests to them. No I/O here.

tritonserver checks neither Host nor Origin, and takes a JSON body of any content type, so that a page needs no
preflight. What is restricted asks for a header whose value nobody knows; its name, which the server's refusal repeats,
says what to do. gRPC has all of it: no page can speak HTTP/2 without TLS. Source: tritonserver's option
``--http-restricted-api``; server/src/http_server.cc.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["arguments"]


def arguments(secret: str, *, explicit: bool, allow_client_shm: bool) -> Iterator[str]:
    """The arguments of tritonserver that close them.

    Loading models by request, which can carry the code of a model, is closed where it is on at all (``explicit`` model
    control). Shared memory is, as a page could have tensors written into that of other processes, unless
    ``allow_client_shm``; 26.04 has it off too, and an option of this name. So are trace and log settings.

    >>> list(arguments("x", explicit=False, allow_client_shm=True))
    ['--http-restricted-api=trace,logging:use-grpc-for-trace-and-log-settings=x']
    """
    if explicit:
        yield f"--http-restricted-api=model-repository:use-grpc-to-load-models={secret}"
    if not allow_client_shm:
        yield f"--http-restricted-api=shared-memory:restart-with-allow-client-shm-or-use-grpc={secret}"
    yield f"--http-restricted-api=trace,logging:use-grpc-for-trace-and-log-settings={secret}"
