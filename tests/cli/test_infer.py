"""`tritonforge infer` with any tensor, against a real server of python models; the command runs in this process."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import ml_dtypes
import numpy as np
import pytest

from tests.support.command import tritonforge
from tests.support.python_models import ACCUMULATE, IDENTITY, PHOTO, REPEAT, tensors, write_model
from tritonforge.cli.inference_run import InferenceRun
from tritonforge.cli.input_arguments import InputArguments, read_inputs
from tritonforge.cli.main import main
from tritonforge.datatypes import BY_WIRE
from tritonforge.errors import ConnectError, ServerError
from tritonforge.inference.client import Answer, Call, Client, FunctionTransport
from tritonforge.inference.wire import Response, decode_request, encode_response
from tritonforge.serving.server import Server

pytestmark = pytest.mark.server

#: What the command printed: exit code, standard output, standard error.
Infer = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the whole module; its SageMaker front end asks the model of images."""
    repository = tmp_path_factory.mktemp("repository")
    every = {name: datatype.config.removeprefix("TYPE_") for name, datatype in BY_WIRE.items()}
    write_model(repository, "all", "max_batch_size: 4\n" + tensors(every, "-1", optional=True), IDENTITY)
    write_model(repository, "two", "max_batch_size: 4\n" + tensors({"F": "FP32", "S": "STRING"}, "2"), IDENTITY)
    write_model(repository, "photo", *PHOTO)
    (repository / "photo" / "labels.txt").write_text("cat\ndog\x1b[31m\nbird\n")
    write_model(repository, "whole", tensors({"U": "UINT8"}, "-1"), IDENTITY)
    write_model(repository, "repeat", *REPEAT)
    write_model(repository, "accumulate", *ACCUMULATE)
    with Server(
        repository,
        default_model="photo",
        models=["all", "two", "photo", "whole", "repeat", "accumulate"],
        sagemaker_port=0,
        http_port=0,
        grpc_port=0,
        metrics_port=0,
    ) as running:
        yield running


