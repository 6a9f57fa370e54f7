"""`validate --fix` while the repository changes under it: nothing of another user's is overwritten or followed."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tritonforge.errors import ArtifactError
from tritonforge.validation import autofix
from tritonforge.validation.findings import Finding
from tritonforge.validation.report import validate
from tritonforge.validation.tree import Tree
from tritonforge.validation.tree_reader import read_tree

WRONG = 'name: "wrong"\nbackend: "python"\ninput { name: "x" data_type: TYPE_FP32 dims: 1 }\n'
WRONG += 'output { name: "y" data_type: TYPE_FP32 dims: 1 }\n'


def findings(tree: Tree) -> list[Finding]:
    """The findings of a tree."""
    return list(validate(tree))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model whose name is not its directory's."""
    model = tmp_path / "r/leaf"
    (model / "1").mkdir(parents=True)
    (model / "1/model.py").write_text("class TritonPythonModel:\n    def execute(self, requests): ...\n")
    (model / "config.pbtxt").write_text(WRONG)
    return tmp_path / "r"


def fix(repository: Path, between: Callable[[], object] = lambda: None) -> None:
    """Read, let something happen, and apply the fixes."""
    tree = read_tree(repository)
    between()
    autofix.apply_fixes(repository, tree, findings)


def _edited(repository: Path) -> None:
    (repository / "leaf/config.pbtxt").write_text("# mine\n" + WRONG)


def _vanished(repository: Path) -> None:
    (repository / "leaf/config.pbtxt").unlink()


def _linked_file(repository: Path) -> None:
    (repository / "leaf/config.pbtxt").unlink()
    (repository / "leaf/config.pbtxt").symlink_to(repository.parent / "victim/config.pbtxt")


def _linked_folder(repository: Path) -> None:
    (repository / "leaf").rename(repository.parent / "away")
    (repository / "leaf").symlink_to(repository.parent / "victim")


def _read_only(repository: Path) -> None:
    (repository / "leaf/config.pbtxt").chmod(0o444)


def _fifo(repository: Path) -> None:
    (repository / "leaf/config.pbtxt").unlink()
    os.mkfifo(repository / "leaf/config.pbtxt")


RACES = {
    "edited": (_edited, "changed while it was validated"),
    "vanished": (_vanished, "changed while it was validated"),
    "a link instead of the file": (_linked_file, "a part of its path is a link"),
    "a link instead of the folder": (_linked_folder, "a part of its path is a link"),
    "read-only": (_read_only, "it is read-only"),
    "a pipe instead of the file": (_fifo, "changed while it was validated"),
}


@pytest.mark.parametrize(("change", "sentence"), RACES.values(), ids=RACES)
def test_a_file_that_changed_is_left_alone(change: Callable[[Path], None], sentence: str, repository: Path) -> None:
    """Whatever happened between reading and writing; and no half of a file is left."""
    victim = repository.parent / "victim"
    victim.mkdir()
    (victim / "config.pbtxt").write_text(WRONG)
    with pytest.raises(ArtifactError, match=sentence):
        fix(repository, lambda: change(repository))
    assert (victim / "config.pbtxt").read_text() == WRONG
    if (repository / "leaf/config.pbtxt").is_file():
        assert "wrong" in (repository / "leaf/config.pbtxt").read_text()
    assert not list(repository.parent.rglob(".*"))


def test_two_at_once_do_not_write_into_each_other(repository: Path) -> None:
    """The second says so; when the first has ended it works, and keeps the file's mode."""
    (repository / "leaf/config.pbtxt").chmod(0o640)
    held = os.open(repository, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(ArtifactError, match="another --fix is writing"):
        fix(repository)
    os.close(held)
    fix(repository)
    assert 'name: "leaf"' in (repository / "leaf/config.pbtxt").read_text()
    assert stat.S_IMODE((repository / "leaf/config.pbtxt").stat().st_mode) == 0o640


def test_a_full_disk_leaves_the_file_as_it_was(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the error comes at the end, when the data are flushed."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"config\.pbtxt: cannot write: No space left on device"):
        fix(repository)
    assert (repository / "leaf/config.pbtxt").read_text() == WRONG
    assert sorted(path.name for path in (repository / "leaf").iterdir()) == ["1", "config.pbtxt"]


def test_a_link_inside_the_repository_stays_one(repository: Path) -> None:
    """The file behind it is fixed."""
    (repository / "leaf/config.pbtxt").rename(repository / "leaf/real.pbtxt")
    (repository / "leaf/config.pbtxt").symlink_to("real.pbtxt")
    fix(repository)
    assert (repository / "leaf/config.pbtxt").is_symlink()
    assert 'name: "leaf"' in (repository / "leaf/real.pbtxt").read_text()
