"""What a command finds in its container: how it is executed, its files, its processes, its rights, its network."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.sandbox_containers import folders, mounts, python, run_container, running, seconds, shell
from tritonforge.training.sandbox import Bind, BindError, SandboxError, build_environment, start_container

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)],
)
def test_the_exit_status_passes_through(script: str, status: int) -> None:
    """A status is the command's own; signal n is 128 + n."""
    assert shell(script)[0] == status


def test_the_command_is_executed_without_a_shell() -> None:
    """What a shell would read is an argument like any other (the exec form)."""
    assert run_container("printf", "%s|", "$HOME; exit 3", "*") == (0, ["$HOME; exit 3|*|"])


def test_a_command_that_is_not_there_ends_with_127() -> None:
    """As with docker run, and the log says what was looked for."""
    status, lines = run_container("trian")
    assert status == 127
    assert lines == ["trian: not found on the container's PATH, or the interpreter of its first line is missing"]


@pytest.mark.parametrize(
    ("mode", "text", "says"),
    [
        (0o644, "#!/bin/sh\n", "train: not executable; run: chmod 755 train"),
        (0o755, "echo hello\n", "train: Exec format error; a script begins with #! and its interpreter"),
    ],
)
def test_a_command_that_cannot_be_executed_ends_with_126(mode: int, text: str, says: str, tmp_path: Path) -> None:
    """A file without its bit, and a script without its first line: no shell comes to help."""
    (tmp_path / "train").write_text(text)
    (tmp_path / "train").chmod(mode)
    assert run_container("train", binds=[Bind(tmp_path, "/opt/program", read_only=True)]) == (126, [says])


def test_the_environment_is_the_container_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is inherited, PATH begins with the program folder, and what is given is added."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    status, lines = run_container("env", environment={"TRAINING_JOB_NAME": "job", "LANG": "C"})
    assert status == 0
    assert dict(line.split("=", 1) for line in lines) == {
        **build_environment(),
        "TRAINING_JOB_NAME": "job",
        "LANG": "C",
    }
    assert build_environment()["PATH"].startswith("/opt/program:")


def test_python3_is_this_python_with_its_packages() -> None:
    """A program that begins with `#!/usr/bin/env python3` has tritonforge and what is installed beside it."""
    status, lines = python("import numpy, tritonforge, os; print(tritonforge.__version__, os.getcwd())")
    assert (status, lines) == (0, ["0.1.0 /"])


