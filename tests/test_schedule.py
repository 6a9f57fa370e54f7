"""The order of the tests names files that exist, and groups that are whole."""

import re

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


def test_all_files_that_use_the_server_of_digits_are_in_its_group() -> None:
    """One outside of it would start the server, with two processes of TensorFlow, once more."""
    users = {
        path.relative_to(TESTS).as_posix()
        for path in TESTS.rglob("test_*.py")
        if re.search(r"\bdigits_server\b(?=[:,)])", path.read_text())
    }
    assert users == {*TOGETHER["digits_server"]}
