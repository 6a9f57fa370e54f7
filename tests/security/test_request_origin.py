"""Which requests a loopback listener answers, from their headers alone."""

from __future__ import annotations

import pytest

from tritonforge.request_origin import find_origin_error, is_host_name


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:80",
        "127.0.0.1",
        "127.9.8.7:80",
        "localhost:80",
        "LOCALHOST",
        "localhost.:80",
        "bucket.localhost:80",
        "[::1]:80",
    ],
)
def test_loopback_names_with_the_port_are_answered(host: str) -> None:
    """Every way to write this machine; a port of 80 may be left out, as HTTP has it."""
    assert find_origin_error([("Host", host), ("User-Agent", "Boto3")], port=80) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:4566",
        "localhost",
        "localhost:4567",
        "127.0.0.1.evil.example:4566",
        "localhost.evil.example:4566",
        "notlocalhost:4566",
        "127.1:4566",
        "0.0.0.0:4566",
        "10.0.0.1:4566",
        "[::]:4566",
        "user@localhost:4566",
        "localhost:4566,evil.example",
        "localhost:4566/",
        "localhost:",
        "",
        "x" * 5000,
    ],
)
def test_foreign_hosts_are_refused(host: str) -> None:
    """A name that resolves to this machine by DNS rebinding, another port, and what is not a host."""
    sentence = find_origin_error([("Host", host)], port=4566)
    assert sentence is not None
    assert len(sentence) < 250
    assert "expected 127.0.0.1:4566 or localhost:4566" in sentence


@pytest.mark.parametrize(
    ("header", "value"),
    [("Origin", "http://127.0.0.1:4566"), ("origin", "null"), ("SEC-FETCH-SITE", "cross-site"), ("Sec-Fetch-Site", "")],
)
def test_requests_of_browsers_are_refused(header: str, value: str) -> None:
    """Whatever they say of themselves, and also where the host is not checked."""
    headers = [("Host", "localhost:4566"), (header, value)]
    for port in (4566, None):
        assert "requests of web pages are refused" in str(find_origin_error(headers, port=port))


def test_a_request_names_one_host() -> None:
    """Two headers, or a target with a host of its own: every one must be allowed, and they must agree."""
    assert find_origin_error([("Host", "localhost:80"), ("Host", "evil.example")], port=80)
    assert find_origin_error([("Host", "localhost:80")], port=80, target="http://evil.example/")
    assert find_origin_error([("Host", "localhost:80")], port=80, target="http://localhost:80/") is None
    assert find_origin_error([("Host", "localhost:80")], port=80, target="/http://evil.example/") is None
    assert find_origin_error([], port=80) is None  # HTTP/1.0; browsers send the header


def test_further_hosts_are_allowed_by_name() -> None:
    """With any port where none is given, with what is below it, and with nothing else."""
    allowed = ["emulator", "host.docker.internal:4566", "[fd00::1]"]
    for host in ("emulator:1", "bucket.emulator:4566", "host.docker.internal:4566", "Emulator", "[fd00::1]:7"):
        assert find_origin_error([("Host", host)], port=4566, allowed_hosts=allowed) is None
    for host in ("evilemulator:1", "host.docker.internal:1", "docker.internal:4566"):
        assert find_origin_error([("Host", host)], port=4566, allowed_hosts=allowed, advice="use another")
    assert is_host_name("host.docker.internal:4566")
    assert not any(is_host_name(text) for text in ("", "*", "http://emulator", "a b", "emulator:70000", "emulator:"))


def test_a_sentence_has_no_control_characters() -> None:
    """What a client sends reaches no terminal as it is."""
    for headers in ([("Host", "\x1b]0;x\x07\n::error::")], [("Origin", "\x1b[2J\r\nX: y")]):
        assert str(find_origin_error(headers, port=1)).isprintable()
