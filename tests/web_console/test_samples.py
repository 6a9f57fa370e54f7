import json

import numpy as np
import pytest

from tritonforge.errors import CaseError, EncodeError
from tritonforge.inference.transports import ModelMetadata, TensorMetadata
from tritonforge.web_console.png_image import encode_png
from tritonforge.web_console.samples import SampleLibrary, convert_upload, find_image_input

IMAGE = TensorMetadata("IMAGE", "UINT8", (-1, -1))
DIGITS = ModelMetadata("digits", (IMAGE,), (), source="a test")
INPUTS = (TensorMetadata("a", "FP32", (-1, 2)), TensorMetadata("b", "BYTES", (1,)))
TWO = ModelMetadata("sum", INPUTS, (), source="a test")
PNG = encode_png(np.zeros((1, 1, 3), np.uint8))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "repository").mkdir()
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "used.png").write_bytes(PNG)
    (tests / "other.png").write_bytes(PNG)
    (tests / "seven.json").write_text(json.dumps({"description": "a seven", "inputs": {"IMAGE": {"file": "used.png"}}}))
    (tests / "foreign.json").write_text(json.dumps({"model": "sum", "inputs": {"IMAGE": {"file": "used.png"}}}))
    (tests / "broken.json").write_text("{")
    return tmp_path


def test_samples_are_cases_then_images_then_generated_inputs(folder) -> None:
    library = SampleLibrary(folder / "repository")
    samples = library.list_samples(DIGITS, is_only=True)
    assert [(sample.name, sample.origin, sample.has_picture) for sample in samples] == [
        ("seven", "golden test", True),
        ("other.png", "file", True),
        ("test card", "generated", True),
        ("corrupt image", "generated", False),
    ]
    for sample in samples:
        inputs = library.read_inputs(sample.number, DIGITS, is_only=True)
        assert inputs["IMAGE"].shape[0] == 1
        if sample.has_picture:
            assert library.read_picture(sample.number, DIGITS, is_only=True).startswith(b"\x89PNG")
    with pytest.raises(CaseError, match="not found"):
        library.read_inputs(99, DIGITS, is_only=True)


def test_a_case_without_a_model_belongs_to_the_only_one(folder) -> None:
    library = SampleLibrary(folder / "repository")
    assert library.list_samples(DIGITS, is_only=False)[0].origin == "file"


def test_a_model_without_an_image_input_has_generated_values(tmp_path) -> None:
    library = SampleLibrary(tmp_path / "repository")
    (sample,) = library.list_samples(TWO, is_only=True)
    inputs = library.read_inputs(sample.number, TWO, is_only=True)
    assert (inputs["a"].dtype, inputs["a"].shape, inputs["b"].tolist()) == (np.float32, (1, 2), [b"tritonforge"])


@pytest.mark.parametrize(
    ("tensor", "is_image"),
    [
        (IMAGE, True),
        (TensorMetadata("x", "UINT8", (-1,)), True),
        (TensorMetadata("image_bytes", "BYTES", (-1, 1)), True),
        (TensorMetadata("prompt", "BYTES", (-1, 1)), False),
        (TensorMetadata("pixels", "UINT8", (-1, 28, 28)), False),
        (TensorMetadata("x", "FP32", (-1, -1)), False),
    ],
)
def test_which_input_takes_an_image(tensor, is_image) -> None:
    assert (find_image_input(ModelMetadata("m", (tensor,), (), source="a test")) is not None) == is_image


def test_a_file_becomes_the_only_input_and_an_object_all_inputs() -> None:
    assert convert_upload("a.jpg", b"\xff\xd8", DIGITS)["IMAGE"].tolist() == [[255, 216]]
    inputs = convert_upload("a.json", b'{"a": [[1, 2]], "b": ["x"]}', TWO)
    assert (inputs["a"].tolist(), inputs["b"].tolist()) == ([[1.0, 2.0]], [b"x"])


@pytest.mark.parametrize(
    ("name", "content", "metadata", "sentence"),
    [
        ("a.jpg", b"", DIGITS, "the file is empty"),
        ("a.npy", b"\x93NUMPY", DIGITS, "damaged"),
        ("a.jpg", b"\xff\xd8", TWO, "expected a JSON object with the inputs a, b"),
        ("a.json", b'{"c": 1}', TWO, "expected a JSON object with the inputs a, b"),
        ("a.json", b'{"a": [[1, 2, 3]]}', TWO, "input 'a'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_a_sentence(name, content, metadata, sentence) -> None:
    with pytest.raises((CaseError, EncodeError), match=sentence):
        convert_upload(name, content, metadata)
