"""Python models in this process, compared with the same models on the real server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.python_models import ACCUMULATE, IDENTITY, PHOTO, REPEAT, tensors, write_model
from tests.support.throwaway_server import ThrowawayServer
from tritonforge.errors import ArtifactError, EncodeError, ServerError
from tritonforge.inference.client import Client
from tritonforge.testing import python_model

_PHOTO_INPUTS: dict[str, Any] = {"image": np.array([[1, 2, 3], [4, 5, 0]], np.uint8), "note": [["a"], ["b"]]}
_DATATYPES = {"FP32": "FP32", "INT64": "INT64", "STRING": "STRING", "BOOL": "BOOL"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "photo", *PHOTO)
    (folder / "photo" / "labels.txt").write_text("a\nb\nc\n")
    write_model(folder, "repeat", *REPEAT)
    write_model(folder, "accumulate", *ACCUMULATE)
    write_model(folder, "copy", tensors(_DATATYPES, "2"), IDENTITY)
    return folder


@pytest.fixture(scope="module")
def client(models: Path) -> Iterator[Client]:
    with (
        ThrowawayServer(models, sagemaker_port=None, http_port=0, grpc_port=None, metrics_port=None) as server,
        Client(str(server.http_url)) as client,
    ):
        yield client


@pytest.mark.server
def test_answers_and_errors_are_those_of_the_server(models: Path, client: Client) -> None:
    inputs = {
        "in_FP32": np.array([1.5, 2], np.float32),
        "in_INT64": np.array([1, 2]),
        "in_STRING": np.array([b"a\0", b"bc"], object),
        "in_BOOL": np.array([True, False]),
    }
    photo = {**_PHOTO_INPUTS, "note": np.array(_PHOTO_INPUTS["note"], object)}
    for name, sent in (("copy", inputs), ("photo", photo)):
        with python_model(models / name) as model:
            ours, theirs = model.infer(sent), client.infer(sent, model=name).outputs
            assert ours.keys() == theirs.keys()
            for output, array in theirs.items():
                np.testing.assert_array_equal(ours[output], array)
                assert ours[output].dtype == array.dtype
    refused = {"image": np.frombuffer(b"bad", np.uint8)[None]}
    with python_model(models / "photo") as model, pytest.raises(ServerError) as own:
        model.infer(refused)
    with pytest.raises(ServerError) as real:
        client.infer(refused, model="photo")
    assert own.value.message == real.value.message == "this is not an image"
    assert own.value.status == real.value.status == 500


def test_a_decoupled_model_gives_its_responses(models: Path) -> None:
    with python_model(models / "repeat") as model:
        responses = model.infer_stream({"text": ["la"], "count": [3]})
        assert [int(response["index"][0]) for response in responses] == [0, 1, 2]
        with pytest.raises(ServerError, match="broke after 1"):
            model.infer_stream({"text": ["la"], "count": [-1]})


def test_the_state_of_a_sequence_is_the_models(models: Path) -> None:
    with python_model(models / "accumulate") as model:
        sums = [
            model.infer({"x": [[2]], "START": np.array([[start]], np.int32), "CORRID": np.array([[7]], np.uint64)})[
                "sum"
            ]
            for start in (1, 0, 1)
        ]
    assert [float(total[0, 0]) for total in sums] == [2, 4, 2]


_CALLER = (
    'input { name: "x" data_type: TYPE_FP32 dims: [1] } output { name: "y" data_type: TYPE_FP32 dims: [1] }',
    """
import json
from beside import FACTOR
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.dtype = pb_utils.triton_string_to_numpy(pb_utils.get_output_config_by_name(config, "y")["data_type"])

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "x")
        inner = pb_utils.InferenceRequest(
            model_name="double", requested_output_names=["z"], inputs=[pb_utils.Tensor("x", x.as_numpy())]
        ).exec()
        if inner.has_error():
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(inner.error().message(), inner.error().code()))
        z = pb_utils.get_output_tensor_by_name(inner, "z").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", (z * FACTOR).astype(self.dtype))])
""",
)


def test_requests_to_other_models_are_answered_by_functions(tmp_path: Path) -> None:
    write_model(tmp_path, "caller", *_CALLER)
    (tmp_path / "caller" / "1" / "beside.py").write_text("FACTOR = 10\n")
    with python_model(tmp_path / "caller", models={"double": lambda inputs: {"z": inputs["x"] * 2}}) as model:
        assert model.infer({"x": [3]})["y"].tolist() == [60]
    with (
        python_model(tmp_path / "caller") as model,
        pytest.raises(ServerError, match="Model 'double' is not ready") as caught,
    ):
        model.infer({"x": [3]})
    assert caught.value.status == 404
    assert "triton_python_backend_utils" not in sys.modules
    assert not list(tmp_path.rglob("__pycache__"))


def test_two_models_may_have_files_of_the_same_name(tmp_path: Path) -> None:
    config, code = _CALLER[0], _CALLER[1].replace("FACTOR)", "__import__('beside').FACTOR)")
    for name, factor in (("ten", 10), ("two", 2)):
        write_model(tmp_path, name, config, code)
        (tmp_path / name / "1" / "beside.py").write_text(f"FACTOR = {factor}\n")
    models = {"double": lambda inputs: {"z": inputs["x"] * 2}}
    with python_model(tmp_path / "ten", models=models) as ten, python_model(tmp_path / "two", models=models) as two:
        assert ten.infer({"x": [3]})["y"].tolist() == [60]
        assert two.infer({"x": [3]})["y"].tolist() == [12]
        assert ten.infer({"x": [3]})["y"].tolist() == [60]
    assert "beside" not in sys.modules


def test_what_the_configuration_refuses_is_a_sentence(models: Path, tmp_path: Path) -> None:
    with python_model(models / "photo") as model:
        with pytest.raises(EncodeError, match="photo has no such input"):
            model.infer({"picture": [1]})
        with pytest.raises(EncodeError, match="expected an array of uint8, got one of float64"):
            model.infer({"image": np.zeros((1, 3))})
    write_model(
        tmp_path,
        "copy",
        tensors({"FP32": "FP32"}, "2"),
        IDENTITY.replace("tensor.as_numpy()", "tensor.as_numpy() * 1.0"),
    )
    wrong = IDENTITY.replace("tensor.as_numpy()", "tensor.as_numpy().astype('f8')")
    (tmp_path / "copy" / "1" / "model.py").write_text(wrong)
    with (
        python_model(tmp_path / "copy") as model,
        pytest.raises(ArtifactError, match=r"is an array of float64 \(expected float32"),
    ):
        model.infer({"in_FP32": [1, 2]})
    with pytest.raises(ArtifactError, match="cannot read: No such file"):
        python_model(tmp_path / "other")
    with pytest.raises(ArtifactError, match=r"2/model\.py: file not found"):
        python_model(tmp_path / "copy", version=2)


def test_an_exception_of_the_model_is_raised_as_it_is(tmp_path: Path) -> None:
    write_model(tmp_path, "copy", tensors({"FP32": "FP32"}, "2"), IDENTITY.replace("tensor.as_numpy()", "1 / 0"))
    with python_model(tmp_path / "copy") as model, pytest.raises(ZeroDivisionError):
        model.infer({"in_FP32": [1, 2]})
