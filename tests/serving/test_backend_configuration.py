"""What the backends share, without a server: damage of images, agreement with the file, completion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tritonforge.errors import ArtifactError
from tritonforge.model_files.signature import Signature, TensorSpec
from tritonforge.serving.backends import configuration
from tritonforge.serving.backends.configuration import Configuration, parse_config
from tritonforge.serving.backends.dali import engine

FP32, INT8 = "TYPE_FP32", "TYPE_INT8"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is empty"),
        (bytes(3), "contains 3 zero bytes and no image"),
        (
            b"GIF89a" + bytes(9),
            "is not an image of a format that DALI decodes: it starts with the bytes 47 49 46 38 39 61 00 00",
        ),
        (
            b"\xff\xd8\xff\xe0" + bytes(90),
            "is a JPEG that was cut off: its 4 bytes end before the image does",
        ),
        (b"\x89PNG\r\n\x1a\n....IDAT", "is a PNG that was cut off: its 16 bytes end before the image does"),
        (b"\xff\xd8\xff\xe0....\xff\xd9" + bytes(90), None),
        (b"P5 1 1 255\n\xff", None),
    ],
)
def test_damage_is_described(content: bytes, found: str | None) -> None:
    """By the bytes alone; padding is not damage."""
    assert engine.describe_damage(content) == found


def test_a_reason_of_dalis_is_one_line() -> None:
    """Without the pipeline's source, C++ stack and last words; numbers of nvImageCodec in words."""
    message = (
        "Critical error in pipeline:\nError in CPU operator `nvidia.dali.fn.decoders.image`,\nwhich was used in the "
        'pipeline definition with the following traceback:\n\n  File "/secret/x.py", line 1, in <module>\n\n'
        "encountered:\n\n{}\nCurrent pipeline object is no longer valid."
    )
    assert engine.clean_message(message.format("nvImageCodec failure: '#4'")) == "the image's format is not supported"
    assert engine.clean_message(message.format("Failed to decode sample #2 : ")) == "Failed to decode the sample"
    reason = '[/opt/dali/x.cc:12] Assert on "a" failed: too big\nStacktrace (3 entries):\n[frame 0]: /usr/lib.so'
    assert engine.clean_message(reason) == 'Assert on "a" failed: too big'
    assert engine.clean_message("") == "DALI gave no reason"


def make_configuration(inputs: list[Any], outputs: list[Any], *, batch: int = 4, **rest: Any) -> Configuration:
    """A configuration named m; tensors are (name, type, dims)."""
    tensors = [[{"name": n, "data_type": t, "dims": d} for n, t, d in listed] for listed in (inputs, outputs)]
    given = {"name": "m", "max_batch_size": batch, "input": tensors[0], "output": tensors[1], **rest}
    return parse_config(given, Path("m", "1"))


X, Y = TensorSpec("x", FP32, (-1, 2)), TensorSpec("y", FP32, (-1, -1))
MODEL = Signature([X], [Y])


SHAPES = "model 'm', tensor '{}': the model expects 2 dimensions (shape {}) but the model configuration specifies {}"
COMPLETE = (
    "2 dimensions (an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making "
    "complete shape {})"
)
TYPE = "unable to load model 'm', configuration expects datatype TYPE_INT8 for input 'x', model provides TYPE_FP32"
COUNT = "unable to load model 'm', configuration expects 0 inputs, model provides 1"


