"""Wrong types in a definition: every field of every public constructor refuses them in one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

import numpy as np
import pytest

from tritonforge.errors import DefinitionError
from tritonforge.field_types import describe_value
from tritonforge.repository import definition
from tritonforge.repository.definition import (
    All,
    Control,
    Dali,
    DynamicBatching,
    Ensemble,
    File,
    Function,
    Input,
    InstanceGroup,
    Latest,
    Onnx,
    Output,
    Tensor,
    TensorFlow,
    WarmupInput,
)
from tritonforge.repository.definition.loading import load

FP32 = "TYPE_FP32"


class Unknown:
    """No field has this type."""

    def __repr__(self) -> str:
        raise RuntimeError("a message must not need it")


#: What the required fields of a constructor are given when another field is tested, by class and field.
REQUIRED: Mapping[str, Mapping[str, Any]] = {
    "Control": {"kind": "CONTROL_SEQUENCE_START"},
    "ControlInput": {"name": "c", "control": []},
    "State": {"input_name": "a", "output_name": "b", "data_type": FP32, "dims": [1]},
    "Resource": {"name": "r", "count": 1},
    "Specific": {"versions": [1]},
    "BatchInput": {"kind": "BATCH_ITEM_SHAPE", "target_name": ["t"], "data_type": FP32, "source_input": ["s"]},
    "BatchOutput": {"kind": "BATCH_SCATTER_WITH_INPUT_SHAPE", "target_name": ["t"], "source_input": ["s"]},
    "WarmupInput": {"data_type": FP32, "dims": [1], "zero_data": True},
    "Warmup": {"name": "w", "inputs": {}},
    "Function": {"build": print},
    "File": {"path": "p"},
    "Download": {"url": "https://x/y", "sha256": "0" * 64},
    "S3": {"uri": "s3://a/b"},
    "TensorFlowServing": {"models": [TensorFlow("m")]},
    "Ensemble": {"name": "e", "outputs": [Tensor("t", FP32, [1])]},
    "Tensor": {"name": "t"},
}
CONSTRUCTORS = {
    name: made
    for name in sorted(definition.__all__)
    if inspect.isclass(made := getattr(definition, name)) and hasattr(made, "__dataclass_fields__")
    if name not in ("Model", "Step", "EnsembleStep")  # not made by users
}
FIELDS = [(name, field.name) for name, made in CONSTRUCTORS.items() for field in fields(made) if field.init]
WRONG: tuple[Any, ...] = (Unknown(), 1j, Unknown, [Unknown()], {1: Unknown()}, Onnx("other"), np.array([1j]))


@pytest.mark.parametrize(("constructor", "field"), FIELDS, ids=[".".join(pair) for pair in FIELDS])
def test_a_wrong_type_is_one_sentence_that_names_the_field(constructor: str, field: str) -> None:
    """No traceback of another kind, whatever is given; the sentence has one line and no representation of models."""
    given = {"name": "m"} if issubclass(CONSTRUCTORS[constructor], definition.Model | Input | Output) else {}
    given = {**given, **REQUIRED.get(constructor, {})}
    CONSTRUCTORS[constructor](**given)
    for wrong in WRONG:
        hints = get_type_hints(CONSTRUCTORS[constructor], localns={"KW_ONLY": type(KW_ONLY)})  # for Python 3.10
        if isinstance(wrong, type) and "Callable" in str(hints[field]):
            continue  # a class is a function that makes its values
        with pytest.raises(DefinitionError) as caught:
            CONSTRUCTORS[constructor](**{**given, field: wrong})
        sentence = str(caught.value)
        assert f"{field}" in sentence
        assert "has the wrong type (expected " in sentence
        assert "\n" not in sentence
        assert len(sentence) < 300


ADVICE: Mapping[str, tuple[Callable[[], object], str]] = {
    "a truth value for a message": (
        lambda: Onnx("m", dynamic_batching=True),
        "Onnx 'm': dynamic_batching has the wrong type (expected DynamicBatching or None, got bool True). Write",
    ),
    "a dict for a message": (
        lambda: Onnx("m", dynamic_batching={"preferred_batch_size": [4]}),
        "(expected DynamicBatching or None, got dict). Write dynamic_batching=DynamicBatching(...).",
    ),
    "the class": (
        lambda: Onnx("m", dynamic_batching=DynamicBatching),
        "got the class DynamicBatching). Write dynamic_batching=DynamicBatching(...).",
    ),
    "one for a list": (
        lambda: Onnx("m", input=Input("X")),
        "input has the wrong type (expected a list of Input, got Input 'X'). Write input=[Input(...)].",
    ),
    "a text for a list": (lambda: Output("x", label_filename="l", labels="a"), "Write labels=['a']."),
    "a policy by name": (
        lambda: Onnx("m", version_policy="latest"),
        "(expected Latest, All, Specific or None, got str 'latest'). Write version_policy=Latest(...).",
    ),
    "a function for a file": (
        lambda: Onnx("m", artifact=describe_value),
        "Write artifact=Function(build=describe_value).",
    ),
    "an address for a file": (lambda: Onnx("m", artifact="s3://b/k"), "Write artifact=S3(...)."),
    "a number for a path": (lambda: File(path=3), "File: path has the wrong type (expected str, got int 3)."),
    "numpy's type": (lambda: Input("x", np.float32), "Write TYPE_FP32, for example."),
    "one extent": (lambda: Input("x", FP32, 3), "Write dims=[3]."),
    "an open extent": (
        lambda: Input("x", FP32, [None, 3]),
        "(expected int, got None). Write -1",
    ),
    "an element": (
        lambda: Onnx("m", input=[Output("x")]),
        "input[0] has the wrong type (expected Input, got ",
    ),
    "a value": (
        lambda: Onnx("m", parameters={"a": [1]}),
        "parameters['a'] has the wrong type (expected str, ",
    ),
    "a model for a tensor": (lambda: Ensemble("e", outputs=[Onnx("m")]), "(expected Tensor, got Onnx 'm')"),
    "a model at a model": (lambda: step()(Onnx("m")), 'input "x" of model "s" is given Onnx \'m\', not a tensor'),
    "a model by name": (lambda: step()(z=Onnx("m")), "is given Onnx 'm', not a tensor"),
    "a name for a tensor": (lambda: step()("I"), "is given str 'I', not a tensor of this ensemble. Write Tensor('I')."),
    "a type of numpy": (lambda: Input("x", "float32"), "data_type is 'float32'. Did you mean TYPE_FP32?"),
    "a type of the wire": (lambda: Tensor("x", "BYTES"), "tensor 'x': data_type is 'BYTES'. Did you mean TYPE_STRING?"),
    "a device by its short name": (
        lambda: InstanceGroup(kind="gpu"),  # type: ignore[arg-type]
        "kind is 'gpu' (expected KIND_AUTO, KIND_GPU, KIND_CPU, KIND_MODEL). Did you mean KIND_GPU?",
    ),
    "a type of a control": (
        lambda: Control(kind="CONTROL_SEQUENCE_CORRID", data_type="int64"),
        "Control: data_type is 'int64'. Did you mean TYPE_INT64?",
    ),
    "no warm-up data": (lambda: WarmupInput(FP32, [1]), "zero_data, random_data and input_data_file, got none"),
    "several outputs": (
        lambda: step()(step(outputs=("y", "z"))(Tensor("I"))),
        'is given Tensors, not a tensor of this ensemble. Choose one of its outputs: "y", "z".',
    ),
    "a number for a name": (lambda: step()(Tensor("I"), to=3), 'model "s": to is int 3 (expected a name, '),
    "a text for a version": (lambda: step()(Tensor("I"), version="2"), "version is str '2' (expected int)"),
}


def step(outputs: tuple[str, ...] = ("y",)) -> Onnx:
    """A model of one input."""
    return Onnx("s", input=[Input("x", FP32, [1])], output=[Output(name, FP32, [1]) for name in outputs])


@pytest.mark.parametrize("case", ADVICE)
def test_the_sentence_says_what_to_write(case: str) -> None:
    """Where the mistake has one likely cure."""
    make, sentence = ADVICE[case]
    with pytest.raises(DefinitionError) as caught:
        make()
    assert sentence in str(caught.value)


def test_what_is_right_is_stored_frozen() -> None:
    """Lists, ranges, arrays and numbers of numpy are taken; a text or a path is a file."""
    image = Input("x", FP32, np.array([1, 2]))  # type: ignore[arg-type]  # as a user may
    assert image.dims == (1, 2)
    assert [type(extent) for extent in image.dims] == [int, int]
    model = Onnx("m", artifact="a.onnx", max_batch_size=np.int64(4), instance_group=iter([InstanceGroup()]))  # type: ignore[arg-type]
    assert (model.artifact, model.max_batch_size, model.instance_group) == (File("a.onnx"), 4, (InstanceGroup(),))
    assert Onnx("m", artifact={2: Path("b.onnx")}).artifact == {2: File("b.onnx")}  # type: ignore[dict-item]
    assert isinstance(Onnx("m", parameters={"a": 1}).parameters, MappingProxyType)
    assert Dali("d", pipeline=print).pipeline is print
    assert Onnx("m", version_policy=All()).version_policy == All() != Latest()
    assert Onnx("m", files={"x": Path("y")}).files == {"x": File("y")}  # type: ignore[dict-item]
    assert WarmupInput(FP32, [1], input_data_file="f", data=Path("g")).data == File("g")  # type: ignore[arg-type]
    assert Function(print).build is print


KEYWORDS = {
    "misspelled": ("Onnx('m', max_batchsize=4)", "Onnx has no field 'max_batchsize'. Did you mean max_batch_size?"),
    "unknown": ("Latest(x=1)", "Latest has no field 'x'. Its fields are num_versions."),
    "by position": ("Onnx('m', 4)", "Onnx takes 1 values by position, got 2. Name the others: field=value."),
    "missing": ("Input()", "Input: 'name' must be given."),
    "missing by keyword": ("Download('https://x/y')", "Download: 'sha256' must be given."),
    "of a module": ("tf.Onnx('m', batch=4)", "Onnx has no field 'batch'."),
}


@pytest.mark.parametrize("case", KEYWORDS)
def test_arguments_that_a_constructor_does_not_have(case: str, tmp_path: Path) -> None:
    """File, line, and what the constructor takes."""
    call, sentence = KEYWORDS[case]
    (tmp_path / "definition.py").write_text(f"import tritonforge as tf\nfrom tritonforge import *\n\nmodel = {call}\n")
    with pytest.raises(DefinitionError) as caught:
        load(tmp_path)
    assert str(caught.value).split("definition.py:")[1].startswith(f"4: {sentence}")


@pytest.mark.parametrize("name", ["photo.jpg", "definition"])
def test_a_definition_is_a_python_file(tmp_path: Path, name: str) -> None:
    """A picture, or a file without a suffix."""
    (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DefinitionError, match=f"{name}: this is not a Python file"):
        load(tmp_path / name)


def test_a_python_file_that_holds_no_text_is_refused(tmp_path: Path) -> None:
    """A picture that is named like a definition."""
    (tmp_path / "definition.py").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    with pytest.raises(DefinitionError, match=r"definition\.py"):
        load(tmp_path)
