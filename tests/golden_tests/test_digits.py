"""The golden tests of `repos/digits`, three mutants of it, and the output on the page and in the README."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.checkout import ROOT
from tests.support.command import tritonforge
from tests.support.golden_mutants import MUTANTS, Mutant, build_mutant
from tests.support.golden_pictures import write_picture_cases
from tritonforge.cli.case_reports import SuiteReport, format_result, format_total
from tritonforge.golden_tests.case_files import CaseDirectory
from tritonforge.golden_tests.runner import RepositoryRunner
from tritonforge.golden_tests.session import open_runner
from tritonforge.golden_tests.suite import Mode, run_case
from tritonforge.inference.client import Client
from tritonforge.serving.repository_overlay import read_configs
from tritonforge.serving.server import Server

pytestmark = [pytest.mark.server, pytest.mark.framework]

CASES = ROOT / "repos" / "digits" / "tests"
_MODES: Final[tuple[Mode, ...]] = ("record", "replay", "replay")
MUTANT, *OTHERS = (
    mutant
    for name in ("channel order", "two labels swapped", "a kernel by 1 %")
    for mutant in MUTANTS
    if (mutant.repository, mutant.name) == ("digits", name)
)


@pytest.fixture(scope="module")
def runner(digits: Path, digits_server: Server) -> Iterator[RepositoryRunner]:
    """Asks the server of all tests that runs `repos/digits`."""
    assert digits_server.http_url is not None
    with Client(digits_server.http_url) as client:
        yield RepositoryRunner(client, read_configs(digits), lambda: client)


@pytest.fixture(scope="module")
def cases(runner: RepositoryRunner, tmp_path_factory: pytest.TempPathFactory) -> CaseDirectory:
    """Recorded cases with all numbers, of one image and of eight, which pass on the server that recorded them."""
    directory = CaseDirectory(tmp_path_factory.mktemp("recorded") / "cases")
    write_picture_cases(directory.folder, "digits")
    for mode in _MODES:
        results = [run_case(directory, name, runner, mode=mode) for name in ("one", "eight")]
        assert all(result.is_success for result in results), results
    return directory


@pytest.fixture(scope="module")
def folder(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where mutants are built: the definition and its build."""
    folder = tmp_path_factory.mktemp("mutants")
    (folder / "digits").mkdir()
    (folder / "digits" / "source").symlink_to(ROOT / "repos" / "digits")
    (folder / "digits" / "built").symlink_to(digits)
    return folder


def read_block(text: str, command: str) -> list[str]:
    """The lines that a console block of a page prints below a command."""
    lines = re.search(rf"^\$ {re.escape(command)}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert lines is not None
    return lines[1].splitlines()


def test_the_committed_cases_pass_as_on_the_page(runner: RepositoryRunner) -> None:
    """On a model that was trained on this machine: its best class is compared, and all of what DALI decodes."""
    directory = CaseDirectory(CASES)
    results = [run_case(directory, name, runner) for name in directory.list_names()]
    lines = [line for result in results for line in format_result(result)]
    page = read_block((ROOT / "docs" / "golden-tests.md").read_text(), "tritonforge test repos/digits")
    assert [*lines, format_total(SuiteReport("repos/digits", str(CASES), results))] == page


def test_a_mutant_fails_as_on_the_page_and_in_the_readme(folder: Path, tmp_path: Path) -> None:
    mutated = build_mutant(MUTANT, folder)
    report = tmp_path / "report"
    done = tritonforge("test", str(mutated), "--cases", str(CASES), "-k", "seven", "--report", str(report))
    shown = done.stdout.replace(str(mutated), "repos/digits").replace(str(report), "build/report").splitlines()
    page = (ROOT / "docs" / "golden-tests.md").read_text()
    assert shown == read_block(page, "tritonforge test repos/digits -k seven --report build/report")
    readme = read_block((ROOT / "README.md").read_text(), "tritonforge test repos/digits -k seven")
    first = readme[: readme.index("  ...")]
    assert shown[: len(first)] == first


@pytest.mark.long  # as the mutant of the page, above, and those of smaller models in test_suite.py
@pytest.mark.parametrize("mutant", OTHERS, ids=str)
def test_a_mutant_fails_and_names_the_step(mutant: Mutant, cases: CaseDirectory, folder: Path) -> None:
    """`make mutants` has all of them, of three repositories."""
    with open_runner(build_mutant(mutant, folder)) as runner:
        result = run_case(cases, "eight", runner)
    assert result.headline == f"step {mutant.step} is the first one that differs"
