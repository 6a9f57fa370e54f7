"""The contract of the container with the code of a package: what handlers get, and what becomes of what they give."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.tfs_packages import PASSING, Start, Write, read_answer
from tritonforge.errors import LaunchError, MissingExtraError
from tritonforge.serving.tfs.handlers import load_handler
from tritonforge.serving.tfs.server import TfsServer

pytestmark = pytest.mark.process

TELLING = """
import json

def handler(data, context):
    found = context._asdict()
    found["channel"] = context.channel is not None
    found["fields"] = list(context._fields)
    found["body"] = data.read().decode()
    return json.dumps(found), "application/json"
"""

#: A handler for each content type.
HANDLERS = """
import json, os, sys

import falcon

import beside, inside

def none(data):
    return None

def dictionary(data):
    return {}, "a/b"

def three(data):
    return "a", "b", "c"

def refused(data):
    raise ValueError("Error: 415, Unsupported content type")

def unsupported(data):
    raise falcon.HTTPUnsupportedMediaType(description="send JPEG")

def fine(data):
    return "fine", "text/plain"

def stream(data):
    first = data.readline()
    two = data.read(2)
    rest = list(data)
    return json.dumps([first.decode(), two.decode(), [each.decode() for each in rest], data.read().decode(),
                       hasattr(data, "seek"), hasattr(data, "tell")]), None

def modules(data):
    return json.dumps([beside.NAME, inside.NAME, os.getpid(), __name__ in sys.modules, sys.path[:3],
                       os.environ["TFS_DEFAULT_MODEL_NAME"], os.environ.get("GREETING")]), None

def handler(data, context):
    return globals()[context.request_content_type.removeprefix("case/")](data)
"""

PAIR = """
import json

def input_handler(data, context):
    return "<" + data.read().decode() + ">"

def output_handler(response, context):
    return json.dumps([response.status_code, response.json()["body"]]), "x/y"
"""


@pytest.fixture(scope="module")
def telling(start_once: Start) -> TfsServer:
    """A package that answers with what its handler gets."""
    return start_once({"inference.py": TELLING}, {"SAGEMAKER_TFS_WAIT_TIME_SECONDS": "33"})


@pytest.fixture(scope="module")
def handlers(start_once: Start) -> TfsServer:
    """A package with a handler for each content type."""
    code = {"inference.py": HANDLERS, "beside.py": "NAME = 'code'", "lib/inside.py": "NAME = 'lib'"}
    return start_once(code, {"GREETING": "hello"})


@pytest.fixture(scope="module")
def pair(start_once: Start) -> TfsServer:
    """A package with input_handler and output_handler."""
    return start_once({"inference.py": PAIR})


@pytest.fixture(scope="module")
def without_code(start_once: Start) -> TfsServer:
    """A package with a model alone."""
    return start_once()


def test_a_handler_gets_the_fields_of_the_container(telling: TfsServer) -> None:
    """The Context has the container's fields in its order, defaults where the request says nothing, and the stream."""
    found = read_answer(telling.request("POST", "/invocations", b"abc"))
    assert found.pop("fields") == [
        "model_name", "model_version", "method", "rest_uri", "grpc_port", "channel", "custom_attributes",
        "request_content_type", "accept_header", "content_length", "timeout",
    ]  # fmt: skip
    address = found.pop("rest_uri")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1/models/toy:predict", address)
    assert found.pop("grpc_port").isdigit()
    assert found == {
        "model_name": None,
        "model_version": None,
        "method": None,
        "channel": True,
        "custom_attributes": None,
        "request_content_type": "application/json",
        "accept_header": "application/json",
        "content_length": 3,
        "timeout": 33,
        "body": "abc",
    }


def test_custom_attributes_choose_model_version_and_method(telling: TfsServer) -> None:
    """``tfs-...`` attributes are in the handler's context and in the address; others stay in the header."""
    header = "tfs-model-name=other,c000=1,tfs-model-version=7,tfs-method=classify"
    headers = {"X-Amzn-SageMaker-Custom-Attributes": header, "Content-Type": "a/b", "Accept": "c/d"}
    found = read_answer(telling.invoke(b"", headers))
    assert found["rest_uri"].endswith("/v1/models/other/versions/7:classify")
    assert (found["model_name"], found["model_version"], found["method"]) == ("other", "7", "classify")
    assert found["custom_attributes"] == header
    assert (found["request_content_type"], found["accept_header"], found["content_length"]) == ("a/b", "c/d", 0)


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ("tfs-model-name=../x", "invalid tfs-model-name"),
        ("tfs-model-name=a/versions/1:predict?", "invalid tfs-model-name"),
        ("tfs-model-version=one", "invalid tfs-model-version: must be a positive integer"),
        ("tfs-method=delete", "invalid tfs-method: must be one of predict|classify|regress"),
    ],
)
def test_attributes_that_are_none_are_answered_with_400(telling: TfsServer, attributes: str, sentence: str) -> None:
    """An attribute that would lead elsewhere on the model server never reaches a handler."""
    answer = telling.invoke(b"", {"X-Amzn-SageMaker-Custom-Attributes": attributes})
    assert (answer.status, json.loads(answer.body)) == (400, {"error": sentence})


