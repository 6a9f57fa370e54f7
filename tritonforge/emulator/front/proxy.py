"""An HTTPS proxy for AWS host names: requests to any address of AWS are answered by the emulator of this process.

A client that has ``HTTPS_PROXY`` and ``AWS_CA_BUNDLE`` set asks for a tunnel (CONNECT) to an AWS host name; the proxy
ends the TLS connection itself and hands the requests inside to the emulator, as if they had come to its own address.
Nothing is forwarded: a tunnel or a request to another name or port is refused with 403. The proxy listens on loopback
only. A request that does not name its host as a proxy's client does is refused as well, so a web page cannot use it.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from email.message import Message
from io import BufferedIOBase
from typing import Final, cast
from urllib.parse import urlsplit

from tritonforge import request_origin
from tritonforge.emulator.front import hosts, service_errors
from tritonforge.emulator.front.certificates import CertificateAuthority
from tritonforge.emulator.front.http_request import Incoming
from tritonforge.emulator.front.server import FrontServer, RequestHandler
from tritonforge.emulator.requests import Response

__all__ = ["ProxyServer", "to_emulator"]

#: Seconds for a TLS handshake.
_HANDSHAKE: Final = 30.0

_REFUSED: Final = "tritonforge's proxy accepts AWS host names only"

_HTTPS: Final = 443
_HTTP: Final = 80

#: What stands in the scope of requests that are not signed, so that they find their service and region.
_UNSIGNED: Final = "AWS4-HMAC-SHA256 Credential=unsigned/20260101/{region}/{service}/aws4_request"


class ProxyServer(FrontServer):
    """A running proxy; ``port`` 0 is any free one. Raises OSError where the port is taken."""

    def __init__(
        self, port: int, answering: Callable[[Incoming], Response], *, authority: CertificateAuthority, front_port: int
    ) -> None:
        self.authority = authority
        self.front_port = front_port
        super().__init__(port, answering, handler=_ProxyHandler)


class _ProxyHandler(RequestHandler):
    """One connection: a tunnel to one AWS host name, or plain HTTP requests with their absolute addresses."""

    server: ProxyServer
    _tunnel = ""

    def do_CONNECT(self) -> None:  # noqa: N802 - http.server's name
        """Open a tunnel that ends here."""
        host, _, port = self.path.rpartition(":")
        if self._tunnel or not hosts.is_aws_host(host) or port != str(_HTTPS):
            self._refuse(self.path)
            return
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.wfile.flush()
        plain = self.connection
        plain.settimeout(_HANDSHAKE)
        try:
            secured = self.server.authority.context(host).wrap_socket(plain, server_side=True)
        except (OSError, ssl.SSLError):  # the client does not trust the certificate, or went away
            self.close_connection = True
            return
        secured.settimeout(self.timeout)
        self.server.connections.discard(plain)
        self.server.connections.add(secured)
        self.request = self.connection = secured
        self.rfile = cast(BufferedIOBase, secured.makefile("rb", self.rbufsize))
        self.wfile = cast(BufferedIOBase, secured.makefile("wb", self.wbufsize))
        self._tunnel = host.lower().removesuffix(".")
        self.close_connection = False

    def finish(self) -> None:
        """Close what the tunnel opened: the server itself knows the plain connection only."""
        try:
            super().finish()
        finally:
            self.connection.close()

    def answer(self) -> None:
        """Answer a request inside the tunnel, or one with an absolute address."""
        host = self._tunnel or _host_of(self.path)
        named = _host_of(f"http://{self.headers.get('Host', '')}")
        if not hosts.is_aws_host(host) or (self._tunnel and named != host):
            self._refuse(named if self._tunnel else self.path)
            return
        incoming = to_emulator(self.command, self.path, self.headers, self.rfile, host, self.server.front_port)
        sentence = request_origin.refusal(self.headers.items(), port=None)
        if sentence is not None:
            self.refuse(service_errors.response(incoming, "denied", sentence))
        else:
            self.respond(incoming)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = answer  # noqa: N815 - http.server's names

    def _refuse(self, address: str) -> None:
        message = f"{_REFUSED}: it does not connect to {address!a}. Add the host to NO_PROXY to reach it directly."
        body = json.dumps({"message": message}).encode()
        # Clients show no more of a refused tunnel than the words behind the status.
        self.refuse(Response(403, [("Content-Type", "application/json")], body), reason=_REFUSED)


def to_emulator(
    method: str, target: str, headers: Message | Mapping[str, str], stream: BufferedIOBase, host: str, port: int
) -> Incoming:
    """A request to an AWS host name as the emulator gets it: to its own address, S3's buckets in the path.

    A request that is not signed gets the service and the region that its host name says.
    """
    named = hosts.parse_host(host)
    assert named is not None
    if "://" in target[:9]:
        target = "/" + target.partition("://")[2].partition("/")[2]
    if named.bucket:
        target = f"/{named.bucket}{target if target.startswith('/') else '/' + target}"
    kept: dict[str, str] = {"host": f"127.0.0.1:{port}"}
    spelled: dict[str, str] = {"host": "Host"}  # S3's metadata keep their spelling
    for name, value in headers.items():
        key = name.lower()
        if key != "host":
            kept[key] = f"{kept[key]},{value}" if key in kept else str(value)
            spelled.setdefault(key, name)
    if "authorization" not in kept and "X-Amz-Credential=" not in target and named.service not in ("", "s3"):
        kept["authorization"] = _UNSIGNED.format(region=named.region, service=named.service)
    return Incoming(method, target, {spelled.get(key, key): value for key, value in kept.items()}, stream, port)


def _host_of(address: str) -> str:
    """The host name of an absolute address; empty where there is none, or its port is not that of its scheme."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme != "http" or port not in (None, _HTTP, _HTTPS):
        return ""
    return (parts.hostname or "").removesuffix(".")
