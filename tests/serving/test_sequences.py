"""Implicit states without a server: where a state starts, what is kept, and what is removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritonforge.errors import ArtifactError
from tritonforge.model_files.signature import Signature, TensorSpec
from tritonforge.serving.backends.configuration import Configuration, check_tensors, parse_config
from tritonforge.serving.backends.sequences import SequencePosition, SequenceStates

START, NEXT, END = SequencePosition(5, True, False), SequencePosition(5, False, False), SequencePosition(5, False, True)


def configuration(folder: Path, *states: dict[str, Any], controls: tuple[Any, ...] = (), **rest: Any) -> Configuration:
    """A configuration named m with these states and controls."""
    sequence = {"max_sequence_idle_microseconds": "1000000", "control_input": list(controls), "state": list(states)}
    x = {"name": "x", "data_type": "TYPE_FP32", "dims": ["1"]}
    given = {"name": "m", "max_batch_size": 2, "input": [x], "output": [], "sequence_batching": sequence, **rest}
    return parse_config(given, folder / "1")


def state(data_type: str = "TYPE_INT32", extents: tuple[str, ...] = ("2",), **initial: Any) -> dict[str, Any]:
    """The state "s" -> "t" as Triton writes it in JSON."""
    given = {"input_name": "s", "output_name": "t", "data_type": data_type, "dims": list(extents)}
    return {**given, "initial_state": [{"name": "i", "data_type": data_type, **initial}]} if initial else given


def test_a_state_lives_from_start_to_end() -> None:
    """It is kept between requests, replaced at a start, removed at an end, and never kept for padding."""
    states = SequenceStates(configuration(Path("m"), state()), lambda: 0.0)
    padding = SequencePosition(0, False, False)

    def now(sequence: SequencePosition) -> Any:
        return states.get_inputs(sequence)["s"].tolist()

    assert states.output_names == ("t",)
    assert now(START) == [[0, 0]]
    states.update(START, {"t": np.array([[1, 2]], np.int32)})
    states.update(padding, {"t": np.array([[9, 9]], np.int32)})
    assert (now(NEXT), now(padding), now(SequencePosition(6, False, False))) == ([[1, 2]], [[0, 0]], [[0, 0]])
    assert now(START) == [[0, 0]]
    states.update(END, {"t": np.array([[3, 4]], np.int32)})
    assert now(NEXT) == [[0, 0]]


def test_a_sequence_that_never_ends_is_removed() -> None:
    """Long after Triton gave up its place."""
    times = iter((0.0, 30.0, 100.0))
    states = SequenceStates(configuration(Path("m"), state()), lambda: next(times))
    states.update(START, {"t": np.array([[1, 2]], np.int32)})
    states.update(SequencePosition(6, True, False), {"t": np.array([[3, 4]], np.int32)})
    assert states.get_inputs(NEXT)["s"].tolist() == [[1, 2]]
    states.update(SequencePosition(7, True, False), {"t": np.array([[3, 4]], np.int32)})
    assert states.get_inputs(NEXT)["s"].tolist() == [[0, 0]]
    assert states.get_inputs(SequencePosition(6, False, False))["s"].tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("given", "content", "expected"),
    [
        (state("TYPE_FP32", ("-1", "2")), None, [[[0.0, 0.0]]]),
        (state("TYPE_FP32", ("-1",), dims=["3"], zero_data=True), None, [[0.0, 0.0, 0.0]]),
        (state("TYPE_UINT8", ("-1",), dims=["2"], data_file="f"), b"\1\2", [[1, 2]]),
        (state("TYPE_BF16", ("1",), dims=["1"], data_file="f"), b"\x80\x3f", [[1.0]]),
        (state("TYPE_STRING", ("2",)), None, [[b"", b""]]),
        (state("TYPE_STRING", ("2",), dims=["2"], data_file="f"), b"\2\0\0\0ab\0\0\0\0", [[b"ab", b""]]),
    ],
)
def test_a_state_starts_from_its_initial_value(
    tmp_path: Path, given: Any, content: bytes | None, expected: Any
) -> None:
    """Zeros, or the file in initial_state/, of every type; an extent that varies is 1, or as the initial state says."""
    if content is not None:
        (tmp_path / "initial_state").mkdir()
        (tmp_path / "initial_state" / "f").write_bytes(content)
    states = SequenceStates(configuration(tmp_path, given), lambda: 0.0)
    assert states.get_inputs(START)["s"].tolist() == expected


@pytest.mark.parametrize("data_type", ["TYPE_INT32", "TYPE_STRING"])
def test_an_initial_state_that_is_too_short_is_refused(tmp_path: Path, data_type: str) -> None:
    """The file and what is missing are named."""
    (tmp_path / "initial_state").mkdir()
    (tmp_path / "initial_state" / "f").write_bytes(b"\3\0\0\0")
    given = state(data_type, dims=["2"], data_file="f")
    with pytest.raises(ArtifactError, match=r"initial_state/f: the initial state .*too short"):
        SequenceStates(configuration(tmp_path, given), lambda: 0.0)


CONTROL = {"name": "c", "control": [{"kind": "CONTROL_SEQUENCE_START", "int32_false_true": [0, 1]}]}
X, C = TensorSpec("x", "TYPE_FP32", (-1, 1)), TensorSpec("c", "TYPE_INT32", (-1, 1))
S, T = TensorSpec("s", "TYPE_INT32", (-1, 2)), TensorSpec("t", "TYPE_INT32", (-1, 2))


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        ([X, C, S], [T], None),
        ([X, S], [], "configuration specified sequence control 'c', but model does not provide that input"),
        (
            [X, TensorSpec("c", "TYPE_FP32", (-1, 1))],
            [],
            "sequence control 'c', the model expects data-type TYPE_FP32 but the model configuration specifies",
        ),
        (
            [X, TensorSpec("c", "TYPE_INT32", (-1, 2))],
            [],
            "sequence control 'c' in model has dims [2] but dims [1] is expected",
        ),
        ([X, C], [], "configuration expects 3 inputs, model provides 2"),
        ([X, C, S], [TensorSpec("u")], "unexpected inference output 't', allowed outputs are: u"),
    ],
)
def test_controls_and_states_are_compared_with_the_file(
    inputs: list[TensorSpec], outputs: list[TensorSpec], reason: str | None
) -> None:
    """They count as inputs, in the words of onnxruntime_backend."""
    config = configuration(Path("m"), state(), controls=(CONTROL,))
    if reason is None:
        check_tensors(config, Signature(inputs, outputs))
    else:
        with pytest.raises(ArtifactError) as caught:
            check_tensors(config, Signature(inputs, outputs))
        assert reason in str(caught.value)