@pytest.fixture
def infer(server: Server, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Infer:
    """Run the command in a folder of its own; ``{http}``, ``{grpc}`` and so on in its arguments are the addresses."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"an image of 20 bytes")
    (tmp_path / "b.jpg").write_bytes(b"an image")
    (tmp_path / "bad.jpg").write_bytes(b"bad image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    urls = {
        "http": server.http_url,
        "grpc": server.grpc_url,
        "sagemaker": server.sagemaker_url,
        "metrics": str(server.metrics_url).removesuffix("/metrics"),
    }

    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as ended:
            main(["infer", *(urls.get(word[1:-1], word) if word[:1] == "{" else word for word in arguments)])
        printed = capfd.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


def outputs(infer: Infer, *arguments: str, stdin: str = "") -> dict[str, Any]:
    """The outputs of a request that succeeds, as JSON has them."""
    code, out, err = infer(*arguments, "--format", "json", stdin=stdin)
    assert (code, err) == (0, "")
    (answer,) = json.loads(out)["answers"]
    return answer["outputs"]


@pytest.mark.parametrize("address", ["{http}", "{grpc}"])
def test_every_datatype_goes_there_and_back(infer: Infer, address: str) -> None:
    """JSON becomes the datatype of each of 14 inputs, and every output is printed with its own."""
    values: dict[str, Any] = {name: [1, 0] for name in BY_WIRE}
    values |= {"BOOL": [True, False], "BYTES": ["é", ""], "UINT64": [2**64 - 1], "FP32": ["NaN", "-Infinity", 0.5]}
    given = [f"--input=in_{name}={json.dumps(value)}" for name, value in values.items()]
    printed = outputs(infer, address, "--model", "all", *given)
    for name, value in values.items():
        expected = {"datatype": name, "shape": [1, len(value)], "data": value}
        assert printed[f"out_{name}"] == expected, name


def test_every_form_of_a_value(infer: Infer, tmp_path: Path) -> None:
    """Text, JSON, and files of numpy, JSON, text and bytes give the same tensor."""
    np.save(tmp_path / "f.npy", np.array([1, 2]))
    np.savez(tmp_path / "both.npz", in_F=[1.0, 2.0], in_S=np.array([b"a", b"b"]))
    (tmp_path / "f.json").write_text("[[1, 2]]")
    (tmp_path / "f.txt").write_text("[1, 2]\n")
    (tmp_path / "f").write_text("[1, 2]")
    (tmp_path / "values.json").write_text('{"in_F": [1, 2], "in_S": ["a", "b"]}')
    datatypes = {"in_F": ("FP32", [1, 2]), "in_S": ("BYTES", ["a", "b"])}
    entries = [
        {"name": name, "datatype": datatype, "shape": [1, 2], "data": [data]}
        for name, (datatype, data) in datatypes.items()
    ]
    request = json.dumps({"id": "7", "parameters": {"priority": 0}, "inputs": entries})
    expected = outputs(infer, "{http}", "--model", "two", "--input", "in_F=[1,2]", "--input", 'in_S=["a","b"]')
    assert {name: output["data"] for name, output in expected.items()} == {"out_F": [1, 2], "out_S": ["a", "b"]}
    for value in ("@f.npy", "@f.json", "@f.txt", "@f", "@both.npz"):
        given = ("--input", f"in_F={value}", "--input", "in_S=@both.npz")
        assert outputs(infer, "{http}", "--model", "two", *given) == expected, value
    for document, stdin in (
        ("@both.npz", ""),
        ("@values.json", ""),
        ("@-", (tmp_path / "values.json").read_text()),
        ("@-", request),
    ):
        assert outputs(infer, "{http}", "--model", "two", "--input", document, stdin=stdin) == expected, document
    mixed = ("--input", "in_F=@-", "--input", 'in_S=["a","b"]')
    assert outputs(infer, "{http}", "--model", "two", *mixed, stdin="[1, 2]") == expected


def test_a_kserve_request_keeps_its_outputs_and_its_id(infer: Infer) -> None:
    """What the request asks for counts, for the only input without a name too."""
    request = {"id": "7", "outputs": [{"name": "out_FP32", "parameters": {"classification": 1}}]}
    request["inputs"] = [{"name": "in_FP32", "datatype": "FP32", "shape": [1, 2], "data": [1, 9]}]
    code, out, _ = infer("{http}", "--model", "all", "--input", "@-", "--json", stdin=json.dumps(request))
    (answer,) = json.loads(out)["answers"]
    assert (code, answer["id"], answer["model_name"]) == (0, "7", "all")
    assert answer["outputs"] == {"out_FP32": [{"score": 9.0, "index": 1}]}


def test_bytes_are_printed_as_text_or_as_base64(infer: Infer, tmp_path: Path) -> None:
    """Nothing is dropped or replaced; control characters do not reach the terminal."""
    (tmp_path / "blob").write_bytes(b"\xff\x00")
    printed = outputs(infer, "{http}", "--model", "all", "--input", "in_BYTES=@blob")
    assert printed["out_BYTES"] == {"datatype": "BYTES", "shape": [1, 1], "encoding": "base64", "data": ["/wA="]}
    code, out, _ = infer("{http}", "--model", "all", "--input", "in_BYTES=@blob")
    assert (code, out.splitlines()[1:]) == (0, ["  out_BYTES  BYTES [1, 1]", "    b'\\xff\\x00' (2 bytes)"])
    _, out, _ = infer("{http}", "--model", "all", "--input", "in_BYTES=one\ntwo \x1b]0;title\x07")
    assert out.splitlines()[2:] == ["    one", "    two \\u001b]0;title\\u0007"]


def test_long_outputs_are_abbreviated_for_people(infer: Infer) -> None:
    """Eight elements of a tensor; all of them in JSON."""
    values = list(range(20))
    _, out, _ = infer("{http}", "--model", "all", "--input", f"in_INT32={values}", "--input", f"in_FP64={values}")
    assert "out_INT32  INT32 [1, 20]  0, 1, 2, 3, 4, 5, 6, 7 ..." in out
    texts = json.dumps([str(value) for value in values])
    _, out, _ = infer("{http}", "--model", "all", "--input", f"in_BYTES={texts}")
    assert out.splitlines()[-2:] == ["    7", "    ... (12 more)"]


@pytest.mark.parametrize("address", ["{http}", "{grpc}", "{sagemaker}"])
def test_images_give_their_classes_and_all_other_outputs(infer: Infer, address: str) -> None:
    """Scores as classes with labels, text as text, numbers as numbers; the same at every address."""
    model = () if address == "{sagemaker}" else ("--model", "photo")
    code, out, err = infer(address, "a.jpg", "b.jpg", "--top", "2", "--batch", "2", *model)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [lines[0].split("  ")[0], lines[7].split("  ")[0]] == ["a.jpg", "b.jpg"]
    assert lines[1:7] == [
        "  scores",
        "    0.750000      1  dog\\u001b[31m",
        "    0.500000      2  bird",
        "  caption  BYTES [1]",
        "    20 bytes, note none",
        "  size  INT64 [1]  20",
    ]


@pytest.mark.parametrize("address", ["{http}", "{sagemaker}"])
def test_images_go_with_the_values_of_other_inputs(infer: Infer, address: str) -> None:
    """Each image of a batch has the same other inputs, or a row of its own."""
    model = () if address == "{sagemaker}" else ("--model", "photo")
    arguments = (address, "a.jpg", "b.jpg", "--batch", "2", "--top", "0", "--json", *model)
    for note, expected in (("x", ["note x"] * 2), ('["y", "z"]', ["note y", "note z"])):
        code, out, _ = infer(*arguments, "--input", "image", "--input", f"note={note}")
        captions = [answer["outputs"]["caption"]["data"][0] for answer in json.loads(out)["answers"]]
        assert (code, [caption.partition(", ")[2] for caption in captions]) == (0, expected)


def test_the_error_of_a_request_is_printed_once(infer: Infer) -> None:
    """With the images of that request; other requests are answered."""
    code, out, err = infer("{sagemaker}", "a.jpg", "bad.jpg", "b.jpg", "--batch", "2")
    assert code == 1
    assert [line.partition("  ")[0] for line in out.splitlines() if ".jpg" in line] == ["b.jpg"]
    assert err.count("error:") == 1
    assert "error: a.jpg, bad.jpg: the server answered 500: " in err
    code, out, _ = infer("{sagemaker}", "a.jpg", "bad.jpg", "--batch", "2", "--json")
    answers = json.loads(out)["answers"]
    assert [(answer["file"], answer["error"]["status"]) for answer in answers] == [("a.jpg", 500), ("bad.jpg", 500)]


def test_outputs_are_written_to_files_of_numpy(infer: Infer, tmp_path: Path) -> None:
    """Every output in full, rows of images joined, and what was written can be sent again."""
    (tmp_path / "blob").write_bytes(b"ends with a zero\0")
    code, _, _ = infer("{http}", "a.jpg", "b.jpg", "--model", "photo", "-o", "photo.npz")
    assert code == 0
    with np.load(tmp_path / "photo.npz") as written:
        assert written["scores"].tolist() == [[0.125, 0.75, 0.5]] * 2
        assert written["size"].tolist() == [[20], [8]]
        assert written["caption"].tolist() == [[b"20 bytes, note none"], [b"8 bytes, note none"]]
    for name, value in (("BF16", "[1.5, -2]"), ("BYTES", '["a", "é"]'), ("BOOL", "[true]")):
        infer("{http}", "--model", "all", "--input", f"in_{name}={value}", "-o", "one.npy")
        printed = outputs(infer, "{http}", "--model", "all", "--input", f"in_{name}=@one.npy")
        assert printed[f"out_{name}"]["data"] == json.loads(value)
    code, _, _ = infer("{grpc}", "--model", "repeat", "--input", "text=t", "--input", "count=2", "-o", "stream.npz")
    with np.load(tmp_path / "stream.npz") as written:
        assert {name: written[name].tolist() for name in written.files if "index" in name} == {
            "0/index": [0],
            "1/index": [1],
        }
    code, _, err = infer("{http}", "--model", "all", "--input", "in_BYTES=@blob", "-o", "cut.npz")
    assert (code, (tmp_path / "cut.npz").exists()) == (2, False)
    assert "numpy's files remove zero bytes" in err
    code, _, err = infer("{http}", "--model", "photo", "bad.jpg", "-o", "failed.npz")
    assert (code, (tmp_path / "failed.npz").exists()) == (1, False)
    assert "failed.npz is not written" in err


def test_a_decoupled_model_prints_each_response(infer: Infer) -> None:
    """Over gRPC without a flag; an error comes after the responses before it; HTTP says where to ask."""
    given = ("--model", "repeat", "--input", "text=hi")
    code, out, _ = infer("{grpc}", *given, "--input", "count=2")
    assert code == 0
    assert [line.partition("  ")[0] for line in out.splitlines() if "response" in line] == [
        "repeat 1 response 0",
        "repeat 1 response 1",
    ]
    assert "    hi" in out
    code, out, err = infer("{grpc}", *given, "--input", "count=-1", "--json")
    answers = json.loads(out)["answers"]
    assert code == 1
    assert [answer.get("response") for answer in answers] == [0, None]
    assert answers[1]["error"]["message"] == "broke after 1"
    code, _, err = infer("{http}", *given, "--input", "count=1")
    assert code == 1
    assert "use Triton's gRPC port (grpc://host:port), which streams the responses" in err


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_was_answered_before_a_connection_broke_is_not_lost(
    infer: Infer, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """A stream that breaks gives its responses so far, in text and in JSON, and the error."""
    whole = Client.infer_stream

    def broken(client: Client, *arguments: Any, **options: Any) -> Iterator[Response]:
        yield next(whole(client, *arguments, **options))
        raise ConnectError("the connection was cut")

    monkeypatch.setattr(Client, "infer_stream", broken)
    given = ("--model", "repeat", "--input", "text=hi", "--input", "count=2")
    code, out, err = infer("{grpc}", *given, "--format", form)
    assert (code, err) == (1, "error: the connection was cut\n")
    if form == "text":
        assert out.count("response 0") == 1
    else:
        printed = json.loads(out)
        assert [answer["response"] for answer in printed["answers"]] == [0]
        assert printed["error"] == {"message": "the connection was cut", "exit_code": 1}


def test_a_model_without_batches_prints_its_whole_outputs(infer: Infer) -> None:
    """An output of three elements is not three rows."""
    code, out, err = infer("{http}", "a.jpg", "--model", "whole", "--top", "0")
    assert (code, err, out.splitlines()[1:]) == (0, "", ["  UINT8 [20]  97, 110, 32, 105, 109, 97, 103, 101 ..."])
    code, out, _ = infer("{http}", "a.jpg", "--model", "whole", "--json")
    (answer,) = json.loads(out)["answers"]
    assert answer["outputs"]["out_U"]["shape"] == [20]


@pytest.mark.parametrize("address", ["{http}", "{grpc}"])
def test_a_sequence_goes_through_several_runs(infer: Infer, address: str) -> None:
    """The id and the flags reach the model; both spellings of the flags count."""
    sums = []
    for flags in (["--start"], [], ["--sequence-end"]):
        arguments = (address, "--model", "accumulate", "--input", "x=2", "--sequence-id", "12", *flags)
        sums.append(outputs(infer, *arguments)["sum"]["data"][0])
    assert sums == [2, 4, 6]


WRONG: dict[str, tuple[list[str], int, str]] = {
    "no model named": (["{http}", "--input", "x=1"], 2, "by name: accumulate, all, photo, repeat, two, whole. Name"),
    "the option for it": (["{grpc}", "a.jpg"], 2, "Name the model of the request: --model NAME"),
    "metrics port": (["{metrics}", "a.jpg"], 1, "is Triton's metrics port; use its HTTP, gRPC or SageMaker port"),
    "batch too large": (
        ["{http}", "a.jpg", "--model", "photo", "--batch", "8"],
        2,
        "--batch 8: model 'photo' accepts at most 4 (its max_batch_size)",
    ),
    "empty image": (["{http}", "a.jpg", "empty.jpg", "--model", "photo"], 2, "empty.jpg: the file is empty"),
    "nothing to send": (["{http}", "--model", "two"], 2, "pass IMAGES, or tensors with --input NAME=VALUE"),
    "a name alone": (
        ["{http}", "--model", "two", "--input", "in_F"],
        2,
        "--input in_F: write NAME=VALUE, or pass IMAGES",
    ),
    "no name": (["{http}", "--model", "two", "--input", "=1"], 2, "the input's name is missing"),
    "given twice": (
        ["{http}", "--model", "two", "--input", "in_F=1", "--input", "in_F=2"],
        2,
        "duplicate input 'in_F'",
    ),
    "no such input": (
        ["{http}", "--model", "two", "--input", "q=1"],
        2,
        "the model has no input 'q'; its inputs are in_F, in_S",
    ),
    "no such file": (
        ["{http}", "--model", "two", "--input", "in_F=@no.npy"],
        2,
        "no.npy: cannot read: No such file or directory",
    ),
    "text with @": (["{http}", "--model", "two", "--input", "in_S=@you"], 2, 'is written as JSON: ["@you"]'),
    "wrong shape": (
        ["{http}", "--model", "two", "--input", "in_F=[1,2,3]"],
        2,
        "input 'in_F': expected FP32 of shape [-1, 2], got shape [3]",
    ),
    "wrong datatype": (["{http}", "--model", "two", "--input", "in_F=abc"], 2, 'got the text "abc", which is not JSON'),
    "an image for numbers": (
        ["{http}", "a.jpg", "--model", "accumulate"],
        2,
        "input 'x': expected FP32, got an encoded image",
    ),
    "one value, two inputs": (
        ["{http}", "--model", "two", "--input", "@-"],
        2,
        "--input must name the input that takes the value: --input NAME=VALUE (its inputs are in_F, in_S)",
    ),
    "no binary form": (
        ["{http}", "--model", "all", "--input", "in_BF16=1", "--no-binary"],
        2,
        "Triton takes no BF16 in JSON; send it in binary form\n",
    ),
    "start alone": (
        ["{http}", "--model", "two", "--input", "in_F=1", "--start"],
        2,
        "--sequence-start needs --sequence-id",
    ),
    "sequence 0": (
        ["{http}", "--model", "two", "--input", "in_F=1", "--sequence-id", "0"],
        2,
        "--sequence-id '0': expected a number from 1",
    ),
    "SageMaker's option": (
        ["{http}", "a.jpg", "--async", "s3://b/p"],
        2,
        "--async applies to SageMaker endpoints (sagemaker://NAME), not to http://",
    ),
    "streams of images": (["{grpc}", "a.jpg", "--model", "photo", "--stream"], 2, "--stream takes tensors"),
    "stream over HTTP": (
        ["{http}", "--model", "two", "--input", "in_F=[1,2]", "--stream"],
        2,
        "use Triton's gRPC port",
    ),
    "file of another kind": (
        ["{http}", "a.jpg", "-o", "x.txt"],
        2,
        "x.txt: expected a file name that ends in .npz",
    ),
    "classes in a file": (
        ["{http}", "a.jpg", "-o", "x.npz", "--top", "2"],
        2,
        "-o writes numbers, but --top 2 requests",
    ),
    "a path behind the address": (["http://127.0.0.1:1/v2/models/m", "a.jpg"], 2, "leave /v2/models/m out"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_sentence(infer: Infer, case: str) -> None:
    """Nothing is printed but the sentence, in the words of the command line."""
    arguments, expected, sentence = WRONG[case]
    code, out, err = infer(*arguments, stdin="[1, 2]")
    assert (code, out) == (expected, "")
    assert sentence in err
    assert err.count("error:") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.npy", b"\x93NUMPY\x01\x00nonsense", "x.npy: expected arrays of numbers or text in numpy's format"),
        ("x.npz", b"PK\x03\x04nonsense", "x.npz: expected arrays of numbers or text in numpy's format"),
        ("x.json", b"[1, 2", "x.json: expected JSON: "),
        ("x.json", b"[" * 100_000, "x.json: expected JSON: it is nested too deeply"),
        ("x.json", b"\xff", "x.json: expected JSON: "),
        ("y.json", b'{"inputs": [{"name": "in_F"}]}', "y.json: input 'in_F' has no data"),
        ("y.json", b'{"inputs": [{"name": "in_F", "datatype": "F", "shape": [1], "data": [1]}]}', "'F' is not one"),
        ("y.json", b'{"inputs": [{"name": "in_F", "datatype": "FP32", "shape": [3], "data": [1]}]}', "3 elements for"),
        ("y.json", b'{"inputs": [{"name": "in_F", "datatype": "FP32", "shape": "1", "data": [1]}]}', "must be a list"),
        ("y.json", b'{"inputs": [{"name": "in_F", "datatype": "INT8", "shape": [1, 2], "data": [1, 2]}]}',
         "expected FP32 of shape [-1, 2], got a request with INT8"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_named(
    infer: Infer, tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    """The file, what was expected, and what to do."""
    (tmp_path / name).write_bytes(content)
    value = f"@{name}" if name.startswith("y") else f"in_F=@{name}"
    code, out, err = infer("{http}", "--model", "two", "--input", value)
    assert (code, out) == (2, "")
    assert sentence in err


def test_values_with_a_datatype_need_no_metadata(tmp_path: Path) -> None:
    """Arrays of numpy and KServe requests have a datatype and a shape; text and plain JSON have none."""
    np.save(tmp_path / "x.npy", np.array([[1.5]], np.float32))
    given = read_inputs([f"x=@{tmp_path / 'x.npy'}"], io.BytesIO())
    assert given.convert(None)["x"].tolist() == [[1.5]]
    request = {"inputs": [{"name": "x", "datatype": "FP16", "shape": [1, 2], "data": [1, 2]}]}
    array = read_inputs(["@-"], io.BytesIO(json.dumps(request).encode())).convert(None)["x"]
    assert (array.dtype, array.tolist()) == (np.float16, [[1, 2]])
    with pytest.raises(click.UsageError, match=r"no metadata. The datatype and shape of input 'x' are required"):
        read_inputs(["x=[1]"], io.BytesIO()).convert(None, reason="no metadata")


def test_python_objects_of_numpys_files_are_not_made(infer: Infer, tmp_path: Path) -> None:
    """A file of numpy can hold a pickle, which runs code; it is refused."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    np.save(tmp_path / "trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    code, _, err = infer("{http}", "--model", "two", "--input", "in_F=@trap.npy")
    assert (code, (tmp_path / "ran").exists()) == (2, False)
    assert "it contains Python objects; write it with numpy.save" in err


def test_bfloat16_of_numpys_files_is_read(infer: Infer, tmp_path: Path) -> None:
    """A file of numpy holds bfloat16 as plain bytes of two."""
    np.save(tmp_path / "x.npy", np.array([[1.5]], dtype=ml_dtypes.bfloat16))
    assert outputs(infer, "{http}", "--model", "all", "--input", "in_BF16=@x.npy")["out_BF16"]["data"] == [1.5]


@pytest.mark.parametrize(
    ("address", "code", "sentence"),
    [
        ("http", 2, "is Triton's own HTTP port, which has no /invocations; use its SageMaker port (8080)"),
        ("grpc", 1, "is a gRPC port, which does not answer HTTP/1.1"),
        ("metrics", 1, "is Triton's metrics port; use its HTTP, gRPC or SageMaker port"),
    ],
)
def test_transform_names_a_wrong_port_before_the_job_begins(
    server: Server, capfd: pytest.CaptureFixture[str], tmp_path: Path, address: str, code: int, sentence: str
) -> None:
    """A job whose every request would fail does not start."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"an image")
    url = f"http://127.0.0.1:{server.ports[address]}"
    with pytest.raises(SystemExit) as ended:
        main(["transform", str(tmp_path / "in"), str(tmp_path / "out"), "--url", url])
    assert ended.value.code == code
    assert sentence in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(("scores", "image_input", "requests", "runs"), [((), None, 3, 2), (("y",), "x", 1, 1)])
def test_the_classes_of_an_image_take_few_requests(
    scores: tuple[str, ...], image_input: str | None, requests: int, runs: int
) -> None:
    """A server without metadata: one refused request for the input's name, one plain one for the outputs' names."""
    count = {"requests": 0, "runs": 0}

    def answer(call: Call) -> Answer:
        count["requests"] += 1
        request = decode_request(call.payload.body, header_length=call.payload.header_length)
        if "x" not in request.inputs:
            raise ServerError(
                "expected 1 inputs but got 256 inputs for model 'm'. Got input(s) [], but missing required input(s) "
                "['x']. Please provide all required input(s).",
                status=400,
            )
        count["runs"] += 1
        classes = any(output.classification for output in request.outputs)
        values = np.array([[b"0.9:1:dog"]], dtype=object) if classes else np.array([[0.1, 0.9]], np.float32)
        payload = encode_response({"y": values}, model_name="m")
        return Answer(payload.body, payload.header_length)

    client = Client("test://", transport=FunctionTransport(answer))
    run = InferenceRun(
        client,
        InputArguments({}, image_input=image_input),
        top=1,
        binary=True,
        stream=False,
        sequence={},
        has_images=True,
        scores=scores,
    )
    (first,) = run.send_images([("a.jpg", b"an image")], 1)
    assert first.response is not None
    assert first.response.classes("y")[0][0].label == "dog"
    assert count == {"requests": requests, "runs": runs}
    list(run.send_images([("b.jpg", b"the next")], 1))
    assert count == {"requests": requests + 1, "runs": runs + 1}


@pytest.mark.parametrize("command", ["infer", "profile", "tune"])
def test_a_name_without_a_value_and_without_images_is_refused_by_all_commands(command: str, tmp_path: Path) -> None:
    result = tritonforge(command, "http://127.0.0.1:1" if command != "tune" else str(tmp_path), "--input", "no.jpg")
    assert result.returncode == 2
    assert "--input no.jpg: write NAME=VALUE, or pass IMAGES for this input" in result.stderr
