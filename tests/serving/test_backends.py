"""The three python-based backends inside a real tritonserver."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.model_zoo import CPU, REFUSED, TYPES, add, dali_pipeline, onnx_model, tensor
from tests.support.tensor_client import FREE, Asker, images, jpeg, samples
from tritonforge.errors import LaunchError
from tritonforge.serving.server import Server

pytestmark = [pytest.mark.server, pytest.mark.framework]


def test_the_model_table_lists_every_version(zoo: Server) -> None:
    """All models of the zoo are ready, with both versions of the one that has two."""
    found = {(row.name, row.version): row.state for row in zoo.models()}
    assert set(found.values()) == {"READY"}
    assert {("pictures", "1"), ("versions", "1"), ("versions", "3")} <= set(found)
    assert zoo.default_model == "pictures"


def test_an_ensemble_answers_raw_bytes_at_invocations(zoo: Server, ask: Asker) -> None:
    """A JPEG as the whole body goes through DALI and TensorFlow."""
    kind = "application/vnd.sagemaker-triton.binary+json;json-header-size=0"
    answer = ask.pool.request("POST", f"{zoo.sagemaker_url}/invocations", body=jpeg(), headers={"Content-Type": kind})
    assert answer.status == 200
    size = int(answer.headers["Content-Type"].split("json-header-size=")[1])
    assert json.loads(answer.data[:size])["model_name"] == "pictures"
    scores = np.frombuffer(answer.data[size:], "<f4")
    assert scores.shape == (10,)
    assert scores.sum() == pytest.approx(1, abs=1e-5)


def test_json_answers_are_the_binary_ones(zoo: Server, ask: Asker) -> None:
    """The same image as JSON numbers gives the same scores."""
    image = images(jpeg(3))
    binary = ask.infer("pictures", {"INPUT": image}).outputs["OUTPUT"]
    given = {"name": "INPUT", "shape": image.shape, "datatype": "UINT8", "data": image.tolist()}
    body = json.dumps({"inputs": [given]}).encode()
    answer = ask.pool.request("POST", f"{zoo.sagemaker_url}/invocations", body=body)
    (output,) = json.loads(answer.data)["outputs"]
    np.testing.assert_allclose(np.array(output["data"], "f4"), binary.ravel(), rtol=1e-6)


def test_a_pipeline_made_for_a_gpu_runs_on_the_cpu(zoo: Server, ask: Asker) -> None:
    """The GPU pipeline and the CPU one give the same pixels, and the user is warned once."""
    image = images(jpeg(1))
    gpu = ask.infer("pixels", {"IMAGE": image}).outputs["PIXELS"]
    cpu = next(iter(ask.infer("pixels_completed", {"IMAGE": image}).outputs.values()))
    np.testing.assert_array_equal(gpu, cpu)
    assert zoo.warnings == (
        "this machine has no GPU: instances of pixels, scores that ask for one are served on the CPU",
    )
    assert zoo.log_tail(100_000).count("is made for a GPU and runs on the CPU") == 1


def test_padding_behind_an_image_changes_nothing(ask: Asker) -> None:
    """A batch of images of different sizes is padded with zeros; each gives what it gives alone."""
    files = [jpeg(seed, width=32 * (seed + 1)) for seed in range(4)] + [jpeg(9, file_format="PNG")]
    together = ask.infer("pictures", {"INPUT": images(*files)}).outputs["OUTPUT"]
    alone = [ask.infer("pictures", {"INPUT": images(file)}).outputs["OUTPUT"][0] for file in files]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_concurrent_requests_of_different_lengths_run_as_batches(ask: Asker) -> None:
    """Requests that wait together are executed together, although their images differ in length."""
    before = {model: ask.statistics(model) for model in ("pixels", "scores")}
    files = [jpeg(seed, width=16 * (seed % 5 + 1)) for seed in range(48)]
    expected = [ask.infer("pictures", {"INPUT": images(file)}).outputs["OUTPUT"] for file in files[:5]]
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda file: ask.infer("pictures", {"INPUT": images(file)}), files))
    for answer, scores in zip(answers, expected, strict=False):
        np.testing.assert_allclose(answer.outputs["OUTPUT"], scores, atol=1e-6)
    for model, counts in before.items():
        after = ask.statistics(model)
        requests = after["inference_count"] - counts["inference_count"]
        executions = after["execution_count"] - counts["execution_count"]
        assert requests == 53
        assert executions < 30, model
        assert max(row["batch_size"] for row in after["batch_stats"]) > 1


def test_files_that_do_not_fit_their_configuration_are_refused(tmp_path: Path) -> None:
    """Each model's reason, in Triton's words where Triton has them."""
    x = tensor("input", "x", "FP32", "[ 2 ]") + tensor("output", "y", "FP32", "[ 2 ]")
    onnx, graphdef = f'platform: "onnxruntime_onnx" {x}', f'platform: "tensorflow_graphdef" {x}'
    negative = onnx_model({"x": ("DOUBLE", [2])}, {"y": ("DOUBLE", [2])}, [("Neg", ["x"], ["y"])])
    pipeline = dali_pipeline("cpu")
    pixels = tensor("output", "PIXELS", "FP32", "[ -1, -1, -1 ]")
    for name, config, file, content in (
        ("onnx_garbage", onnx, "model.onnx", b"garbage"),
        ("onnx_missing", onnx, "other.onnx", negative),
        ("onnx_type", onnx, "model.onnx", negative),
        ("graph_garbage", graphdef, "model.graphdef", b"garbage"),
        ("dali_garbage", f'backend: "dali" max_batch_size: 2 {x}', "model.dali", b"garbage"),
        ("dali_name", f'backend: "dali" max_batch_size: 2 {x} {pixels}', "model.dali", pipeline),
        ("dali_type", f'backend: "dali" max_batch_size: 2 {pixels.replace("FP32", "UINT8")}', "model.dali", pipeline),
        ("dali_threads", f'backend: "dali" max_batch_size: 2 {pixels} {NO_THREADS}', "model.dali", pipeline),
        ("dali_split", f'backend: "dali" max_batch_size: 2 {pixels} {SPLIT}', "model.dali", pipeline),
        ("graph_init", f"{graphdef} {INIT}", "model.graphdef", b""),
    ):
        (add(tmp_path, name, f"{config} {CPU}") / file).write_bytes(content)
    with pytest.raises(LaunchError) as caught:
        Server(tmp_path, **{**FREE, "sagemaker_port": None})
    found = dict(line.removeprefix("model '").split("' did not load: ") for line in str(caught.value).splitlines())
    for name, reason in {
        "onnx_garbage": "onnx_garbage/1/model.onnx is not a model that this ONNX Runtime can run: Load model from",
        "onnx_missing": "onnx_missing/1/model.onnx' for model instance 'onnx_missing'",
        "onnx_type": "configuration expects datatype TYPE_FP32 for input 'x', model provides TYPE_FP64",
        "graph_garbage": "graph_garbage/1/model.graphdef is not a GraphDef that this TensorFlow can run",
        "dali_garbage": "this is not a serialised DALI pipeline",
        "dali_name": "Configuration file contains config for x but such input is not present in the pipeline.",
        "dali_type": 'Mismatch of data_type config for "PIXELS". Data type defined in config: TYPE_UINT8.',
        "dali_threads": "parameter 'num_threads' of model 'dali_threads' is 'all'; write a whole number from 1 on",
        "dali_split": "parameter 'split_along_outer_axis' of model 'dali_split' is not supported by tritonforge's",
        "graph_init": "parameter 'TF_INIT_OPS_FILE' of model 'graph_init' is not supported by tritonforge's backend",
    }.items():
        assert reason in found.pop(name)
    assert not found


SPLIT = 'parameters { key: "split_along_outer_axis" value { string_value: "PIXELS:OTHER" } }'
INIT = 'parameters { key: "TF_INIT_OPS_FILE" value { string_value: "init.txt" } }'
NO_THREADS = 'parameters { key: "num_threads" value { string_value: "all" } }'

BAD = {
    "empty": (b"", "is empty"),
    "text": (
        b"<html>404</html>",
        "is not an image of a format that DALI decodes: it starts with the text '<html>404</html>'",
    ),
    "bytes": (b"\x01\x02\x03\x04" * 9, "it starts with the bytes 01 02 03 04 01 02 03 04"),
    "zeros": (bytes(50), "contains 50 zero bytes and no image"),
    "cut": (jpeg()[:-200], "is a JPEG that was cut off"),
    "head": (jpeg()[:40], "is a JPEG that was cut off: its 40 bytes end before the image does"),
    "png": (jpeg(file_format="PNG")[:60], "is a PNG that was cut off"),
    "hollow": (b"\xff\xd8\xff\xd9", "DALI cannot process it: "),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_answered_with_what_is_wrong_with_it(ask: Asker, kind: str) -> None:
    """The error names the input and the damage, blames the caller, and the next request is answered."""
    content, reason = BAD[kind]
    answer = ask.infer("pictures", {"INPUT": np.frombuffer(content, np.uint8)[None]})
    assert answer.status == 400
    assert "in ensemble 'pictures', input 'IMAGE'" in answer.error
    assert reason in answer.error
    assert "\n" not in answer.error
    assert ask.infer("pictures", {"INPUT": images(jpeg())}).status == 200


def test_the_bad_sample_of_a_request_is_named(ask: Asker) -> None:
    """In a request of several images the error counts to the bad one."""
    answer = ask.infer("pictures", {"INPUT": images(jpeg(1), jpeg(2), b"no image", jpeg(3))})
    assert "input 'IMAGE', sample 3 of 4 is not an image" in answer.error
    hollow = ask.infer("pictures", {"INPUT": images(*[jpeg(1)] * 5, b"\xff\xd8\xff\xd9", jpeg(3))})
    assert "input 'IMAGE', sample 6 of 7: DALI cannot process it: " in hollow.error


def test_a_bad_image_leaves_its_neighbours_alone(ask: Asker) -> None:
    """Under concurrent load each bad request gets its own error, and every good one its own scores."""
    good = {seed: jpeg(seed) for seed in range(8)}
    expected = {seed: ask.infer("pictures", {"INPUT": images(file)}).outputs["OUTPUT"] for seed, file in good.items()}
    bad = [content for content, _ in BAD.values()]

    def one(number: int) -> None:
        if number % 10 == 3:
            content, reason = list(BAD.values())[number // 10 % len(bad)]
            answer = ask.infer("pictures", {"INPUT": np.frombuffer(content, np.uint8)[None]})
            assert answer.status == 400
            assert reason in answer.error
        else:
            answer = ask.infer("pictures", {"INPUT": images(good[number % 8])})
            assert answer.error == ""
            np.testing.assert_allclose(answer.outputs["OUTPUT"], expected[number % 8], atol=1e-6)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(one, range(240)))


def test_a_request_that_tensorflow_refuses_leaves_its_neighbours_alone(ask: Asker) -> None:
    """A batch that fails is run again request by request."""
    before = ask.statistics("types_tensorflow")
    others = {f"in_{name}": samples(wire)[:1] for name, wire in TYPES.items() if name != "STRING"}

    def one(number: int) -> Any:
        text = REFUSED.encode() if number == 2 else str(number).encode()
        given = {**others, "in_STRING": np.array([[text, b""]], dtype=object)}
        return ask.infer("types_tensorflow", given, outputs=["out_STRING"])

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(one, range(6)))
    after = ask.statistics("types_tensorflow")
    assert after["execution_count"] - before["execution_count"] < 6
    assert answers[2].status == 400
    assert f"{REFUSED} is not taken" in answers[2].error
    for number in (0, 1, 3, 4, 5):
        assert answers[number].outputs["out_STRING"].tolist() == [[str(number).encode(), b""]]


@pytest.mark.parametrize(
    ("model", "types"),
    [
        ("types_tensorflow", list(TYPES)),
        ("types_onnx", [name for name in TYPES if name != "STRING"]),
        ("texts_onnx", ["STRING"]),
    ],
)
def test_every_type_goes_in_and_comes_out(ask: Asker, model: str, types: list[str]) -> None:
    """One request carries all element types, BYTES and BF16 too, with their extremes."""
    names = {name: "BYTES" if name == "STRING" else TYPES[name] for name in types}
    given = {f"in_{name}": samples(wire) for name, wire in names.items()}
    answer = ask.infer(model, given)
    assert answer.error == ""
    for name in names:
        array = given[f"in_{name}"]
        result = answer.outputs[f"out_{name}"]
        assert result.dtype == array.dtype
        np.testing.assert_array_equal(result, array)


def test_onnx_text_has_to_be_utf8(ask: Asker) -> None:
    """What ONNX Runtime's Python package cannot carry is refused."""
    answer = ask.infer("texts_onnx", {"in_STRING": np.array([[b"\xff", b""]], dtype=object)})
    assert answer.status == 400
    assert "input 'in_STRING' is not UTF-8 text" in answer.error


