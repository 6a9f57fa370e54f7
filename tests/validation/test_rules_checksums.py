"""Tests of the rules about checksums, and of the sums that the reader computes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.rule_findings import list_rules
from tests.support.rule_repositories import e, m, x
from tritonforge.validation import tree_reader
from tritonforge.validation.findings import verdict
from tritonforge.validation.report import validate
from tritonforge.validation.tree import Entry, Tree, link
from tritonforge.validation.tree_reader import read_tree

CONTENT = b"weights"
SUM = hashlib.md5(CONTENT).hexdigest()
OTHER = "0" * 32


def agent(key: str, value: str = SUM) -> str:
    """A checksum agent with one sum."""
    return (
        f'model_repository_agents {{ agents [{{ name: "checksum" parameters {{ key: "{key}" value: "{value}" }} }}] }}'
    )


def model(key: str, value: str = SUM, **files: Any) -> dict[str, Any]:
    """A model with weights whose sum is stated."""
    return m(agent(key, value), **{"1/weights": CONTENT, **files})


@pytest.mark.parametrize(
    ("files", "code", "sentence"),
    [
        (model("MD5:1/weights", OTHER), "E130", f"Mismatched MD5 hash for file 1/weights, expect: {OTHER}, got: {SUM}"),
        (
            model("MD5:1/weights", SUM.upper()), "E130",
            f"Mismatched MD5 hash for file 1/weights, expect: {SUM.upper()}, got: {SUM}",
        ),
        (model("MD5:weights"), "E131", "failed to open text file for read weights: No such file or directory"),
        (model("SHA256:1/weights"), "E132", "Unsupported checksum algorithm: SHA256"),
        (model("1/weights"), "E133", "failed to parse key: 1/weights"),
        (model("MD5:1"), "E134", "m/1 is a directory, of which the agent reads the sum"),
        (model("MD5:1/weights", **{"1/weights": Entry("file", 7, md5=OTHER)}), "E130",
         f"Mismatched MD5 hash for file 1/weights, expect: {SUM}, got: {OTHER}"),
    ],
)  # fmt: skip
def test_the_agents_own_words(files: dict[str, Any], code: str, sentence: str) -> None:
    """Each refusal of the agent in its words, before what the server checks itself."""
    findings = validate(Tree.of(files))
    assert [(finding.code, finding.message) for finding in findings if finding.refused_by] == [(code, sentence)]
    (ensemble,) = [
        finding for finding in validate(Tree.of({**files, **x(), **e_over_m()})) if finding.path == "e/config.pbtxt"
    ]
    assert ensemble.message == "ensemble e contains models that are not available or ambiguous: m"


def e_over_m() -> dict[str, Any]:
    """An ensemble over the model."""
    return {path: str(text).replace('"x"', '"m"') for path, text in e().items()}


@pytest.mark.parametrize("key", ["MD5:1/weights", "md5:1/weights", "Md5:./1/weights", "MD5:1/linked"])
def test_a_right_sum_is_no_finding(key: str) -> None:
    """The algorithm is read in any case, the path is relative to the model, links are followed."""
    assert validate(Tree.of(model(key, **{"1/linked": link("weights")}))) == []


def test_a_sum_that_cannot_be_verified_is_reported() -> None:
    """A file outside of the repository, or one whose sum was not worked out, is not judged; one not made yet may be."""
    for files in (
        model("MD5:1/out", **{"1/out": link("/etc/hostname", leads_to="file")}),
        model("MD5:1/large", **{"1/large": Entry("file", 1 << 40)}),
    ):
        findings = validate(Tree.of(files))
        assert verdict(findings) == "not judged"
        assert [finding.code for finding in findings if "not verified" in finding.message] == ["E127"]
    assert validate(Tree.of(model("MD5:1/new", **{"1/new": Entry("file", -1)}))) == []


def folder_of(path: Path, config: str) -> Path:
    """A repository on disk."""
    (path / "m" / "1").mkdir(parents=True)
    (path / "m" / "config.pbtxt").write_text(m(config)["m/config.pbtxt"])
    (path / "m" / "1" / "weights").write_bytes(CONTENT)
    return path


def test_the_reader_sums_what_a_configuration_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are not kept, but summed in blocks; more than the limit is not read."""
    monkeypatch.setattr(tree_reader, "_BLOCK", 3)
    folder = folder_of(tmp_path, agent("MD5:1/weights"))
    entry = read_tree(folder).entry("m/1/weights")
    assert entry is not None
    assert (entry.content, entry.md5) == (None, SUM)
    assert validate(folder) == []
    assert [finding.code for finding in validate(read_tree(folder, max_summed=6))] == ["E127"]


def test_the_reader_sums_regular_files_inside_only(tmp_path: Path) -> None:
    """A pipe does not hang, and what a link or dots lead to outside is not read."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    folder = folder_of(
        tmp_path / "repo", agent("MD5:1/pipe").replace("}]", 'parameters { key: "MD5:../../outside" value: "x" } }]')
    )
    os.mkfifo(folder / "m" / "1" / "pipe")
    (folder / "m" / "1" / "out").symlink_to(outside)
    tree = read_tree(folder)
    assert all(not entry.md5 for entry in tree.entries.values())


def test_without_an_agent_nothing_is_summed(tmp_path: Path) -> None:
    """Weights are opened only where a sum is stated."""
    entry = read_tree(folder_of(tmp_path, "")).entry("m/1/weights")
    assert entry is not None
    assert entry.md5 == ""


def test_every_rule_about_checksums_is_tested() -> None:
    assert list_rules("E13") == {"E130", "E131", "E132", "E133", "E134"}
