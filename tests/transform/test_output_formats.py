"""What is written of answers: JSON lines as the seed shows them, and tables."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.folder_transforms import FRAMES, Folder, Model
from tritonforge.errors import DecodeError, DefinitionError, MissingExtraError
from tritonforge.inference.wire import encode_response, sagemaker_headers
from tritonforge.transform import DataProcessing, Reply
from tritonforge.transform.output_formats import build_rows, format_json_line

SCORES = np.array([[6.08312e-07, 9.68555e-07, 0.9], [0.1, 0.7, 0.2]], np.float32)


def reply(outputs: dict[str, Any], *, binary: bool = True) -> Reply:
    """A Triton answer."""
    payload = encode_response(outputs, model_name="m", binary=binary)
    return Reply(200, {"content-type": sagemaker_headers(payload)["Content-Type"]}, payload.body)


@pytest.mark.parametrize("binary", [True, False])
def test_one_vector_of_scores_has_the_seeds_names(binary: bool) -> None:
    """Probabilities as the shortest numbers that are the same float32, and the best class."""
    reported = reply({"OUTPUT": SCORES[:1]}, binary=binary)
    line = format_json_line(reported.body, reported.headers)
    assert line == b'{"predictions":[{"probabilities":[6.08312e-07,9.68555e-07,0.9],"classes":2}]}'
    assert (np.float32(json.loads(line)["predictions"][0]["probabilities"]) == SCORES[0]).all()


def test_several_outputs_keep_their_names() -> None:
    """As the SavedModels of TensorFlow's own examples have them."""
    reported = reply({"classes": np.array([576]), "probabilities": SCORES[:1]})
    assert json.loads(format_json_line(reported.body, reported.headers)) == {
        "predictions": [{"classes": 576, "probabilities": [6.08312e-07, 9.68555e-07, 0.9]}]
    }


def test_a_batch_of_answers_is_one_line_with_as_many_predictions() -> None:
    """A request of several records has one answer."""
    reported = reply({"OUTPUT": SCORES})
    assert [
        prediction["classes"]
        for prediction in json.loads(format_json_line(reported.body, reported.headers))["predictions"]
    ] == [2, 1]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[b"a\xff", "ü".encode()]], dtype=object), ["a\ufffd", "ü"]),
        (np.array([[[1, 2], [3, 4]]], np.int32), [[1, 2], [3, 4]]),
        (np.array([[[0.5], [2.0]]], np.float16), [[0.5], [2.0]]),
        (np.array([[0.1, 1e300]]), None),
        (np.array([True]), True),
        (np.array([7], np.uint64), 7),
        (np.array([0.1], np.float32), 0.1),
        (np.array([0.1]), 0.1),
    ],
)
def test_every_kind_of_tensor_is_json(array: Any, expected: Any) -> None:
    reported = reply({"x": array, "y": np.zeros(1)})
    (row,) = json.loads(format_json_line(reported.body, reported.headers))["predictions"]
    assert row["x"] == (array[0].tolist() if expected is None else expected)


def test_what_is_no_number_is_reported_as_pythons_json_reads_it() -> None:
    """NaN and Infinity."""
    reported = reply({"x": np.array([[np.nan, np.inf, -np.inf]], np.float32)})
    assert b"[NaN,Infinity,-Infinity]" in format_json_line(reported.body, reported.headers)


def test_json_of_other_containers_loses_its_line_breaks() -> None:
    """TensorFlow Serving's answers are laid out over lines."""
    body = b'{\n    "predictions": [\n        {"classes": 576}\n    ]\n}\n'
    assert format_json_line(body, {"content-type": "application/json"}) == b'{"predictions":[{"classes":576}]}'


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"{", b"plain text", b'{"outputs":1}', b'{"model_name":"m"}'])
@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json"}, {"content-type": "text/plain"}])
def test_what_is_no_answer_is_one_error(body: bytes, headers: dict[str, str]) -> None:
    """Whatever the container says."""
    with pytest.raises(DecodeError):
        format_json_line(body, headers)
    with pytest.raises(DecodeError):
        build_rows(body, headers)


def test_lines_are_written_one_for_each_record(folder: Folder) -> None:
    """With a newline, whatever AssembleWith says."""
    folder.write({"a": b"".join(map(FRAMES["TFRecord"], (b"1", b"2")))})
    model = Model(lambda body: reply({"p": SCORES[int(body) - 1 : int(body)]}))
    outcome = folder.run(
        model, split_type="TFRecord", batch_strategy="SingleRecord", options={"output_format": "jsonl"}
    )
    assert outcome.state == "Completed"
    lines = folder.outputs()["a.out"].splitlines()
    assert [json.loads(line)["predictions"][0]["classes"] for line in lines] == [2, 1]


ROWS = np.random.default_rng(0).random((300, 20)).astype(np.float32)


