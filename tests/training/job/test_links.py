"""Links that a program leaves or creates in /opt/ml: the host never follows them out of the job's directory."""

from pathlib import Path

import pytest

from tests.support.checkout import run_tritonforge
from tests.support.training_jobs import Memory, channel, program, run_job
from tritonforge.sagemaker.package import pack
from tritonforge.training.job import CheckpointConfig, Output
from tritonforge.training.job.opt_ml import CheckpointSync

pytestmark = pytest.mark.process


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the host with a secret, which no program can read."""
    folder = tmp_path / "outside"
    (folder / "data").mkdir(parents=True)
    for name in ("failure", "weights", "data/weights"):
        (folder / name).write_text("secret")
    return folder


def list_contents(folder: Path) -> dict[str, str]:
    """Return the files below a folder with their contents."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("compression", ["GZIP", "NONE"])
def test_a_model_directory_that_is_a_link_is_not_uploaded(tmp_path: Path, outside: Path, compression: str) -> None:
    store = Memory({})
    output = Output(uri="s3://b/out", compression_type=compression)  # type: ignore[arg-type]
    script = f"rmdir model; ln -s {outside} model"
    ran = run_job(tmp_path, script, store=store, job={"output": output}, pack=pack)
    assert (ran.outcome.state, ran.outcome.artifact, store.objects) == ("Failed", None, {})
    assert "/opt/ml/model: not a directory" in ran.outcome.failure


@pytest.mark.parametrize("script", ["rmdir output/data; ln -s {} output/data", "rm -r output; ln -s {} output"])
def test_an_output_directory_that_is_a_link_is_not_uploaded(tmp_path: Path, outside: Path, script: str) -> None:
    store = Memory({})
    before = list_contents(outside)
    job = {"output": Output(uri="s3://b/out")}
    ran = run_job(tmp_path, script.format(outside), store=store, job=job, pack=pack)
    assert (ran.outcome.state, store.objects) == ("Failed", {})
    assert "/opt/ml/output/data: not a directory" in ran.outcome.failure
    assert list_contents(outside) == before


def test_a_failure_file_behind_a_link_is_neither_read_nor_written(tmp_path: Path, outside: Path) -> None:
    before = list_contents(outside)
    ran = run_job(tmp_path, f"rm -r output; ln -s {outside} output; exit 3")
    assert ran.outcome.state == "Failed"
    assert "exit code 3" in ran.outcome.failure
    assert list_contents(outside) == before


@pytest.mark.parametrize("local_path", [None, "/opt/ml/a/checkpoints"])
def test_a_checkpoint_directory_that_is_a_link_is_not_copied(
    tmp_path: Path, outside: Path, local_path: str | None
) -> None:
    store = Memory({})
    config = CheckpointConfig(uri="s3://b/checkpoints", local_path=local_path)
    link = "checkpoints" if local_path is None else "a"
    (outside / "checkpoints").symlink_to(outside / "data")
    ran = run_job(tmp_path, f"rm -r {link}; ln -s {outside} {link}", store=store, job={"checkpoint_config": config})
    assert store.objects == {}
    assert "checkpoints cannot be kept" in "".join(ran.outcome.notes)


def test_a_checkpoint_that_becomes_a_link_before_it_is_copied_is_not_followed(
    tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory of a listed file is replaced before the file is opened."""
    store = Memory({})
    folder = tmp_path / "checkpoints"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "weights").write_text("good")
    (tmp_path / "scratch").mkdir()
    sync = CheckpointSync(folder, "s3://b/c", store, tmp_path / "scratch")
    upload = sync._upload

    def replace_directory(path: str, *arguments: object) -> None:
        (folder / "a").rename(folder / "b")
        (folder / "a").symlink_to(outside)
        upload(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sync, "_upload", replace_directory)
    sync._upload_changes(is_last=True)
    assert store.objects == {}


@pytest.mark.parametrize("script", [
    "mv input/data/train_1 saved; ln -s {} input/data/train_1; cat input/data/train_0; cat saved",
    "mv input/data input/old; ln -s {} input/data; cat input/old/train_0; cat input/old/train_1",
])  # fmt: skip
def test_a_pipe_that_becomes_a_link_is_not_written_through(tmp_path: Path, outside: Path, script: str) -> None:
    """The second epoch goes to the FIFO that the host created, wherever the program has moved it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1").write_text("line\n")
    (outside / "train_1").write_text("secret")
    before = list_contents(outside)
    target = outside / "train_1" if "saved" in script else outside
    ran = run_job(tmp_path, script.format(target), channel(tmp_path / "data"))
    assert ran.lines == ["line", "line"], ran.outcome
    assert list_contents(outside) == before
    assert sorted(path.name for path in outside.iterdir()) == ["data", "failure", "train_1", "weights"]


def test_a_program_that_removes_its_pipes_ends(tmp_path: Path) -> None:
    """The writer that waits for a reader is released at the end of the job."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1").write_text("line\n")
    ran = run_job(tmp_path, "rm input/data/train_0", channel(tmp_path / "data"))
    assert ran.outcome.state == "Completed"


def test_a_local_container_shows_no_failure_file_that_is_a_link(tmp_path: Path, outside: Path) -> None:
    for name in ("in", "model", "out"):
        (tmp_path / name).mkdir()
    folder = program(tmp_path, f"ln -s {outside}/failure output/failure; exit 3")
    done = run_tritonforge(
        "algorithm", "run", "train", str(folder),
        f"--input={tmp_path / 'in'}", f"--model-dir={tmp_path / 'model'}", f"--output={tmp_path / 'out'}",
    )  # fmt: skip
    assert done.returncode == 1
    assert "exit status 3" in done.stderr
    assert "secret" not in done.stdout + done.stderr
