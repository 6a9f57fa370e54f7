"""`tritonforge algorithm run`: its messages about a program that fails, waits, or is interrupted, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.command import tritonforge

AWKWARD = str(ROOT / "tests" / "training" / "sandbox" / "programs" / "awkward")


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """The folders of a run that has no settings yet."""
    for name in ("input/data/training", "model", "output", "checkpoints"):
        (tmp_path / name).mkdir(parents=True)
    directories = {"input": "input", "model-dir": "model", "output": "output", "checkpoints": "checkpoints"}
    return [f"--{option}={tmp_path / name}" for option, name in directories.items()]


def train(folders: list[str], act: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the program with an act."""
    return tritonforge("algorithm", "run", "train", AWKWARD, *folders, f"--hyperparameter=act={act}", *more)


@pytest.mark.process
def test_what_is_not_isolated_is_printed(folders: list[str]) -> None:
    """Before the program runs, on standard error."""
    done = train(folders, "nothing")
    assert done.returncode == 0, done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("not isolated: ")]
    assert any("without a limit: memory (--memory), CPU (--cpus), processes" in line for line in sentences)
    assert any("instead of an image's" in line for line in sentences)
    assert not any("call out" in line for line in sentences)
    opened = train(folders, "nothing", "--network")
    assert any("it can call out" in line for line in opened.stderr.splitlines())


@pytest.mark.process
def test_settings_that_are_missing_are_made(folders: list[str], tmp_path: Path) -> None:
    """What SageMaker always gives is there for the program, and nothing is written to the input folder."""
    (tmp_path / "input" / "config").mkdir()
    (tmp_path / "input" / "config" / "hyperparameters.json").write_text('{"act": "fail", "epochs": "3"}')
    done = train(folders, "look")
    assert done.returncode == 0, done.stderr
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.split(" ")[0].endswith(".json"))
    assert json.loads(found["hyperparameters.json"]) == {"act": "look", "epochs": "3"}
    assert json.loads(found["inputdataconfig.json"])["training"]["TrainingInputMode"] == "File"
    assert json.loads(found["resourceconfig.json"])["hosts"] == ["algo-1"]
    assert "/opt/ml/input/data/training" in done.stdout
    assert "input/config has no inputdataconfig.json, resourceconfig.json;" in done.stderr
    assert [file.name for file in (tmp_path / "input" / "config").iterdir()] == ["hyperparameters.json"]


@pytest.mark.process
def test_fifos_are_channels_in_pipe_mode(folders: list[str], tmp_path: Path) -> None:
    """Another process writes them; the program reads them in its container, one an epoch."""
    pipes = [tmp_path / "input" / "data" / f"lines_{epoch}" for epoch in range(2)]
    for pipe in pipes:
        os.mkfifo(pipe)
    writing = threading.Thread(target=lambda: [pipe.write_text(pipe.name) for pipe in pipes], daemon=True)
    writing.start()
    done = train(folders, "pipe")
    writing.join(30)
    assert (done.returncode, done.stdout.split()) == (0, ["lines_0", "lines_1"]), done.stderr
    for pipe in pipes:
        pipe.unlink()
        os.mkfifo(pipe)
    looked = train(folders, "look")
    (settings,) = (line for line in looked.stdout.splitlines() if line.startswith("inputdataconfig.json"))
    channels = json.loads(settings.partition(" ")[2])
    modes = {name: channel["TrainingInputMode"] for name, channel in channels.items()}
    assert modes == {"lines": "Pipe", "training": "File"}


@pytest.mark.process
def test_the_failure_file_s_sentence_is_shown(folders: list[str], tmp_path: Path) -> None:
    """Its first 1024 characters, as SageMaker shows them; exit code 1 whatever the program's."""
    done = train(folders, "fail")
    assert done.returncode == 1
    message = f"error: train ended with exit status 2; {tmp_path / 'output' / 'failure'}: [data] line 3 is not an image"
    assert message in done.stderr
    assert "x" * (1024 - 30) in done.stderr
    assert "x" * (1025 - 28) not in done.stderr
    report = json.loads(train(folders, "fail", "--format=json").stdout)
    assert (report["exit_code"], report["stopped"], len(report["failure"])) == (2, False, 1024)


@pytest.mark.process
def test_a_failure_of_an_earlier_run_is_not_shown(folders: list[str]) -> None:
    """A program without a failure file gets no sentence of an earlier run."""
    train(folders, "fail")
    done = train(folders, "fail silently")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: train ended with exit status 3"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.process
