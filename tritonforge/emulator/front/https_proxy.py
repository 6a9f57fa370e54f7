"""An HTTPS proxy that answers every AWS host name, with a certificate authority of its own for them.

The root certificate carries X.509 name constraints: clients accept nothing from it but names below AWS's own DNS
suffixes. Private keys are readable by their owner only. One key serves all host names; a certificate is made when a
client first asks for its name.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from email.message import Message
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from tritonforge import request_origin
from tritonforge.emulator.front import http_request, service_errors
from tritonforge.emulator.front.http_request import HttpRequest
from tritonforge.emulator.front.http_server import HttpServer, RequestHandler
from tritonforge.emulator.interfaces import Response
from tritonforge.files import write_file

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["CertificateAuthority", "ProxyServer", "translate_request"]

_ROOT: Final = "ca.pem"
_ROOT_KEY: Final = "ca-key.pem"
_BUNDLE: Final = "ca-bundle.pem"

#: A root certificate is made anew when it has less than this left.
_MIN_REMAINING: Final = dt.timedelta(days=30)
_VALIDITY: Final = dt.timedelta(days=365)

#: Certificates are valid from a day ago, so that a clock that is set back does not invalidate them.
_CLOCK_SKEW: Final = dt.timedelta(days=1)

#: TLS contexts that are kept. S3 has a host name for each bucket, so their number has no natural limit.
_MAX_CONTEXTS: Final = 256


class CertificateAuthority:
    """Issues certificates for AWS host names. Safe for many threads.

    ``certificate`` is the file for AWS_CA_BUNDLE, with which a client trusts nothing else. ``bundle`` is for programs
    that speak to other hosts as well: the public authorities (certifi's), and this one.

    The folder gets mode 0700, files with private keys 0600. A root certificate that is already in the folder is used
    again while it is valid and matches its key.
    """

    def __init__(self, folder: Path) -> None:
        import certifi

        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self._folder = folder
        self.certificate = folder / _ROOT
        self._lock = threading.Lock()
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()
        self._root, self._root_key = _read_root(folder) or _make_root(folder)
        self.bundle = folder / _BUNDLE
        _write_private(self.bundle, Path(certifi.where()).read_bytes() + b"\n" + self.certificate.read_bytes())
        self._leaf_key = _make_key()

    def get_context(self, host: str) -> ssl.SSLContext:
        """Return the server-side TLS context for a host name. Raises ValueError for a name that is not AWS's."""
        host = host.lower().removesuffix(".")
        if not http_request.is_aws_host(host):
            raise ValueError(f"{host!r} is not a host name of AWS")
        with self._lock:
            if host not in self._contexts:
                self._contexts[host] = self._make_context(host)
                if len(self._contexts) > _MAX_CONTEXTS:
                    self._contexts.popitem(last=False)
            self._contexts.move_to_end(host)
            return self._contexts[host]

    def _make_context(self, host: str) -> ssl.SSLContext:
        from cryptography.hazmat.primitives import serialization

        certificate = _sign(
            host, self._leaf_key.public_key(), issuer=self._root, issuer_key=self._root_key, authority=False
        )
        content = certificate.public_bytes(serialization.Encoding.PEM) + _encode_key(self._leaf_key)
        file = self._folder / "leaf.pem"  # ssl reads certificates and keys from files only
        try:
            _write_private(file, content)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            context.load_cert_chain(file)
        finally:
            file.unlink(missing_ok=True)
        return context


def _read_root(folder: Path) -> tuple[x509.Certificate, Any] | None:
    """Read the root certificate and its key from the folder; None where they cannot be used."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        certificate = x509.load_pem_x509_certificate((folder / _ROOT).read_bytes())
        key = serialization.load_pem_private_key((folder / _ROOT_KEY).read_bytes(), password=None)
    except (OSError, ValueError, TypeError):  # missing, cut short, or not ours
        return None
    now = dt.datetime.now(dt.timezone.utc)
    if certificate.public_key() != key.public_key() or certificate.not_valid_before_utc > now:
        return None
    if certificate.not_valid_after_utc - now < _MIN_REMAINING or _list_permitted_names(certificate) != set(
        http_request.list_suffixes()
    ):
        return None
    return certificate, key


def _list_permitted_names(certificate: x509.Certificate) -> set[str]:
    from cryptography import x509

    try:
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in constraints.permitted_subtrees or ()}


def _make_root(folder: Path) -> tuple[x509.Certificate, Any]:
    from cryptography.hazmat.primitives import serialization

    key = _make_key()
    name = f"tritonforge emulator {os.urandom(4).hex()}"
    certificate = _sign(name, key.public_key(), issuer=None, issuer_key=key, authority=True)
    _write_private(folder / _ROOT_KEY, _encode_key(key))
    _write_private(folder / _ROOT, certificate.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _sign(
    name: str, public_key: Any, *, issuer: x509.Certificate | None, issuer_key: Any, authority: bool
) -> x509.Certificate:
    """Sign a certificate, of the authority itself or of a host name. Extensions as RFC 5280 requires them."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    # A common name has at most 64 characters (RFC 5280, ub-common-name); clients read the alternative name.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = dt.datetime.now(dt.timezone.utc)
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign"
    )
    usage = dict.fromkeys([*names.split(), "encipher_only", "decipher_only"], False)
    usage |= {"key_cert_sign": True, "crl_sign": True} if authority else {"digital_signature": True}
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer is not None else subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(issuer.not_valid_after_utc if issuer is not None else now + _VALIDITY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if authority:
        permitted = [x509.DNSName(suffix) for suffix in http_request.list_suffixes()]
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _make_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _encode_key(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    content: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return content


def _write_private(path: Path, content: bytes) -> None:
    write_file(path, content, mode=0o600, sync=False)


#: Seconds for a TLS handshake.
_HANDSHAKE: Final = 30.0

_REFUSED: Final = "tritonforge's proxy accepts AWS host names only"

_HTTPS: Final = 443
_HTTP: Final = 80

#: The credential scope of requests that are not signed, from which service and region are read.
_UNSIGNED: Final = "AWS4-HMAC-SHA256 Credential=unsigned/20260101/{region}/{service}/aws4_request"


class ProxyServer(HttpServer):
    """A running proxy; ``port`` 0 is any free one. Raises OSError where the port is taken."""

    def __init__(
        self,
        port: int,
        answering: Callable[[HttpRequest], Response],
        *,
        authority: CertificateAuthority,
        front_port: int,
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
        if self._tunnel or not http_request.is_aws_host(host) or port != str(_HTTPS):
            self._refuse(self.path)
            return
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.wfile.flush()
        plain = self.connection
        plain.settimeout(_HANDSHAKE)
        try:
            secured = self.server.authority.get_context(host).wrap_socket(plain, server_side=True)
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
        """Close what the tunnel opened: the server itself closes the plain connection only."""
        try:
            super().finish()
        finally:
            self.connection.close()

    def answer(self) -> None:
        """Answer a request inside the tunnel, or one with an absolute address."""
        host = self._tunnel or _parse_host_name(self.path)
        named = _parse_host_name(f"http://{self.headers.get('Host', '')}")
        if not http_request.is_aws_host(host) or (self._tunnel and named != host):
            self._refuse(named if self._tunnel else self.path)
            return
        incoming = translate_request(self.command, self.path, self.headers, self.rfile, host, self.server.front_port)
        sentence = request_origin.find_origin_error(self.headers.items(), port=None)
        if sentence is not None:
            self.refuse(service_errors.build_error(incoming, "denied", sentence))
        else:
            self.respond(incoming)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = answer  # noqa: N815 - http.server's names

    def _refuse(self, address: str) -> None:
        message = f"{_REFUSED}: it does not connect to {address!a}. Add the host to NO_PROXY to reach it directly."
        body = json.dumps({"message": message}).encode()
        # Clients show no more of a refused tunnel than the words behind the status.
        self.refuse(Response(403, [("Content-Type", "application/json")], body), reason=_REFUSED)


def translate_request(
    method: str, target: str, headers: Message | Mapping[str, str], stream: BufferedIOBase, host: str, port: int
) -> HttpRequest:
    """Convert a request to an AWS host name into one to the emulator's own address, S3's buckets in the path.

    A request that is not signed gets the service and the region that its host name says.
    """
    named = http_request.parse_host(host)
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
    return HttpRequest(method, target, {spelled.get(key, key): value for key, value in kept.items()}, stream, port)


def _parse_host_name(address: str) -> str:
    """Parse the host name of an absolute address; "" if it is missing, or the port is not that of the scheme."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme != "http" or port not in (None, _HTTP, _HTTPS):
        return ""
    return (parts.hostname or "").removesuffix(".")
