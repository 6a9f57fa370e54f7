"""Checkpoints: whole or not there, whatever kills the program or the copy on S3."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tritonforge.errors import DefinitionError
from tritonforge.training.algorithm import Checkpoint, Checkpoints

#: Saves 1, then begins 2 and waits in the middle of it.
HALF = """
import sys, time
from pathlib import Path
from tritonforge.training.algorithm import Checkpoints

checkpoints = Checkpoints(Path(sys.argv[1]))
checkpoints.save(1, lambda folder: (folder / "weights").write_bytes(b"one"))

def half(folder):
    (folder / "weights").write_bytes(b"tw")
    print("half", flush=True)
    time.sleep(60)

checkpoints.save(2, half)
"""


def save(checkpoints: Checkpoints, step: int, text: str) -> Checkpoint:
    """A checkpoint of two files, one in a folder."""

    def write(folder: Path) -> None:
        (folder / "variables").mkdir()
        (folder / "variables" / "weights").write_text(text)
        (folder / "state.json").write_text("{}")

    return checkpoints.save(step, write)


def content(found: Checkpoint | None) -> str:
    """What `save` wrote."""
    assert found is not None
    return (found.folder / "variables" / "weights").read_text()


def test_the_newest_is_found_again(tmp_path: Path) -> None:
    """Steps are numbers, not text; older ones than those kept are removed."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.newest() is None
    for step in (9, 10, 2_000_000_000):
        assert save(checkpoints, step, f"at {step}").step == step
    found = checkpoints.newest()
    assert found is not None
    assert (found.step, content(found)) == (2_000_000_000, "at 2000000000")
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "checkpoint-000000010",
        "checkpoint-2000000000",
    ]


def test_the_same_step_is_saved_again(tmp_path: Path) -> None:
    """The later one counts, and the earlier one goes."""
    checkpoints = Checkpoints(tmp_path)
    for text in ("first", "second", "third"):
        save(checkpoints, 5, text)
    assert content(checkpoints.newest()) == "third"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000005-2"]


@pytest.mark.process
def test_a_kill_in_mid_save_leaves_the_one_before(tmp_path: Path) -> None:
    """No half checkpoint is ever found, and what it left is removed by the next save."""
    with subprocess.Popen([sys.executable, "-c", HALF, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / ".saving-2" / "weights").exists()
    checkpoints = Checkpoints(tmp_path)
    found = checkpoints.newest()
    assert found is not None
    assert (found.step, (found.folder / "weights").read_bytes()) == (1, b"one")
    save(checkpoints, 2, "two")
    assert not list(tmp_path.glob(".saving-*"))


def test_a_failure_in_mid_save_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1, "one")

    def full(folder: Path) -> None:
        (folder / "weights").symlink_to("/dev/full")
        (folder / "weights").write_bytes(b"x" * 10_000)

    with pytest.raises(OSError, match="No space left on device"):
        checkpoints.save(2, full)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000001"]
    assert content(checkpoints.newest()) == "one"


@pytest.mark.parametrize("damage", ["a file is missing", "a file is short", "a file differs", "no list", "half a list"])
def test_a_copy_that_is_not_whole_is_passed_over(tmp_path: Path, damage: str) -> None:
    """SageMaker copies file by file, so that a job that was killed may be given half a checkpoint."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1, "one")
    folder = save(checkpoints, 2, "two").folder
    weights, listed = folder / "variables" / "weights", folder / "checkpoint.json"
    match damage:
        case "a file is missing":
            weights.unlink()
        case "a file is short":
            os.truncate(weights, 2)
        case "a file differs":
            weights.write_text("twO")
        case "no list":
            listed.unlink()
        case "half a list":
            os.truncate(listed, 40)
    found = checkpoints.newest()
    assert found is not None
    assert (found.step, content(found)) == (1, "one")


def test_a_broken_later_one_goes_when_its_step_is_passed_by_another_course(tmp_path: Path) -> None:
    """A program that went on from an earlier one is not thrown back to what it gave up."""
    checkpoints = Checkpoints(tmp_path, keep=1)
    (save(checkpoints, 7, "seven").folder / "state.json").unlink()
    saved = save(checkpoints, 3, "three")
    assert [path.name for path in tmp_path.iterdir()] == [saved.folder.name]
    assert content(checkpoints.newest()) == "three"


def test_other_things_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    """The folder may be shared with what a framework writes there."""
    (tmp_path / "events.log").write_text("x")
    (tmp_path / "checkpoint-12").mkdir()
    checkpoints = Checkpoints(tmp_path)
    for step in range(5):
        save(checkpoints, step, str(step))
    assert (tmp_path / "events.log").exists()
    assert (tmp_path / "checkpoint-12").exists()
    assert len(list(tmp_path.glob("checkpoint-0*"))) == 2


def test_at_least_one_is_kept(tmp_path: Path) -> None:
    """None at all would be no checkpoints."""
    with pytest.raises(DefinitionError, match="keep is 0; it must be at least 1"):
        Checkpoints(tmp_path, keep=0)
