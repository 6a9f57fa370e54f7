"""`serve`, as a real process: ping, invocations, refusals, and a stop that lets answers end."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.program_folders import program, start_program, until
from tritonforge.errors import EncodeError, LaunchError, RefusalError, ServerError
from tritonforge.serving.listener import Reply, Request
from tritonforge.training.algorithm.program import apply_contract, choose_address

SERVER = """
    import sys, time
    from pathlib import Path

    here = Path(__file__).parent

    def answer(request):
        if request.body == b"slow":
            (here / "asked").touch()
            time.sleep(0.5)
        return Reply(200, request.body.upper(), content_type=request.headers.get("content-type", "none"))

    def load():
        while not (here / "go").exists():
            time.sleep(0.01)
        if (here / "go").read_text():
            raise eval((here / "go").read_text())

    serve(answer, load=load, close=lambda: (here / "closed").touch(), execution_parameters={"MaxPayloadInMB": 6})
"""


@contextmanager
def serving_on(folder: Path, *, go: str | None = "") -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A server under way, its model loaded when the file `go` is there: its port and its process."""
    if go is not None:
        (folder / "go").write_text(go)
    with start_program(program(folder, SERVER), folder, SAGEMAKER_BIND_TO_PORT="0") as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("serving on 127.0.0.1:"), line
            yield int(line.rpartition(":")[2]), process
        finally:
            process.kill()


def asked(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """The answer to one request: status, headers by lower-case name, body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


@pytest.mark.process
def test_it_pings_answers_and_ends_with_0(tmp_path: Path) -> None:
    """Seed 1 step by step: ping, invocations, stop; what else SageMaker may ask is refused in JSON."""
    with serving_on(tmp_path) as (port, process):
        until(lambda: asked(port, "GET", "/ping")[0] == 200)
        status, headers, body = asked(port, "GET", "/ping")
        assert (status, headers["content-length"], body) == (200, "0", b"")
        status, headers, body = asked(port, "POST", "/invocations", b"hello world", **{"Content-Type": "text/plain"})
        assert (status, headers["content-type"], body) == (200, "text/plain", b"HELLO WORLD")
        assert json.loads(asked(port, "GET", "/execution-parameters")[2]) == {"MaxPayloadInMB": 6}
        status, headers, body = asked(port, "GET", "/invocations")
        assert (status, headers["allow"]) == (405, "POST")
        assert json.loads(body) == {"error": "/invocations takes POST, found GET"}
        status, _, body = asked(port, "POST", "/ping", b"x")
        assert (status, json.loads(body)) == (405, {"error": "/ping takes GET, found POST"})
        status, _, body = asked(port, "GET", "/models")
        assert (status, json.loads(body)["error"]) == (
            404,
            "/models not found; the paths are /ping, /invocations, /execution-parameters",
        )
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert (tmp_path / "closed").exists()


@pytest.mark.process
def test_it_listens_at_once_and_is_ready_when_the_model_is_loaded(tmp_path: Path) -> None:
    with serving_on(tmp_path, go=None) as (port, _):
        for method, path in (("GET", "/ping"), ("POST", "/invocations")):
            status, _, body = asked(port, method, path)
            assert (status, json.loads(body)) == (503, {"error": "the model is not loaded yet; retry later"})
        (tmp_path / "go").touch()
        until(lambda: asked(port, "GET", "/ping")[0] == 200)


@pytest.mark.process
@pytest.mark.parametrize(
    ("error", "code", "report"),
    [
        ("InputError('labels.txt is missing')", 2, "labels.txt is missing"),
        ("OSError('no such file')", 1, "cannot load the model: OSError: no such file"),
    ],
)
def test_a_model_that_cannot_be_loaded_ends_it_with_one_sentence(
    tmp_path: Path, error: str, code: int, report: str
) -> None:
    """Exit code and last line say why, so that SageMaker's log does."""
    with serving_on(tmp_path, go=error) as (_, process):
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err.splitlines()[-1] == report


@pytest.mark.process
def test_sigterm_lets_answers_under_way_end(tmp_path: Path) -> None:
    with serving_on(tmp_path) as (port, process):
        until(lambda: asked(port, "GET", "/ping")[0] == 200)
        answers: list[tuple[int, dict[str, str], bytes]] = []
        thread = threading.Thread(target=lambda: answers.append(asked(port, "POST", "/invocations", b"slow")))
        thread.start()
        until((tmp_path / "asked").exists)
        process.send_signal(signal.SIGTERM)
        thread.join(30)
        process.wait(30)
    status, headers, body = answers[0]
    assert (status, headers["connection"], body) == (200, "close", b"SLOW")
    assert process.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


@pytest.mark.process
def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    """Which one, why, and what to do."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with start_program(program(tmp_path, SERVER), tmp_path, SAGEMAKER_BIND_TO_PORT=str(port)) as process:
            _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    place = f"127.0.0.1:{port}"
    assert err == f"{place}: cannot listen: Address already in use; choose another port with SAGEMAKER_BIND_TO_PORT\n"


def raising(error: Exception) -> Reply:
    """The answer to a request at which the algorithm raises this."""

    def answer(_: Request) -> Reply:
        raise error

    return apply_contract(answer)(Request("POST", "/invocations", "", {}, b""))


@pytest.mark.parametrize(
    ("error", "status", "report"),
    [
        (RefusalError("send one image", status=415), 415, "send one image"),
        (RefusalError("send an image"), 400, "send an image"),
        (EncodeError("the image has no pixels"), 400, "the image has no pixels"),
        (ServerError("too many requests", status=503), 503, "too many requests"),
        (LaunchError("tritonserver is gone"), 500, "tritonserver is gone"),
        (ValueError("two\nlines"), 500, "the algorithm failed with ValueError: two lines"),
        (KeyError(), 500, "the algorithm failed with KeyError"),
    ],
)
def test_errors_are_json_with_one_sentence(
    error: Exception, status: int, report: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = raising(error)
    assert (reply.status, json.loads(reply.body), reply.content_type) == (status, {"error": report}, "application/json")
    assert ("Traceback" in capsys.readouterr().err) is ("failed" in report)


def test_it_listens_everywhere_in_a_container_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tritonforge.training.algorithm.program.OPT_ML", tmp_path)
    assert choose_address({}) == ("0.0.0.0", 8080)
    assert choose_address({"SAGEMAKER_BASE_DIR": "/tmp/ml"}) == ("127.0.0.1", 8080)
    monkeypatch.setattr("tritonforge.training.algorithm.program.OPT_ML", tmp_path / "none")
    assert choose_address({"SAGEMAKER_BIND_TO_PORT": "9000"}) == ("127.0.0.1", 9000)
    assert choose_address({"SAGEMAKER_BIND_TO_PORT": "9000"}, host="::1", port=0) == ("::1", 0)
    for wrong in ("http", "70000", "-1", "٣"):
        with pytest.raises(LaunchError, match=f"SAGEMAKER_BIND_TO_PORT is '{wrong}'; write a port from 0 to 65535"):
            choose_address({"SAGEMAKER_BIND_TO_PORT": wrong})
