"""`run`, as real processes: exit codes, the failure file, SIGTERM, a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.program_folders import environment, laid_out, program, start_program, whole
from tritonforge.training.algorithm import Stopping
from tritonforge.training.algorithm.program import describe_failure

pytestmark = pytest.mark.process

ALGORITHM = """
    algorithm = Algorithm(
        "adder",
        hyperparameters=[HyperParameter("epochs", "Integer", "Passes.", 3, minimum=1, maximum=1000)],
        channels=[Channel("training", input_modes=("File", "Pipe"))],
    )
"""

#: Adds 1 to a number an epoch; resumes from its checkpoint; saves slowly when it gets SIGTERM.
ADDER = (
    ALGORITHM
    + """
    import json, sys, time

    def train(container, values, stopping):
        checkpoints = Checkpoints(container.checkpoint_dir)
        last = checkpoints.newest()
        total = json.loads((last.folder / "total").read_text()) if last else 0
        for epoch in range(last.step if last else 0, values.integer("epochs")):
            total = total * 3 + epoch
            print(f"epoch={epoch};", flush=False)
            stopping.wait(0.1 if len(sys.argv) > 1 else 0)
            if stopping.is_set():
                def save(folder):
                    print("saving", flush=False)
                    time.sleep(0.5)
                    (folder / "total").write_text(json.dumps(total))
                checkpoints.save(epoch + 1, save)
                return
        (container.model_dir / "total").write_text(json.dumps(total))

    run(algorithm, train)
