"""The order of the tests names files that exist, and groups that are whole."""

import re

import pytest

from tests.support.checkout import ROOT
from tests.support.schedule import APART, LONGEST_FIRST, TOGETHER, find_scope

TESTS = ROOT / "tests"


def test_every_file_that_is_named_exists() -> None:
    named = {*LONGEST_FIRST, *APART, *(file for files in TOGETHER.values() for file in files)}
    assert [file for file in sorted(named) if not (TESTS / file).is_file()] == []


def test_tests_of_a_group_have_one_process_and_tests_apart_have_several() -> None:
    first, second, *_ = TOGETHER["digits_server"]
    assert find_scope(f"tests/{first}::test_a") == find_scope(f"tests/{second}::test_b[x::y]")
    assert find_scope(f"tests/{APART[0]}::test_a[x]") != find_scope(f"tests/{APART[0]}::test_a[y]")
    assert find_scope("tests/test_layers.py::test_a") == find_scope("tests/test_layers.py::test_b") != ""


@pytest.mark.parametrize("fixture", ["digits_server", "framework_processes"])
def test_all_files_that_use_a_fixture_with_tensorflow_are_in_its_group(fixture: str) -> None:
    """One outside of it would start two processes of TensorFlow once more."""
    texts = {path.relative_to(TESTS).as_posix(): path.read_text() for path in TESTS.rglob("test_*.py")}
    users = {file for file, text in texts.items() if re.search(rf"\b{fixture}\b(?=[:,)])", text)}
    assert users <= {*TOGETHER[fixture]}
    assert [file for file in {*TOGETHER[fixture]} - users if "import tensorflow" not in texts[file]] == []
