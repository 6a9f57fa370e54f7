"""pytest collects golden tests: ``tritonforge = repos/digits`` in its configuration names definitions or repositories.

Every ``NAME.json`` in the directory ``tests`` beside one of them is a test. A server is started for the first test of a
repository that runs, and ends with the session. pytest loads this module whenever tritonforge is installed, so nothing
is imported before a test is collected.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tritonforge.golden_tests.runner import RepositoryRunner
    from tritonforge.golden_tests.suite import CaseResult

__all__ = ["CaseItem", "CasesFile"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting and the options."""
    parser.addini("tritonforge", "definitions or model repositories whose golden tests are collected", "paths", [])
    group = parser.getgroup("tritonforge")
    group.addoption(
        "--golden-record", action="store_true", help="record golden tests that have no recording (tritonforge)"
    )
    group.addoption("--golden-update", action="store_true", help="record golden tests that differ (tritonforge)")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect a JSON file that is a case of one of the definitions and repositories of the setting."""
    if file_path.suffix != ".json":
        return None
    for path in parent.config.getini("tritonforge"):
        folder = path if (path / "definition.py").is_file() else path.parent
        if file_path.parent == folder / "tests":
            collected: CasesFile = CasesFile.from_parent(parent, path=file_path)
            collected.tested = path
            return collected
    return None


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the servers."""
    servers = config.stash.get(_SERVERS, None)
    if servers is not None:
        servers.close()


class CasesFile(pytest.File):
    """The file of a case; ``tested`` is its definition or repository."""

    tested: Path

    def collect(self) -> Iterator[pytest.Item]:
        """Yield its one test."""
        item: CaseItem = CaseItem.from_parent(self, name=self.path.stem)
        item.tested = self.tested
        yield item


class CaseItem(pytest.Item):
    """A case as a test."""

    tested: Path

    def runtest(self) -> None:
        """Run the case. Raises a failure that names the first step that differs."""
        from tritonforge.golden_tests.case_files import CaseDirectory
        from tritonforge.golden_tests.suite import run_case

        servers = self.config.stash.setdefault(_SERVERS, _Servers())
        runner = servers.open(self.tested)
        is_update, is_record = (self.config.getoption(name) for name in ("--golden-update", "--golden-record"))
        result = run_case(
            CaseDirectory(self.path.parent),
            self.name,
            runner,
            mode="update" if is_update else "record" if is_record else "replay",
            advice="record it with pytest --golden-record",
        )
        if not result.is_success:
            raise _CaseFailure(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what differs; an error of tritonforge as its sentence, without a traceback."""
        from tritonforge.errors import TritonForgeError
        from tritonforge.escaping import escape_text
        from tritonforge.golden_tests.suite import describe_step

        if isinstance(excinfo.value, _CaseFailure):
            result = excinfo.value.result
            lines = [f"{describe_step(result, entry)}: {entry.sentence}" for entry in result.differences]
            return escape_text("\n".join([result.headline, *lines, *(f"note: {note}" for note in result.notes)]))
        if isinstance(excinfo.value, TritonForgeError):
            return escape_text(str(excinfo.value))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the test is: its file."""
        return self.path, None, f"golden test {self.name}"


class _CaseFailure(Exception):  # noqa: N818 - a failed test is not an error
    """A case did not pass."""

    def __init__(self, result: CaseResult) -> None:
        super().__init__(result.headline)
        self.result = result


class _Servers:
    """The servers of a session, one for each definition or repository."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._runners: dict[Path, RepositoryRunner | Exception] = {}

    def open(self, path: Path) -> RepositoryRunner:
        """Return what asks the server; one that does not start raises the same error for all its tests."""
        from tritonforge.errors import TritonForgeError
        from tritonforge.golden_tests.session import find_tested_path, open_runner

        if path not in self._runners:
            try:
                repository = find_tested_path(path, None).build(lambda event: None)
                self._runners[path] = self._stack.enter_context(open_runner(repository))
            except TritonForgeError as error:
                self._runners[path] = error
        runner = self._runners[path]
        if isinstance(runner, Exception):
            raise runner
        return runner

    def close(self) -> None:
        self._stack.close()


_SERVERS: pytest.StashKey[_Servers] = pytest.StashKey()
