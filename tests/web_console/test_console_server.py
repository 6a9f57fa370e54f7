"""The edge of the console: what is answered to whom. The repository behind it is a stand-in."""

import http.client
import json

import pytest

from tritonforge.errors import CaseError
from tritonforge.web_console.console_server import ConsoleServer

SECRET = "the digits of a customer"


class StandIn:
    """A repository whose only content is a secret."""

    def describe(self):
        """Return the secret."""
        return {"secret": SECRET}

    def describe_graph(self, model):
        """Refuse every model."""
        raise CaseError(f"model {model!r}: not found")

    def send_file(self, model, name, content):
        """Return what was received."""
        return {"model": model, "name": name, "size": len(content)}

    def read_picture(self, model, number):
        """Return an image, and for 0 what browsers would run."""
        return b"\x89PNG\r\n\x1a\n" if number else b"<svg onload=alert(1)>"

    def close(self):
        """Do nothing."""


@pytest.fixture(scope="module")
def console():
    with ConsoleServer(StandIn()) as server:
        yield server


def ask(console, path="/api/repository", method="GET", body=None, **headers):
    """The status, headers and body of a response; names of headers have underscores here."""
    given = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
    given.setdefault("Authorization", f"Bearer {console.url.partition('#token=')[2]}")
    connection = http.client.HTTPConnection("127.0.0.1", console.port, timeout=10)
    try:
        connection.request(method, path, body=body, headers=given)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def own(console):
    return f"http://127.0.0.1:{console.port}"


def test_the_page_and_its_data_are_answered_to_the_page_itself(console) -> None:
    for extra in ({}, {"Sec_Fetch_Site": "same-origin"}, {"Origin": own(console), "Sec_Fetch_Site": "same-origin"}):
        status, _, body = ask(console, **extra)
        assert (status, json.loads(body)) == (200, {"secret": SECRET})
    status, headers, body = ask(console, "/", Authorization="", Sec_Fetch_Site="none")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert SECRET.encode() not in body


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1:1"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8888", "Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}, 403),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer \xff"}, 401),
    ],
)
def test_requests_of_others_are_refused_without_the_data(console, headers, status) -> None:
    given, _, body = ask(console, **headers)
    assert given == status
    assert SECRET.encode() not in body


def test_a_link_on_another_page_opens_the_page_and_not_the_data(console) -> None:
    opening = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert ask(console, "/", Authorization="", **opening)[0] == 200
    assert ask(console, Authorization="", **opening)[0] == 401
    assert ask(console, "/api/requests?model=m", "POST", b"x", **opening)[0] == 403


def test_the_policy_allows_scripts_and_styles_of_the_console_only(console) -> None:
    for path in ("/", "/main.js", "/console.css", "/api/repository", "/missing"):
        _, headers, _ = ask(console, path)
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_the_page_has_no_inline_script_style_or_address_of_another_host(console) -> None:
    for path in ("/", "/main.js", "/console.css", "/graph.css", "/icon.svg"):
        _, headers, body = ask(console, path)
        text = body.decode().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "://" not in text, path
        assert " style=" not in text
        assert " onclick=" not in text
    assert headers["content-type"] == "image/svg+xml"
    assert ask(console, "/main.js")[1]["content-type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("path", ["/../console_server.py", "/%2e%2e/console_server.py", "/static/main.js", "/main.py"])
def test_other_files_are_not_reached(console, path) -> None:
    assert ask(console, path)[0] == 404


def test_errors_are_sentences(console) -> None:
    status, _, body = ask(console, "/api/graph?model=%3Cb%3E")
    assert (status, json.loads(body)) == (422, {"error": "model '<b>': not found"})
    assert ask(console, "/api/repository", "POST", b"x")[0] == 405
    assert ask(console, "/api/pictures?model=m&sample=-1")[0] == 400


def test_a_file_is_received_with_its_name(console) -> None:
    _, _, body = ask(console, "/api/requests?model=m", "POST", b"12345", X_File_Name="%C3%A9.jpg")
    assert json.loads(body) == {"model": "m", "name": "é.jpg", "size": 5}


def test_a_picture_that_is_no_image_has_no_type_that_a_browser_runs(console) -> None:
    assert ask(console, "/api/pictures?model=m&sample=1")[1]["content-type"] == "image/png"
    assert ask(console, "/api/pictures?model=m&sample=0")[1]["content-type"] == "application/octet-stream"
