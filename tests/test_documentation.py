"""The commands, imports and links of the README and the documentation are parsed and followed.

`tests/end_to_end/test_documents.py` runs the blocks.
"""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT, run_tritonforge
from tests.support.command_lines import list_commands as list_every_command
from tests.support.command_lines import locate_command_page, parse_example
from tests.support.site import list_broken_links, list_remote_addresses, render_configuration, write_sources
from tests.support.transcripts import NOTE
from tritonforge import TYPE_FP32, Dali, Input, Output, Tensor
from tritonforge.errors import DefinitionError
from tritonforge.validation.registry import load_rules
from tritonforge.validation.rule_page import escape_prose, locate_page

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: What pages call besides tritonforge.
# fmt: off
PROGRAMS = {".", "aws", "cd", "code", "cp", "curl", "echo", "export", "git", "helm", "kill", "make", "npm", "npx",
            "pip", "printf", "python", "python3", "sed"}
# fmt: on


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def list_commands(text: str) -> list[str]:
    """The lines of console blocks that a user types; a backslash continues a line."""
    whole = [block.replace("\\\n", " ") for block in blocks("console", text)]
    return [line[2:] for block in whole for line in block.splitlines() if line.startswith("$ ")]


def list_anchors(text: str) -> list[str]:
    """The anchors of the headings, as GitHub and the site name them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), flags=re.MULTILINE
    )
    return [re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings]


def test_the_definition_is_one_and_its_wiring_error_is_word_for_word() -> None:
    """The first Python block defines what it says, and the error shown is the one raised."""
    defined: dict[str, Any] = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), defined)
    assert [wire.model.name for wire in defined["classify"].steps] == ["decode", "inception"]
    smaller = Dali(
        "decode", max_batch_size=64, input=[Input("jpeg")], output=[Output("pixels", TYPE_FP32, [224, 224, 3])]
    )
    with pytest.raises(DefinitionError) as raised:
        defined["inception"](smaller(Tensor("INPUT")))
    assert f"DefinitionError: {raised.value}" in " ".join(blocks("text")[0].split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_exists(page: Path) -> None:
    """The command line parses `$ tritonforge ...`, `$ make ...` names a target, and a few other programs are listed."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for line in list_commands(page.read_text()):
        if "tritonforge " in line and not line.startswith(("git ", "pip ", "cd ")):
            parse_example(line.split("  #")[0].removesuffix(" &").split(" > ")[0])
            continue
        program, *arguments = shlex.split(line, comments=True)
        assert program in PROGRAMS, line
        if program == "make":
            assert next(argument for argument in arguments if "=" not in argument) in targets, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_compiles_and_its_imports_work(page: Path) -> None:
    for block in blocks("python", page.read_text()):
        for node in ast.parse(block).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tritonforge"):
                exec(compile(ast.Module([node], []), page.name, "exec"), {})


def test_links_between_pages_lead_to_files_and_headings() -> None:
    """On GitHub: relative to the page's own directory. `make site` checks the same on the site."""
    anchors = {page: set(list_anchors(page.read_text())) for page in PAGES}
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", text)
        for link in (first or second for first, second in links):
            if link.startswith(("http://", "https://")):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors[target], f"{page.name}: {link}"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "docs" / "mkdocs.yml").read_text(), flags=re.MULTILINE))
    assert listed == {page.name for page in PAGES[1:]}


def test_the_site_has_a_page_for_every_rule(tmp_path: Path) -> None:
    write_sources(tmp_path / "source")
    table = (tmp_path / "source" / "rules.md").read_text()
    for code, rule in load_rules().items():
        page = locate_page(code).replace(".html", ".md")
        assert f"]({page})" in table
        assert escape_prose(rule.sentence.splitlines()[-1]) in (tmp_path / "source" / page).read_text()


@pytest.mark.process
def test_the_exit_codes_are_documented_in_both_places() -> None:
    """docs/commands.md and `--help` name the same codes."""
    help_ = run_tritonforge("--help").stdout
    reference = (ROOT / "docs" / "commands.md").read_text()
    for code in ("0", "1", "2", "130"):
        assert f"| {code} |" in reference
        assert f" {code} " in help_


def test_the_site_has_a_page_for_every_command(tmp_path: Path) -> None:
    write_sources(tmp_path / "source")
    index, configuration = (tmp_path / "source" / "commands.md").read_text(), render_configuration()
    for name, _, command in list_every_command():
        page = (tmp_path / "source" / locate_command_page(name)).read_text()
        assert page.startswith(f"# {name}\n\n```text\n{name} ")
        assert not re.search(r"^ {4}\w", page, flags=re.MULTILINE), "text that Markdown takes for code"
        for option in command.params:
            assert all(f"{text}" in page for text in option.opts if text.startswith("--")), option.name
        assert f"]({locate_command_page(name)})" in index
        assert f": {locate_command_page(name)}\n" in configuration


def test_comments_about_a_block_are_not_on_the_site(tmp_path: Path) -> None:
    write_sources(tmp_path / "source")
    for page in (tmp_path / "source").rglob("*.md"):
        assert not NOTE.search(page.read_text()), page


def test_the_link_check_of_the_site_reports_files_anchors_and_hosts(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "index.html").write_text('<h1 id="top"></h1><a href="rules/E1.html#source">x</a><a href="#top">x</a>')
    (tmp_path / "rules" / "E1.html").write_text(
        '<a href="../index.html#nowhere">x</a><a href="E2.html">x</a><script src="https://cdn.example/x.js"></script>'
        '<a href="https://elsewhere.example/">x</a>'
    )
    assert list(list_broken_links(tmp_path)) == [
        "index.html: rules/E1.html#source: anchor not found",
        "rules/E1.html: ../index.html#nowhere: anchor not found",
        "rules/E1.html: E2.html: file not found",
    ]
    assert list_remote_addresses(tmp_path) == {"https://cdn.example/x.js"}
