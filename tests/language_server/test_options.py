"""The editor's initialization options."""

from typing import Any

import pytest

from tritonforge.language_server.features import create_server
from tritonforge.validation.context import Options


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"image": 1}, "image has a wrong type (expected str)"),
        ({"gpus": True}, "gpus has a wrong type (expected int)"),
        ({"target": "moon"}, "target 'moon' is not known"),
        ({"image": "24.09", "colour": "red"}, "unknown colour"),
        ({"targetVersion": "0.16", "target": "kserve"}, ""),
        (None, ""),
    ],
)
def test_options_are_checked(given: Any, problem: str) -> None:
    server = create_server(Options(image="24.08"))
    described = server.configure(given)
    assert problem in described
    assert bool(problem) == bool(described)
    assert not server.runs_definitions
    used = isinstance(given, dict) and "None were used" not in described
    assert server.options.image == (given.get("image", "24.08") if used else "24.08")


def test_definitions_run_where_the_editor_or_the_command_allows_it() -> None:
    server = create_server(Options(), runs_definitions=True)
    server.configure({"runDefinitions": False})
    assert server.runs_definitions
    server = create_server(Options())
    server.configure({"runDefinitions": "yes"})
    assert not server.runs_definitions
    server.configure({"runDefinitions": True})
    assert server.runs_definitions
