"""Machines that do not allow it: users without rights of their own are isolated too, and a refusal is one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, run_tritonforge
from tests.support.sandbox_containers import PROGRAMS

pytestmark = pytest.mark.process

#: Starts a container that would leave a file, and says how it went.
ATTEMPT = """
import sys
from pathlib import Path
from tritonforge.training.sandbox import Bind, SandboxError, start_container
try:
    bind = Bind(Path(sys.argv[1]), "/opt/ml/model")
    with start_container(["sh", "-c", sys.argv[2]], binds=[bind], log=print) as process:
        sys.exit(process.wait())
except SandboxError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


#: A kernel that gives no further namespace of a kind: set inside a user namespace, whose limits are its own.
LIMIT = 'echo 0 > /proc/sys/user/max_{}_namespaces; exec "$@"'


def attempt(*before: str, folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """The attempt, as a process that is started by another program."""
    command = [*before, sys.executable, "-c", ATTEMPT, str(folder), script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def test_a_user_without_rights_is_isolated_by_a_user_namespace(tmp_path: Path) -> None:
    """The user is root inside, and what root writes there is the user's."""
    script = "id -u; touch /opt/ml/model/weights; touch /usr/x; wc -l < /proc/net/dev"
    done = attempt("unshare", "--user", "--map-user=1000", "--map-group=1000", folder=tmp_path, script=script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "0"
    assert "Read-only file system" in done.stdout
    assert done.stdout.splitlines()[-1] == "3"  # two headings and lo
    assert (tmp_path / "weights").stat().st_uid == tmp_path.stat().st_uid


@pytest.mark.parametrize("kind", ["net", "pid", "mnt"])
def test_a_refusal_is_one_sentence_and_nothing_runs(kind: str, tmp_path: Path) -> None:
    """A machine whose kernel gives no further namespace of a kind: never is the command run without it."""
    limited = ("unshare", "--user", "--map-root-user", "sh", "-c", LIMIT.format(kind), "sh")
    done = attempt(*limited, folder=tmp_path, script="touch /opt/ml/model/x")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(
        "SandboxError: the container cannot be isolated on this machine, so nothing was run: unshare "
    )
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_root_without_the_right_to_mount_uses_a_user_namespace(tmp_path: Path) -> None:
    """As in a container that docker run did not give CAP_SYS_ADMIN."""
    lesser = ("unshare", "--user", "--map-root-user", "setpriv", "--bounding-set=-sys_admin")
    done = attempt(*lesser, folder=tmp_path, script="touch /opt/ml/model/x; uname -n")
    assert (done.returncode, done.stdout) == (0, "algo-1\n"), done.stderr
    assert (tmp_path / "x").exists()


def test_the_command_line_says_the_sentence(tmp_path: Path) -> None:
    """`tritonforge algorithm run` ends with 1 and names the way out."""
    for name in ("in", "model", "out"):
        (tmp_path / name).mkdir()
    program = Path(sys.executable).with_name("tritonforge")
    folders = [f"--input={tmp_path / 'in'}", f"--model-dir={tmp_path / 'model'}", f"--output={tmp_path / 'out'}"]
    limited = ["unshare", "--user", "--map-root-user", "sh", "-c", LIMIT.format("net"), "sh"]
    command = [*limited, program, "algorithm", "run", "train", PROGRAMS / "seed", *folders]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the container cannot be isolated on this machine")
    assert "docker run --privileged" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "model" / "lines.txt").exists()


def test_a_program_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Before anything runs, with what is missing."""
    done = run_tritonforge("algorithm", "run", "serve", str(tmp_path), "--model-dir", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path} has no program 'serve'; an image's command is serve\n"
