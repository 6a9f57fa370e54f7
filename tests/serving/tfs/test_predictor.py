"""The predictor that replaces TensorFlow Serving, over HTTP, with real SavedModels."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3

from tritonforge.errors import LaunchError
from tritonforge.serving.tfs.server import TfsServer

pytestmark = pytest.mark.framework

#: Gives the address of TensorFlow Serving's REST API, which only handlers see.
CODE = "def handler(data, context):\n    return context.rest_uri.rsplit('/v1/', 1)[0], None\n"

DEFAULT = {"SAGEMAKER_TFS_DEFAULT_MODEL_NAME": "factor"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with the models of make_models.py, and ``lost``, a damaged one."""
    folder = tmp_path_factory.mktemp("models")
    program = Path(__file__).with_name("make_models.py")
    subprocess.run([sys.executable, str(program), str(folder)], check=True, capture_output=True)
    shutil.copytree(folder / "factor" / "2", folder / "lost" / "1")
    (folder / "lost" / "1" / "variables" / "variables.index").unlink()
    (folder / "code").mkdir()
    (folder / "code" / "inference.py").write_text(CODE)
    return folder


class Rest:
    """The REST API behind a running package."""

    def __init__(self, server: TfsServer) -> None:
        self.server = server
        self.url = server.invoke(b"").body.decode()
        self.pool = urllib3.PoolManager(maxsize=64)

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a GET."""
        answer = self.pool.request("GET", self.url + path)
        return answer.status, json.loads(answer.data)

    def post(self, path: str, request: Any) -> tuple[int, Any]:
        """Status and JSON of a POST of JSON."""
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        answer = self.pool.request("POST", f"{self.url}/v1/models/{path}", body=body)
        return answer.status, json.loads(answer.data)


@pytest.fixture(scope="module")
def rest(models: Path) -> Iterator[Rest]:
    """The API without batching."""
    with TfsServer(models, environment=DEFAULT) as server:
        assert server.predictor.startswith("TensorFlow 2.")
        assert server.predictor.endswith("(tensorflow_model_server is not installed)")
        yield Rest(server)


@pytest.fixture(scope="module")
def batching(models: Path) -> Iterator[Rest]:
    """The API with batches of up to four, and a short queue."""
    environment = {
        **DEFAULT,
        "SAGEMAKER_TFS_ENABLE_BATCHING": "true",
        "SAGEMAKER_TFS_MAX_BATCH_SIZE": "4",
        "SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS": "200000",
        "SAGEMAKER_TFS_NUM_BATCH_THREADS": "2",
        "SAGEMAKER_TFS_MAX_ENQUEUED_BATCHES": "6",
    }
    with TfsServer(models, environment=environment) as server:
        yield Rest(server)


def test_rows_and_columns_are_predicted(rest: Rest) -> None:
    """The latest version answers, in the format of the request."""
    assert rest.post("factor:predict", {"instances": [[1, 2], [3, 4]]}) == (200, {"predictions": [[10, 20], [30, 40]]})
    assert rest.post("factor:predict", {"inputs": [[1, 2]]}) == (200, {"outputs": [[10.0, 20.0]]})
    assert rest.post("factor:predict", {"inputs": {"x": [[1, 2]]}}) == (200, {"outputs": [[10.0, 20.0]]})


def test_a_version_is_chosen_by_its_number(rest: Rest) -> None:
    """Leading zeros of a folder are ignored."""
    assert rest.post("factor/versions/2:predict", {"instances": [[1, 2]]}) == (200, {"predictions": [[2.0, 4.0]]})
    assert rest.post("factor/versions/10:predict", {"instances": [[1, 2]]}) == (200, {"predictions": [[10.0, 20.0]]})
    refused = {"error": "Servable not found for request: Specific(factor, 3)"}
    assert rest.post("factor/versions/3:predict", {"instances": [[1, 2]]}) == (404, refused)
    assert rest.post("none:predict", {"instances": [1]}) == (
        404,
        {"error": "Servable not found for request: Latest(none)"},
    )


def test_several_inputs_and_outputs_of_every_kind(rest: Rest) -> None:
    """Objects by name; bytes are base64 where the output's name says so."""
    instances = [
        {"word": {"b64": base64.b64encode(b"caf\xc3\xa9").decode()}, "numbers": [1, 2], "flag": True},
        {"word": "x", "numbers": [3, 4], "flag": False},
    ]
    status, answer = rest.post("several:predict", {"instances": instances})
    assert status == 200
    first, second = answer["predictions"]
    assert first == {
        "flag": False,
        "half": [1 / 3, 2 / 3],
        "raw_bytes": {"b64": "Y2Fmw6k="},
        "size": 2,
        "sum": 3,
        "upper": "CAFé",
    }
    assert (second["upper"], second["sum"], second["flag"]) == ("X", 7, True)


