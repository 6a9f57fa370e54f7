"""The client against small servers in threads of this process, on free loopback ports."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from tritonforge.errors import ConnectError, DecodeError, EncodeError, MissingExtraError, ServerError
from tritonforge.inference.client import (
    Answer,
    Call,
    Client,
    FunctionTransport,
    ModelMetadata,
    TensorMetadata,
    UnnamedModelError,
)
from tritonforge.inference.grpc_transport import GrpcTransport
from tritonforge.inference.http_transport import Address, SageMakerTransport, TritonTransport, join_small_buffers
from tritonforge.inference.model_inputs import probe_inputs
from tritonforge.inference.wire import (
    Class,
    Payload,
    RequestedOutput,
    decode_request,
    encode_request,
    encode_response,
    header_length,
    sagemaker_headers,
    triton_headers,
)

#: status, headers, body
Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Seen:
    """A server's address and the requests that came in: method, path, headers, body."""

    url: str = ""
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def paths(self) -> list[str]:
        """The paths asked for, in order."""
        return [path for _, path, _, _ in self.requests]


@contextmanager
def served(reply: Callable[[str, str, dict[str, str], bytes], Reply | None]) -> Iterator[Seen]:
    """A server that answers with ``reply``; None cuts the connection without an answer."""
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = dict(self.headers.items())
            seen.requests.append((self.command, self.path, headers, body))
            answer = reply(self.command, self.path, headers, body)
            if answer is None:
                self.close_connection = True
                return
            status, fields, text = answer
            self.send_response(status)
            for name, value in {**fields, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = answer  # noqa: N815 - names that http.server looks up

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def error(status: int, sentence: str) -> Reply:
    """An error as Triton words it."""
    return status, {"Content-Type": "application/json"}, json.dumps({"error": sentence}).encode()


MISSING = (
    "[request id: <id_unknown>] expected 1 inputs but got 0 inputs for model 'm'. Got input(s) [], but missing "
    "required input(s) ['x']. Please provide all required input(s)."
)


def model(headers: dict[str, str], body: bytes, *, expects: str = "FP32") -> tuple[Payload, None] | tuple[None, Reply]:
    """A model with one input x and outputs y = 2 x and note, as Triton's core checks and answers."""
    request = decode_request(body, header_length=header_length(headers, size=len(body)))
    if request.raw is not None:
        return encode_response({"y": np.array([[len(request.raw)]])}, model_name="m"), None
    if "x" not in request.inputs:
        return None, error(400, MISSING)
    x = request.inputs["x"]
    found = {"f": "FP32", "u": "UINT8", "O": "BYTES", "b": "BOOL"}[x.dtype.kind]
    if found != expects:
        message = f"inference input 'x' data-type is '{found}', but model 'm' expects '{expects}'"
        return None, error(400, f"[request id: <id_unknown>] {message}")
    if x.ndim != 2:
        shape = ",".join(map(str, x.shape))
        message = f"unexpected shape for input 'x' for model 'm'. Expected [-1,-1], got [{shape}]. NOTE: ..."
        return None, error(400, message)
    y: Any = x * 2 if expects != "BYTES" else np.vectorize(len)(x)
    if any(output.classification for output in request.outputs):
        y = np.array([[b"0.9:1:dog", b"0.1:0:cat"]] * len(x), dtype=object)
    outputs = {"y": y, "note": np.array([[b"hi"]] * len(x), dtype=object)}
    asked = [output.name for output in request.outputs]
    binary = request.binary_output or any(output.binary_data for output in request.outputs)
    chosen = {name: array for name, array in outputs.items() if not asked or name in asked}
    return encode_response(chosen, model_name="m", id=request.id, binary=binary), None


METADATA = {
    "name": "m",
    "versions": ["1", "2"],
    "platform": "python",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}],
    "outputs": [
        {"name": "y", "datatype": "FP32", "shape": [-1, -1]},
        {"name": "note", "datatype": "BYTES", "shape": [-1, 1]},
    ],
}


