"""How jobs end: exit codes and the failure file, stops and time limits, and what is left of each."""

import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT
from tests.support.training_jobs import Memory, channel, run_job
from tritonforge.training.job import MetricDefinition, Output, StoppingCondition

pytestmark = pytest.mark.process

#: Saves its state at SIGTERM.
SAVING = "trap 'echo saved > model/weights; exit 0' TERM; echo begun; while true; do sleep 0.02; done"
STUBBORN = "trap '' TERM; echo half > model/weights; echo begun; while true; do sleep 0.02; done"


def members(archive: str | None) -> list[str]:
    """The files of an archive."""
    assert archive is not None
    with tarfile.open(archive) as file:
        return sorted(member.name.removeprefix("./") for member in file if member.isfile())


def test_a_job_that_completes_leaves_its_model_and_output(tmp_path: Path) -> None:
    """model.tar.gz and output.tar.gz lie where SageMaker has them."""
    ran = run_job(tmp_path, "mkdir model/1; echo x > model/1/w; echo y > output/data/plot")
    assert (ran.outcome.state, ran.outcome.exit_code, ran.outcome.failure) == ("Completed", 0, "")
    assert ran.outcome.artifact == f"{tmp_path}/out/job/output/model.tar.gz"
    assert members(ran.outcome.artifact) == ["1/w"]
    assert members(ran.outcome.output_data) == ["plot"]


def test_a_model_may_go_as_files(tmp_path: Path) -> None:
    """CompressionType NONE: every file at its path below output/model/; links are not followed."""
    place = Memory({})
    output = Output(uri="s3://b/out/", compression_type="NONE")
    script = "mkdir model/1; echo x > model/1/w; ln -s /etc/passwd model/link"
    ran = run_job(tmp_path, script, store=place, job={"output": output})
    assert ran.outcome.artifact == "s3://b/out/job/output/model/"
    assert place.objects == {"s3://b/out/job/output/model/1/w": b"x\n"}


def test_no_model_is_reported(tmp_path: Path) -> None:
    ran = run_job(tmp_path, "true")
    assert (ran.outcome.state, ran.outcome.artifact) == ("Completed", None)
    assert "nothing in /opt/ml/model" in ran.outcome.notes[0]


@pytest.mark.parametrize(
    ("script", "code", "sentence"),
    [
        ("echo ' the sentence ' > output/failure; exit 2", 2, "the sentence"),
        ("head -c 3000 /dev/zero | tr '\\0' x > output/failure; exit 1", 1, "x" * 1024),
        ("printf 'a\\377b' > output/failure; exit 1", 1, "a\ufffdb"),
        ("echo something; echo; exit 7", 7, "ended with exit code 7 and left no sentence .*log is: something"),
        ("kill -9 $$", 137, "was killed .SIGKILL., as happens where memory runs out, and left no sentence"),
        ("ln -s /etc/hostname output/failure; exit 1", 1, "ended with exit code 1 and left no sentence"),
        ("mkdir output/failure; exit 1", 1, "ended with exit code 1 and left no sentence"),
        ("mkfifo output/failure; exit 1", 1, "ended with exit code 1 and left no sentence"),
    ],
)  # fmt: skip
def test_a_program_that_fails_says_why(tmp_path: Path, script: str, code: int, sentence: str) -> None:
    import re

    ran = run_job(tmp_path, script)
    assert (ran.outcome.state, ran.outcome.exit_code, ran.outcome.artifact) == ("Failed", code, None)
    assert re.search(sentence, ran.outcome.failure), ran.outcome.failure
    assert len(ran.outcome.failure) <= 1024


def stopped(folder: Path, script: str, **given: Any) -> Any:
    """A job that is stopped at its first line."""
    stop = threading.Event()
    return run_job(folder, script, stop=stop, on_line=lambda _: stop.set(), **given)


def test_a_stop_is_sigterm_and_keeps_the_model(tmp_path: Path) -> None:
    """The program saves what it has and ends; the job is Stopped with a model."""
    ran = stopped(tmp_path, SAVING)
    assert (ran.outcome.state, ran.outcome.stop_reason, ran.outcome.exit_code) == ("Stopped", "stop", 0)
    assert ran.phases == ["Starting", "Downloading", "Training", "Stopping", "Uploading"]
    assert members(ran.outcome.artifact) == ["weights"]


def test_a_program_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    """After the grace it is SIGKILL; what it had written is kept."""
    began = time.monotonic()
    ran = stopped(tmp_path, STUBBORN, stop_seconds=0.3)
    assert time.monotonic() - began < 5
    assert (ran.outcome.state, ran.outcome.exit_code) == ("Stopped", 137)
    assert members(ran.outcome.artifact) == ["weights"]