def test_a_signature_is_chosen_by_name(rest: Rest) -> None:
    """``signature_name`` says which; an unknown one is refused."""
    status, answer = rest.post("several:predict", {"signature_name": "picky", "instances": [1.0]})
    assert (status, answer) == (200, {"predictions": [0.0]})
    sentence = 'Serving signature name: "x" not found in signature def'
    assert rest.post("several:predict", {"signature_name": "x", "instances": [1]}) == (400, {"error": sentence})


def test_what_the_model_refuses_is_answered_with_its_reason(rest: Rest) -> None:
    """The sentence of the operator, with its status; the next request is answered."""
    status, answer = rest.post("several:predict", {"signature_name": "picky", "instances": [-1.0]})
    assert status == 400
    assert "only what is positive is taken" in answer["error"]
    status, answer = rest.post("several:predict", {"signature_name": "shaped", "instances": [[1, 2, 3]]})
    assert (status, "Matrix size-incompatible" in answer["error"]) == (400, True)
    assert "\n" not in answer["error"]
    status, answer = rest.post("several:predict", {"signature_name": "narrow", "instances": [1.0]})
    assert (status, answer) == (400, {"error": "Failed to write JSON value for tensor type: float16"})
    assert rest.post("factor:predict", {"instances": [[1, 2]]})[0] == 200


def test_requests_that_are_none(rest: Rest) -> None:
    """Paths and bodies that the API does not have."""
    assert rest.post("factor:guess", {}) == (400, {"error": "Malformed request: POST /v1/models/factor:guess"})
    assert rest.post("factor:predict", b"")[1] == {"error": "JSON Parse error: The document is empty"}
    assert rest.get("/v1/models") == (400, {"error": "Missing model name in request."})
    assert rest.get("/v1/models/a/b/c")[0] == 400
    assert rest.pool.request("GET", f"{rest.url}/v2").status == 404


def test_status_and_metadata(rest: Rest) -> None:
    """Every version with its state; the signatures as TensorFlow's own protobuf."""
    fine = {"error_code": "OK", "error_message": ""}
    rows = [{"version": number, "state": "AVAILABLE", "status": fine} for number in ("10", "2")]
    assert rest.get("/v1/models/factor") == (200, {"model_version_status": rows})
    assert rest.get("/v1/models/factor/versions/2") == (200, {"model_version_status": rows[1:]})
    sentence = "Could not find version 3 of model factor"
    assert rest.get("/v1/models/factor/versions/3") == (404, {"error": sentence})
    assert rest.get("/v1/models/none") == (404, {"error": "Could not find any versions of model none"})
    status, document = rest.get("/v1/models/factor/metadata")
    assert (status, document["model_spec"]["version"]) == (200, "10")
    default = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert default["inputs"]["x"]["dtype"] == "DT_FLOAT"


def test_classify_and_regress(rest: Rest) -> None:
    """JSON examples become tf.Example messages; a context is part of each."""
    request = {"examples": [{"value": 1.5}, {"value": [-2.0]}]}
    expected = {"results": [[["below", 0.0], ["above", 1.0]], [["below", 1.0], ["above", 0.0]]]}
    assert rest.post("examples:classify", request) == (200, expected)
    shared = {"signature_name": "regress", "context": {"value": 3.0}, "examples": [{}, {"name": "x"}]}
    assert rest.post("examples:regress", shared) == (200, {"results": [1.5, 1.5]})


@pytest.mark.parametrize(
    ("path", "request_", "sentence"),
    [
        ("examples:classify", {}, "When method is classify, key 'examples' is expected and was not found"),
        ("examples:classify", {"examples": []}, "'examples' value is an empty array"),
        ("examples:classify", {"examples": {}}, "Expecting 'examples' value to be an list/array"),
        ("examples:classify", {"examples": [1]}, "Example must be JSON object"),
        ("examples:classify", {"examples": [{"value": None}]}, "Feature: value has element with unexpected JSON type"),
        ("examples:classify", {"examples": [{"value": [1.0, "x"]}]}, "Unexpected element type in feature: value expec"),
        ("examples:classify", {"examples": [{"value": 2**63}]}, "has uint64_t element. Only int64_t is supported."),
        ("examples:classify", {"examples": [{"other": 1.0}]}, "value"),
        ("examples:regress", {"examples": [{"value": 1.0}]}, "No regression outputs found in SignatureDef"),
        ("factor:classify", {"examples": [{"value": 1.0}]}, "No classification inputs found in SignatureDef"),
        ("several:regress", {"examples": [{"value": 1.0}]}, "Expected one input Tensor."),
    ],
)
def test_what_is_no_classify_or_regress_request(rest: Rest, path: str, request_: Any, sentence: str) -> None:
    """One sentence each, with 400."""
    status, answer = rest.post(path, request_)
    assert status == 400
    assert sentence in answer["error"]