def triton(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
    """Triton's own front end, as far as the client asks it."""
    if path == "/v2":
        return 200, {}, b'{"name":"triton"}'
    if path in ("/v2/health/ready", "/v2/models/m/ready"):
        return 200, {}, b""
    if path == "/v2/models/m":
        return 200, {}, json.dumps(METADATA).encode()
    if path in ("/v2/models/m/infer", "/v2/models/m/versions/2/infer"):
        del headers["Content-Type"]
        payload, refused = model(headers, body)
        return refused or (200, triton_headers(payload), payload.body)  # type: ignore[arg-type] # one of both is set
    return error(404, "Request for unknown model: 'q' is not found")


def sagemaker(expects: str = "FP32") -> Callable[[str, str, dict[str, str], bytes], Reply]:
    """The SageMaker front end in single-model mode; everything but its two paths is a 400, or 404 below /models."""

    def reply(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path == "/ping":
            return 200, {}, b""
        if path == "/invocations":
            payload, refused = model({"content-type": headers["Content-Type"]}, body, expects=expects)
            return refused or (200, sagemaker_headers(payload), payload.body)  # type: ignore[arg-type] # one of both is set
        return (404 if path.startswith("/models") else 400), {}, b""

    return reply


X = np.array([[1, 2], [3, 4]], dtype=np.float32)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("reply", [triton, sagemaker()], ids=["triton", "sagemaker"])
def test_both_front_ends_answer_alike(reply: Any, binary: bool) -> None:
    """The same call gives the same response from either front end, in either form; the address is probed once."""
    with served(reply) as seen, Client(seen.url, model="m" if reply is triton else None) as client:
        assert client.ready()
        for _ in range(2):
            response = client.infer({"x": X}, binary=binary, id="7")
            assert response["y"].tolist() == [[2, 4], [6, 8]]
            assert response["note"].tolist() == [[b"hi"], [b"hi"]]
            assert response.id == "7"
        assert client.infer_raw(b"12345")["y"].tolist() == [[5]]
        assert seen.paths().count("/v2") == 1
        assert seen.requests[-1][2].get("Transfer-Encoding") is None


def test_large_tensors_arrive_whole() -> None:
    """A body of several buffers, some large, arrives with its length and every byte."""
    images = np.array([[bytes([index]) * (index * 9000)] for index in range(8)], dtype=object)
    with served(sagemaker("BYTES")) as seen, Client(seen.url) as client:
        assert client.infer({"x": images})["y"].ravel().tolist() == [index * 9000 for index in range(8)]
        _, _, headers, body = seen.requests[-1]
        assert int(headers["Content-Length"]) == len(body)
        assert body == encode_request({"x": images}).body


def test_coalesced_joins_small_neighbours_only() -> None:
    """Large buffers are passed on as they are, small ones between them are joined, in order."""
    large = bytes(20_000)
    pieces = list(join_small_buffers(Payload((b"a", b"b", large, b"c", large, large, b"d"), 1)))
    assert [bytes(piece) for piece in pieces] == [b"ab", large, b"c", large, large, b"d"]
    assert pieces[1] is large
    assert sum(map(len, join_small_buffers(Payload((bytes(9000),) * 4, 1)))) == 36_000


def test_a_given_front_end_is_not_probed() -> None:
    """``front_end`` saves the probe."""
    with served(sagemaker()) as seen, Client(seen.url, front_end="sagemaker") as client:
        client.infer({"x": X})
        assert seen.paths() == ["/invocations"]


def test_model_and_version_stand_in_the_path() -> None:
    """A version is asked for by path; a model of the call wins over that of the client; a prefix of the url stays."""
    with served(triton) as seen, Client(seen.url + "/", model="q") as client:
        client.infer({"x": X}, model="m", model_version="2")
        assert seen.paths()[-1] == "/v2/models/m/versions/2/infer"
        with pytest.raises(ServerError, match="unknown model"):
            client.infer({"x": X}, model="a b/c")
        assert seen.paths()[-1] == "/v2/models/a%20b%2Fc/infer"
        assert not client.ready("a b/c")
    with served(lambda *_: (200, {}, b"")) as seen, Client(seen.url + "/proxy/", front_end="sagemaker") as client:
        assert client.ready()
        assert seen.paths() == ["/proxy/ping"]


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (
            400,
            b"{\"error\":\"unexpected inference input 'q' for model 'm'\"}",
            "unexpected inference input 'q' for model 'm'",
        ),
        (503, b'{"error":"Exceeds maximum queue size"}', "Exceeds maximum queue size"),
        (500, b"plain text", "plain text"),
        (302, b"", ""),
    ],
)
def test_errors_keep_the_servers_sentence_and_status(status: int, body: bytes, sentence: str) -> None:
    """Whatever is not 200 is a ServerError, redirects too."""
    with served(lambda *_: (status, {"Location": "/elsewhere"}, body)) as seen:  # noqa: SIM117 - reads better
        with Client(seen.url, front_end="sagemaker") as client, pytest.raises(ServerError) as caught:
            client.infer({"x": X})
    assert (caught.value.status, caught.value.message) == (status, sentence)
    assert seen.paths() == ["/invocations"]


