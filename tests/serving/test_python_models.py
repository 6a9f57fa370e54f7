"""Python models on the local server that do what NVIDIA's examples show.

They call other models (BLS), also decoupled ones and several at once, and complete their configurations. The last test
is about SageMaker's front end, with the malformed headers of Triton's own test of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import urllib3

from tests.support.python_models import write_model
from tests.support.tensor_client import FREE, Asker
from tests.support.throwaway_server import ThrowawayServer
from tritonforge.serving.server import Server

pytestmark = pytest.mark.server

IO = """
input { name: "a" data_type: TYPE_FP32 dims: [ 4 ] }
input { name: "b" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "sum" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "difference" data_type: TYPE_FP32 dims: [ 4 ] }
"""
PAIR = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        a, b = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in "ab")
        outputs = {"sum": a + b, "difference": a - b}
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in outputs.items()])
"""
CALLER = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        name = pb_utils.get_input_tensor_by_name(request, "model").as_numpy()[0].decode()
        call = pb_utils.InferenceRequest(
            model_name=name,
            requested_output_names=["sum", "difference"],
            inputs=[pb_utils.get_input_tensor_by_name(request, name) for name in "ab"],
        )
        response = call.exec()
        if response.has_error():
            raise pb_utils.TritonModelException(response.error().message())
        return pb_utils.InferenceResponse(response.output_tensors())
"""
CONCURRENT_CALLER = """
import asyncio
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    async def execute(self, requests):
        responses = []
        for request in requests:
            inputs = [pb_utils.get_input_tensor_by_name(request, name) for name in "ab"]
            calls = [
                pb_utils.InferenceRequest(model_name="pair", requested_output_names=[name], inputs=inputs).async_exec()
                for name in ("sum", "difference")
            ]
            answers = await asyncio.gather(*calls)
            tensors = [tensor for answer in answers for tensor in answer.output_tensors()]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
"""
COUNTER = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    # Answers a request with as many responses as its number.
    def execute(self, requests):
        for request in requests:
            sender, number = request.get_response_sender(), request.inputs()[0].as_numpy()
            for _ in range(int(number[0])):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("out", number)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
COUNTER_CALLER = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    # The sum of what the counter answers: the number's square.
    def execute(self, requests):
        responses = []
        for request in requests:
            call = pb_utils.InferenceRequest(
                model_name="counter", requested_output_names=["out"], inputs=[request.inputs()[0]]
            )
            total = sum(
                int(answer.output_tensors()[0].as_numpy()[0])
                for answer in call.exec(decoupled=True)
                if answer.output_tensors()
            )
            tensor = pb_utils.Tensor("square", np.array([total], np.int32))
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses
"""
COMPLETING = (
    PAIR
    + """
    @staticmethod
    def auto_complete_config(config):
        for name in "ab":
            config.add_input({"name": name, "data_type": "TYPE_FP32", "dims": [4]})
        for name in ("sum", "difference"):
            config.add_output({"name": name, "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(%d)
        if %d:
            config.set_dynamic_batching()
        return config
"""
)
NUMBER = 'input { name: "in" data_type: TYPE_INT32 dims: [ 1 ] }'
A, B = np.array([1, 2, 3, 4], "f4"), np.array([4, 3, 2, 0.5], "f4")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with these models; /invocations asks ``pair``."""
    repository = tmp_path_factory.mktemp("python-models")
    write_model(repository, "pair", IO, PAIR)
    model = 'input { name: "model" data_type: TYPE_STRING dims: [ 1 ] }'
    write_model(repository, "caller", f"{IO} {model}", CALLER)
    write_model(repository, "concurrent_caller", IO, CONCURRENT_CALLER)
    decoupled = "model_transaction_policy { decoupled: true }"
    write_model(
        repository,
        "counter",
        f'{NUMBER} output {{ name: "out" data_type: TYPE_INT32 dims: [ 1 ] }} {decoupled}',
        COUNTER,
    )
    write_model(
        repository, "counter_caller", f'{NUMBER} output {{ name: "square" data_type: TYPE_INT32 dims: [ 1 ] }}',
        COUNTER_CALLER,
    )  # fmt: skip
    write_model(repository, "completed", "", COMPLETING % (0, 0))
    write_model(repository, "completed_batches", "", COMPLETING % (4, 1))
    with ThrowawayServer(
        repository, default_model="pair", models=sorted(path.name for path in repository.iterdir()), **FREE
    ) as running:
        yield running


@pytest.fixture(scope="module")
def ask(server: Server) -> Iterator[Asker]:
    """The client of the server."""
    with urllib3.PoolManager() as pool:
        yield Asker(str(server.http_url), pool)


def check(outputs: Any) -> None:
    """Compare the outputs of a model with numpy's."""
    np.testing.assert_array_equal(outputs["sum"].ravel(), A + B)
    np.testing.assert_array_equal(outputs["difference"].ravel(), A - B)


def test_a_model_calls_the_model_that_the_request_names(ask: Asker) -> None:
    for name in ("pair", "concurrent_caller"):
        check(ask.infer("caller", {"a": A, "b": B, "model": np.array([name.encode()], dtype=object)}).outputs)
    reply = ask.infer("caller", {"a": A, "b": B, "model": np.array([b"missing"], dtype=object)})
    assert reply.status == 500
    assert "Model 'missing' is not ready." in reply.error


def test_a_model_makes_several_calls_at_once(ask: Asker) -> None:
    check(ask.infer("concurrent_caller", {"a": A, "b": B}).outputs)


def test_a_model_reads_all_responses_of_a_decoupled_one(ask: Asker) -> None:
    for number in (0, 1, 5):
        reply = ask.infer("counter_caller", {"in": np.array([number], np.int32)})
        assert reply.outputs["square"].tolist() == [number**2]


def test_a_model_completes_its_own_configuration(ask: Asker) -> None:
    for name, size in (("completed", 0), ("completed_batches", 4)):
        config = json.loads(ask.pool.request("GET", f"{ask.url}/v2/models/{name}/config").data)
        assert (config["max_batch_size"], "dynamic_batching" in config) == (size, bool(size))
        assert [row["name"] for key in ("input", "output") for row in config[key]] == ["a", "b", "sum", "difference"]
        shape = (1, 4) if size else (4,)
        check(ask.infer(name, {"a": A.reshape(shape), "b": B.reshape(shape)}).outputs)


@pytest.mark.parametrize(
    "content_type",
    [
        "additional-string/application/vnd.sagemaker-triton.binary+json;json-header-size={}",
        "application/vnd.sagemaker-triton.binary+json;json-header-size=additional-string{}",
        "application/vnd.sagemaker-triton.binary+json;json-header-size=-{}",
        "application/vnd.sagemaker-triton.binary+json;json-header-size=12345",
    ],
)
def test_a_malformed_header_size_is_refused(server: Server, ask: Asker, content_type: str) -> None:
    """In all four a client sends binary tensors behind a JSON header."""
    inputs = [{"name": name, "shape": [4], "datatype": "FP32", "parameters": {"binary_data_size": 16}} for name in "ab"]
    header = json.dumps({"inputs": inputs}).encode()
    url = f"{server.sagemaker_url}/invocations"
    reply = ask.pool.request(
        "POST",
        url,
        body=header + A.tobytes() + B.tobytes(),
        headers={"Content-Type": content_type.format(len(header))},
    )
    assert reply.status == 400