def test_bytes_go_through_tensorflow_unchanged(ask: Asker) -> None:
    """Strings of any bytes and lengths, also empty ones."""
    given = np.array([[b"abc"], [b""], [b"\xff\0z"]], dtype=object)
    answer = ask.infer("texts_completed", {"text": given})
    assert answer.outputs["upper"].tolist() == [[b"ABC"], [b""], [b"\xff\0Z"]]
    assert answer.outputs["length"].tolist() == [[3], [0], [3]]


def test_only_requested_outputs_come_back(ask: Asker) -> None:
    """A request that lists one output gets that one."""
    answer = ask.infer("texts_completed", {"text": np.array([[b"four"]], dtype=object)}, outputs=["length"])
    assert {name: array.tolist() for name, array in answer.outputs.items()} == {"length": [[4]]}


def test_each_version_is_its_own_model(ask: Asker) -> None:
    """Version 1 negates, version 3 and the latest take the absolute value; the file is not called model.onnx."""
    x = np.array([[1.0, -2.0]], "f4")
    assert ask.infer("versions", {"x": x}, version="1").outputs["y"].tolist() == [[-1, 2]]
    assert ask.infer("versions", {"x": x}, version="3").outputs["y"].tolist() == [[1, 2]]
    assert ask.infer("versions", {"x": x}).outputs["y"].tolist() == [[1, 2]]
    assert ask.infer("versions", {"x": x}, version="2").status == 404


