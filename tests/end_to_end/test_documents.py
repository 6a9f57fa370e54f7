"""The blocks of the README and of docs/ are run, and print what the pages show; `make test-docs` runs all of them.

`tests/support/transcripts.py` lists the comments with which a page states how a block is run. Pages that are read one
after another share a shell: its directory, its jobs and its variables.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.support.checkout import ROOT, read_build_log
from tests.support.shell_session import ShellSession
from tests.support.transcripts import Block, Entry, describe_difference, read_blocks, read_entries

PAGES: Final = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
#: Pages that continue one another. Each of the others has a shell of its own.
_TOGETHER: Final = (("README.md", "build.md", "validate.md", "serve.md"),)
#: Pages that begin in an empty directory; the others in one with repos/, the build of the digits, and tests/fixtures/.
_EMPTY: Final = ("tutorial.md", "import.md")
#: It has been run for all tests.
_BUILD: Final = "tritonforge build repos/digits -o build/digits"
#: Words of a transcript whose command exits with another code than 0.
_FAILURE: Final = re.compile(r"^error: |Triton refuses it|^FAIL |^Failed ", re.MULTILINE)
#: The last line of a server that a comment starts.
_READY: Final = "Ctrl-C stops it"


def read_page(name: str) -> list[Block]:
    """The blocks of a page that are commands, Python, or files."""
    blocks = read_blocks(name, PAGES[name].read_text())
    return [block for block in blocks if block.language in ("console", "python") or "file" in block.notes]


def describe_state(block: Block) -> str:
    """How a block is tested."""
    if "not run" in block.notes:
        return "not run"
    if block.notes.keys() & {"file", "in"}:
        return "file"
    return "long" if "long" in block.notes else "run"


def list_sessions(*states: str) -> list[tuple[str, ...]]:
    """The pages of each shell that have blocks in one of these states."""
    alone = [(name,) for name in PAGES if not any(name in pages for pages in _TOGETHER)]
    return [
        pages
        for pages in (*_TOGETHER, *alone)
        if any(describe_state(block) in states for name in pages for block in read_page(name))
    ]


def test_every_block_is_run_or_has_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [block for name in PAGES for block in read_page(name)]
    counts = Counter(map(describe_state, blocks))
    assert counts["run"] > counts["not run"]
    lines = [f"{block}: not run: {block.notes['not run']}" for block in blocks if "not run" in block.notes]
    lines += [f"{block}: long: {block.notes['long']}" for block in blocks if describe_state(block) == "long"]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", *lines, ", ".join(f"{count} {state}" for state, count in counts.items()), ""]))


class PageRunner:
    """Runs blocks in a shell, and collects the differences from what they show."""

    def __init__(self, shell: ShellSession, folder: Path, build_log: str) -> None:
        self._shell = shell
        self._folder = folder
        self._build_log = build_log
        self._run: set[str] = set()
        self.problems: list[str] = []

    def run(self, block: Block) -> None:
        """Run a block, unless one with the same text was run before."""
        for command in block.setup:
            self._execute(Entry(command, ""), block, is_setup=True)
        if block.text in self._run:
            return
        self._run.add(block.text)
        if "file" in block.notes:
            path = self._folder / block.notes["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif "in" in block.notes:
            if block.text not in (self._folder / block.notes["in"]).read_text():
                self.problems.append(f"{block}: not a part of {block.notes['in']}")
        elif block.language == "python":
            (self._folder / "block.py").write_text(self._shell.replace_ports(block.text))
            self._execute(Entry("python block.py", block.output or ""), block)
        else:
            for entry in read_entries(block):
                self._execute(entry, block)

    def _execute(self, entry: Entry, block: Block, *, is_setup: bool = False) -> None:
        if entry.command == _BUILD:
            code, printed = 0, self._build_log
        elif entry.command.endswith(" &"):
            shown = [line for line in entry.shown.splitlines() if line != "..."]
            ready = "" if " > " in entry.command else _READY if is_setup else re.split(r"\d", "".join(shown[-1:]))[0]
            code, printed = 0, self._shell.start(entry.command, last_line=ready)
        else:
            answer = "y" if "[y/N]: y\n" in entry.shown else ""
            code, printed = self._shell.run(entry.command, answer=answer, timeout=600)
            printed = printed.replace("[y/N]: ", f"[y/N]: {answer}\n") if answer else printed
        is_failure = bool(_FAILURE.search(entry.shown))
        difference = describe_difference(entry.shown, printed, has_figures="figures" in block.notes)
        if bool(code) != is_failure:
            self.problems.append(f"{block}: $ {entry.command}\nexit code {code}\n{printed}")
        elif entry.shown and difference:
            self.problems.append(f"{block}: $ {entry.command}\n{difference}")


def prepare_folder(folder: Path, digits: Path) -> None:
    """Make the directory in which pages are followed: a checkout with the digits built."""
    shutil.copytree(ROOT / "repos", folder / "repos", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(digits, folder / "build" / "digits")
    (folder / "tests").mkdir()
    (folder / "tests" / "fixtures").symlink_to(ROOT / "tests" / "fixtures")


def run_pages(pages: tuple[str, ...], states: tuple[str, ...], folder: Path, digits: Path) -> list[str]:
    """Run the blocks of pages in one shell; return what differs."""
    place, programs = folder / "work", folder / "bin"
    place.mkdir()
    programs.mkdir()
    if pages[0] not in _EMPTY:
        prepare_folder(place, digits)
    build_log = read_build_log(digits).replace(str(digits), "build/digits")
    with ShellSession(place, programs, {"XDG_CACHE_HOME": str(folder / "cache")}) as shell:
        runner = PageRunner(shell, place, build_log)
        for name in pages:
            for block in read_page(name):
                if describe_state(block) in states:
                    runner.run(block)
    return runner.problems


@pytest.mark.server
@pytest.mark.framework
@pytest.mark.parametrize("pages", list_sessions("run"), ids=" ".join)
def test_pages_print_what_they_show(pages: tuple[str, ...], tmp_path: Path, digits: Path) -> None:
    problems = run_pages(pages, ("run", "file"), tmp_path, digits)
    assert not problems, "\n".join(problems)


@pytest.mark.server
@pytest.mark.framework
@pytest.mark.long  # minutes, of which the test above runs a part
@pytest.mark.parametrize("pages", list_sessions("long"), ids=" ".join)
def test_long_pages_print_what_they_show(pages: tuple[str, ...], tmp_path: Path, digits: Path) -> None:
    problems = run_pages(pages, ("run", "file", "long"), tmp_path, digits)
    assert not problems, "\n".join(problems)
