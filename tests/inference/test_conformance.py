"""The wire and the client against a real tritonserver with identity models, for every datatype, form and protocol."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.support.python_models import ACCUMULATE, IDENTITY, REPEAT, tensors, write_model
from tritonforge.datatypes import BY_WIRE
from tritonforge.errors import ConnectError, DecodeError, EncodeError, ServerError
from tritonforge.inference.client import Client, DecoupledError, TensorMetadata, UnnamedModelError
from tritonforge.inference.model_inputs import probe_inputs
from tritonforge.inference.wire import Class, RequestedOutput, encode_request
from tritonforge.serving.server import Server

pytestmark = pytest.mark.server

SLOW = """
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.7)
        tensors = [pb_utils.Tensor("out_F", each.inputs()[0].as_numpy()) for each in requests]
        return [pb_utils.InferenceResponse([tensor]) for tensor in tensors]
"""

#: An array of each datatype with the values at its limits; BYTES are text, so that they have a JSON form too.
ARRAYS: dict[str, Any] = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], dtype=np.uint8),
    "UINT16": np.array([[0, 65535]], dtype=np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], dtype=np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], dtype=np.uint64),
    "INT8": np.array([[-128, 127]], dtype=np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], dtype=np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], dtype=np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], dtype=np.int64),
    "FP16": np.array([[6e-8, -np.inf, np.nan]], dtype=np.float16),
    "BF16": np.array([[1e38, -0.5]], dtype=ml_dtypes.bfloat16),
    "FP32": np.array([[1e-45, -0.0, 0.1, np.inf, -np.inf, np.nan]], dtype=np.float32),
    "FP64": np.array([[5e-324, -0.0, 0.1, np.inf, -np.inf, np.nan]]),
    "BYTES": np.array([["é\U0001f600".encode(), b"", b'nul\0 quote" newline\n\x7f']], dtype=object),
}
BINARY_ONLY = {"FP16", "BF16"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real tritonserver; the SageMaker front end asks the model of all datatypes."""
    repository = tmp_path_factory.mktemp("repository")
    everything = {name: datatype.config.removeprefix("TYPE_") for name, datatype in BY_WIRE.items()}
    write_model(repository, "all", tensors(everything, "-1, -1", optional=True), IDENTITY)
    write_model(repository, "two", "max_batch_size: 4\n" + tensors({"F": "FP32", "S": "STRING"}, "2"), IDENTITY)
    labelled = tensors({"F": "FP32"}, "4", more_of_output='label_filename: "labels.txt"')
    write_model(repository, "classes", f"max_batch_size: 4\n{labelled}", IDENTITY)
    (repository / "classes" / "labels.txt").write_text("cat\ndog: big\nbird\n")
    step = 'step { model_name: "two" model_version: -1 input_map { key: "in_F" value: "in_F" } '
    step += 'input_map { key: "in_S" value: "in_S" } output_map { key: "out_F" value: "out_F" } '
    step += 'output_map { key: "out_S" value: "out_S" } }'
    (repository / "ensemble" / "1").mkdir(parents=True)
    (repository / "ensemble" / "config.pbtxt").write_text(
        f'platform: "ensemble"\nmax_batch_size: 4\n{tensors({"F": "FP32", "S": "STRING"}, "2")}\n'
        f"ensemble_scheduling {{ {step} }}\n"
    )
    write_model(repository, "repeat", *REPEAT)
    write_model(repository, "accumulate", *ACCUMULATE)
    queue = "max_batch_size: 1\ndynamic_batching { default_queue_policy { max_queue_size: 1 } }\n"
    write_model(repository, "slow", queue + tensors({"F": "FP32"}, "1"), SLOW)
    with Server(
        repository,
        default_model="all",
        models=["all", "ensemble", "classes", "slow", "repeat", "accumulate"],
        sagemaker_port=0,
        http_port=0,
        grpc_port=0,
        metrics_port=None,
    ) as running:
        yield running