def test_the_pair_of_handlers_runs_before_and_after_tensorflow_serving(pair: TfsServer) -> None:
    """What input_handler gives is posted, what output_handler makes of the reply is answered."""
    answer = pair.invoke(b"abc")
    assert json.loads(answer.body) == [200, "<abc>"]
    assert answer.headers["content-type"] == "x/y"


def test_handler_wins_over_the_pair(start: Start) -> None:
    """Where both are defined, the pair is not called."""
    server = start({"inference.py": PASSING + "\ndef handler(data, context):\n    return 'one', 'text/plain'\n"})
    assert server.invoke(b"x").body == b"one"


def test_a_refusal_of_tensorflow_serving_never_reaches_output_handler(pair: TfsServer) -> None:
    """In the 2.20 container a status other than 200 is raised with that status, and TensorFlow Serving's text.

    An output_handler that got the reply would find no ``body`` in it, which becomes 500.
    """
    answer = pair.invoke(b"fail", {"Content-Type": "application/json"})
    assert answer.status == 400
    body = json.loads(answer.body)
    assert body["title"] == "400 Bad Request"
    assert json.loads(body["description"]) == {"error": "no such thing"}


def test_an_exception_of_a_handler_is_answered_with_500_and_its_text(handlers: TfsServer) -> None:
    """Whatever is raised becomes 500, also a ValueError that speaks of 415, and the next request is answered."""
    answer = handlers.invoke(b"", {"Content-Type": "case/refused"})
    assert (answer.status, json.loads(answer.body)) == (500, {"error": "Error: 415, Unsupported content type"})
    assert handlers.invoke(b"", {"Content-Type": "case/fine"}).body == b"fine"
    assert "ValueError: Error: 415" in handlers.log_tail()


def test_a_http_error_of_falcon_keeps_its_status(handlers: TfsServer) -> None:
    """The one way for a handler to answer with a status of its own."""
    answer = handlers.invoke(b"", {"Content-Type": "case/unsupported"})
    assert answer.status == 415
    assert json.loads(answer.body) == {"title": "415 Unsupported Media Type", "description": "send JPEG"}


@pytest.mark.parametrize(
    ("case", "message"),
    [("none", "cannot unpack"), ("dictionary", "gave a dict"), ("three", "too many values")],
)
def test_an_invalid_answer_is_one_sentence(handlers: TfsServer, case: str, message: str) -> None:
    """A handler that gives no pair of body and content type is answered with 500 and why."""
    answer = handlers.invoke(b"", {"Content-Type": f"case/{case}"})
    assert answer.status == 500
    assert message in json.loads(answer.body)["error"]


def test_the_stream_can_be_read_and_nothing_else(handlers: TfsServer) -> None:
    """As gunicorn's, it has lines and no positions: code that seeks fails here as it would there."""
    answer = handlers.invoke(b"a\nbcd\ne", {"Content-Type": "case/stream"})
    assert json.loads(answer.body) == ["a\n", "bc", ["d\n", "e"], "", False, False]


def test_the_code_has_its_own_modules_first_and_its_own_process(handlers: TfsServer) -> None:
    """code/ and code/lib are on Python's path; the module is not in sys.modules, as in the container."""
    answer = handlers.invoke(b"", {"Content-Type": "case/modules"})
    beside, inside, pid, registered, path, default, greeting = json.loads(answer.body)
    assert (beside, inside, registered, default, greeting) == ("code", "lib", False, "toy", "hello")
    names = [Path(entry).name for entry in path]  # Python 3.10 puts the working directory, an empty one, before them
    assert names.index("code") + 1 == names.index("lib")
    assert not list(handlers.folder.rglob("__pycache__"))  # the package is left as it is
    assert pid not in (handlers.pid, None)


def test_a_body_in_chunks_is_taken_and_has_no_length(telling: TfsServer) -> None:
    """SageMaker sends chunks where MaxPayloadInMB is 0."""
    import urllib3

    with urllib3.PoolManager() as pool:
        pieces = iter([b"ab", b"", b"c" * 70000])
        answer = pool.request("POST", f"{telling.url}/invocations", body=pieces, chunked=True)
    found = json.loads(answer.data)
    assert found["body"] == "ab" + "c" * 70000
    assert found["content_length"] is None


def test_other_paths_and_methods(pair: TfsServer) -> None:
    """/ping answers 200 with an empty body, /execution-parameters 404: batch transform takes its defaults."""
    ping = pair.ping()
    assert (ping.status, ping.body) == (200, b"")
    missing = pair.request("GET", "/execution-parameters")
    assert (missing.status, json.loads(missing.body)) == (404, {"error": "Not Found"})
    assert pair.request("PUT", "/invocations").status == 405


