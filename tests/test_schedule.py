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


def find_users(pattern: str) -> set[str]:
    """Return the files of tests in which an expression is found."""
    return {
        path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py") if re.search(pattern, path.read_text())
    }


@pytest.mark.parametrize(
    ("group", "pattern"),
    [
        ("digits_server", r"\bdigits_server\b(?=[:,)])"),
        # `Peers.boto3`, which others use, starts in a fraction of a second.
        ("peers", r"\bpeers\.(aws|sdk_3)\("),
    ],
)
def test_all_files_that_share_what_takes_long_to_start_are_in_its_group(group: str, pattern: str) -> None:
    """One outside of it would start the server, with two processes of TensorFlow, or AWS's SDK once more."""
    assert find_users(pattern) == {*TOGETHER[group]}


def test_the_group_that_makes_models_uses_its_processes_or_imports_tensorflow() -> None:
    group, users = {*TOGETHER["framework_processes"]}, find_users(r"\bframework_processes\b(?=[:,)])")
    assert users <= group
    assert group - users <= find_users("import tensorflow")
