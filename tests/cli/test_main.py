"""The command line as a whole: help, exit codes, and one sentence for every mistake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, run_tritonforge
from tests.support.command import tritonforge

BAD_INPUT = {
    "no command": (["frobnicate"], 2, "No such command 'frobnicate'"),
    "unknown option": (["build", "--frobnicate"], 2, "No such option"),
    "no definition": (["build", "nowhere"], 2, "Path 'nowhere' does not exist"),
    "both modes": (["build", "repos/digits", "--check", "--write-configs"], 2, "exclude each other"),
    "no repository": (["serve", "nowhere"], 2, "Directory 'nowhere' does not exist"),
    "a file as repository": (["serve", "README.md"], 2, "Directory 'README.md' is a file"),
    "a repository without models": (
        ["serve", ".ci"],
        2,
        ".ci: no models found (expected a directory for each model)",
    ),
    "no port": (["serve", "repos", "--http-port", "99999"], 2, "expected a port from 0 to 65535 or off, got '99999'"),
    "one port twice": (
        ["serve", "repos", "--http-port", "9000", "--grpc-port", "9000"],
        2,
        "port 9000 is given to both http and grpc; choose another one with --grpc-port",
    ),
    "no port at all": (
        ["serve", "repos", "--http-port=off", "--grpc-port=off", "--sagemaker-port=off"],
        2,
        "every port is off; one of --sagemaker-port, --http-port and --grpc-port must be on",
    ),
    "no image file": (["infer", "http://127.0.0.1:1", "nowhere.jpg"], 2, "File 'nowhere.jpg' does not exist"),
    "no server": (["infer", "http://127.0.0.1:1", "README.md"], 1, "no server answers at http://127.0.0.1:1"),
    "no address": (["infer", "ftp://x", "README.md"], 2, "'ftp://x' is not an address"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_sentence_and_an_exit_code(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a traceback; 2 for invalid input, 1 when the job failed."""
    arguments, code, sentence = BAD_INPUT[case]
    monkeypatch.chdir(ROOT)
    done = tritonforge(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1


def test_errors_are_json_where_json_was_asked_for() -> None:
    """Machines get the sentence and the code on standard output."""
    done = tritonforge("build", "nowhere", "--format", "json")
    document = json.loads(done.stdout)
    assert document["error"]["exit_code"] == done.returncode == 2
    assert document["error"]["message"].startswith("Invalid value for 'DEFINITION': Path 'nowhere' does not exist")


def test_help_names_every_command_and_the_exit_codes() -> None:
    """`--help` is complete, and each command has help of its own."""
    whole = tritonforge("--help")
    assert whole.returncode == 0
    assert "Exit codes:" in whole.stdout
    for command in ("build", "serve", "infer"):
        assert f"\n  {command}" in whole.stdout
        help_ = tritonforge(command, "--help")
        assert help_.returncode == 0
        assert "Usage: tritonforge" in help_.stdout


@pytest.mark.process
def test_the_version_is_the_packages() -> None:
    """`--version` and the package agree, and the changelog has it."""
    from tritonforge import __version__

    assert run_tritonforge("--version").stdout == f"tritonforge {__version__}\n"
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.process
def test_the_module_is_the_command_line() -> None:
    command = [sys.executable, "-m", "tritonforge", "explain", "E999"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "E999" in done.stderr


@pytest.mark.process
def test_a_reader_that_leaves_is_no_error() -> None:
    """`tritonforge --help | head -1` ends quietly."""
    program = Path(sys.executable).with_name("tritonforge")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = subprocess.run([program, "--help"], stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "BrokenPipeError" not in done.stderr


@pytest.mark.process
def test_a_missing_extra_is_one_line_with_the_install_command(tmp_path: Path) -> None:
    """Without the local extra, serve says what to install."""
    (tmp_path / "repository").mkdir()
    script = (
        "import sys, importlib.util\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'pytriton' else real(name, *rest)\n"
        "from tritonforge.cli.main import main\n"
        f"main(['serve', {str(tmp_path / 'repository')!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: nvidia-pytriton is not installed; run: pip install ")
    assert last.endswith("[local]'")
