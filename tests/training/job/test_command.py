"""`tritonforge train` on this machine: from flags or a file to a model, interrupted, taken up again, refused."""

import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.training_jobs import COUNTING, program, run_command
from tritonforge.cli.training_options import TrainingOptions
from tritonforge.training.job import TrainingJob

pytestmark = pytest.mark.process

#: Keeps its input, and writes a metric.
KEEPING = """
cat input/data/train_0 > model/pipe
cp -r input/data/files model/files
cp input/config/*.json model/
echo 'epoch 1 loss=0.5'; echo 'epoch 2 loss=0.25'
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with an augmented manifest and its one picture."""
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "images" / "1.jpg").write_bytes(b"picture")
    (tmp_path / "data" / "a.manifest").write_text('{"source-ref":"images/1.jpg","label":7}\n')
    return tmp_path / "data"


def test_a_model_from_flags(tmp_path: Path, data: Path) -> None:
    """Channels in both modes, hyperparameters and metrics; OUTDIR has the archive and its content, and nothing else."""
    code, report, log = run_command(
        program(tmp_path, KEEPING), "--channel", f"train={data}/a.manifest:label,source-ref",
        "--record-wrapper", "None",
        "--channel", f"files={data}/images", "--hyperparameter", "epochs=5", "--metric", "loss=loss=([0-9.]+)",
        "-o", tmp_path / "out", "--format", "json",
    )  # fmt: skip
    assert code == 0, log
    report = json.loads(report)
    assert (report["state"], report["metrics"], report["failure"]) == ("Completed", {"loss": 0.25}, None)
    assert report["model"] == f"{tmp_path}/out/model.tar.gz"
    assert "epoch 2 loss=0.25" in log
    model = tmp_path / "out" / "model"
    assert (model / "pipe").read_bytes() == b"7picture"
    assert (model / "files" / "1.jpg").read_bytes() == b"picture"
    assert json.loads((model / "hyperparameters.json").read_text()) == {"epochs": "5"}
    with tarfile.open(report["model"]) as archive:
        assert "pipe" in archive.getnames()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out", "program"]