"""
)


def failing(folder: Path, body: str) -> Path:
    """A program whose `train` does this."""
    head = f"{ALGORITHM}\n    import sys\n    def train(container, values, stopping):\n"
    return program(folder, f"{head}        {body}\n    run(algorithm, train)\n")


def failure(base: Path) -> str:
    """The failure file."""
    return (base / "output" / "failure").read_text(encoding="utf-8")


def test_a_job_that_trains_ends_with_0_and_leaves_no_failure(tmp_path: Path) -> None:
    """The folders are there, what an earlier run left of its failure is not."""
    base = laid_out(tmp_path / "ml", hyperparameters={"epochs": "4"})
    (base / "output").mkdir()
    (base / "output" / "failure").write_text("of yesterday")
    code, out, err = whole(program(tmp_path, ADDER), base)
    assert (code, out, err) == (0, "epoch=0;\nepoch=1;\nepoch=2;\nepoch=3;\n", "")
    assert (base / "model" / "total").read_text() == "18"
    assert [path.name for path in (base / "output").iterdir()] == ["data"]


#: The line of the body of `failing`, and how the sentence about a full disk begins and ends.
PLACE = " (train.py, line 11)"
FULL = "the disk is full ({}); give the job a larger volume (VolumeSizeInGB), or let it write less"

SENTENCES = {
    "raise InputError('annotations.json: image 7 is missing')": (2, "annotations.json: image 7 is missing"),
    "1 / 0": (1, f"the algorithm failed with ZeroDivisionError: division by zero{PLACE}"),
    "assert False": (1, f"the algorithm failed with AssertionError{PLACE}"),
    "raise ValueError('two\\nlines')": (1, f"the algorithm failed with ValueError: two lines{PLACE}"),
    "__import__('json').loads('{')": (1, f"property name enclosed in double quotes: line 1 column 2 (char 1){PLACE}"),
    "sys.exit('no labels')": (1, "no labels"),
    "sys.exit(7)": (7, f"the program exited with code 7{PLACE}"),
    "raise MemoryError": (1, f"the memory is full{PLACE}; choose an instance type with more of it, or a smaller batch"),
    "open('/dev/full', 'w').write('x' * 9999)": (1, FULL.format("[Errno 28] No space left on device")),
    "raise RuntimeError('x; No space left on device')": (1, FULL.format("x; No space left on device")),
}


@pytest.mark.parametrize("body", SENTENCES)
def test_what_failed_is_one_sentence(tmp_path: Path, body: str) -> None:
    base = laid_out(tmp_path / "ml")
    found, _, err = whole(failing(tmp_path, body), base)
    code, report = SENTENCES[body]
    assert found == code
    assert report in failure(base)
    assert "\n" not in failure(base)
    assert err.splitlines()[-1] == failure(base)
    assert ("Traceback" in err) is ("Input" not in body and "exit" not in body)


def test_a_job_that_cannot_begin_says_why(tmp_path: Path) -> None:
    """Hyperparameters and channels are held against the declaration before `train` is called."""
    file = failing(tmp_path, "raise RuntimeError('called')")
    code, _, err = whole(file, laid_out(tmp_path / "a", hyperparameters={"epoch": "5"}))
    report = "1 hyperparameter is wrong: 'epoch' is unknown; did you mean epochs?"
    assert (code, err, failure(tmp_path / "a")) == (2, f"{report}\n", report)
    code, _, err = whole(file, laid_out(tmp_path / "b", channels={"trainng": {"TrainingInputMode": "File"}}))
    report = "the channels do not fit adder: channel 'trainng' is unknown; did you mean training?"
    assert (code, err, failure(tmp_path / "b")) == (2, f"{report}\n", report)
    (tmp_path / "c").mkdir()
    code, _, err = whole(file, tmp_path / "c")
    report = failure(tmp_path / "c")
    assert (code, err) == (2, f"{report}\n")
    assert report.startswith(f"{tmp_path / 'c/input/config/hyperparameters.json'} is missing; SageMaker writes it")


@pytest.mark.parametrize("text", ["é" * 5000, "\\udcff" * 400, "x" * 1024, "x" * 1025])
def test_the_failure_file_has_what_sagemaker_reads(tmp_path: Path, text: str) -> None:
    """1024 characters of UTF-8 at most, whatever the sentence holds, and the same on a terminal without UTF-8."""
    base = laid_out(tmp_path / "ml")
    file = failing(tmp_path, f"raise InputError('{text}')")
    with start_program(file, base, PYTHONIOENCODING="ascii:backslashreplace") as process:
        _, err = process.communicate(timeout=60)
    found = failure(base)
    assert len(found) == 1024
    assert found.endswith("...") or text == "x" * 1024
    assert err.splitlines()[-1] == found.encode("ascii", "backslashreplace").decode()


def test_a_full_volume_has_space_for_the_failure(tmp_path: Path) -> None:
    base = tmp_path / "ml"
    base.mkdir()
    file = failing(tmp_path, "(container.model_dir / 'weights').write_bytes(bytes(10**7))")
    alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a small volume cannot be mounted on this machine")
    script = (
        f"mount -t tmpfs -o size=256k tmpfs {base} && cp -r {laid_out(tmp_path / 'given')}/. {base} && "
        f"{sys.executable} {file}; echo $?; df --output=avail {base} | tail -1; cat {base}/output/failure"
    )
    done = subprocess.run(
        [*alone, "sh", "-c", script], capture_output=True, text=True, check=True, env=environment(base), timeout=60
    )
    code, free, report = done.stdout.split("\n", 2)
    assert (code, int(free)) == ("1", 0)
    assert report == (
        "the disk is full ([Errno 28] No space left on device); give the job a larger volume (VolumeSizeInGB), "
        "or let it write less"
    )
    assert done.stderr.splitlines()[-1] == report


def test_sigterm_saves_a_checkpoint_and_the_next_run_goes_on_from_it(tmp_path: Path) -> None:
    """Stopped ends with 0, a second SIGTERM does not kill the save, and the end is that of an undisturbed run."""
    file = program(tmp_path, ADDER)
    undisturbed = laid_out(tmp_path / "a", hyperparameters={"epochs": "40"})
    assert whole(file, undisturbed)[0] == 0

    base = laid_out(tmp_path / "b", hyperparameters={"epochs": "40"})
    with start_program(file, base, "slowly") as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["epoch=0;\n", "epoch=1;\n"]  # seen while it runs
        process.send_signal(signal.SIGTERM)
        assert "saving\n" in iter(process.stdout.readline, "")  # which ends with the program
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert not (base / "model" / "total").exists()
    assert not (base / "output" / "failure").exists()
    code, out, _ = whole(file, base)
    assert code == 0
    assert not out.startswith("epoch=0;")
    assert (base / "model" / "total").read_text() == (undisturbed / "model" / "total").read_text()


def test_sigterm_ends_the_wait_for_data(tmp_path: Path) -> None:
    """A program that waits for a FIFO which never comes is stopped in good order."""
    channels = {"training": {"TrainingInputMode": "Pipe"}}
    base = laid_out(tmp_path / "ml", channels=channels)
    file = failing(tmp_path, "print('waiting'); container.channels['training'].epoch(0).__enter__()")
    with start_program(file, base) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "stopped by SIGTERM\n")


def test_a_thread_that_waits_for_data_does_not_hold_the_end(tmp_path: Path) -> None:
    """When `train` fails, its readers end too, and the process with them."""
    base = laid_out(tmp_path / "ml", channels={"training": {"TrainingInputMode": "Pipe"}})
    body = (
        "import threading, contextlib\n"
        "        def read():\n"
        "            with contextlib.suppress(StoppedError):\n"
        "                container.channels['training'].epoch(0).__enter__()\n"
        "        threading.Thread(target=read).start()\n"
        "        raise InputError('no')"
    )
    assert whole(failing(tmp_path, body), base)[0] == 2


def test_ctrl_c_is_no_failure_of_the_job(tmp_path: Path) -> None:
    """From the keyboard it ends as every program here does, with 130."""
    base = laid_out(tmp_path / "ml")
    code, _, err = whole(failing(tmp_path, "raise KeyboardInterrupt"), base)
    assert (code, err) == (130, "interrupted\n")
    assert not (base / "output" / "failure").exists()


def test_a_failure_file_that_cannot_be_written_is_reported_too(tmp_path: Path) -> None:
    base = laid_out(tmp_path / "ml")
    (base / "output" / "failure").mkdir(parents=True)
    (base / "output" / "failure" / "x").touch()
    code, _, err = whole(failing(tmp_path, "raise InputError('no')"), base)
    assert code == 2
    first, last = err.splitlines()
    assert first.startswith(f"{base / 'output' / 'failure'}: cannot write: ")
    assert last == "no"


def test_a_named_file_on_a_full_disk_is_named() -> None:
    """Where the error says which file, so does the sentence."""
    error = OSError(28, "No space left on device", "/opt/ml/model/weights")
    assert describe_failure(error).startswith(
        "the disk is full while /opt/ml/model/weights was written; give the job a larger"
    )


def test_the_program_gets_its_job(tmp_path: Path) -> None:
    """The container that `train` gets is the one of this process."""
    base = laid_out(tmp_path / "ml")
    body = "(container.model_dir / 'x').write_text(container.job_name + ' ' + container.resources.current_host)"
    assert whole(failing(tmp_path, body), base)[0] == 0
    assert (base / "model" / "x").read_text() == "job-1 algo-1"
    assert json.loads((base / "input" / "config" / "hyperparameters.json").read_text()) == {}


def test_a_program_may_ask_whether_it_is_to_stop_as_people_write_it() -> None:
    """``if stopping:`` is False until SIGTERM came, and not always True as any object is."""
    stopping = Stopping()
    assert not stopping
    stopping.set()
    assert stopping
