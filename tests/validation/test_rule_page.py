"""The page of a rule: its text, and one address for `explain`, SARIF and the language server."""

import json
from pathlib import Path

import pytest

from tests.support.command import tritonforge
from tritonforge.language_server.rule_pages import find_page
from tritonforge.validation.registry import load_rules
from tritonforge.validation.rule_page import build_page, escape_prose, list_rule_changes, locate_page

BROKEN = 'backend: "python"\nmax_batch_size: -1\n'


def test_a_page_has_the_sentence_examples_and_releases() -> None:
    page = build_page(load_rules()["E601"])
    assert page.startswith("# E601\n\nError; Triton refuses it.\n\n> unable to find backend library")
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Invalid", "## Valid", "## Releases", "## Source",
    ]  # fmt: skip
    assert "- up to 25.02: the images have a TensorFlow backend" in page
    assert not list_rule_changes("E101")


def test_prose_is_escaped_outside_code() -> None:
    assert escape_prose("a <b> & [c] `d<e>` x*y __z__ u_v") == r"a &lt;b> &amp; \[c\] `d<e>` x\*y \_\_z\_\_ u_v"


def test_explain_sarif_and_the_language_server_link_to_one_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITONFORGE_DOCS_URL", "https://docs.example/forge/")
    address = "https://docs.example/forge/rules/E213.html"
    assert locate_page("E213", "https://docs.example/forge/") == address
    assert find_page("E213") == address
    assert f"page: {address}\n" in tritonforge("explain", "E213").stdout
    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.pbtxt").write_text(BROKEN)
    log = json.loads(tritonforge("validate", str(tmp_path), "--format", "sarif", "--no-cache").stdout)
    (helped,) = [rule["helpUri"] for rule in log["runs"][0]["tool"]["driver"]["rules"] if rule["id"] == "E213"]
    assert helped == address


@pytest.mark.parametrize("address", ["", "file:///etc", "https://x/\x1b[2J"])
def test_without_a_site_the_address_is_relative_or_a_file(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITONFORGE_DOCS_URL", address)
    assert json.loads(tritonforge("explain", "E213", "--json").stdout)["page"] == "rules/E213.html"
    assert "page:" not in tritonforge("explain", "E213").stdout
    assert (find_page("E213") or "").endswith("/E213.md")
    assert find_page("E999") is None
