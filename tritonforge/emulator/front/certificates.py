"""A certificate authority for AWS host names on this machine, made anew for each emulator or kept in its state folder.

The root certificate carries X.509 name constraints: clients accept nothing from it but names below AWS's own DNS
suffixes. Private keys are readable by their owner only. One key serves all host names; a certificate is made when a
client first asks for its name.
"""

from __future__ import annotations

import datetime as dt
import os
import ssl
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tritonforge.emulator.front import hosts

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["CertificateAuthority"]

_ROOT: Final = "ca.pem"
_ROOT_KEY: Final = "ca-key.pem"
_BUNDLE: Final = "ca-bundle.pem"

#: A root certificate is made anew when it has less than this left.
_LEAST_LEFT: Final = dt.timedelta(days=30)
_VALIDITY: Final = dt.timedelta(days=365)

#: Certificates are valid from a day ago, so that a clock that is set back does not invalidate them.
_CLOCK_SKEW: Final = dt.timedelta(days=1)

#: TLS contexts that are kept. S3 has a host name for each bucket, so their number has no natural limit.
_MOST_CONTEXTS: Final = 256


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
        self._leaf_key = _new_key()

    def context(self, host: str) -> ssl.SSLContext:
        """The server-side TLS context for a host name. Raises ValueError for a name that is not AWS's."""
        host = host.lower().removesuffix(".")
        if not hosts.is_aws_host(host):
            raise ValueError(f"{host!r} is not a host name of AWS")
        with self._lock:
            if host not in self._contexts:
                self._contexts[host] = self._make_context(host)
                if len(self._contexts) > _MOST_CONTEXTS:
                    self._contexts.popitem(last=False)
            self._contexts.move_to_end(host)
            return self._contexts[host]

    def _make_context(self, host: str) -> ssl.SSLContext:
        from cryptography.hazmat.primitives import serialization

        certificate = _sign(
            host, self._leaf_key.public_key(), issuer=self._root, issuer_key=self._root_key, authority=False
        )
        content = certificate.public_bytes(serialization.Encoding.PEM) + _pem_of_key(self._leaf_key)
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
    """The root certificate and its key as they are in the folder; None where they cannot be used."""
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
    if certificate.not_valid_after_utc - now < _LEAST_LEFT or _names(certificate) != set(hosts.suffixes()):
        return None
    return certificate, key


def _names(certificate: x509.Certificate) -> set[str]:
    from cryptography import x509

    try:
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in constraints.permitted_subtrees or ()}


def _make_root(folder: Path) -> tuple[x509.Certificate, Any]:
    from cryptography.hazmat.primitives import serialization

    key = _new_key()
    name = f"tritonforge emulator {os.urandom(4).hex()}"
    certificate = _sign(name, key.public_key(), issuer=None, issuer_key=key, authority=True)
    _write_private(folder / _ROOT_KEY, _pem_of_key(key))
    _write_private(folder / _ROOT, certificate.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _sign(
    name: str, public_key: Any, *, issuer: x509.Certificate | None, issuer_key: Any, authority: bool
) -> x509.Certificate:
    """A certificate: of the authority itself, or of a host name. Extensions as RFC 5280 requires them."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    # A common name has at most 64 characters (RFC 5280, ub-common-name); clients read the alternative name.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = dt.datetime.now(dt.timezone.utc)
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
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
        permitted = [x509.DNSName(suffix) for suffix in hosts.suffixes()]
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _pem_of_key(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    content: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return content


def _write_private(path: Path, content: bytes) -> None:
    """Replace a file by one that only its owner can read, from its first moment on."""
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    unfinished.replace(path)