@pytest.mark.parametrize(
    "config",
    [
        make_configuration([("x", FP32, [2])], [("y", FP32, [-1])]),
        make_configuration([("x", FP32, [7, 2])], [("y", FP32, [-1, -1])], batch=0),
        make_configuration([("x", FP32, [2])], []),
    ],
)
def test_a_configuration_that_fits_is_accepted(config: Configuration) -> None:
    """A model's -1 takes any extent of an input; outputs may be left out."""
    configuration.check_tensors(config, MODEL)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (make_configuration([], [("y", FP32, [-1])]), COUNT),
        (make_configuration([("z", FP32, [2])], []), "unexpected inference input 'z', allowed inputs are: x"),
        (
            make_configuration([("x", FP32, [2])], [("z", FP32, [2])]),
            "unexpected inference output 'z', allowed outputs are: y",
        ),
        (make_configuration([("x", INT8, [2])], []), TYPE),
        (make_configuration([("x", FP32, [3])], []), SHAPES.format("x", "[-1,2]", COMPLETE.format("[-1,3]"))),
        (
            make_configuration([("x", FP32, [2])], [("y", FP32, [5])]),
            SHAPES.format("y", "[-1,-1]", COMPLETE.format("[-1,5]")),
        ),
        (
            make_configuration([("x", FP32, [2])], [("y", FP32, [-1])], batch=0),
            SHAPES.format("x", "[-1,2]", "1 dimensions (shape [2])"),
        ),
    ],
)
def test_a_configuration_has_to_agree_with_the_file(config: Configuration, message: str) -> None:
    """Names, types and shapes, in the words of Triton's own backends."""
    with pytest.raises(ArtifactError) as caught:
        configuration.check_tensors(config, MODEL)
    assert str(caught.value) == message


def test_a_configuration_may_leave_inputs_of_a_graph_out() -> None:
    """But it cannot have more than the graph."""
    config = make_configuration([("x", FP32, [2])], [("y", FP32, [-1])])
    configuration.check_tensors(config, Signature([X, TensorSpec("z", FP32, (-1,))], [Y], all_inputs=False))
    with pytest.raises(ArtifactError, match="configuration expects 1 inputs, model provides at most 0"):
        configuration.check_tensors(config, Signature([], [Y], all_inputs=False))


def test_a_model_that_cannot_batch_is_not_batched() -> None:
    """Its first dimension is a number."""
    with pytest.raises(
        ArtifactError, match="for the model to support batching the shape should have at least 1 dimension"
    ):
        configuration.check_tensors(
            make_configuration([("x", FP32, [2])], []), Signature([TensorSpec("x", FP32, (1, 2))], [])
        )


def test_parameters_are_whole_numbers() -> None:
    """Others are named with the model."""
    parameters = {"good": {"string_value": "3"}, "bad": {"string_value": "many"}, "low": {"string_value": "-1"}}
    config = make_configuration([], [], parameters=parameters)
    assert config.read_number("good", 0) == 3
    assert config.read_number("absent", 7) == 7
    for name in ("bad", "low"):
        with pytest.raises(
            ArtifactError, match=f"parameter '{name}' of model 'm' is .*; write a whole number from 0 on"
        ):
            config.read_number(name, 0)


@pytest.mark.parametrize(
    ("data_type", "version", "refused"),
    [
        ("TYPE_STRING", "2.4.6", True),
        ("TYPE_STRING", "1.26.4", False),
        (FP32, "2.4.6", False),
    ],
)
def test_strings_need_the_numpy_that_the_stub_was_compiled_for(data_type: str, version: str, refused: bool) -> None:
    config = make_configuration([("x", FP32, [2])], [("y", data_type, [2])])
    if not refused:
        configuration.check_texts(config, numpy_version=version)
        return
    with pytest.raises(ArtifactError, match=r"tensor 'y': nvidia-pytriton's .* \(expected numpy 1, got 2.4.6\)"):
        configuration.check_texts(config, numpy_version=version)


@pytest.mark.parametrize(
    ("module", "extra"),
    [("torch", "pytorch"), ("nvidia", "dali"), ("treelite", "fil"), ("tensorflow", "tensorflow"), ("falcon", "local")],
)
def test_a_missing_module_is_explained_with_the_extra_of_its_backend(module: str, extra: str) -> None:
    error = configuration.explain_missing_module(module)
    assert str(error).startswith(f"{module} is not installed; run: pip install ")
    assert f"[{extra}]" in error.command