def test_who_cannot_wait_kills(tmp_path: Path) -> None:
    stop, kill = threading.Event(), threading.Event()

    def phase(name: str) -> None:
        if name == "Stopping":
            kill.set()

    began = time.monotonic()
    ran = run_job(
        tmp_path, STUBBORN, stop=stop, kill=kill, stop_seconds=60.0, on_line=lambda _: stop.set(), on_phase=phase
    )
    assert time.monotonic() - began < 30
    assert (ran.outcome.state, ran.outcome.exit_code, ran.outcome.artifact) == ("Stopped", 137, None)


def test_its_time_is_up(tmp_path: Path) -> None:
    """MaxRuntimeInSeconds ends a job as a stop does, and says so."""
    ran = run_job(tmp_path, SAVING, job={"stopping_condition": StoppingCondition(max_runtime_in_seconds=1)})
    assert (ran.outcome.state, ran.outcome.stop_reason) == ("Stopped", "MaxRuntimeExceeded")
    assert members(ran.outcome.artifact) == ["weights"]
    assert 1 <= ran.outcome.seconds < 4


@pytest.mark.parametrize("mode", ["File", "Pipe"])
def test_a_stop_before_the_program_starts(tmp_path: Path, mode: str) -> None:
    """Copying and listing are given up; nothing was run."""
    stop = threading.Event()

    class Slow(Memory):
        def fault(self, uri: str, chunk: int) -> None:
            stop.set()

    place = Slow({"s3://b/m": b'{"a":1}\n' * 10})
    one = channel("s3://b/m", mode=mode, names=["a"] if mode == "Pipe" else ())
    ran = run_job(tmp_path, "echo started", one, store=place, stop=stop)
    assert (ran.outcome.state, ran.outcome.exit_code, ran.lines) == ("Stopped", None, [])


def test_a_stop_just_before_the_program_starts(tmp_path: Path) -> None:
    """With nothing to copy a stop is seen all the same."""
    stop = threading.Event()
    ran = run_job(tmp_path, "echo started", stop=stop, on_phase=lambda name: name == "Downloading" and stop.set())
    assert (ran.outcome.state, ran.outcome.exit_code, ran.lines) == ("Stopped", None, [])


def test_metrics_are_read_off_the_log(tmp_path: Path) -> None:
    definitions = (
        MetricDefinition(name="loss", regex=r"loss=([0-9\.]+)."),
        MetricDefinition(name="rate", regex="rate=(\\S+)"),
        MetricDefinition(name="other", regex="other=([0-9]+)"),
    )
    before = time.time()
    script = "echo 'epoch 1 loss=0.5, rate=1e-3 loss=0.4,'; echo 'loss=0.25, rate=none' >&2"
    ran = run_job(tmp_path, script, algorithm={"metric_definitions": definitions})
    assert [(metric.name, metric.value) for metric in ran.measured] == [
        ("loss", 0.5),
        ("loss", 0.4),
        ("rate", 0.001),
        ("loss", 0.25),
    ]
    assert {name: metric.value for name, metric in ran.outcome.metrics.items()} == {"loss": 0.25, "rate": 0.001}
    assert all(before <= metric.seconds <= time.time() for metric in ran.measured)


def test_an_error_of_who_listens_is_raised_and_the_program_ends(tmp_path: Path) -> None:
    def line(_: str) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run_job(tmp_path, "echo x; exit 0", on_line=line)


def running(mark: str) -> list[str]:
    """The processes whose command line has a mark in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if mark.encode() in command and str(os.getpid()) not in path.parts:
            found.append(path.parent.name)
    return found


def test_a_tool_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    """SIGKILL of the process that runs a job ends the program with it, its pipe's reader too."""
    (tmp_path / "in").write_bytes(bytes(10 << 20))
    mark = f"61.{os.getpid()}"
    script = textwrap.dedent(f"""
        import pathlib, sys
        from tests.support.training_jobs import channel, run_job
        folder = pathlib.Path(sys.argv[1])
        run_job(folder, "exec 3< input/data/train_0; echo begun; sleep {mark}", channel(folder / "in"),
                on_line=lambda text: print(text, flush=True))
    """)
    tool = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert tool.stdout is not None
    with tool.stdout:
        assert tool.stdout.readline() == "begun\n"
        deadline = time.monotonic() + 10
        while not running(f"sleep\0{mark}") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert running(f"sleep\0{mark}")
        tool.send_signal(signal.SIGKILL)
        tool.wait()
    while running(f"sleep\0{mark}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not running(f"sleep\0{mark}")
