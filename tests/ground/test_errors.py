"""The command that installs what is missing: it names the place from which this tritonforge came."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tritonforge import errors
from tritonforge.errors import install_command

SOURCES: dict[str, tuple[dict[str, Any] | str | None, str]] = {
    "an index": (None, "pip install 'tritonforge[local]'"),
    "damaged": ("{", "pip install 'tritonforge[local]'"),
    "another document": ("[]", "pip install 'tritonforge[local]'"),
    "a checkout": ({"url": "file:///src/it", "dir_info": {}}, "pip install '/src/it[local]'"),
    "an edited checkout": (
        {"url": "file:///src/it", "dir_info": {"editable": True}},
        "pip install -e '/src/it[local]'",
    ),
    "a blank": (
        {"url": "file:///my%20src", "dir_info": {}},
        "pip install 'tritonforge[local] @ file:///my%20src'",
    ),
    "a wheel": (
        {"url": "file:///w/tritonforge.whl", "archive_info": {}},
        "pip install 'tritonforge[local] @ file:///w/tritonforge.whl'",
    ),
    "a repository": (
        {"url": "https://host/it.git", "vcs_info": {"vcs": "git", "commit_id": "0" * 40}},
        "pip install 'tritonforge[local] @ git+https://host/it.git'",
    ),
}


@pytest.mark.parametrize("case", SOURCES)
def test_the_command_names_where_the_installation_came_from(case: str) -> None:
    """Before it is on an index, its name alone installs nothing."""
    source, command = SOURCES[case]
    text = source if source is None or isinstance(source, str) else json.dumps(source)
    assert install_command("local", text) == command


def test_the_tree_is_that_of_the_classes() -> None:
    """Each class of the module is in the docstring, below its base class."""
    parents: dict[str, str] = {}
    top = ""
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"(│  |   )?[├└]─ (\w+)", line):
            parents[match[2]] = top if match[1] else "TritonForgeError"
            top = top if match[1] else match[2]
    classes = [
        value for value in vars(errors).values() if isinstance(value, type) and value.__module__ == errors.__name__
    ]
    bases = {error.__name__: error.__bases__[0].__name__ for error in classes if error is not errors.TritonForgeError}
    assert {name: parents.get(name) for name in bases} == bases
