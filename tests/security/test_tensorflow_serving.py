"""The stand-in for TensorFlow Serving: hostile requests and names get an answer, and reach no text unescaped."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tritonforge.serving.listener import Listener, Reply, Request, open_socket
from tritonforge.serving.tfs import package, predictor
from tritonforge.serving.tfs.predictor import RestApi
from tritonforge.serving.tfs.servable import Servable
from tritonforge.triton.tfs_layout import ServedModel

SIGNATURE = SimpleNamespace(inputs={"x": "float"}, outputs=("y",), run=lambda arrays: {"y": arrays["x"]})
TEXTS = SimpleNamespace(inputs={"inputs": "string"}, outputs=("scores",), run=lambda arrays: {})
TOY = SimpleNamespace(
    name="toy", version=1, error="", code=0, definitions={}, signatures={"serving_default": SIGNATURE, "t": TEXTS}
)
API = RestApi([cast(Servable, TOY)])


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}",
        b'{"instances": [' + b"9" * 5000 + b"]}",
        b'{"instances": ' + b"[" * 100_000,
        b'{"instances": {"a": ' * 900 + b"1",
        b'{"instances": "\\ud800"}',
        b'{"signature_name": "\\ud800", "instances": [1]}',
        b'{"signature_name": "t", "instances": ["\\ud800", 1]}',
        b'{"instances": [{"\\ud800": 1}]}',
        b"\xff\xfe",
        b'{"inputs": ' + b"[" * 500 + b"{}" + b"]" * 500 + b"}",
        b'{"instances": [[[true]], 1]}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_hostile_body_is_refused_in_a_sentence(body: bytes) -> None:
    """With the API's own error, of bounded length, which is JSON."""
    reply = API.answer(Request("POST", "/v1/models/toy:predict", "", {}, body))
    assert reply.status == 400
    assert len(json.loads(reply.body)["error"]) < 2000


@pytest.mark.parametrize("version", ["9" * 5000, str(2**63), "٣"])
def test_a_version_that_is_no_number_of_64_bits_is_refused(version: str) -> None:
    """In the status and in a prediction."""
    for method, path in (
        ("GET", f"/v1/models/toy/versions/{version}"),
        ("POST", f"/v1/models/toy/versions/{version}:predict"),
    ):
        reply = API.answer(Request(method, path, "", {}, b'{"instances": [1]}'))
        assert reply.status == 400


def test_an_answer_that_fails_is_an_error_and_not_a_closed_connection() -> None:
    """And so is a path that is not an address."""

    def answer(request: Request) -> Reply:
        if request.path == "/fails":
            raise KeyError("x")
        return Reply(200, request.path.encode())

    opened = open_socket("127.0.0.1", 0)
    made = Listener(opened, answer)
    thread = threading.Thread(target=made.run)
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", opened.getsockname()[1], timeout=10)

    def asked(path: str) -> tuple[int, bytes]:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read()

    try:
        assert asked("/fails") == (500, b'{"error": "internal error; see the log"}')
        assert asked("/a//[b") == (200, b"/a//[b")
        assert asked("http://localhost/x?y")[0] == 403  # another port
    finally:
        connection.close()
        made.stop(drain=5)
        thread.join(10)


@pytest.mark.parametrize("name", ["a'\n} model_config_list: {", 'q"uo\\te', "é", "\x1b[2J"])
def test_a_folders_name_is_one_string_of_the_configuration(name: str) -> None:
    """Whatever characters it has."""
    model = ServedModel(name=name, folder=name, versions=(1,))
    text = package.build_model_config([model], Path("/p"))
    (found,) = predictor.parse_models(text)
    assert (found.name, found.base_path) == (name, f"/p/{name}")
    assert len(text.splitlines()) == 12


def test_a_channel_is_not_called_like_the_folder_above() -> None:
    """SageMaker's pattern allows it, and a channel's name is a folder's."""
    from tritonforge.training.job import TrainingJob

    request: dict[str, Any] = {
        "TrainingJobName": "j",
        "RoleArn": "arn:aws:iam::123456789012:role/r",
        "AlgorithmSpecification": {"TrainingImage": "i", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://b/o"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        "InputDataConfig": [
            {"ChannelName": "..", "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/i"}}}
        ],
    }
    assert any("cannot be called '..'" in sentence for sentence in TrainingJob.from_request(request).problems())