WITHOUT_CODE: list[tuple[str, bytes, str]] = [
    ("application/json", b'{"instances": [1]}', '{"instances": [1]}'),
    ("application/json", b"[1, 2]", '{"instances":[[1, 2]]}'),
    ("application/jsonlines", b'{"a": 1}\n{"a": 2}\n', '{"instances":[{"a": 1},{"a": 2}]}'),
    ("text/csv", b'1,2\n3,"x,y"\n', '{"instances":[[1,2],[3,"x,y"]]}'),
]


@pytest.mark.parametrize(("content_type", "body", "sent"), WITHOUT_CODE)
def test_a_package_without_code_converts(without_code: TfsServer, content_type: str, body: bytes, sent: str) -> None:
    """JSON, JSON lines and CSV become a request of TensorFlow Serving's; the answer is one line where JSON is asked."""
    answer = without_code.invoke(body, {"Content-Type": content_type, "Accept": "application/json"})
    assert read_answer(answer)["body"] == sent
    assert b"\n" not in answer.body
    assert b"\n" in without_code.invoke(body, {"Content-Type": content_type, "Accept": "*/*"}).body


def test_a_package_without_code_refuses_other_types_and_passes_refusals_on(without_code: TfsServer) -> None:
    """415 names the type; what TensorFlow Serving refuses keeps its status and text."""
    answer = without_code.invoke(b"x", {"Content-Type": "image/jpeg"})
    assert (answer.status, json.loads(answer.body)) == (415, {"error": "Unsupported Media Type: image/jpeg"})
    assert without_code.request("POST", "/invocations", b"x").status == 415
    refused = without_code.invoke(b"[fail]", {"Content-Type": "application/json"})
    assert (refused.status, json.loads(refused.body)) == (400, {"error": "no such thing"})
    invalid = without_code.invoke(
        b"[]", {"Content-Type": "text/csv", "X-Amzn-SageMaker-Custom-Attributes": "tfs-method=x"}
    )
    assert invalid.status == 400
    assert without_code.ping().status == 200


def test_code_without_handlers_posts_the_body_as_it_is(start: Start) -> None:
    """With requirements.txt or lib, but no inference.py, the Python service's own handler converts nothing."""
    server = start({"requirements.txt": "# nothing\n"})
    assert read_answer(server.invoke(b"1,2", {"Content-Type": "text/csv"}))["body"] == "1,2"
    answer = server.invoke(b"x", {"Content-Type": "image/jpeg"})
    assert (answer.status, json.loads(answer.body)) == (415, {"error": "Unsupported Media Type: image/jpeg"})
    assert server.invoke(b"fail", {"Content-Type": "text/csv"}).status == 400


NOT_IMPORTED: list[tuple[str, str]] = [
    ("import falcon\nx =", r"inference\.py:2: it cannot be imported: SyntaxError: invalid syntax"),
    ("\n\n1 / 0\n", r"inference\.py:3: it cannot be imported: ZeroDivisionError: division by zero"),
    ("import sys\nsys.exit(3)", r"inference\.py:2: it cannot be imported: SystemExit: 3"),
    (
        "import nowhere_at_all",
        r"No module named 'nowhere_at_all'; put it into .*code/lib, or name it in .*code/requirements\.txt",
    ),
    (
        "import tensorflow_serving.apis",
        r"the container has it, here run: pip install tensorflow-serving-api",
    ),
    ("def input_handler(data, context): ...", r"Handlers are not implemented correctly in user script"),
]


@pytest.mark.parametrize(("code", "sentence"), NOT_IMPORTED)
def test_handlers_that_cannot_be_imported_are_one_sentence(tmp_path: Path, code: str, sentence: str) -> None:
    """It has the place and what to do."""
    inference = tmp_path / "code" / "inference.py"
    inference.parent.mkdir()
    inference.write_text(code)
    with pytest.raises(LaunchError, match=sentence):
        load_handler(inference)


NOT_STARTED: list[tuple[str, str]] = [
    ("import sys\nsys.exit(3)", r"inference\.py:2: it cannot be imported: SystemExit: 3"),
    (
        "import tritonforge",
        r"No module named 'tritonforge'; put it into .*code/lib, or name it in .*code/requirements\.txt",
    ),
    ("import PIL", r"No module named 'PIL'; put it into .*code/lib"),
]


@pytest.mark.parametrize(("code", "sentence"), NOT_STARTED)
def test_handlers_that_cannot_be_imported_stop_the_start(start: Start, code: str, sentence: str) -> None:
    """That sentence ends the start, as the container would end; modules that only this machine has are not there."""
    with pytest.raises(LaunchError, match=sentence):
        start({"inference.py": code})


def test_missing_packages_of_the_service_are_named(
    package: Write, model_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python service consists of falcon and requests; a package without code needs neither."""
    import importlib.util

    real = importlib.util.find_spec

    def without(name: str, *arguments: Any) -> Any:
        return None if name == "falcon" else real(name, *arguments)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(MissingExtraError, match=r"falcon is not installed; run: pip install .*\[local\]'"):
        TfsServer(package({"inference.py": PASSING}), program=model_server)