@pytest.mark.parametrize("linked", ["venv", "checkout/venv"])
def test_a_checkout_and_an_environment_below_tmp_are_there_too(linked: str, tmp_path: Path) -> None:
    """Where the container has a folder of its own, and also by the name of a link."""
    shutil.copytree(ROOT / "tritonforge", tmp_path / "checkout" / "tritonforge")
    venv = tmp_path / linked
    venv.symlink_to(sys.prefix)
    script = (
        "from tritonforge.training.sandbox import start_container\n"
        "start_container(['python3', '-c', 'import numpy, tritonforge; print(tritonforge.__file__)'], log=print).wait()"
    )
    done = subprocess.run(
        [venv / "bin" / "python", "-c", script],
        env={"PYTHONPATH": str(tmp_path / "checkout")}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == f"{tmp_path}/checkout/tritonforge/__init__.py\n", done.stderr


def test_both_streams_are_one_log_in_lines() -> None:
    script = "echo out; echo err >&2; printf 'schön\\n'; printf '\\377\\n\\n'; printf last"
    assert shell(script) == (0, ["out", "err", "schön", "\ufffd", "", "last"])


def test_a_very_long_line_comes_in_pieces() -> None:
    """As CloudWatch Logs takes no event of more than 256 KiB."""
    _, lines = python("print('x' * 600_000); print('end')")
    assert [len(line) for line in lines] == [262144, 262144, 75712, 3]


def test_what_the_log_raises_is_raised_by_wait() -> None:
    """The command still ends, and is not stuck on a full pipe."""

    def log(line: str) -> None:
        raise ValueError(line)

    process = start_container(["sh", "-c", "yes | head -c 300000"], log=log)
    with pytest.raises(ValueError, match=r"^y$"):
        process.wait(60)
    assert process.returncode == 0


def test_bound_folders_are_writable_or_not(tmp_path: Path) -> None:
    """What is bound read-only cannot be written, what is bound writable is this machine's folder."""
    for name in ("input", "model"):
        (tmp_path / name).mkdir()
    status, lines = shell(
        "echo weights > /opt/ml/model/w; touch /opt/ml/input/x || touch /usr/x || touch /opt/program/x",
        binds=[
            Bind(tmp_path / "input", "/opt/ml/input", read_only=True),
            Bind(tmp_path / "model", "/opt/ml/model"),
            Bind(tmp_path / "input", "/opt/program", read_only=True),
        ],
    )
    assert status == 1
    assert [line.rpartition(": ")[2] for line in lines] == ["Read-only file system"] * 3
    assert (tmp_path / "model" / "w").read_text() == "weights\n"


def test_the_machine_is_left_as_it_was(tmp_path: Path) -> None:
    """Mount points that the machine lacks are the container's alone, as are /, /tmp, /run, /dev/shm and /opt/ml."""
    (tmp_path / "file").write_text("hello\n")
    before = mounts(), folders()
    status, lines = shell(
        "cat /a/b/c/file /opt/ml/input/config/x.json /home/left/there/file;"
        "echo x | tee /left /tmp/left /run/left /dev/shm/left /opt/left /opt/ml/left /a/left",
        binds=[Bind(tmp_path, "/a/b/c"), Bind(tmp_path, "/home/left/there")],
        files={"/opt/ml/input/config/x.json": "{}\n"},
    )
    assert (status, lines) == (0, ["hello", "{}", "hello", "x"])
    assert (mounts(), folders()) == before
    for place in ("/tmp/left", "/run/left", "/dev/shm/left", "/home/left"):
        assert not Path(place).exists()


def test_temporary_folders_are_the_container_s_own(tmp_path: Path) -> None:
    """Nothing of this machine's /tmp and /run is there, the sockets of its daemons included."""
    # A checkout or a Python below /tmp is shown there, and nothing beside it.
    shown = {Path(place).relative_to("/tmp").parts[0] for place in (ROOT, sys.prefix) if place_is_below_tmp(place)}
    status, lines = shell(f"ls {tmp_path} > /dev/null 2>&1; echo $?; ls -A /tmp /run")
    assert (status, lines[0]) == (0, "2")
    assert set(lines[1:]) - {"/tmp:", "/run:", ""} == shown


def place_is_below_tmp(place: Path | str) -> bool:
    """Whether a path leads below /tmp."""
    return Path(place).is_relative_to("/tmp")


def test_a_mount_point_inside_a_bound_folder_is_not_made(tmp_path: Path) -> None:
    """It would be a folder of the user's that changes; the sentence says which one lacks it."""
    with pytest.raises(SandboxError, match="a mount point is required in /opt/ml, and the folder that is bound there"):
        start_container(["true"], binds=[Bind(tmp_path, "/opt/ml"), Bind(tmp_path, "/opt/ml/input")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["opt/ml", "/", "/opt/../etc"])
def test_targets_are_absolute_paths(target: str, tmp_path: Path) -> None:
    """Anything else is refused before anything runs."""
    with pytest.raises(BindError, match="is not an absolute path below /"):
        start_container(["true"], binds=[Bind(tmp_path, target)])


def test_a_source_must_be_there(tmp_path: Path) -> None:
    """The sentence names it, and what it was to be."""
    with pytest.raises(BindError, match=r"nothing does not exist; it cannot be /opt/ml/model in the container"):
        start_container(["true"], binds=[Bind(tmp_path / "nothing", "/opt/ml/model")])


def test_shared_memory_has_the_size_that_is_asked_for() -> None:
    """/dev/shm is 64 MiB, as docker run has it, or what is stated."""
    size = "df --output=size -k /dev/shm | tail -1 | tr -d ' '"
    assert shell(size) == (0, ["65536"])
    assert shell(size, shared_memory=2**20) == (0, ["1024"])


def test_its_processes_see_each_other_only() -> None:
    """Process 1 is the container's first, the command comes next, and this machine's are not there."""
    status, lines = python("import os; print(os.getpid(), sorted(int(x) for x in os.listdir('/proc') if x.isdigit()))")
    assert (status, lines) == (0, ["2 [1, 2]"])


def test_process_1_buries_orphans() -> None:
    """A child whose parent ended leaves no zombie behind."""
    status, lines = shell("(true & ) ; (sh -c 'sleep 0.01' & ) ; sleep 0.3; grep -l '^State:.Z' /proc/[0-9]*/status")
    assert (status, lines) == (1, [])


def test_what_the_command_leaves_running_ends_with_it() -> None:
    """A daemon of the command's is killed when the command ends, as in a container."""
    word = seconds()
    status, lines = shell(f"setsid sleep {word} > /dev/null 2>&1 & echo started")
    assert (status, lines) == (0, ["started"])
    assert not running(word)


def test_its_host_is_named_as_in_a_training_job() -> None:
    """algo-1, which leads to the container itself."""
    status, lines = python("import socket; print(socket.gethostname(), socket.gethostbyname(socket.gethostname()))")
    assert (status, lines) == (0, ["algo-1 192.0.2.2"])


@pytest.mark.parametrize(
    "attempt",
    [
        "mount -t tmpfs x /mnt",
        "mount -o remount,rw /etc",
        "umount /etc/hosts",
        "mknod /tmp/disk b 254 0",
        "sh -c 'echo 1 > /proc/sys/vm/drop_caches'",
        "sh -c 'echo h > /proc/sysrq-trigger'",
        "unshare --mount true",
        "nsenter --target 1 --net true",
    ],
)
def test_root_has_the_rights_that_docker_leaves_it(attempt: str) -> None:
    """The machine cannot be changed from inside, by root either."""
    status, lines = shell(attempt)
    assert status not in (0, 126, 127), lines


def test_process_1_cannot_be_killed_from_inside() -> None:
    """The kernel keeps it: a container does not end so."""
    assert shell("kill -9 1; sleep 0.1; kill -0 1; echo $?") == (0, ["0"])


def test_no_server_of_this_machine_is_seen_and_nothing_outside_is_reached() -> None:
    """A program that connects out fails at once: its loopback is its own, and it has no other network."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        port = server.getsockname()[1]
        abstract.bind(f"\0tritonforge-{os.getpid()}")
        abstract.listen()
        status, lines = python(
            "import errno, socket\n"
            "def attempt(family, address):\n"
            "    try:\n"
            "        socket.socket(family).connect(address)\n"
            "    except OSError as error:\n"
            "        print(errno.errorcode[error.errno])\n"
            f"attempt(socket.AF_INET, ('127.0.0.1', {port}))\n"
            f"attempt(socket.AF_UNIX, '\\0tritonforge-{os.getpid()}')\n"
            "attempt(socket.AF_INET, ('198.51.100.1', 80))\n"
            "attempt(socket.AF_INET6, ('2001:db8::1', 80))\n"
            "try:\n"
            "    socket.getaddrinfo('sagemaker.us-east-1.amazonaws.com', 443)\n"
            "except socket.gaierror:\n"
            "    print('no name is found')\n"
        )
    assert status == 0
    assert lines == ["ECONNREFUSED", "ECONNREFUSED", "ENETUNREACH", "ENETUNREACH", "no name is found"]


def test_an_open_network_is_this_machine_s() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        process = start_container(
            ["python3", "-c", f"import socket; socket.create_connection(('127.0.0.1', {port}))"], network=True
        )
        assert process.wait(60) == 0
    assert any("its ports are this machine's" in sentence for sentence in process.isolates)
    closed = start_container(["true"])
    assert closed.wait(60) == 0
    assert any("loopback only" in sentence for sentence in closed.isolates)
    assert not any("its ports are this machine's" in sentence for sentence in closed.isolates)


def test_signals_are_as_a_program_expects_them() -> None:
    """Nothing is ignored or blocked that Python ignores or blocks: a closed pipe ends a writer."""
    status, lines = shell("grep -E '^Sig(Blk|Ign)' /proc/self/status; yes | head -1")
    assert status == 0
    blocked, ignored = (int(line.split()[1], 16) for line in lines[:2])
    # 32 and 33 are the C library's own, which no program can set: its posix_spawn, by which make starts programs,
    # leaves them ignored (glibc, sysdeps/unix/sysv/linux/spawni.c).
    assert (blocked, ignored & ~(0b11 << 31)) == (0, 0)
    assert lines[2:] == ["y"]
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN  # here it is
