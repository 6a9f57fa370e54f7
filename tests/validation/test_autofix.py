"""Fixes: what has exactly one correct value, and nothing else."""

from pathlib import Path

import pytest

from tritonforge.validation.autofix import apply_fixes
from tritonforge.validation.findings import Finding
from tritonforge.validation.fixes import find_fixes, with_files
from tritonforge.validation.tree import GITKEEP_TEXT, Tree

LEAF = 'name: "leaf"\nbackend: "python"\n'
STEPS = """\
name: "all"
platform: "ensemble"
ensemble_scheduling {
  step [
    {
      model_name: "leaf"
      input_map { key: "x" value: "I" }
      output_map { key: "y" value: "O" }
    }
  ]
}
"""


def test_a_name_that_is_not_the_directorys_becomes_it() -> None:
    """Only the literal changes; comments and layout stay."""
    tree = Tree.of({"leaf/config.pbtxt": '# mine\nname:  "wrong"  # here\nbackend: "python"\n', "leaf/1/model.py": ""})
    assert find_fixes(tree) == {"leaf/config.pbtxt": b'# mine\nname:  "leaf"  # here\nbackend: "python"\n'}


def test_an_ensemble_without_a_version_gets_an_empty_one() -> None:
    """And a model of another kind does not: an empty version would not load."""
    tree = Tree.of({"all/config.pbtxt": STEPS.replace("model_name", "model_version: -1 model_name")})
    assert find_fixes(tree) == {"all/1/.gitkeep": GITKEEP_TEXT}
    assert find_fixes(Tree.of({"leaf/config.pbtxt": LEAF})) == {}
    assert find_fixes(Tree.of({"all/config.pbtxt": 'platform: "ensemble"', "all/3/": ""})) == {}


def test_a_step_without_a_version_asks_for_the_latest() -> None:
    """The line is put under the model's name, with its indentation; a one-line step gets it behind the name."""
    files = {"all/config.pbtxt": STEPS, "all/1/": "", "leaf/config.pbtxt": LEAF, "leaf/1/model.py": ""}
    expected = STEPS.replace('"leaf"\n', '"leaf"\n      model_version: -1\n')
    assert find_fixes(Tree.of(files)) == {"all/config.pbtxt": expected.encode()}
    short = 'platform: "ensemble" ensemble_scheduling { step { model_name: "leaf" } }'
    assert find_fixes(Tree.of({**files, "all/config.pbtxt": short})) == {
        "all/config.pbtxt": short.replace('"leaf"', '"leaf" model_version: -1').encode()
    }


@pytest.mark.parametrize(
    "files",
    [
        {"leaf/0/model.py": "", "leaf/config.pbtxt": LEAF, "all/config.pbtxt": STEPS, "all/1/": ""},
        {"all/config.pbtxt": STEPS, "all/1/": ""},
        {"leaf/config.pbtxt": "name: {", "leaf/1/": ""},
        {"leaf/config.pbtxt": b"\xff", "leaf/1/": ""},
        {"leaf/config.pbtxt": LEAF, "leaf/1/model.py": ""},
    ],
    ids=["version 0 is there", "no such model", "broken text", "no text", "right"],
)
def test_what_is_not_certain_is_left(files: dict[str, str | bytes]) -> None:
    """No guess is made."""
    assert find_fixes(Tree.of(files)) == {}


def test_a_fixed_tree_needs_no_fix() -> None:
    """Applying fixes twice is applying them once."""
    tree = Tree.of({"all/config.pbtxt": STEPS.replace('"all"', '"other"'), "leaf/config.pbtxt": LEAF, "leaf/1/a": ""})
    files = find_fixes(tree)
    assert sorted(files) == ["all/1/.gitkeep", "all/config.pbtxt"]
    assert find_fixes(with_files(tree, files)) == {}


def finding(message: str) -> Finding:
    """An error."""
    return Finding(code="E101", severity="error", refused_by="triton", message=message)


def test_files_are_written_only_when_that_helps(tmp_path: Path) -> None:
    """Fewer findings and none that is new: then the files are written and the diff shows them; else nothing is."""
    (tmp_path / "leaf").mkdir()
    config = tmp_path / "leaf" / "config.pbtxt"
    config.write_text('name: "wrong"\n')
    tree = Tree.of({"leaf/config.pbtxt": 'name: "wrong"\n'})

    def worse(judged: Tree) -> list[Finding]:
        entry = judged.entry("leaf/config.pbtxt")
        assert entry is not None
        return [finding("a")] if b"wrong" in (entry.content or b"") else [finding("b")]

    assert apply_fixes(tmp_path, tree, worse).diffs == ()
    assert config.read_text() == 'name: "wrong"\n'
    done = apply_fixes(tmp_path, tree, lambda judged: worse(judged)[: int(judged is tree)])
    assert config.read_text() == 'name: "leaf"\n'
    assert '-name: "wrong"\n+name: "leaf"\n' in "".join(done.diffs)
