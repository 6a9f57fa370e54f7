"""Decide from its headers whether a listener on loopback may answer a request. This module does no I/O.

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

__all__ = ["find_origin_error", "find_page_error", "is_host_name"]

#: Headers that only browsers send.
_BROWSER: Final = ("origin", "sec-fetch-site")

#: host or host:port (RFC 9110, section 7.2), where host is a name, an IPv4 address or an IPv6 address in brackets.
_HOST: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")

#: Characters of a header's value that a sentence repeats.
_SHOWN: Final = 100


def find_origin_error(
    headers: Iterable[tuple[str, str]],
    *,
    port: int | None,
    allowed_hosts: Collection[str] = (),
    target: str = "",
    advice: str = "",
) -> str | None:
    """Return why a request is refused, as a sentence; None for one that may be answered.

    Args:
        headers: names and values as they were sent, duplicates included.
        port: the listener's; the header Host must name it with a loopback name. None: Host is not checked, for a
            listener inside a container, which is reached by any name.
        allowed_hosts: further hosts, ``name`` with any port or ``name:port``; a name includes its subdomains,
            as S3 puts the bucket in front of it.
        target: the request's target; one that has a host itself (``http://host/path``) follows the same rule.
        advice: a clause that is added to a sentence about the host, for example the option that allows another one.

    >>> find_origin_error([("Host", "localhost:4566")], port=4566)
    >>> find_origin_error([("Host", "evil.example:4566")], port=4566)
    "the header Host is 'evil.example:4566' (expected 127.0.0.1:4566 or localhost:4566)"
    """
    hosts = []
    for name, value in headers:
        if name.lower() in _BROWSER:
            return f"requests of web pages are refused: this one has the header {name.title()}: {_shorten(value)}"
        if name.lower() == "host":
            hosts.append(value.strip())
    if port is None:
        return None
    if authority := re.match(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)", target):
        hosts.append(authority[1])
    if len(hosts) > 1 and len(set(hosts)) > 1:
        return f"the request names several hosts: {', '.join(_shorten(host) for host in hosts[:3])}"
    for host in hosts:
        if not _is_allowed(host, port, allowed_hosts):
            expected = f"127.0.0.1:{port} or localhost:{port}"
            return f"the header Host is {_shorten(host)} (expected {expected}){f'; {advice}' if advice else ''}"
    return None


def find_page_error(headers: Iterable[tuple[str, str]], *, port: int, method: str, target: str = "") -> str | None:
    """Return why a request to a listener that serves a page is refused, as a sentence; None for one that is answered.

    Answered are requests of the page itself, of programs, and those with which a browser opens the page, also through a
    link on another page: the page's address alone gives nothing, since its data needs the token. Host is checked as in
    `find_origin_error`.

    >>> find_page_error([("Host", "127.0.0.1:80"), ("Sec-Fetch-Site", "same-origin")], port=80, method="GET")
    >>> find_page_error([("Host", "127.0.0.1:80"), ("Origin", "http://evil.example")], port=80, method="POST")
    "requests of other pages are refused: this one has the header Origin: 'http://evil.example'"
    """
    listed = [(name.lower(), value.strip()) for name, value in headers]
    rest = [(name, value) for name, value in listed if name not in _BROWSER]
    if sentence := find_origin_error(rest, port=port, target=target):
        return sentence
    own = {f"http://{value}" for name, value in listed if name == "host"}
    is_opening = (
        method == "GET" and ("sec-fetch-mode", "navigate") in listed and ("sec-fetch-dest", "document") in listed
    )
    for name, value in listed:
        is_own = value in own if name == "origin" else value in ("same-origin", "none")
        if name in _BROWSER and not is_own and not (name == "sec-fetch-site" and is_opening):
            return f"requests of other pages are refused: this one has the header {name.title()}: {_shorten(value)}"
    return None


def is_host_name(text: str) -> bool:
    """Return True if a text can be one of ``allowed_hosts``."""
    match = _HOST.fullmatch(text)
    return match is not None and (match["port"] is None or int(match["port"]) < 2**16)


def _is_allowed(host: str, port: int, allowed_hosts: Collection[str]) -> bool:
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    given = int(match["port"] or 80)
    name = (match["six"] or match["name"]).lower().rstrip(".")
    if _is_loopback(name) and given == port:
        return True
    for allowed in allowed_hosts:
        other = _HOST.fullmatch(allowed)
        if other is None or (other["port"] is not None and int(other["port"]) != given):
            continue
        domain = (other["six"] or other["name"]).lower().rstrip(".")
        if name == domain or name.endswith(f".{domain}"):
            return True
    return False


def _is_loopback(name: str) -> bool:
    """Return True for this machine's own name: localhost and its subdomains (RFC 6761, 6.3), or a loopback address."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _shorten(value: str) -> str:
    """Return a value as an ASCII literal, shortened if it is long."""
    return ascii(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!a}..."
