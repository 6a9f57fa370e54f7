"""Requests: bodies in every framing, and the WSGI environment."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.emulator.front.http_request import HttpRequest


def build_request(content: bytes, target: str = "/", **headers: str) -> HttpRequest:
    """A request with a body on the wire."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpRequest("PUT", target, named, io.BytesIO(content), 80)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.sampled_from([b"", b";name=value"]))
def test_chunks_put_together_are_the_body(pieces: list[bytes], extension: bytes) -> None:
    """Whatever the pieces; what follows the body is left for the next request."""
    framed = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces)
    stream = io.BytesIO(framed + b"0\r\nTrailer: x\r\n\r\nGET / HTTP/1.1")
    found = HttpRequest("PUT", "/", {"Transfer-Encoding": "chunked"}, stream, 80)
    assert found.body() == b"".join(pieces)
    assert stream.read() == b"GET / HTTP/1.1"
    assert found.length == -1


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"ab", {"Content_Length": "3"}),
        (b"zz\r\nab", {"Transfer_Encoding": "chunked"}),
        (b"5\r\nab", {"Transfer_Encoding": "chunked"}),
    ],
)
def test_a_client_that_goes_away_is_noticed(content: bytes, headers: dict[str, str]) -> None:
    """A body that is cut off is never taken for a whole one."""
    with pytest.raises(ConnectionError, match="the client"):
        build_request(content, **headers).body()


def test_a_body_is_discarded_once() -> None:
    """What the handler did not read is read to its end, and what was asked for is kept."""
    stream = io.BytesIO(b"abcdef")
    request = HttpRequest("PUT", "/", {"Content-Length": "4"}, stream, 80)
    request.discard()
    assert stream.read() == b"ef"
    kept = build_request(b"abcd", Content_Length="4")
    assert kept.body() == b"abcd"
    kept.discard()
    assert kept.body() == b"abcd"


def test_the_wsgi_environment() -> None:
    """The path is decoded and the raw one kept; a header with an underscore passes only where S3 has such headers."""
    request = build_request(b"", "/b/%C3%A9%2Fx?list-type=2", **{"X-Spoofed_Header": "1"})
    environ = request.build_environ()
    assert environ["PATH_INFO"] == "/b/é/x".encode().decode("latin-1")
    assert (environ["RAW_URI"], environ["QUERY_STRING"]) == ("/b/%C3%A9%2Fx?list-type=2", "list-type=2")
    named = HttpRequest("PUT", "/", {"x-amz-meta-my_key": "v", "x_other": "w"}, io.BytesIO(), 80).build_environ()
    assert named["HTTP_X_AMZ_META_MY_KEY"] == "v"
    assert "HTTP_X_OTHER" not in named
    assert named["moto.preserved_header_names"] == {"HTTP_X_AMZ_META_MY_KEY": "x-amz-meta-my_key"}


def test_a_proxys_form_of_the_target_is_understood() -> None:
    """Clients that believe to speak to a proxy send the whole URL."""
    assert build_request(b"", "http://127.0.0.1:80/b/k?x=1").path == "/b/k"