def _table(folder: Folder, form: str, monkeypatch: pytest.MonkeyPatch | None = None) -> bytes:
    folder.write({"a": b"".join(FRAMES["Line"](b"%d" % number) for number in range(300))})
    model = Model(lambda body: reply({"x": ROWS[int(body) : int(body) + 1], "n": np.array([int(body)])}), delay=0.0003)
    outcome = folder.run(
        model,
        split_type="Line",
        batch_strategy="SingleRecord",
        max_concurrent_transforms=4,
        options={"output_format": form},
    )
    assert outcome.state == "Completed", outcome.reason
    ((name, content),) = folder.outputs().items()
    assert name == f"a.{form}"
    return content


@pytest.mark.parametrize("in_memory", [10**9, 0], ids=["memory", "file"])
def test_npy_has_a_row_for_each_record(folder: Folder, monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    """Numpy reads it; its columns are the outputs, by name."""
    monkeypatch.setattr("tritonforge.transform.object_progress._IN_MEMORY", in_memory)
    table = np.load(io.BytesIO(_table(folder, "npy")))
    assert (table["x"] == ROWS).all()
    assert table["n"].tolist() == list(range(300))


@pytest.mark.parametrize("in_memory", [10**9, 0], ids=["memory", "file"])
def test_parquet_has_a_row_for_each_record(folder: Folder, monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    """Another reader, pyarrow, reads it, written in several groups of rows."""
    monkeypatch.setattr("tritonforge.transform.object_progress._IN_MEMORY", in_memory)
    monkeypatch.setattr("tritonforge.transform.output_formats._ROW_GROUP", 2000)
    file = pq.ParquetFile(io.BytesIO(_table(folder, "parquet")))
    assert file.num_row_groups > 5
    table = file.read().to_pydict()
    assert np.array_equal(np.array(table["x"], np.float32), ROWS)
    assert table["n"] == list(range(300))


def test_tensors_of_several_dimensions_are_lists_of_lists(folder: Folder) -> None:
    """Each dimension has its own size."""
    folder.write({"a": b"1"})
    tensor = np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4)
    assert (
        folder.run(Model(lambda body: reply({"x": tensor})), options={"output_format": "parquet"}).state == "Completed"
    )
    assert pq.read_table(io.BytesIO(folder.outputs()["a.parquet"])).to_pydict() == {"x": tensor.tolist()}


@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_a_table_without_rows_can_be_read(folder: Folder, form: str) -> None:
    """An object without records has an output too."""
    folder.write({"a": b""})
    assert folder.run(Model(), split_type="Line", options={"output_format": form}).state == "Completed"
    assert len(folder.outputs()[f"a.{form}"]) > 10


def test_rows_of_another_shape_fail_the_object(folder: Folder) -> None:
    folder.write({"a": b"2\n2\n3\n"})
    model = Model(lambda body: reply({"x": np.zeros((1, int(body)))}))
    outcome = folder.run(model, split_type="Line", batch_strategy="SingleRecord", options={"output_format": "npy"})
    assert outcome.failures[0].record == 2
    assert "one type for all rows" in outcome.failures[0].reason


def test_text_is_no_table(folder: Folder) -> None:
    """The sentence names the form that takes it."""
    folder.write({"a": b"1"})
    model = Model(lambda body: reply({"x": np.array([[b"t"]], dtype=object)}))
    outcome = folder.run(model, options={"output_format": "npy"})
    assert "output 'x' is text" in outcome.failures[0].reason
    assert "choose jsonl" in outcome.failures[0].reason


def test_a_table_goes_on_where_a_killed_run_was(folder: Folder) -> None:
    """The columns are those of the rows that are there."""
    import threading

    folder.write({"a": b"".join(FRAMES["Line"](b"%d" % number) for number in range(60))})
    stop = threading.Event()

    def think(body: bytes) -> Reply:
        if int(body) >= 20:
            stop.set()
            threading.Event().wait(0.2)
        return reply({"x": ROWS[int(body) : int(body) + 1]})

    fields = {"split_type": "Line", "batch_strategy": "SingleRecord"}
    assert (
        folder.run(Model(think), work=True, options={"output_format": "npy", "stop": stop}, **fields).state == "Stopped"
    )
    rest = Model(lambda body: reply({"x": ROWS[int(body) : int(body) + 1]}))
    assert folder.run(rest, work=True, options={"output_format": "npy"}, **fields).state == "Completed"
    assert 20 < len(rest.bodies) < 60
    table = np.load(io.BytesIO(folder.outputs()["a.npy"]))
    assert (table["probabilities"] == ROWS[:60]).all()


def test_parquet_without_pyarrow_says_what_to_install(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is asked."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[parquet\]'"):
        folder.run(Model(), options={"output_format": "parquet"})


def test_data_processing_and_forms_do_not_mix(folder: Folder) -> None:
    """Filters work on what the container says."""
    with pytest.raises(DefinitionError, match="requires the format container"):
        folder.run(
            Model(),
            content_type="application/json",
            data_processing=DataProcessing(output_filter="$.x"),
            options={"output_format": "jsonl"},
        )


def test_a_stage_that_is_damaged_is_one_error(tmp_path: Path) -> None:
    from tritonforge.transform import output_formats

    (tmp_path / "stage").write_bytes(b"another file")
    with pytest.raises(DecodeError, match="the table that an earlier run began is damaged"):
        output_formats.read_dtype(tmp_path / "stage")