def test_a_probe_that_fails_does_not_determine_the_front_end() -> None:
    """A server in trouble is not taken for a SageMaker front end, and is asked again the next time."""
    broken = [True]

    def reply(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        return error(502, "bad gateway") if broken[0] else triton(method, path, headers, body)

    with served(reply) as seen, Client(seen.url, model="m") as client:
        with pytest.raises(ServerError, match="bad gateway"):
            client.infer({"x": X})
        broken[0] = False
        assert client.infer({"x": X})["y"].shape == (2, 2)


def test_a_model_cannot_be_named_in_single_model_mode() -> None:
    """The SageMaker front end's empty 404 is explained."""
    with served(sagemaker()) as seen, Client(seen.url, model="m") as client:
        with pytest.raises(ServerError, match=r"no model 'm' is available .* leave the model out") as caught:
            client.infer({"x": X})
        assert caught.value.status == 404
        with pytest.raises(EncodeError, match="leave model_version out"):
            client.infer({"x": X}, model_version="1")


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ((200, {}, b'[{"name":"b","state":"READY"},{"name":"a","state":"READY"}]'), "by name: b, a. Name the model"),
        ((200, {}, json.dumps([{"name": f"m{number}"} for number in range(20)]).encode()), "m11 and 8 more. Name"),
        ((200, {}, b"[]"), "serves models by name. Name the model"),
        ((404, {}, b"no such call"), "serves models by name. Name the model"),
        ((200, {}, b"<html>"), "serves models by name. Name the model"),
    ],
    ids=["two", "many", "none", "no-index", "no-json"],
)
def test_a_request_without_a_model_lists_the_models_of_the_server(index: Reply, sentence: str) -> None:
    """Triton serves models by name; the error has the names that the server lists, if it lists any."""

    def reply(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        return index if path == "/v2/repository/index" else triton(method, path, headers, body)

    with served(reply) as seen, Client(seen.url) as client:
        for call in (lambda: client.infer({"x": X}), client.metadata, lambda: client.infer_raw(b"1")):
            with pytest.raises(UnnamedModelError, match=sentence):
                call()


def test_the_only_model_of_a_server_needs_no_name() -> None:
    """Where one model is ready it is the one that is meant; the server is asked for its models once."""

    def reply(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        one = (200, {}, b'[{"name":"m","version":"1","state":"READY"},{"name":"m","version":"2","state":"READY"}]')
        return one if path == "/v2/repository/index" else triton(method, path, headers, body)

    with served(reply) as seen, Client(seen.url) as client:
        assert client.infer({"x": X})["y"].tolist() == [[2, 4], [6, 8]]
        assert client.metadata().name == "m"
        assert seen.paths().count("/v2/repository/index") == 1


def test_an_answer_that_is_no_answer_is_a_decode_error() -> None:
    """An invalid response is a DecodeError, an error response a ServerError."""
    with served(lambda *_: (200, {}, b"<html>")) as seen:
        client = Client(seen.url, front_end="sagemaker")
        with client, pytest.raises(DecodeError, match="not JSON"):
            client.infer({"x": X})
    with served(lambda *_: (200, {}, b'{"name":"m","inputs":5}')) as seen:
        client = Client(seen.url, model="m")
        with client, pytest.raises(DecodeError, match="/v2/models/m: the answer is not a model's metadata"):
            client.metadata()


def test_a_server_that_answers_200_to_every_path() -> None:
    """Triton's metrics port is named; any other such server is asked as SageMaker's containers are."""

    def metrics(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        return 200, {}, b"# HELP nv_inference_request_success ..." if path == "/metrics" else b""

    with served(metrics) as seen, Client(seen.url, model="m") as client:
        for call in (lambda: client.infer({"x": X}), client.ready):
            with pytest.raises(DecodeError, match=f"{seen.url} is Triton's metrics port; use its HTTP, gRPC or"):
                call()
    with served(lambda *_: (200, {}, b"fine")) as seen, Client(seen.url) as client:
        assert client.ready()
        assert seen.paths()[-1] == "/ping"


def test_no_server_is_a_connect_error() -> None:
    """A refused connection names the address and asks the obvious question."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Client(url) as client, pytest.raises(ConnectError, match=f"{url}: Connection refused; is it running"):
            client.ready()


def test_an_inference_whose_answer_is_lost_is_not_sent_again() -> None:
    """A server that takes the request and cuts the connection sees it once, also on a connection that was kept open."""
    cut = [False]

    def reply(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply | None:
        return None if cut[0] else triton(method, path, headers, body)

    with served(reply) as seen, Client(seen.url, model="m", front_end="triton") as client:
        client.infer({"x": X})
        cut[0] = True
        with pytest.raises(ConnectError, match=r"cut before the answer came .* was not sent again"):
            client.infer({"x": X})
        assert seen.paths() == ["/v2/models/m/infer"] * 2


def test_a_server_that_does_not_answer_is_a_connect_error() -> None:
    """The time limit ends the wait, and the sentence says how long it was."""
    asked = threading.Event()

    def reply(method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        asked.wait(10)

    with served(reply) as seen, Client(seen.url, timeout=0.05, front_end="triton") as client:
        with pytest.raises(ConnectError, match=r"/v2/health/ready gave no answer within 0.05 s"):
            client.ready()
        asked.set()


@pytest.mark.slow
def test_many_threads_share_a_client() -> None:
    """Eight threads get each their own answers over one client."""
    wrong: list[object] = []
    with served(triton) as seen, Client(seen.url, model="m") as client:

        def ask(number: int) -> None:
            for step in range(10):
                value = np.full((1, 1), number * 100 + step, dtype=np.float32)
                found = client.infer({"x": value})["y"]
                if found.tolist() != [[2 * (number * 100 + step)]]:
                    wrong.append(found)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen.paths().count("/v2/models/m/infer") == 80
    assert not wrong


def test_metadata_from_triton() -> None:
    """Triton has a call for a model's tensors."""
    with served(triton) as seen, Client(seen.url, model="m") as client:
        metadata = client.metadata()
        assert metadata.inputs == (TensorMetadata("x", "FP32", (-1, -1)),)
        assert [output.name for output in metadata.outputs] == ["y", "note"]
        assert metadata.versions == ("1", "2")
        client.metadata()
        assert seen.paths().count("/v2/models/m") == 1
        with pytest.raises(ServerError, match="unknown model"):
            client.metadata("q")


def test_metadata_from_a_sagemaker_front_end() -> None:
    """Inputs are learned from refusals, outputs from answers; and the source says so."""
    with served(sagemaker("UINT8")) as seen, Client(seen.url) as client:
        metadata = client.metadata()
        assert metadata.inputs == (TensorMetadata("x", "UINT8", (-1, -1)),)
        assert metadata.outputs == ()
        assert "refusals" in metadata.source
        asked = len(seen.requests)
        client.metadata()
        assert len(seen.requests) == asked


def test_a_server_that_words_it_otherwise_gives_no_metadata() -> None:
    """An unknown sentence is quoted, and nothing is guessed from it."""
    with served(lambda *_: error(400, "nope")) as seen:
        client = Client(seen.url, front_end="sagemaker")
        with client, pytest.raises(DecodeError, match="does not report the model's inputs: nope"):
            client.metadata()
    with served(lambda *_: error(500, "down")) as seen:
        client = Client(seen.url, front_end="sagemaker")
        with client, pytest.raises(ServerError, match="down"):
            client.metadata()


def test_inputs_are_learned_one_refusal_at_a_time() -> None:
    """Inputs of different types: the questions are as few as they can be, and no model runs."""
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {
        "b": ("BYTES", (1,)),
        "a": ("FP16", (-1, 3, 0)),
        "c": ("BOOL", ()),
    }
    asked = []

    def refusal(payload: Payload) -> str:
        inputs = decode_request(payload.body, header_length=payload.header_length).inputs
        asked.append(inputs)
        if set(inputs) - set(wanted):
            names = ",".join(f"'{name}'" for name in wanted)
            return (
                "[request id: 1] expected number of inputs between 3 and 4 but got 9 inputs for model 'm'. "
                f"Got input(s) [...], but missing required input(s) [{names}]. Please provide all required input(s)."
            )
        kinds = {"bool": "BOOL", "object": "BYTES", "float16": "FP16"}
        for name, (datatype, shape) in wanted.items():
            found = kinds[inputs[name].dtype.name]
            if found != datatype:
                return f"inference input '{name}' data-type is '{found}', but model 'm' expects '{datatype}'"
            if inputs[name].ndim != len(shape):
                dims = ",".join(map(str, shape))
                return f"unexpected shape for input '{name}' for model 'm'. Expected [{dims}], got [1]. "
        raise AssertionError("the model ran")

    assert probe_inputs(refusal) == tuple(TensorMetadata(name, *tensor) for name, tensor in wanted.items())
    assert len(asked) == 1 + 2 + 3


def test_classification_where_the_outputs_are_known() -> None:
    """Triton's metadata have the outputs of numbers; no other inference is needed."""
    with served(triton) as seen, Client(seen.url, model="m") as client:
        rows = client.infer({"x": X}, classification=2).classes("y")
        assert rows == ((Class(0.9, 1, "dog"), Class(0.1, 0, "cat")),) * 2
        assert seen.paths().count("/v2/models/m/infer") == 1
        body = seen.requests[-1][3]
        asked = decode_request(body, header_length=int(seen.requests[-1][2]["Inference-Header-Content-Length"])).outputs
        assert asked == (
            RequestedOutput("y", classification=2, binary_data=True),
            RequestedOutput("note", binary_data=True),
        )


def test_classification_where_the_outputs_must_be_learned() -> None:
    """The SageMaker front end is asked plainly once; from then on the names are known."""
    with served(sagemaker()) as seen, Client(seen.url) as client:
        for _ in range(3):
            assert client.infer({"x": X}, classification=2).classes()[0][0].label == "dog"
        assert seen.paths().count("/invocations") == 1 + 3
    with served(sagemaker()) as seen, Client(seen.url) as client:
        assert client.infer({"x": X}, outputs=["y"], classification=2).classes()[0][0].label == "dog"
        assert seen.paths().count("/invocations") == 1


def test_classes_of_text_are_refused_before_they_are_asked_for() -> None:
    """A model with outputs of text only cannot classify."""
    text = encode_response({"y": np.array([b"t"], dtype=object)}, model_name="m")
    client = Client("anything://", transport=FunctionTransport(lambda _: Answer(text.body, text.header_length)))
    with pytest.raises(EncodeError, match="the model has no output of numbers, only"):
        client.infer({"x": X}, classification=1)


@pytest.mark.parametrize("expects", ["UINT8", "BYTES"])
def test_images_go_as_the_model_takes_them(expects: str) -> None:
    """UINT8 gets one padded batch, BYTES the files themselves; the input's name is found."""
    with served(sagemaker(expects)) as seen, Client(seen.url) as client:
        response = client.infer_images([b"\x01\x02\x03", b"\x04"])
        if expects == "UINT8":
            assert response["y"].tolist() == [[2, 4, 6], [8, 0, 0]]
        else:
            assert response["y"].tolist() == [[3], [1]]


def test_images_need_an_input_for_images() -> None:
    """A model of numbers, of several inputs, or without that input is an EncodeError that says so."""

    def client(*inputs: TensorMetadata) -> Client:
        about = ModelMetadata(name="m", inputs=inputs, outputs=(), source="a test")
        text = encode_response({"y": [1]}, model_name="m")
        answer = Answer(text.body, text.header_length)

        def respond(call: Call) -> Answer:
            sent.append(decode_request(call.payload.body, header_length=call.payload.header_length).inputs)
            return answer

        return Client("anything://", transport=FunctionTransport(respond, about))

    sent: list[Any] = []
    numbers, pixels, text = (TensorMetadata("n", "FP32", (-1,)), TensorMetadata("p", "UINT8", (-1, -1)),
                             TensorMetadata("t", "BYTES", (-1,)))  # fmt: skip
    with pytest.raises(EncodeError, match="input 'n': expected FP32, got an encoded image, which only inputs of UINT8"):
        client(numbers).infer_images([b"i"])
    with pytest.raises(EncodeError, match="the model has the inputs p, q; name the one that takes the images"):
        client(pixels, TensorMetadata("q", "UINT8", (-1,))).infer_images([b"i"])
    with pytest.raises(EncodeError, match="the model has no input 'q'; its inputs are p"):
        client(pixels).infer_images([b"i"], input="q")
    with pytest.raises(EncodeError, match="the model has no input left for images; its inputs are p"):
        client(pixels).infer_images([b"i"], inputs={"p": [[1]]})
    client(numbers, pixels).infer_images([b"i"], input="p")
    assert sent[-1]["p"].tolist() == [[105]]
    client(text, pixels).infer_images([b"j"])
    assert sent[-1]["p"].tolist() == [[106]]
    client(numbers, pixels).infer_images([b"i"], inputs={"n": np.ones(1, np.float32)})
    assert (sent[-1]["p"].tolist(), sent[-1]["n"].tolist()) == ([[105]], [1])
    flat = client(TensorMetadata("f", "UINT8", (-1,)))
    flat.infer_images([b"i"])
    assert sent[-1]["f"].tolist() == [105]
    with pytest.raises(EncodeError, match="input 'f' has no batch dimension; send one image in a request"):
        flat.infer_images([b"i", b"j"])
    client(text).infer_images([b"i", b"jk"])
    assert sent[-1]["t"].tolist() == [b"i", b"jk"]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("127.0.0.1:8080", "is not an address; write http://host:port"),
        ("ftp://host", "is not an address"),
        ("http://", "is not an address"),
        ("http://[::1", "is not an address"),
        ("grpc://", "is not an address"),
        ("", "is not an address"),
        ("sagemaker://", "is not an address"),
    ],
)
def test_what_is_no_address_is_an_encode_error(url: str, sentence: str) -> None:
    """The sentence says what an address looks like."""
    with pytest.raises(EncodeError, match=sentence):
        Client(url)


def test_an_unknown_front_end_is_an_encode_error() -> None:
    """There are two front ends."""
    with pytest.raises(EncodeError, match="front_end is 'kserve'; write one of 'sagemaker', 'triton'"):
        Client("http://host", front_end="kserve")  # type: ignore[arg-type] # wrong on purpose


def test_without_grpc_the_error_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """``grpc://`` needs an extra, and says how to get it."""
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[grpc\]'"):
        Client("grpc://127.0.0.1:1")


def test_grpc_without_a_server_is_a_connect_error() -> None:
    """A refused gRPC connection names the address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"grpc://127.0.0.1:{unused.getsockname()[1]}"
        with Client(url, timeout=20) as client, pytest.raises(ConnectError, match=f"no server answers at {url}"):
            client.ready()


@pytest.mark.process
def test_importing_the_client_loads_no_framework() -> None:
    """Grpc and boto3 are loaded when they are used, not before."""
    code = (
        "import sys, tritonforge.inference.client, tritonforge.inference.wire, tritonforge.sagemaker.client\n"
        "sys.exit(', '.join(sorted({'grpc', 'boto3', 'botocore', 'tensorflow', 'nvidia'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class Huge(bytes):
    """2 GiB by its length."""

    def __len__(self) -> int:
        return 2**31


@pytest.mark.parametrize(
    "transport",
    [
        lambda: TritonTransport(Address("http://127.0.0.1:9", timeout=1, connections=1)),
        lambda: SageMakerTransport(Address("http://127.0.0.1:9", timeout=1, connections=1)),
        lambda: GrpcTransport("127.0.0.1:9", timeout=1),
    ],
)
def test_a_request_of_2_gib_is_refused_before_it_is_sent(transport: Callable[[], Any]) -> None:
    """It would end the server, or be misread; nothing is connected to, and no memory is asked for."""
    made = transport()
    call = Call(Payload((b"{}", Huge()), 2), None if isinstance(made, SageMakerTransport) else "m")
    with pytest.raises(EncodeError, match="at most 2147483647; send less"):
        made.infer(call)
    made.close()


@contextmanager
def grpc_served(answer: Callable[[Any], Any]) -> Iterator[str]:
    """A gRPC server of this process that answers ``ModelInfer`` with ``answer``; the rest is unimplemented."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from tritonclient.grpc import service_pb2_grpc

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # it has no types
        def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's own name
            return answer(request)

    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_outputs_that_a_grpc_server_writes_element_by_element_are_read() -> None:
    """KServe allows typed contents, which Triton does not write and other servers do; none is dropped."""
    from tritonclient.grpc import service_pb2

    typed = {
        "b": ("BYTES", "bytes_contents", [b"\xff", b""]),
        "f": ("FP32", "fp32_contents", [0.5, -1]),
        "t": ("BOOL", "bool_contents", [True, False]),
        "i": ("INT8", "int_contents", [-128, 127]),
        "u": ("UINT64", "uint64_contents", [2**64 - 1, 0]),
    }

    def answer(request: Any) -> Any:
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        for name, (datatype, field_name, elements) in typed.items():
            output = response.outputs.add(name=name, datatype=datatype, shape=[len(elements)])
            getattr(output.contents, field_name).extend(elements)
        if request.id == "short":
            response.raw_output_contents.append(b"")
        return response

    with grpc_served(answer) as url, Client(url, model="m", timeout=20) as client:
        response = client.infer({"x": X})
        assert {name: array.tolist() for name, array in response.outputs.items()} == {
            name: elements for name, (_, _, elements) in typed.items()
        }
        with pytest.raises(DecodeError, match="expected the contents of 5 outputs, got 1"):
            client.infer({"x": X}, id="short")


class ImageModel:
    """The SageMaker front end of a model that takes images: it counts the requests, and the runs of the model."""

    def __init__(self, datatype: str = "UINT8") -> None:
        self.datatype = datatype
        self.runs = 0
        self.requests = 0

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """Triton's answer, or its refusal."""
        if path != "/invocations":
            return 400, {}, b""
        self.requests += 1
        payload, refused = model({"content-type": headers["Content-Type"]}, body, expects=self.datatype)
        self.runs += refused is None
        return refused or (200, sagemaker_headers(payload), payload.body)  # type: ignore[arg-type] # one of both is set


@pytest.mark.parametrize(
    ("datatype", "names", "requests", "runs"),
    [
        ("UINT8", {"input": "x", "outputs": ["y"]}, 1, 1),  # both names are given: no extra request
        ("UINT8", {"outputs": ["y"]}, 2, 1),  # one refused request has the input's name
        ("UINT8", {"input": "x"}, 2, 2),  # one plain request has the outputs' names
        ("UINT8", {}, 3, 2),
        ("BYTES", {"input": "x", "outputs": ["y"]}, 2, 1),  # the refusal of UINT8 has the datatype
    ],
)
def test_classes_of_an_image_take_few_requests(datatype: str, names: dict[str, Any], requests: int, runs: int) -> None:
    """The front end has no metadata; what is found with the first image holds for the next ones."""
    counted = ImageModel(datatype)
    with served(counted.answer) as seen, Client(seen.url, front_end="sagemaker") as client:
        response = client.infer_images([b"an image"], classification=2, **names)
        assert response.classes("y")[0][0].label == "dog"
        assert (counted.requests, counted.runs) == (requests, runs)
        client.infer_images([b"the next"], classification=2, **names)
        assert (counted.requests, counted.runs) == (requests + 1, runs + 1)
