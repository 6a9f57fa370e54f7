"""JSONPath filters and joins, as the developer guide has them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tritonforge.errors import DecodeError, DefinitionError
from tritonforge.transform import DataProcessing, TransformInput, TransformJob, TransformOutput
from tritonforge.transform.data_processing import FilterError, JsonPath, Processing, find_path_problem

DOCUMENT = {"id": 7, "features": [1, 2, 3, 4], "more": {"deep": ["a", {"b": True}]}, "odd name": None}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", DOCUMENT),
        ("$.id", 7),
        ("$['id']", 7),
        ('$["odd name"]', None),
        ("$['id','odd name']", {"id": 7, "odd name": None}),
        ("$.features[0]", 1),
        ("$.features[-1]", 4),
        ("$.features[1,3]", [2, 4]),
        ("$.features[1:3]", [2, 3]),
        ("$.features[:2]", [1, 2]),
        ("$.features[2:]", [3, 4]),
        ("$.features[-2:]", [3, 4]),
        ("$.features[0,2:]", [1, 3, 4]),
        ("$.features[*]", [1, 2, 3, 4]),
        ("$.features[7:]", []),
        ("$.more.deep[1].b", True),
        ("$.more.*", [["a", {"b": True}]]),
        ("$.more['deep'][0]", "a"),
    ],
)
def test_paths_find_what_they_name(path: str, found: Any) -> None:
    """A slice goes up to its end, which is not part of it."""
    assert JsonPath.parse(path).select(DOCUMENT) == found


@pytest.mark.parametrize(
    "path", ["$.missing", "$['id','missing']", "$.features[4]", "$.features[-5]", "$.id[0]", "$[0]"]
)
def test_what_is_not_there_is_an_error(path: str) -> None:
    """An index out of range, a missing member, a member of what has none."""
    with pytest.raises(FilterError, match=r"no member|no element|has no|is not an array"):
        JsonPath.parse(path).select(DOCUMENT)


@pytest.mark.parametrize("path", ["", "id", "$id", "$.", "$..id", "$[", "$[]", "$[1,]", "$[?(@.x)]", "$['a'", "$[a]"])
def test_what_is_no_path_is_refused(path: str) -> None:
    """Also what full JSONPath has and batch transform has not."""
    assert find_path_problem(path)
    with pytest.raises(DefinitionError):
        JsonPath.parse(path)


def processing(content_type: str, *, lines: bool = True, **fields: Any) -> Processing:
    """The processing of a job."""
    split = "Line" if lines else "None"
    found = Processing.from_job(
        TransformJob(
            input=TransformInput(uri="in", content_type=content_type, split_type=split),  # type: ignore[arg-type]
            output=TransformOutput(uri="out", assemble_with=split),  # type: ignore[arg-type]
            data_processing=DataProcessing(**fields),
        )
    )
    assert found is not None
    return found


def test_no_processing_is_none() -> None:
    """The defaults leave everything as it is."""
    job = TransformJob(
        input=TransformInput(uri="in"),
        output=TransformOutput(uri="out"),
        data_processing=DataProcessing(input_filter="$", output_filter="$", join_source="None"),
    )
    assert Processing.from_job(job) is None


def test_a_column_is_kept_from_the_model_and_joined_to_its_answer() -> None:
    """The developer guide's example of CSV: the id goes around the model."""
    found = processing("text/csv", input_filter="$[1:]", join_source="Input", output_filter="$[0,-1]")
    body = b'1,46,"a, b"\n2,47,c\n'
    assert found.filter_request(body) == b'46,"a, b"\n47,c\n'
    assert found.join_response(body, b"0.5\n0.25\n") == b"1,0.5\n2,0.25"


def test_json_gets_the_answer_as_a_member() -> None:
    """An object gets SageMakerOutput; what is none becomes SageMakerInput of a new one."""
    found = processing("application/jsonlines", join_source="Input")
    joined = found.join_response(b'{"id":1}\n[2,3]', b'{"score":0.5}\n0.25\n')
    assert [json.loads(line) for line in joined.split(b"\n")] == [
        {"id": 1, "SageMakerOutput": {"score": 0.5}},
        {"SageMakerInput": [2, 3], "SageMakerOutput": 0.25},
    ]


def test_one_document_is_joined_as_a_whole() -> None:
    """Without SplitType the object is one JSON document, with line breaks of its own."""
    found = processing(
        "application/json",
        lines=False,
        input_filter="$.features",
        join_source="Input",
        output_filter="$['id','SageMakerOutput']",
    )
    body = json.dumps(DOCUMENT, indent=1).encode()
    assert found.filter_request(body) == b"[1,2,3,4]"
    assert json.loads(found.join_response(body, b'{"y":\n1}')) == {"id": 7, "SageMakerOutput": {"y": 1}}


def test_an_output_filter_alone_filters_the_answer() -> None:
    found = processing("application/jsonlines", output_filter="$.y")
    assert found.join_response(b"{}\n{}\n", b'{"y":1}\n{"y":2}\n') == b"1\n2\n"
    assert found.filter_request(b"{}\n{}\n") == b"{}\n{}\n"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"0.5\n", "cannot join 2 records with 1"),
        (b"{\n}\n", "the answer is not JSON"),
        (b"\xff\n1\n", "the answer is not JSON"),
    ],
)
def test_answers_that_cannot_be_joined_are_reported(answer: bytes, sentence: str) -> None:
    """Too few of them, or no JSON."""
    with pytest.raises(DecodeError, match=sentence):
        processing("application/jsonlines", join_source="Input").join_response(b"{}\n{}\n", answer)


def test_a_row_cannot_hold_a_list() -> None:
    """A filter that gives a list of lists for CSV is an error, not a row of Python text."""
    found = processing("application/jsonlines", join_source="Input")
    rows = Processing(
        rows=True, lines=True, input_filter=found.input_filter, output_filter=JsonPath.parse("$[*]"), join=True
    )
    assert rows.join_response(b"1,2\n", b"3\n") == b"1,2,3"
