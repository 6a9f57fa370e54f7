"""Single values of a definition: what they hold, and what they refuse on their own."""

from collections.abc import Callable

import pytest

import tritonforge
from tritonforge import (
    S3,
    TYPE_FP32,
    Control,
    ControlInput,
    Dali,
    Direct,
    Download,
    DynamicBatching,
    Ensemble,
    File,
    Input,
    InstanceGroup,
    Oldest,
    Output,
    Python,
    SequenceBatching,
    Tensor,
    TensorFlow,
    Warmup,
    WarmupInput,
)
from tritonforge.errors import DefinitionError, TritonForgeError


def test_every_exported_name_is_there() -> None:
    """`tritonforge.__all__` lists what can be imported, sorted, and nothing else public."""
    assert all(hasattr(tritonforge, name) for name in tritonforge.__all__)
    assert len(set(tritonforge.__all__)) == len(tritonforge.__all__)


def test_sequences_are_stored_as_tuples_and_values_cannot_change() -> None:
    """A definition is a frozen value."""
    model = Python("m", input=[Input("x", TYPE_FP32, [4])], parameters={"a": 1})
    assert model.input == (Input("x", TYPE_FP32, (4,)),)
    with pytest.raises(AttributeError):
        model.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        model.parameters["a"] = 2  # type: ignore[index]


def test_the_file_a_backend_opens_follows_from_the_kind() -> None:
    """Each kind has the file name that its backend looks for, unless the definition names another."""
    assert TensorFlow("m").model_filename == "model.savedmodel"
    assert TensorFlow("m", platform="tensorflow_graphdef").model_filename == "model.graphdef"
    assert Dali("m", default_model_filename="other.dali").model_filename == "other.dali"


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no name": (lambda: Python(""), "name is ''"),
    "a path as name": (lambda: Python("a/b"), "the name of its directory"),
    "a blank in a name": (
        lambda: Python("my model"),
        "name is 'my model' .expected ASCII letters",
    ),
    "a name that is not ASCII": (lambda: Dali("modèle"), "name is 'modèle' .expected ASCII letters"),
    "a name that has to be encoded": (lambda: Ensemble("a+b", outputs=Tensor("t", TYPE_FP32, [1])), "name is 'a.b'"),
    "a command for a file": (lambda: Python("m", default_model_filename="$(x).py"), "default_model_filename is"),
    "a command for a group": (
        lambda: Python("m", instance_group=[InstanceGroup(name="a;b")]),
        "m: the name of an instance group is 'a;b'",
    ),
    "negative batch": (lambda: Python("m", max_batch_size=-1), "must be non-negative"),
    "unknown type": (lambda: Input("x", "FP32", [1]), "data_type is 'FP32'. Did you mean TYPE_FP32."),
    "zero extent": (lambda: Input("x", TYPE_FP32, [0]), r"dims is \[0\]: an extent must be >= 1, or -1"),
    "empty dims": (lambda: Output("x", TYPE_FP32, []), "a scalar is dims"),
    "double input": (lambda: Python("m", input=[Input("x"), Input("x")]), "input 'x' is declared twice"),
    "two schedulers": (
        lambda: Python("m", dynamic_batching=DynamicBatching(), sequence_batching=SequenceBatching()),
        "exclude each other",
    ),
    "two strategies": (lambda: SequenceBatching(direct=Direct(), oldest=Oldest()), "not both"),
    "labels without a file": (lambda: Output("x", labels=["a"]), "labels need a label_filename"),
    "a label of two lines": (lambda: Output("x", label_filename="l.txt", labels=["a\nb"]), "line break"),
    "warm-up without data": (lambda: WarmupInput(TYPE_FP32, [1]), "exactly one of"),
    "http": (lambda: Download(url="http://x/y", sha256="0" * 64), "only https://"),
    "short sha256": (lambda: File(path="x", sha256="abc"), "64 hexadecimal digits"),
    "no key": (lambda: S3(uri="s3://bucket"), "write s3://bucket/key"),
    "file outside": (lambda: Python("m", files={"../x": b""}), "not a path inside"),
    "both sources": (lambda: Dali("m", pipeline=print, artifact=File(path="x")), "not both"),
    "unknown device": (lambda: Dali("m", device="tpu"), "write 'gpu' or 'cpu'"),
    "unknown platform": (lambda: TensorFlow("m", platform="savedmodel"), "tensorflow_savedmodel"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_value_is_refused_when_it_is_made(case: str) -> None:
    """Local facts are checked in the constructor, with one sentence."""
    make, sentence = REFUSED[case]
    with pytest.raises(DefinitionError, match=sentence):
        make()


def test_values_that_are_right_are_made() -> None:
    """The table above refuses nothing that is right."""
    Warmup("w", {"x": WarmupInput(TYPE_FP32, [1], zero_data=True)})
    SequenceBatching(
        oldest=Oldest(),
        control_input=[ControlInput("START", [Control(kind="CONTROL_SEQUENCE_START", int32_false_true=[0, 1])])],
    )
    Download(url="https://x/y", sha256="0" * 64)


def test_every_error_is_in_the_tree() -> None:
    """Every public error descends from one root and has an exit code."""
    from tritonforge import errors

    for name in set(errors.__all__) - {"install_command"}:
        assert issubclass(getattr(errors, name), TritonForgeError)
        assert getattr(errors, name).exit_code in (1, 2)
        assert name in (errors.__doc__ or "")
