"""Checkpoints: there at the start, kept as they appear and at the end, and a job that resumes from them."""

import threading
import time
from pathlib import Path

import pytest

from tests.support.training_jobs import COUNTING, Memory, run_job
from tritonforge.training.job import CheckpointConfig
from tritonforge.training.job.opt_ml import CheckpointSync
from tritonforge.transform import StoreError

pytestmark = pytest.mark.process

JOB = {"checkpoint_config": CheckpointConfig(uri="s3://b/checkpoints")}

#: Counts to six, one a step, with a checkpoint of each; the sum of its steps is its model.


def test_a_stopped_job_goes_on_from_its_checkpoint_to_the_same_model(tmp_path: Path) -> None:
    """Stopped in the middle and run again, the steps are done once each, and the model is that of one run."""
    place = Memory({})
    stop = threading.Event()

    def line(text: str) -> None:
        if text == "step 3":
            stop.set()

    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = run_job(tmp_path / "first", COUNTING, store=place, job=JOB, stop=stop, on_line=line)
    assert (first.outcome.state, first.outcome.artifact) == ("Stopped", None)
    assert place.objects == {"s3://b/checkpoints/step": b"3\n", "s3://b/checkpoints/sum": b"6\n"}
    second = run_job(tmp_path / "second", COUNTING, store=place, job=JOB)
    assert second.lines == ["step 4", "step 5", "step 6"]
    assert (second.model / "sum").read_text() == "21\n"


def test_a_failed_job_keeps_its_checkpoints(tmp_path: Path) -> None:
    """They are what the next one starts with."""
    place = Memory({})
    ran = run_job(tmp_path, "mkdir checkpoints/a; echo 1 > checkpoints/a/b; exit 1", store=place, job=JOB)
    assert ran.outcome.state == "Failed"
    assert place.objects == {"s3://b/checkpoints/a/b": b"1\n"}


def test_checkpoints_may_lie_anywhere(tmp_path: Path) -> None:
    """LocalPath is a folder of the container, below /opt/ml or not."""
    for number, path in enumerate(("/opt/ml/mine", "/checkpoints/mine")):
        place = Memory({"s3://b/checkpoints/old": b"old"})
        (tmp_path / str(number)).mkdir()
        job = {"checkpoint_config": CheckpointConfig(uri="s3://b/checkpoints/", local_path=path)}
        ran = run_job(tmp_path / str(number), f"cat {path}/old; echo new > {path}/new", store=place, job=job)
        assert ran.lines == ["old"], ran.outcome
        assert place.objects["s3://b/checkpoints/new"] == b"new\n"


@pytest.fixture
def kept(tmp_path: Path) -> tuple[CheckpointSync, Path, Memory]:
    """A folder that is looked at every few milliseconds, and where it is kept."""
    place = Memory({})
    for name in ("checkpoints", "scratch"):
        (tmp_path / name).mkdir()
    made = CheckpointSync(tmp_path / "checkpoints", "s3://b/c", place, tmp_path / "scratch", period=0.02)
    made.restore(threading.Event())
    made.start()
    return made, tmp_path / "checkpoints", place


def until(place: Memory, uri: str, content: bytes) -> None:
    """Wait until an object has a content."""
    deadline = time.monotonic() + 10
    while place.objects.get(uri) != content:
        assert time.monotonic() < deadline, place.objects
        time.sleep(0.005)


def test_checkpoints_are_kept_as_they_appear(kept: tuple[CheckpointSync, Path, Memory]) -> None:
    """New and changed files are copied while the program runs; one that goes stays where it was copied to."""
    checkpoints, folder, place = kept
    (folder / "1").write_bytes(b"one")
    until(place, "s3://b/c/1", b"one")
    (folder / "1").write_bytes(b"more")
    until(place, "s3://b/c/1", b"more")
    (folder / "1").unlink()
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "2").write_bytes(b"two")
    checkpoints.finish()
    assert place.objects == {"s3://b/c/1": b"more", "s3://b/c/2": b"two"}
    assert checkpoints.problem == ""


def test_a_file_that_is_being_written_is_not_kept_in_half(kept: tuple[CheckpointSync, Path, Memory]) -> None:
    """As long as a file changes from look to look it is not copied."""
    checkpoints, folder, place = kept
    seen: set[bytes] = set()
    put = place.put

    def watched(content: Path | bytes, uri: str) -> None:
        put(content, uri)
        seen.add(place.objects[uri])

    place.put = watched  # type: ignore[method-assign]
    with (folder / "large").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(b"x")
            time.sleep(0.001)
    checkpoints.finish()
    assert max(map(len, seen)) == 100
    assert len(seen) <= 2  # a slow machine may have looked twice between two bytes


def test_what_cannot_be_kept_is_a_note(tmp_path: Path) -> None:
    class Refusing(Memory):
        def put(self, content: Path | bytes, uri: str) -> None:
            if "checkpoints" in uri:
                raise StoreError(f"{uri}: denied")

    ran = run_job(tmp_path, "echo 1 > checkpoints/1; echo 1 > model/1", store=Refusing({}), job=JOB)
    assert ran.outcome.state == "Completed"
    assert ran.outcome.notes == ("checkpoints cannot be kept: s3://b/checkpoints/1: denied",)
