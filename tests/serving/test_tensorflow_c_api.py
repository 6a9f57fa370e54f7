"""Frozen graphs on TensorFlow's C API, beside the same graphs in a session of TensorFlow's Python."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.graphdefs import dense_layers
from tritonforge.errors import ArtifactError
from tritonforge.serving.backends.configuration import Configuration, parse_config
from tritonforge.serving.backends.requests import RequestError
from tritonforge.serving.backends.tensorflow import c_api
from tritonforge.serving.backends.tensorflow.model import Graph, load_graph, warm_up

pytestmark = [pytest.mark.framework, pytest.mark.slow]

SIZE = 16


@pytest.fixture(scope="module", autouse=True)
def keras() -> Iterator[None]:
    """The backend keeps its own process from loading Keras; other tests in this one need it."""
    had_keras = "keras" in sys.modules
    yield
    if not had_keras:
        sys.modules.pop("keras", None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version's folder with a graph of two layers."""
    weights = np.random.default_rng(0).standard_normal((2, SIZE, SIZE), dtype=np.float32)
    (tmp_path / "model.graphdef").write_bytes(dense_layers(weights))
    return tmp_path


def configure(folder: Path, *, output: str = "y", data_type: str = "TYPE_FP32") -> Configuration:
    """A configuration of the graph."""
    config = {
        "name": "m",
        "platform": "tensorflow_graphdef",
        "max_batch_size": 8,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [SIZE]}],
        "output": [{"name": output, "data_type": data_type, "dims": [SIZE]}],
    }
    return parse_config(config, folder)


@pytest.fixture
def without_c_api() -> Iterator[pytest.MonkeyPatch]:
    """TensorFlow's libraries cannot be loaded on their own, once `setattr` was called."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def load_both(folder: Path, patch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The graph on the C API, and in a session of TensorFlow's Python."""
    native = load_graph(configure(folder))
    patch.setattr(c_api, "find_library", lambda: None)
    python = load_graph(configure(folder))
    assert isinstance(native, c_api.FrozenGraph)
    assert isinstance(python, Graph)
    return native, python


def test_answers_have_the_same_bits_as_those_of_tensorflow_in_python(
    folder: Path, without_c_api: pytest.MonkeyPatch
) -> None:
    native, python = load_both(folder, without_c_api)
    warm_up(native, configure(folder))
    for rows in (1, 5, 0):
        x = np.random.default_rng(rows).random((rows, SIZE), np.float32)
        ours, theirs = (graph.run({"x": x}, ["y"])["y"] for graph in (native, python))
        assert ours.shape == theirs.shape == (rows, SIZE)
        assert ours.tobytes() == theirs.tobytes()


def test_errors_of_a_request_have_the_same_words(folder: Path, without_c_api: pytest.MonkeyPatch) -> None:
    graphs = load_both(folder, without_c_api)
    wide, flat = np.zeros((2, SIZE + 1), np.float32), np.zeros(SIZE, np.float32)
    for given, reason in (
        ({}, "feed a value for"),
        ({"x": wide}, "value of shape (2, 17)"),
        ({"x": flat}, "(None, 16)"),
    ):
        errors = []
        for graph in graphs:
            with pytest.raises(RequestError) as caught:
                graph.run(given, ["y"])
            errors.append((str(caught.value), caught.value.caller))
        assert errors[0] == errors[1]
        assert reason in errors[0][0]


def test_an_answer_outlives_the_next_request(folder: Path) -> None:
    """An array shows TensorFlow's own memory, which is freed with the array."""
    graph = load_graph(configure(folder))
    first, second = np.full((1, SIZE), 1, np.float32), np.full((1, SIZE), 2, np.float32)
    kept = graph.run({"x": first}, ["y"])["y"]
    before = kept.copy()
    graph.run({"x": second}, ["y"])
    assert kept.tobytes() == before.tobytes()


def test_a_file_that_tensorflow_refuses_has_the_reason_of_its_python(folder: Path) -> None:
    for content in (b"", b"garbage", dense_layers([np.eye(SIZE, dtype=np.float32)], min_consumer=10**6)):
        (folder / "model.graphdef").write_bytes(content)
        native = c_api.find_library()
        assert native is not None
        if content:
            with pytest.raises(c_api.CApiError):
                c_api.load_frozen_graph(native, folder / "model.graphdef", intra_threads=0, inter_threads=0)
        with pytest.raises(ArtifactError) as caught:
            load_graph(configure(folder))
        assert "is not a GraphDef that this TensorFlow can run" in str(caught.value) or not content


def test_a_configuration_that_differs_from_the_graph_is_refused_in_the_same_words(
    folder: Path, without_c_api: pytest.MonkeyPatch
) -> None:
    for config in (configure(folder, output="z"), configure(folder, data_type="TYPE_FP64")):
        reasons = []
        for find in (c_api.find_library, lambda: None):
            without_c_api.setattr(c_api, "find_library", find)
            with pytest.raises(ArtifactError) as caught:
                load_graph(config)
            reasons.append(str(caught.value))
            without_c_api.undo()
        assert reasons[0] == reasons[1]