@pytest.fixture(scope="module", params=["http", "sagemaker", "grpc"])
def client(server: Server, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of the model of all datatypes, over each protocol."""
    url = {"http": server.http_url, "sagemaker": server.sagemaker_url, "grpc": server.grpc_url}[request.param]
    assert url is not None
    with Client(url, model=None if request.param == "sagemaker" else "all") as running:
        yield running


def bits(array: Any) -> object:
    """What must be equal: type, shape and every bit, a NaN's own bits left out."""
    if array.dtype == object:
        return array.dtype, array.shape, array.tolist()
    canonical = np.where(np.isnan(array), np.nan, array).astype(array.dtype) if array.dtype.kind == "f" else array
    return array.dtype, array.shape, canonical.tobytes()


def test_every_datatype_has_an_array() -> None:
    """No datatype is left out."""
    assert set(ARRAYS) == set(BY_WIRE)


@pytest.mark.parametrize(
    ("datatype", "binary"),
    [(name, True) for name in ARRAYS] + [(name, False) for name in ARRAYS if name not in BINARY_ONLY],
)
def test_every_datatype_comes_back_bit_by_bit(client: Client, datatype: str, binary: bool) -> None:
    """A tensor goes to the server and back unchanged: every datatype, both forms, every protocol."""
    array = ARRAYS[datatype]
    response = client.infer({f"in_{datatype}": array}, binary=binary, id="an id")
    assert bits(response[f"out_{datatype}"]) == bits(array)
    assert (response.model_name, response.model_version, response.id) == ("all", "1", "an id")


def test_all_datatypes_in_one_request(client: Client) -> None:
    """Fourteen tensors of both forms in one body come back each as it was."""
    in_binary = {f"in_{name}" for name in (*BINARY_ONLY, "BYTES", "FP64")}
    response = client.infer({f"in_{name}": array for name, array in ARRAYS.items()}, binary=in_binary)
    assert {name: bits(array) for name, array in response.outputs.items()} == {
        f"out_{name}": bits(array) for name, array in ARRAYS.items()
    }


def test_bytes_of_any_value_and_empty_tensors(client: Client) -> None:
    """Bytes that are not text pass in binary form, and a tensor of no elements is answered in JSON."""
    odd = np.array([[bytes(range(256)), b"\xff" * 70_000]], dtype=object)
    assert client.infer({"in_BYTES": odd})["out_BYTES"].tolist() == odd.tolist()
    empty = np.empty((0, 3), dtype=np.float32)
    assert client.infer({"in_FP32": empty})["out_FP32"].shape == (0, 3)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_ensemble_answers_with_its_parameters(server: Server, protocol: str) -> None:
    """Triton adds parameters of sequences to the answer of an ensemble; they are not tensors."""
    inputs = {"in_F": np.array([[1, 2]], np.float32), "in_S": np.array([[b"a", b"b"]], dtype=object)}
    with Client(str(server.http_url if protocol == "http" else server.grpc_url), model="ensemble") as client:
        response = client.infer(inputs)
    assert {name: array.tolist() for name, array in response.outputs.items()} == {
        "out_F": [[1, 2]],
        "out_S": [[b"a", b"b"]],
    }
    assert set(response.parameters) == {"sequence_id", "sequence_start", "sequence_end"}


def test_bytes_that_are_no_text_survive_a_json_answer(server: Server) -> None:
    """Asked for JSON, Triton writes such bytes as they are; they are read as they were."""
    odd = np.array([[b'\xff\x80 "\n\x01']], dtype=object)
    with Client(str(server.http_url), model="all") as client:
        response = client.infer({"in_BYTES": odd}, outputs=[RequestedOutput("out_BYTES", binary_data=False)])
    assert response["out_BYTES"].tolist() == odd.tolist()


def test_a_padded_header_is_read_over(client: Client) -> None:
    """A header filled up with spaces changes nothing."""
    response = client.infer({"in_INT8": ARRAYS["INT8"]}, header_size=1024)
    assert response["out_INT8"].tolist() == ARRAYS["INT8"].tolist()


def test_a_raw_body_is_the_models_only_input(server: Server) -> None:
    """Header size 0: the body alone is the tensor."""
    array = np.array([[1, 2, 3, 4]], dtype=np.float32)
    with Client(str(server.http_url), model="classes") as client:
        assert client.infer_raw(array.tobytes())["out_F"].tolist() == array.tolist()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_classification_gives_labels(server: Server, protocol: str) -> None:
    """The best classes come with their labels, best first; a label may hold a colon, or be missing."""
    scores = np.array([[0.125, 0.75, 0.5, 0.25], [4, 3, 2, 1]], dtype=np.float32)
    with Client(str(server.http_url if protocol == "http" else server.grpc_url), model="classes") as client:
        rows = client.infer({"in_F": scores}, classification=4).classes()
    assert rows[0] == (Class(0.75, 1, "dog: big"), Class(0.5, 2, "bird"), Class(0.25, 3), Class(0.125, 0, "cat"))
    assert [row.index for row in rows[1]] == [0, 1, 2, 3]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_metadata_and_readiness(server: Server, protocol: str) -> None:
    """Triton has calls for a model's tensors and readiness."""
    with Client(str(server.http_url if protocol == "http" else server.grpc_url)) as client:
        metadata = client.metadata("two")
        assert metadata.inputs == (TensorMetadata("in_F", "FP32", (-1, 2)), TensorMetadata("in_S", "BYTES", (-1, 2)))
        assert metadata.outputs == (TensorMetadata("out_F", "FP32", (-1, 2)), TensorMetadata("out_S", "BYTES", (-1, 2)))
        assert metadata.versions == ("1",)
        assert client.ready()
        assert client.ready("two")
        assert not client.ready("nothing")
        with pytest.raises(ServerError, match="'nothing' is not found") as caught:
            client.metadata("nothing")
        assert caught.value.status == 404


def probe(client: Client, model: str, named: Collection[str] = ()) -> tuple[TensorMetadata, ...]:
    """The inputs of a model as refused requests describe them, at any front end."""
    return client._probe(model, lambda send: probe_inputs(send, named=named))


def test_inputs_are_learned_from_the_real_servers_refusals(server: Server) -> None:
    """What is read from the sentences of refusals equals the metadata of Triton."""
    with Client(str(server.http_url)) as triton, Client(str(server.http_url)) as asked:
        for model in ("two", "classes", "ensemble"):
            assert probe(asked, model) == triton.metadata(model).inputs
    with (
        Client(str(server.sagemaker_url)) as sagemaker,
        pytest.raises(DecodeError, match="does not report the model's inputs"),
    ):
        sagemaker.metadata()  # all inputs of this model are optional, so none is missing


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize(
    ("inputs", "status", "sentence"),
    [
        ({"in_F": np.zeros((9, 4), np.float32)}, 400, "inference request batch-size must be <= 4 for 'classes'"),
        ({"in_F": np.zeros((1, 4), np.int32)}, 400, "data-type is 'INT32', but model 'classes' expects 'FP32'"),
        ({"in_F": np.zeros((1, 5), np.float32)}, 400, "unexpected shape for input 'in_F' for model 'classes'"),
        ({"in_X": np.zeros((1, 4), np.float32)}, 400, "unexpected inference input 'in_X' for model 'classes'"),
    ],
)
def test_errors_keep_tritons_sentence_and_status(
    server: Server, protocol: str, inputs: dict[str, Any], status: int, sentence: str
) -> None:
    """The same wrong request gives the same sentence and status over both protocols."""
    url = str(server.http_url if protocol == "http" else server.grpc_url)
    with Client(url, model="classes") as client, pytest.raises(ServerError) as caught:
        client.infer(inputs)
    assert sentence in caught.value.message
    assert caught.value.status == status


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_full_queue_is_the_servers_error_and_a_slow_answer_is_none(server: Server, protocol: str) -> None:
    """503 with Triton's sentence over both protocols; gRPC's own code for it is that of a broken connection."""
    url = str(server.http_url if protocol == "http" else server.grpc_url)
    one, found = np.ones((1, 1), np.float32), []
    with Client(url, model="slow") as client, Client(url, model="slow", timeout=0.2) as hasty:

        def ask() -> None:
            try:
                found.append(client.infer({"in_F": one})["out_F"].tolist())
            except ServerError as error:
                found.append((error.status, "Exceeds maximum queue size" in error.message))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(ConnectError, match=r"gave no answer within 0.2 s"):
            hasty.infer({"in_F": one})
        time.sleep(1)
    assert [[1]] in found
    assert (503, True) in found
    assert len(found) == len(threads)


def test_nvidias_clients_and_ours_get_the_same(server: Server) -> None:
    """NVIDIA's client over HTTP and over gRPC, asking the same server, gets the arrays that we get."""
    inputs = {f"in_{name}": array for name, array in ARRAYS.items()}
    answers = []
    for module, url in ((tritonclient.http, server.http_url), (tritonclient.grpc, server.grpc_url)):
        address = str(url).partition("://")[2]
        asked = []
        for name, array in ARRAYS.items():
            tensor = module.InferInput(f"in_{name}", list(array.shape), name)
            tensor.set_data_from_numpy(array)
            asked.append(tensor)
        theirs = module.InferenceServerClient(address)
        answers.append(theirs.infer("all", asked))
        if module is tritonclient.http:
            body, _ = theirs.generate_request_body(asked)
            assert bytes(body) == encode_request(inputs).body
        theirs.close()
    with Client(str(server.http_url), model="all") as client:
        ours = client.infer(inputs)
    for answer in answers:
        for name, array in ours.outputs.items():
            assert bits(answer.as_numpy(name)) == bits(array)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_that_dies_is_a_connect_error(tmp_path: Path, protocol: str) -> None:
    """The error of a waiting client states that the connection was cut, and that nothing was sent again."""
    write_model(tmp_path, "slow", "max_batch_size: 1\n" + tensors({"F": "FP32"}, "1"), SLOW)
    ports = {"sagemaker_port": None, "metrics_port": None, "http_port": 0, "grpc_port": 0}
    with Server(tmp_path, **ports) as server:
        url = str(server.http_url if protocol == "http" else server.grpc_url)
        with Client(url, model="slow") as client:
            client.infer({"in_F": np.ones((1, 1), np.float32)})
            assert server.pid is not None
            threading.Timer(0.2, os.kill, (server.pid, signal.SIGKILL)).start()
            with pytest.raises(ConnectError, match=r"cut before the answer came .* was not sent again"):
                client.infer({"in_F": np.ones((1, 1), np.float32)})


@pytest.fixture(scope="module")
def streaming(server: Server) -> Iterator[Client]:
    """A client of the decoupled model over gRPC."""
    with Client(str(server.grpc_url), model="repeat") as client:
        yield client


def repeated(count: int) -> dict[str, Any]:
    """The inputs of the decoupled model."""
    return {"text": np.array(["again é"], dtype=object), "count": np.array([count], np.int32)}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_decoupled_model_streams_any_number_of_responses(streaming: Client, count: int) -> None:
    """Each response is whole, in order, and the stream ends with the last; there may be none."""
    responses = list(streaming.infer_stream(repeated(count), id="7"))
    assert [response["index"].tolist() for response in responses] == [[index] for index in range(count)]
    assert {response["piece"].tolist()[0].decode() for response in responses} <= {"again é"}
    assert {(response.id, response.model_name) for response in responses} <= {("7", "repeat")}


def test_a_stream_gives_its_responses_as_they_arrive(streaming: Client) -> None:
    """The first response is there before the model has made the second, and a closed stream leaves the client whole."""
    responses = streaming.infer_stream(repeated(1003))
    assert next(responses)["index"].tolist() == [0]
    first = time.monotonic()
    assert next(responses)["index"].tolist() == [1]
    assert time.monotonic() - first > 0.1  # the model waits a second before its second response
    responses.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(list(streaming.infer_stream(repeated(2)))) == 2


def test_an_error_inside_of_a_stream_comes_after_the_responses_before_it(streaming: Client, server: Server) -> None:
    """The model's own sentence ends the iterator; the server and the client go on."""
    responses = streaming.infer_stream(repeated(-2))
    assert [next(responses)["index"].tolist() for _ in range(2)] == [[0], [1]]
    with pytest.raises(ServerError, match=r"^the server answered with an error: broke after 2$") as caught:
        next(responses)
    assert caught.value.status == 0
    with pytest.raises(ServerError, match="unknown model: 'nothing'"):
        list(streaming.infer_stream(repeated(1), model="nothing"))
    with Client(str(server.grpc_url), timeout=0.3) as hasty, pytest.raises(ConnectError, match=r"within 0.3 s"):
        list(hasty.infer_stream(repeated(1002), model="repeat"))
    assert len(list(streaming.infer_stream(repeated(1)))) == 1


def test_a_decoupled_model_says_where_it_streams(streaming: Client, server: Server) -> None:
    """One response is refused over both protocols, with what to do; HTTP and SageMaker have no streams."""
    assert streaming.metadata().decoupled
    with pytest.raises(DecoupledError, match="decoupled transaction policy; stream its responses") as caught:
        streaming.infer(repeated(1))
    assert caught.value.status == 501
    with Client(str(server.http_url), model="repeat") as http:
        with pytest.raises(DecoupledError, match=r"use Triton's gRPC port \(grpc://host:port\)"):
            http.infer(repeated(1))
        with pytest.raises(EncodeError, match="answers each request once; use Triton's gRPC port"):
            http.infer_stream(repeated(1))


def test_a_model_that_is_not_decoupled_streams_one_response(streaming: Client) -> None:
    """Classes are asked for as in any request."""
    scores = {"in_F": np.array([[0.125, 0.75, 0.5, 0.25]], np.float32)}
    outputs = [RequestedOutput("out_F", classification=1)]
    (response,) = streaming.infer_stream(scores, model="classes", outputs=outputs)
    assert response.classes() == ((Class(0.75, 1, "dog: big"),),)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("sequence_id", [7, "text", 2**63 + 5, 2**64 - 1])
def test_a_sequence_keeps_its_state_across_requests(server: Server, protocol: str, sequence_id: int | str) -> None:
    """Start, middle and end of one sequence, for every form of its id; another sequence has a state of its own."""
    urls = [server.http_url, server.grpc_url if protocol == "grpc" else server.http_url]
    one = {"x": np.ones((1, 1), np.float32)}
    with Client(str(urls[0]), model="accumulate") as first, Client(str(urls[1]), model="accumulate") as second:
        assert first.infer(one, sequence_id=sequence_id, sequence_start=True)["sum"].tolist() == [[1]]
        assert second.infer(one, sequence_id=1000, sequence_start=True, sequence_end=True)["sum"].tolist() == [[1]]
        assert second.infer(one, sequence_id=sequence_id)["sum"].tolist() == [[2]]
        if protocol == "grpc":
            (response,) = second.infer_stream(one, sequence_id=sequence_id)
            assert response["sum"].tolist() == [[3]]
        end = second.infer(one, sequence_id=sequence_id, sequence_end=True)["sum"].tolist()
        assert end == [[4 if protocol == "grpc" else 3]]
        with pytest.raises(ServerError, match="must specify the START flag"):
            second.infer(one, sequence_id=sequence_id)


def test_a_sequence_without_an_id_is_refused_here(server: Server) -> None:
    """The flags mean nothing without one, and Triton takes 0 for none."""
    with Client(str(server.http_url), model="accumulate") as client:
        for wrong in ({"sequence_start": True}, {"sequence_id": -1}, {"sequence_id": 2**64}, {"sequence_id": True}):
            with pytest.raises(EncodeError, match="sequence_id"):
                client.infer({"x": np.ones((1, 1), np.float32)}, **wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_the_configuration_has_what_metadata_lack(server: Server) -> None:
    """The batch size and the outputs with labels, over both protocols."""
    for url in (server.http_url, server.grpc_url):
        with Client(str(url)) as client:
            metadata = client.metadata("classes")
            assert (metadata.max_batch_size, metadata.decoupled, metadata.labelled_outputs) == (4, False, ("out_F",))
            assert client.metadata("all").max_batch_size == 0


def test_classification_leaves_text_as_it_is(server: Server) -> None:
    """Outputs of numbers come as classes, outputs of BYTES unchanged, over each protocol."""
    inputs = {"in_F": np.array([[1, 2]], np.float32), "in_S": np.array([[b"a", b"b"]], dtype=object)}
    for url in (server.http_url, server.grpc_url):
        with Client(str(url), model="two") as client:
            response = client.infer(inputs, classification=1)
            assert response.classes() == ((Class(2, 1),),)
            assert response["out_S"].tolist() == [[b"a", b"b"]]


def test_optional_inputs_are_learned_by_their_names(server: Server) -> None:
    """The SageMaker front end describes an optional input that the caller names; a name that is wrong runs no model."""
    with Client(str(server.sagemaker_url)) as client:
        metadata = client.metadata(inputs=["in_BF16", "in_BYTES"])
        assert set(metadata.inputs) == {
            TensorMetadata("in_BF16", "BF16", (-1, -1)),
            TensorMetadata("in_BYTES", "BYTES", (-1, -1)),
        }
    with (
        Client(str(server.sagemaker_url)) as client,
        pytest.raises(DecodeError, match="unexpected inference input 'q'"),
    ):
        client.metadata(inputs=["q"])
    with Client(str(server.http_url)) as asked:
        for named in (["in_F"], ["q"], ["in_F", "q"]):
            assert {tensor.name for tensor in probe(asked, "two", named)} == {"in_F", "in_S"}


def test_a_wrong_port_is_named(server: Server) -> None:
    """HTTP to the gRPC port and gRPC to the HTTP port say so, without the bytes that came back."""
    grpc_port, http_port = (str(url).rpartition(":")[2] for url in (server.grpc_url, server.http_url))
    with Client(f"http://127.0.0.1:{grpc_port}") as client, pytest.raises(ConnectError) as caught:
        client.ready()
    assert str(caught.value) == (
        f"http://127.0.0.1:{grpc_port} is a gRPC port, which does not answer HTTP/1.1; use grpc://127.0.0.1:{grpc_port}"
    )
    with Client(f"grpc://127.0.0.1:{http_port}", timeout=20) as client, pytest.raises(ConnectError) as caught:
        client.ready()
    assert "is not a gRPC port: what listens there closed the connection. For Triton's HTTP port use http://" in str(
        caught.value
    )
    with Client(f"https://127.0.0.1:{http_port}") as client, pytest.raises(ConnectError, match="use http:// if the"):
        client.ready()
    with Client(str(server.grpc_url)) as client, pytest.raises(UnnamedModelError, match="accumulate, all, classes"):
        client.metadata()
