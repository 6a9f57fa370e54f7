"""Whether a listener on loopback may answer a request, judged by its headers. This module does no I/O.

A web page in a browser on this machine can send requests to loopback ports, and some of them run code here. Two ways
are open to it: a request to a loopback address, which carries the header ``Origin`` or ``Sec-Fetch-Site`` (the Fetch
standard, section "HTTP extensions"; "Fetch Metadata Request Headers"), and DNS rebinding, where a name that the page's
author owns resolves to a loopback address and the header ``Host`` has that name. Programs send neither.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from typing import Final

__all__ = ["is_host_name", "refusal"]

#: Headers that only browsers send.
_BROWSER: Final = ("origin", "sec-fetch-site")

#: host or host:port (RFC 9110, section 7.2), where host is a name, an IPv4 address or an IPv6 address in brackets.
_HOST: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")

#: Characters of a header's value that a sentence repeats.
_SHOWN: Final = 100


def refusal(
    headers: Iterable[tuple[str, str]],
    *,
    port: int | None,
    allowed_hosts: Collection[str] = (),
    target: str = "",
    advice: str = "",
) -> str | None:
    """Why a request is refused, as a sentence; None for one that may be answered.

    Args:
        headers: names and values as they were sent, duplicates included.
        port: the listener's; the header Host must name it with a loopback name. None: Host is not checked, for a
            listener inside a container, which is reached by names that it does not know.
        allowed_hosts: further hosts, ``name`` with any port or ``name:port``; a name stands for its subdomains too,
            as S3 puts the bucket in front of it.
        target: the request's target; one that has a host itself (``http://host/path``) is held to the same rule.
        advice: a clause that is added to a sentence about the host, for example the option that allows another one.

    >>> refusal([("Host", "localhost:4566")], port=4566)
    >>> refusal([("Host", "evil.example:4566")], port=4566)
    "the header Host is 'evil.example:4566' (expected 127.0.0.1:4566 or localhost:4566)"
    """
    hosts = []
    for name, value in headers:
        if name.lower() in _BROWSER:
            return f"requests of web pages are refused: this one has the header {name.title()}: {_shown(value)}"
        if name.lower() == "host":
            hosts.append(value.strip())
    if port is None:
        return None
    if authority := re.match(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)", target):
        hosts.append(authority[1])
    if len(hosts) > 1 and len(set(hosts)) > 1:
        return f"the request names several hosts: {', '.join(_shown(host) for host in hosts[:3])}"
    for host in hosts:
        if not _is_allowed(host, port, allowed_hosts):
            expected = f"127.0.0.1:{port} or localhost:{port}"
            return f"the header Host is {_shown(host)} (expected {expected}){f'; {advice}' if advice else ''}"
    return None


def is_host_name(text: str) -> bool:
    """Whether a text can be one of ``allowed_hosts``."""
    found = _HOST.fullmatch(text)
    return found is not None and (found["port"] is None or int(found["port"]) < 2**16)


def _is_allowed(host: str, port: int, allowed_hosts: Collection[str]) -> bool:
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    given = int(found["port"] or 80)
    name = (found["six"] or found["name"]).lower().rstrip(".")
    if _is_loopback(name) and given == port:
        return True
    for allowed in allowed_hosts:
        other = _HOST.fullmatch(allowed)
        if other is None or (other["port"] is not None and int(other["port"]) != given):
            continue
        wanted = (other["six"] or other["name"]).lower().rstrip(".")
        if name == wanted or name.endswith(f".{wanted}"):
            return True
    return False


def _is_loopback(name: str) -> bool:
    """Whether a name is this machine's own: localhost and what is below it (RFC 6761, section 6.3), or an address."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _shown(value: str) -> str:
    """A value as an ASCII literal, cut off where it is long."""
    return ascii(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!a}..."
