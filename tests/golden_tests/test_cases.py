"""Cases in JSON: what is read, and one sentence for each mistake."""

import json
from typing import Any

import pytest

from tritonforge.errors import CaseError
from tritonforge.golden_tests.cases import Case, Expectation, Source, Tolerance, parse_case

PATH = "seven.json: inputs.x.file: expected a path below the directory of the cases, with / and without .."


def parse(document: Any) -> Case:
    """Parse a document as a case."""
    text = document if isinstance(document, str) else json.dumps(document)
    return parse_case("seven", text, where="seven.json")


def test_every_field_of_a_case_is_read() -> None:
    case = parse(
        {
            "description": "a seven",
            "model": "digits",
            "inputs": {"IMAGE": {"files": ["a.png", "b.png"]}, "FACTOR": [1, 2]},
            "outputs": {"P": {"classes": [["seven", 9], ["six"]], "top": 2}},
            "steps": {"decode": {"pixels": {"absolute": 0.5, "value": {"file": "pixels.npy"}}, "x": {"ignore": True}}},
        }
    )
    assert case == Case(
        "seven",
        {"IMAGE": Source(("a.png", "b.png")), "FACTOR": Source(value=[1, 2])},
        description="a seven",
        model="digits",
        outputs={"P": Expectation(classes=(("seven", 9), ("six",)), top=2)},
        steps={
            "decode": {
                "pixels": Expectation(Source(("pixels.npy",)), tolerance=Tolerance(absolute=0.5)),
                "x": Expectation(is_ignored=True),
            }
        },
    )
    assert case.has_own_expectations


def test_a_flat_list_of_classes_is_that_of_the_only_row() -> None:
    case = parse({"inputs": {"x": 1}, "outputs": {"P": {"classes": ["seven", "nine"]}}})
    assert case.outputs["P"].classes == (("seven", "nine"),)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([], 'seven.json: expected an object such as {"inputs": {...}}, got []'),
        ("{", "seven.json: expected JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('{"inputs": {"x": NaN}}', 'seven.json: expected JSON: NaN is not JSON; write the string "NaN"'),
        ('{"inputs": {"x": 1e999}}', "seven.json: expected JSON: the number 1e999 is out of the range of FP64"),
        ('{"inputs": {"x": 1, "x": 2}}', 'seven.json: expected JSON: duplicate name "x"'),
        ("[" * 100_000, "seven.json: expected JSON: it is nested too deeply"),
        ({}, 'seven.json: inputs: missing. Write "inputs": {"INPUT": {"file": "image.png"}}.'),
        (
            {"inputs": {"x": 1}, "output": {}},
            "seven.json: output: unknown field (expected description, model, inputs, outputs, steps, error)",
        ),
        (
            {"inputs": {"x": {"path": "a"}}},
            'seven.json: inputs.x: expected a JSON value, {"file": PATH} or {"files": [PATH, ...]}, got "path"',
        ),
        (
            {"inputs": {"x": {"file": "../a.png"}}},
            f'{PATH}, got "../a.png"',
        ),
        (
            {"inputs": {"x": {"file": "/etc/passwd"}}},
            f'{PATH}, got "/etc/passwd"',
        ),
        ({"inputs": {"x": {"files": []}}}, "seven.json: inputs.x.files: expected a list of 1 to 1024 paths, got []"),
        ({"inputs": {"x": None}}, "seven.json: inputs.x: expected a value or a file, got null"),
        (
            {"inputs": {"x": 1}, "outputs": {"y": {"absolute": -1}}},
            "seven.json: outputs.y.absolute: expected a number that is not negative, got -1",
        ),
        (
            {"inputs": {"x": 1}, "outputs": {"y": {"relative": True}}},
            "seven.json: outputs.y.relative: expected a number that is not negative, got true",
        ),
        (
            {"inputs": {"x": 1}, "outputs": {"y": {"top": 0}}},
            "seven.json: outputs.y.top: expected a number of classes from 1 to 10, got 0",
        ),
        (
            {"inputs": {"x": 1}, "outputs": {"y": {"top": 1, "absolute": 1}}},
            "seven.json: outputs.y.top: classes are compared without a tolerance. Remove absolute and relative.",
        ),
        (
            {"inputs": {"x": 1}, "outputs": {"y": {"classes": []}}},
            "seven.json: outputs.y.classes: expected a list of classes, or one such list for each row, got []",
        ),
        (
            {"inputs": {"x": 1}, "outputs": {"y": {"classes": [1.5]}}},
            "seven.json: outputs.y.classes: a class is an index or a label, got 1.5",
        ),
        (
            {"inputs": {"x": 1}, "outputs": {"y": {"ignore": 1}}},
            "seven.json: outputs.y.ignore: expected true or false, got 1",
        ),
        (
            {"inputs": {"x": 1}, "outputs": {"y": {"tolerance": 1}}},
            "seven.json: outputs.y.tolerance: unknown field (expected value, classes, top, absolute, relative, ignore)",
        ),
        ({"inputs": {"x": 1}, "steps": []}, "seven.json: steps: expected an object, got []"),
        ({"inputs": {"x": 1}, "steps": {"a": 3}}, "seven.json: steps.a: expected an object, got 3"),
        ({"inputs": {"x": 1}, "model": 3}, "seven.json: model: expected a text, got 3"),
        (
            {"inputs": {"x": 1}, "error": ""},
            "seven.json: error: expected a text that is not empty. Remove error, or fill it in.",
        ),
        (
            {"inputs": {"x": 1}, "error": "no", "outputs": {"y": {}}},
            "seven.json: error: a case that expects an error has no outputs. Remove outputs and steps, or error.",
        ),
    ],
)
def test_a_mistake_is_one_sentence(document: Any, sentence: str) -> None:
    with pytest.raises(CaseError) as caught:
        parse(document)
    assert str(caught.value) == sentence


def test_all_mistakes_are_reported_up_to_a_number() -> None:
    with pytest.raises(CaseError) as caught:
        parse({"inputs": {"x": 1}, **{f"field{number}": 1 for number in range(30)}})
    assert len(str(caught.value).splitlines()) == 21
    assert str(caught.value).endswith("10 more mistakes")