def test_a_job_from_a_file(tmp_path: Path, data: Path) -> None:
    """A request of CreateTrainingJob with paths for addresses; flags add to it and win."""
    request = {
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "HyperParameters": {"a": "1", "b": "2"},
        "InputDataConfig": [
            {
                "ChannelName": "files",
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": str(data / "images")}},
            }
        ],
        "OutputDataConfig": {"S3OutputPath": str(tmp_path / "out"), "CompressionType": "NONE"},
    }
    (tmp_path / "job.json").write_text(json.dumps(request))
    script = "cp input/config/hyperparameters.json model/; ls input/data/files"
    given = ["--job", tmp_path / "job.json", "--hyperparameter", "b=3", "--format", "json"]
    code, report, log = run_command(program(tmp_path, script), *given)
    assert code == 0, log
    assert json.loads(report)["model"] == f"{tmp_path}/out/model"
    assert json.loads((tmp_path / "out/model/hyperparameters.json").read_text()) == {"a": "1", "b": "3"}
    assert not (tmp_path / "out/model.tar.gz").exists()
    assert "1.jpg" in log


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"HyperParameter": {}}, "HyperParameter"),
        ({"AlgorithmSpecification": {"TrainingInputMode": "Pip"}}, "TrainingInputMode is 'Pip'"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": "60"}}, "MaxRuntimeInSeconds"),
        ({"EnableManagedSpotTraining": True}, "needs StoppingCondition.MaxWaitTimeInSeconds"),
    ],
)
def test_a_file_that_sagemaker_would_refuse(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    (tmp_path / "job.json").write_text(json.dumps(change))
    code, _, report = run_command(program(tmp_path, "true"), "--job", tmp_path / "job.json", "-o", tmp_path / "out")
    assert (code, sentence in report) == (2, True), report
    assert not (tmp_path / "out").exists()


def test_a_failure_is_one_sentence(tmp_path: Path, data: Path) -> None:
    """The terminal and the report say what the failure file says; a model from before stays."""
    folder = program(tmp_path, "echo ok > model/old")
    assert run_command(folder, "-o", tmp_path / "out")[0] == 0
    program(tmp_path, "echo new > model/old; echo 'The disk is full.' > output/failure; exit 1")
    code, report, log = run_command(folder, "-o", tmp_path / "out", "--format", "json")
    assert code == 1
    assert json.loads(report)["failure"] == "The disk is full."
    assert log.splitlines()[-1] == "error: The disk is full."
    assert (tmp_path / "out/model/old").read_text() == "ok\n"


def test_a_data_failure_is_one_sentence(tmp_path: Path, data: Path) -> None:
    """A picture that is not there."""
    (data / "images" / "1.jpg").unlink()
    given = ["--channel", f"train={data}/a.manifest:source-ref", "-o", tmp_path / "out"]
    code, _, log = run_command(program(tmp_path, "cat input/data/train_0"), *given)
    assert code == 1
    expected = f"channel train: {data}/a.manifest: line 1: {data}/images/1.jpg: no such object"
    assert f"error: ClientError: {expected}" in log


def test_a_time_limit(tmp_path: Path) -> None:
    """The model so far is kept, and the exit code says that it is not the whole."""
    script = "echo half > model/w; trap 'exit 0' TERM; while true; do sleep 0.02; done"
    code, report, log = run_command(program(tmp_path, script), "-o", tmp_path / "out", "--max-runtime", 1)
    assert code == 1
    assert report.startswith("Stopped  program -> ")
    assert "stopped after 1 s" in log
    assert (tmp_path / "out/model/w").read_text() == "half\n"


def test_an_interruption_and_the_same_command_again(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("tritonforge"), "train", program(tmp_path, COUNTING), "-o", "out"]
    tool = subprocess.Popen(
        [*map(str, command)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert tool.stdout is not None
    with tool.stdout:
        for line in tool.stdout:
            if line == "step 2\n":
                break
        tool.send_signal(signal.SIGINT)
        rest = tool.stdout.read()
    assert tool.wait() == 130, rest
    assert "the same command continues" in rest
    again = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "step 2" not in again.stderr
    assert "step 6" in again.stderr
    assert (tmp_path / "out/model/sum").read_text() == "21\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "program"]


def test_checkpoints_are_those_of_this_job(tmp_path: Path) -> None:
    """Another job does not go on from them, unless it is begun afresh; two runs at once are refused."""
    folder = program(tmp_path, "ls checkpoints; echo x > checkpoints/x; exit 1")
    given = [folder, "-o", tmp_path / "out"]
    assert run_command(*given, "--hyperparameter", "a=1")[0] == 1
    code, _, report = run_command(*given, "--hyperparameter", "a=2")
    assert code == 2
    assert '(expected HyperParameters {"a": "1"}, got {"a": "2"}). Start again (--afresh)' in report
    code, _, log = run_command(*given, "--hyperparameter", "a=1")
    assert (code, "\nx\n" in log) == (1, True)
    code, _, log = run_command(*given, "--hyperparameter", "a=2", "--afresh")
    assert (code, "\nx\n" in log) == (1, False)


def test_checkpoints_of_ones_own_stay(tmp_path: Path) -> None:
    """--checkpoints names where they are kept, and they outlast the job."""
    given = ["-o", tmp_path / "out", "--checkpoints", tmp_path / "mine"]
    assert run_command(program(tmp_path, "echo x > checkpoints/x"), *given)[0] == 0
    assert (tmp_path / "mine" / "x").read_text() == "x\n"


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    folder = program(tmp_path, "echo begun; while ! test -e checkpoints/go; do sleep 0.02; done; echo x > model/x")
    tool = subprocess.Popen(
        [Path(sys.executable).with_name("tritonforge"), "train", folder, "-o", "out"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert tool.stdout is not None
    with tool.stdout:
        for line in tool.stdout:
            if line == "begun\n":
                break
        code, _, report = run_command(folder, "-o", tmp_path / "out")
        (tmp_path / ".out.train/run/ml/checkpoints/go").touch()
        rest = tool.stdout.read()
    assert (tool.wait(), "Completed" in rest) == (0, True)
    assert (code, "another run of this job is in progress" in report) == (2, True)


@pytest.mark.parametrize(
    ("text", "uri", "attributes"),
    [
        ("train=s3://b/a.manifest:source-ref,my label", "s3://b/a.manifest", ("source-ref", "my label")),
        ("train=a:b", "a", ("b",)),
        ("train=s3://b/prefix", "s3://b/prefix", None),
        ("train=dir=with=equals/", "dir=with=equals/", None),
        ("train=c:/x", "c:/x", None),
    ],
)
def test_a_channel_is_read(text: str, uri: str, attributes: tuple[str, ...] | None) -> None:
    """The attributes stand after the last colon; that of an address is none of them."""
    name, _, address = text.partition("=")
    job = TrainingOptions(channels={name: address}, output="out").build_job("program")
    assert isinstance(job, TrainingJob)
    assert job.channels is not None
    assert job.channels[0].data is not None
    assert (job.channels[0].data.uri, job.channels[0].data.attribute_names) == (uri, attributes)
    assert job.mode(job.channels[0]) == ("File" if attributes is None else "Pipe")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--channel", "train", "-o", "out"], "expected NAME=DATA"),
        (["--hyperparameter", "a", "-o", "out"], "expected NAME=VALUE"),
        ([], "the output of the model is missing"),
        (["--instance-type", "ml.m5.large", "-o", "out"], "--instance-type applies to --on sagemaker only"),
        (["-o", "out"], "no such directory"),
    ],
)
def test_flags_that_cannot_be_are_refused(arguments: list[str], sentence: str) -> None:
    """Each with what to write."""
    import click

    with pytest.raises(click.UsageError, match=sentence):
        run_command("no-program", *arguments)


def test_a_missing_channel_is_invalid_input(tmp_path: Path) -> None:
    code, _, report = run_command(program(tmp_path, KEEPING), "--channel", "train=nothing", "-o", tmp_path / "out")
    assert (code, report) == (2, "channel train: nothing: no such file or directory")
