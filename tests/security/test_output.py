"""Names, texts and labels of strangers in our output: no terminal is steered, and no CI system is given a command."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table

from tests.support.archives import END, header
from tests.support.model_archives import LEAF
from tritonforge import escaping
from tritonforge.cli import terminal
from tritonforge.cli.main import main

#: What no line of our output may be: a workflow command, after blanks too; and what may be in none.
COMMAND = re.compile(r"^\s*::|##\[", re.MULTILINE)
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

#: Directory names of a hostile repository, as bytes.
NAMES = (
    b"a\n::error file=x::forged",
    b"b\x1b]0;title\x07\x1b[2Jc",
    "d\u202egpj.txt".encode(),
    b"e\xff\xfe",
    b"f\r::warning::forged",
    b"##[error]forged",
    b"  ::add-mask::x",
)
TEXT = "\x1b[31m\n::error::forged\u202e ##[error]forged \x9b2J"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with such names, each of which has a finding; and such strings in a configuration."""
    folder = tmp_path_factory.mktemp("hostile") / "r"
    for name in NAMES:
        (folder / os.fsdecode(name) / "1").mkdir(parents=True)
    model = folder / "leaf"
    (model / "1").mkdir(parents=True)
    quoted = TEXT.encode().decode("latin-1").encode("unicode_escape").decode()
    (model / "config.pbtxt").write_text(
        LEAF.replace('"leaf"', f'"{quoted}"').replace("TYPE_FP32 dims: 2 }", f"TYPE_FP32 dims: 2 }} # {TEXT[:5]}")
        + f'parameters {{ key: "{quoted}" value {{ string_value: "x" }} }}\nbackend: "{quoted}"\n'
    )
    return folder


def run(*arguments: str | Path) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def check(text: str) -> None:
    """No line of it is a command, and nothing of it steers a terminal."""
    assert not COMMAND.search(text), COMMAND.search(text)
    assert not RAW.search(text), repr(RAW.search(text))


@pytest.mark.parametrize("form", ["text", "json", "sarif", "junit", "github", "gitlab"])
def test_every_report_is_safe(form: str, hostile: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Findings about such names and strings, in all formats; those of machines can be read."""
    assert run("validate", hostile, "--format", form) == 1
    out, err = capfd.readouterr()
    check(err)
    if form == "github":
        lines = out.rstrip("\n").split("\n")
        assert len(lines) >= len(NAMES)
        assert all(re.match(r"::(error|warning|notice) (file|line|col|title)=[^,:]*(,|::)", line) for line in lines)
        check("\n".join(line.lstrip(":") for line in lines))
    else:
        check(out)
    if form in ("json", "sarif", "gitlab"):
        json.loads(out)
    if form == "junit":
        ET.fromstring(out)


def test_archives_and_definitions_are_shown_safely(
    hostile: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`package --inspect` in both formats, the archive's own name, and the sentence of a refusal."""
    archive = tmp_path / "a\x1b[2J\n::error::x.tar.gz"
    members = [header(f"{name}/config.pbtxt", b"x") for name in ("a\n::error::forged", "b\x1b[2J", "d\u202ex")]
    archive.write_bytes(gzip.compress(b"".join(members) + END))
    for form in ("text", "json"):
        run("package", "--inspect", archive, "--format", form)
        out, err = capfd.readouterr()
        check(out + err)
    assert "config.pbtxt" in out
    archive.write_bytes(gzip.compress(header("../a\n::error::forged\x1b[2J", b"x") + END))
    assert run("package", "--inspect", archive) == 2
    assert run("package", hostile, "-o", tmp_path / "p.tar.gz") in (1, 2)
    assert run("build", tmp_path / "none\n::error::forged\x1b[2J", "-o", tmp_path / "b") == 2
    check("".join(capfd.readouterr()))


def test_consoles_are_safe_in_tables_and_behind_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every string that a console renders passes by the same function, and emoji are not put into names."""
    written = io.StringIO()
    monkeypatch.setattr(terminal.out, "_file", written)  # the property would keep this test's stream afterwards
    table = Table()
    table.add_column("model")
    table.add_row(TEXT)
    for text in (TEXT, f"[dim]{TEXT}[/dim]", "[dim]::error::forged[/dim]", table):
        terminal.out.print(text)
    terminal.out.print("a:bug:b", markup=False)
    assert not RAW.search(written.getvalue())
    assert not COMMAND.search(written.getvalue())
    assert written.getvalue().endswith("a:bug:b\n")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.text(st.characters(), max_size=40)
    | st.sampled_from(["::a", "\n ::a", "##[a", TEXT, "###[a", ":::a", "\u2028::a"])
)
def test_escapes_hold_for_any_text(text: str) -> None:
    """What is escaped is safe, is escaped once, and keeps JSON readable; names keep their line."""
    for escape in (escaping.escape_text, escaping.escape_line, escaping.escape_xml, escaping.escape_log_line):
        escaped = escape(text)
        assert not RAW.search(escaped)
        assert escape(escaped) == escaped
    check(escaping.escape_text(text))
    check(escaping.escape_log_line(text))
    assert "\n" not in escaping.escape_line(text)
    assert "\n" not in escaping.escape_github_data(text)
    assert not set(":,\n") & set(escaping.escape_github_property(text))
    document = json.dumps({text: text}, ensure_ascii=False)
    assert json.loads(escaping.escape_text(document)) == {text: text}
    assert ET.fromstring(f"<a>{ET.tostring(_element(escaping.escape_xml(text)), encoding='unicode')}</a>") is not None
    assert escaping.escape_uri(text).isascii()


def _element(text: str) -> ET.Element:
    element = ET.Element("e", name=text)
    element.text = text
    return element


def test_a_programs_log_is_shown_without_what_steers() -> None:
    """Colours go, a progress bar shows its last state, and the rest is escaped."""
    assert escaping.escape_log_line("\x1b[1;31mred\x1b[0m") == "red"
    assert escaping.escape_log_line("10%\r50%\r100%\r") == "100%"
    assert escaping.escape_log_line("::error::x\x1b]0;t\x07") == "\\u003a:error::x\\u001b]0;t\\u0007"