def test_a_saved_model_of_tensorflow_1_is_served(rest: Rest, batching: Rest) -> None:
    """Its variable, its table and its signature, with and without batching."""
    expected = {"predictions": [{"name": "six", "total": 6.0}, {"name": "other", "total": 5.0}]}
    for server in (rest, batching):
        assert server.post("old:predict", {"instances": [1, 0]}) == (200, expected)


def sized(rest: Rest, count: int) -> tuple[int, Any]:
    """Requests of several instances; each answer has how many were computed together."""
    instance = {"word": "x", "numbers": [1, 2], "flag": True}
    return rest.post("several:predict", {"instances": [instance] * count})


def test_requests_are_computed_in_batches(rest: Rest, batching: Rest) -> None:
    """Requests that come together are one batch, of the size that the environment allows; without it, never."""
    for api, together in ((rest, {1}), (batching, {4})):
        sizes: set[int] = set()
        for _ in range(10):
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(sized, [api] * 4, [1] * 4))
            assert {status for status, _ in answers} == {200}
            sizes |= {answer["predictions"][0]["size"] for _, answer in answers}
            if sizes >= together:
                break
        assert sizes >= together
        assert max(sizes) <= max(together)


def test_each_request_of_a_batch_gets_its_own_rows(batching: Rest) -> None:
    """Whatever is computed with it, and by the version that was asked."""

    def ask(number: int) -> Any:
        rows = [[number, row] for row in range(number % 3 + 1)]
        factor = (2.0, 10.0)[number % 2]
        return np.array(rows) * factor, batching.post(f"factor/versions/{factor:g}:predict", {"instances": rows})

    with ThreadPoolExecutor(3) as pool:
        for expected, (status, answer) in pool.map(ask, range(60)):
            assert status == 200
            np.testing.assert_array_equal(answer["predictions"], expected)


def test_limits_of_batching_are_tensorflow_servings(batching: Rest) -> None:
    """A request above the size of a batch is refused; so is one for which the queue is full."""
    status, answer = sized(batching, 5)
    assert (status, answer["error"]) == (400, "Task size 5 is larger than maximum input batch size 4")
    # One batch after the other takes a quarter of a second, and six wait: the queue is full for most of the others.
    slow: Mapping[str, Any] = {"signature_name": "slow", "instances": [0.25] * 4}
    ready = threading.Barrier(32, timeout=60)

    def ask(_: int) -> tuple[int, Any]:
        ready.wait()
        return batching.post("several:predict", slow)

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, range(32)))
    assert {status for status, _ in answers} == {200, 503}
    refused = [answer["error"] for status, answer in answers if status == 503]
    assert "The batch scheduling queue to which this task was submitted is full" in refused[0]


def test_a_failing_request_fails_its_batch_and_no_other(batching: Rest) -> None:
    """As in TensorFlow Serving, a batch has one outcome; the next one is computed."""
    picky: Mapping[str, Any] = {"signature_name": "picky", "instances": [-1.0]}
    assert batching.post("several:predict", picky)[0] == 400
    assert batching.post("several:predict", {**picky, "instances": [1.0]}) == (200, {"predictions": [0.0]})


def test_a_damaged_saved_model_is_reported_in_one_sentence(rest: Rest, models: Path, tmp_path: Path) -> None:
    """The default model must load; another one that does not is reported, and the rest is served."""
    assert "NOTE: lost version 1 did not load: " in rest.server.log_tail(1000)
    assert rest.post("factor:predict", {"instances": [[1, 2]]})[0] == 200
    assert rest.post("lost:predict", {"instances": [[1, 2]]})[0] == 404
    shutil.copytree(models / "lost", tmp_path / "lost")
    with pytest.raises(LaunchError, match=r"^lost version 1 did not load: .*"):
        TfsServer(tmp_path, environment={"SAGEMAKER_TFS_DEFAULT_MODEL_NAME": "lost"})