def test_reshape_happens_between_request_and_model(ask: Asker) -> None:
    """Clients see four numbers, the model two by two."""
    x = np.arange(8, dtype="f4").reshape(2, 4)
    np.testing.assert_array_equal(ask.infer("reshaped", {"x": x}).outputs["y"], -x)


def test_a_model_without_batching_takes_its_shapes_as_they_are(ask: Asker) -> None:
    """With max_batch_size 0 the first dimension is an ordinary one."""
    x = np.arange(6, dtype="f4").reshape(3, 2)
    np.testing.assert_array_equal(ask.infer("unbatched", {"x": x}).outputs["y"], -x)


@pytest.mark.parametrize(
    ("model", "inputs", "outputs", "max_batch_size"),
    [
        ("negative_completed", {"x": ("TYPE_FP32", [2])}, {"y": ("TYPE_FP32", [2])}, 4),
        (
            "texts_completed",
            {"text": ("TYPE_STRING", [1])},
            {"upper": ("TYPE_STRING", [1]), "length": ("TYPE_INT32", [1])},
            4,
        ),
        ("pixels_completed", {"IMAGE": ("TYPE_UINT8", [-1])}, {None: ("TYPE_FP32", [-1, -1, -1])}, 16),
    ],
)
def test_what_a_configuration_leaves_out_is_read_from_the_file(
    ask: Asker, model: str, inputs: dict[str, Any], outputs: dict[str, Any], max_batch_size: int
) -> None:
    """Inputs, outputs, batch size and the dynamic batcher are completed as Triton's own backends do."""
    config = json.loads(ask.pool.request("GET", f"{ask.url}/v2/models/{model}/config").data)
    assert config["max_batch_size"] == max_batch_size
    assert "dynamic_batching" in config
    for key, expected in (("input", inputs), ("output", outputs)):
        # DALI makes up the names of its outputs.
        found = {None if None in expected else row["name"]: (row["data_type"], row["dims"]) for row in config[key]}
        assert found == expected