def test_an_interrupted_training_saves_its_checkpoint(number: int, folders: list[str], tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM reach the program as SIGTERM, as SageMaker stops a job; the code is 130."""
    process = begun(folders, "wait")
    process.send_signal(number)
    out, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert out == "a checkpoint is saved\n"
    assert (tmp_path / "checkpoints" / "epoch").read_text() == "7"
    assert stderr.endswith("interrupted: train ended with exit status 0\n")
    assert "Traceback" not in stderr


@pytest.mark.process
def test_a_program_that_does_not_listen_is_killed(folders: list[str]) -> None:
    """After --grace, or when it is interrupted again."""
    process = begun(folders, "sleep", "--grace=0.2")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: train ended with exit status 137 (signal SIGKILL)" in stderr
    process = begun(folders, "sleep")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert any("stopping" in line for line in iter(process.stderr.readline, ""))  # which ends with the program
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "interrupted: train ended with exit status 137 (signal SIGKILL)\n")


def begun(folders: list[str], act: str, *more: str) -> subprocess.Popen[str]:
    """A training that waits."""
    program = Path(sys.executable).with_name("tritonforge")
    process = subprocess.Popen(
        [program, "algorithm", "run", "train", AWKWARD, *folders, f"--hyperparameter=act={act}", *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    return process


@pytest.mark.process
def test_a_server_that_is_never_ready_fails(tmp_path: Path) -> None:
    """One that listens on its own loopback, as SageMaker does not come from there; and one that ends."""
    done = tritonforge("algorithm", "run", "serve", AWKWARD, f"--model-dir={tmp_path}", "--port=0", "--timeout=1")
    assert done.returncode == 1
    assert "serve did not answer /ping with 200 within 1 s; it must listen on 0.0.0.0:8080" in done.stderr
    done = tritonforge("algorithm", "run", "serve", AWKWARD, f"--model-dir={tmp_path}", "--port=0", "--env=ENDS=1")
    assert done.returncode == 1
    assert (done.stdout, done.stderr.splitlines()[-1]) == (
        "no model\n",
        "error: serve ended with exit status 9 by itself",
    )
    document = tritonforge(
        "algorithm", "run", "serve", AWKWARD, f"--model-dir={tmp_path}", "--port=0", "--env=ENDS=1", "--format=json"
    )
    assert json.loads(document.stdout)["error"] == {
        "message": "serve ended with exit status 9 by itself",
        "exit_code": 1,
    }


@pytest.mark.process
def test_a_server_that_does_not_listen_to_sigterm_is_killed(tmp_path: Path) -> None:
    """After --grace, with a sentence; the code is 1, and 0 for one that ends in time."""
    (tmp_path / "serve").write_text(
        "#!/usr/bin/env python3\n"
        "import http.server, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "class Well(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200)\n"
        "        self.end_headers()\n"
        "http.server.HTTPServer(('0.0.0.0', 8080), Well).serve_forever()\n"
    )
    (tmp_path / "serve").chmod(0o755)
    program = Path(sys.executable).with_name("tritonforge")
    given = [str(tmp_path), f"--model-dir={tmp_path}", "--port=0", "--grace=0.3", "--format=json"]
    process = subprocess.Popen(
        [program, "algorithm", "run", "serve", *given],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["url"].startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.splitlines()[-1] == "error: serve did not end within 0.3 s of SIGTERM and was killed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hyperparameter=epochs"], "'--hyperparameter': expected NAME=VALUE, got 'epochs'"),
        (["--env==x"], "'--env': expected NAME=VALUE, got '=x'"),
        (["--input=nowhere"], "Directory 'nowhere' does not exist"),
        (["--shm-size=0"], "'--shm-size': 0 is not in the range x>=1"),
        (["--grace=-1"], "'--grace': -1.0 is not in the range x>=0"),
    ],
)
def test_what_cannot_be_read_is_the_caller_s(arguments: list[str], message: str, folders: list[str]) -> None:
    """Exit code 2, before anything runs."""
    done = tritonforge("algorithm", "run", "train", AWKWARD, *folders, *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_hyperparameters_that_are_no_strings_are_refused(folders: list[str], tmp_path: Path) -> None:
    """SageMaker gives strings only: a program tested with numbers would fail there."""
    (tmp_path / "input" / "config").mkdir()
    (tmp_path / "input" / "config" / "hyperparameters.json").write_text('{"epochs": 3}')
    done = train(folders, "look")
    assert done.returncode == 2
    assert "hyperparameters.json is not an object of strings" in done.stderr
