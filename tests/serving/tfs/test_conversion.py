"""JSON, JSON lines and CSV to a request, case by case as the container's nginx answers them (run with node)."""

from __future__ import annotations

import pytest

from tritonforge.serving.tfs.handlers import build_model_path
from tritonforge.serving.tfs.worker import convert_body, flatten_response

JSON = "application/json"

#: (content type, body, what is posted): each was given to the container's own JavaScript.
CASES: list[tuple[str, str, str]] = [
    (JSON, '{"instances": [1, 2]}', '{"instances": [1, 2]}'),
    (JSON, '{"inputs" : {"a": 1}}', '{"inputs" : {"a": 1}}'),
    (JSON, '{"signature_name": "s", "examples":[{}]}', '{"signature_name": "s", "examples":[{}]}'),
    (JSON, "[1, 2]", '{"instances":[[1, 2]]}'),
    (JSON, "[[1], [2]]", '{"instances":[[1],[2]]}'.replace("],[", "], [")),
    (JSON, " [ [1, 2]]", '{"instances": [ [1, 2]]}'),
    (JSON, '{"a": 1}', '{"instances":[{"a": 1}]}'),
    (JSON, "5", '{"instances":[5]}'),
    (JSON, "", '{"instances":[]}'),
    (JSON, "[1]\n[2]\n", '{"instances":[[1],[2]]}'),
    (JSON, '{"a":1}\r\n\r\n{"a":2}', '{"instances":[{"a":1},{"a":2}]}'),
    (JSON, '{"a":1} {"a":2}', '{"instances":{"a":1} {"a":2}}'),
    (JSON, '{"a":{}}\n[', '{"instances":[{"a":{}},[]}'),
    ("application/jsonlines", '{"a":1}\n{"a":2}', '{"instances":[{"a":1},{"a":2}]}'),
    ("application/jsons", "[1]\n[2]", '{"instances":[[1],[2]]}'),
    ("Application/JSON; charset=utf-8", "1", '{"instances":[1]}'),
    ("text/csv", "1,2\n3,4\n", '{"instances":[[1,2],[3,4]]}'),
    ("text/csv", "1\n2", '{"instances":[1,2]}'),
    ("text/csv", "", '{"instances":[]}'),
    ("text/csv", "1,a\n\n2,b", '{"instances":[[1,"a"],[2,"b"]]}'),
    ("text/csv", '"x,""y""",-1.5e3', '{"instances":[["x,\\"y\\"",-1.5e3]]}'),
    ("text/csv", "01,5.,+3, 7 ,1E+2,\\", '{"instances":[["01","5.","+3",7,1E+2,"\\\\"]]}'),
    ("text/csv", ",", '{"instances":[["",""]]}'),
    ("text/csv", "NaN,é", '{"instances":[["NaN","é"]]}'),
]


@pytest.mark.parametrize(("content_type", "body", "posted"), CASES)
def test_bodies_become_what_the_container_makes_of_them(content_type: str, body: str, posted: str) -> None:
    """Heuristics and all."""
    converted = convert_body(body.encode(), content_type)
    assert converted is not None
    assert converted.decode() == posted


@pytest.mark.parametrize("content_type", [None, "", "image/jpeg", "text/plain; a=b", "application/jsonl"])
def test_other_content_types_are_not_converted(content_type: str | None) -> None:
    """None is what 415 is answered for."""
    assert convert_body(b"1", content_type) is None


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json", b'{"a": 1}'),
        ("text/csv, application/jsonlines", b'{"a": 1}'),
        ("application/json;q=1", b'{\n"a": 1\n}'),
        ("*/*", b'{\n"a": 1\n}'),
        (None, b'{\n"a": 1\n}'),
    ],
)
def test_an_answer_is_one_line_where_json_is_accepted(accept: str | None, expected: bytes) -> None:
    """Only an Accept header that lists the type as it is counts."""
    assert flatten_response(b'{\n"a": 1\n}', accept) == expected


@pytest.mark.parametrize(
    ("header", "path"),
    [
        (None, "/v1/models/model:predict"),
        ("", "/v1/models/model:predict"),
        ("c000=x", "/v1/models/model:predict"),
        ("tfs-model-name=a.b-c_d", "/v1/models/a.b-c_d:predict"),
        ("x=1,tfs-model-version=02,tfs-method=regress", "/v1/models/model/versions/02:regress"),
    ],
)
def test_attributes_make_the_path(header: str | None, path: str) -> None:
    """What the header does not say is the default model, its latest version, and predict."""
    assert build_model_path(header, "model") == path