def in_sequence(ask: Asker, model: str, correlation_id: int | str, values: list[np.ndarray[Any, Any]]) -> list[Any]:
    """The first output of each request of a whole sequence."""
    answers = []
    for place, value in enumerate(values):
        flags = {"sequence_start": place == 0, "sequence_end": place == len(values) - 1}
        answers.append(ask.infer(model, {"x": value}, parameters={"sequence_id": correlation_id, **flags}))
    assert [answer.error for answer in answers] == [""] * len(values)
    return [next(iter(answer.outputs.values()))[0].tolist() for answer in answers]


def test_a_sequence_model_has_its_controls_and_its_state(ask: Asker) -> None:
    """START, READY, END and CORRID in their types; the state starts from its file, and again in the next sequence."""
    numbers = [np.array([[value]], np.int32) for value in (1, 2, 3)]
    for correlation_id in (7, 7, 8):
        assert in_sequence(ask, "sums", correlation_id, numbers) == [
            [101, 3, 1, 0, correlation_id],
            [103, 0, 1, 0, correlation_id],
            [106, 0, 1, 1, correlation_id],
        ]


def test_sequences_at_the_same_time_keep_apart(ask: Asker) -> None:
    """Requests of several sequences run in one batch, with idle slots between them, each with its own state."""

    def one(number: int) -> list[Any]:
        values = [np.array([[number * 10 + step]], np.int32) for step in range(6)]
        return [answer[0] for answer in in_sequence(ask, "sums", 100 + number, values)]

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(one, range(8)))
    expected = [[100 + number * 10 * (step + 1) + sum(range(step + 1)) for step in range(6)] for number in range(8)]
    assert answers == expected
    assert max(row["batch_size"] for row in ask.statistics("sums")["batch_stats"]) > 1


def test_a_state_may_grow_and_be_an_output(ask: Asker) -> None:
    """A state of text and variable extent, without an initial value, under the oldest strategy and a text for an id."""
    words = [np.array([[word]], dtype=object) for word in (b"a", b"", b"\xc3\xa9")]
    assert in_sequence(ask, "histories", "one", words) == [[b"", b"a"], [b"", b"a", b""], [b"", b"a", b"", b"\xc3\xa9"]]


def test_outputs_come_in_the_order_of_their_names(ask: Asker) -> None:
    """As Triton's C++ backends answer; the stub gives the requested names as a set, in any order."""
    (text,) = [np.array([[b"four"]], dtype=object)]
    assert list(ask.infer("texts_completed", {"text": text}).outputs) == ["length", "upper"]
