"""What a training program that runs as root gets to see of this machine, and what it leaves behind."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import click
import pytest

from tests.support.sandbox_containers import python, shell
from tritonforge.cli.options import MEMORY_SIZE
from tritonforge.training.sandbox import Bind, Limits, limits, start_container
from tritonforge.training.sandbox.root import strip_privileges

pytestmark = pytest.mark.process

#: As a program would ask for them: this checkout, which may be in a home directory, and what only root may read.
HIDDEN = (
    Path(__file__),
    Path("/etc/shadow"),
    Path.home() / ".bashrc",
    Path("/var/lib/dpkg"),
    Path("/etc/ssl/private/x"),
)


def test_a_program_sees_the_system_and_not_the_data_of_this_machine() -> None:
    """No home directory, no checkout, no passwords; and all that Python needs, with its packages."""
    script = f"""
import os, pwd, ssl, tempfile, numpy, tritonforge
assert pwd.getpwuid(0).pw_name == "root" and ssl.create_default_context()
print([path for path in {[*map(str, HIDDEN)]!r} if os.path.lexists(path)], os.listdir("/home"), os.listdir("/root"))
print(open(tempfile.mkstemp(dir="/var/tmp")[1], "w").write("x"), sorted(os.listdir("/")))
"""
    status, lines = python(script)
    assert status == 0, lines
    assert lines[0].startswith("[] [] ")
    assert not {"mnt", "srv", "media", "boot"} & set(eval(lines[1].partition(" ")[2])) - {"tmp", "usr", "root"}


def test_set_user_id_bits_do_not_outlive_a_program(tmp_path: Path) -> None:
    """Of root's files, in every bound folder, also where no other user may read them; links are not followed."""
    kept = tmp_path / "kept"
    kept.write_text("")
    kept.chmod(0o4755)
    (tmp_path / "model").mkdir()
    script = (
        "cd /opt/ml/model; mkdir -p a/b; for n in a/b/u g n; do cp /bin/true $n; done; "
        f"chmod 4755 a/b/u; chmod 2755 g; chmod 4111 n; ln -s {kept} link; mkfifo p; stat -c %a a/b/u"
    )
    assert shell(script, binds=[Bind(tmp_path / "model", "/opt/ml/model")]) == (0, ["4755"])
    modes = {name: (tmp_path / "model" / name).stat().st_mode for name in ("a/b/u", "g", "n")}
    assert not {name for name, mode in modes.items() if mode & (stat.S_ISUID | stat.S_ISGID)}
    assert modes["a/b/u"] & 0o777 == 0o755
    assert kept.stat().st_mode & stat.S_ISUID


def test_a_link_in_place_of_a_folder_is_not_entered(tmp_path: Path) -> None:
    """A file elsewhere keeps its bits, whatever a program put where its folder was."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/tool").write_text("")
    (tmp_path / "elsewhere/tool").chmod(0o4755)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/a").symlink_to(tmp_path / "elsewhere")
    strip_privileges(str(tmp_path / "model"))
    assert (tmp_path / "elsewhere/tool").stat().st_mode & stat.S_ISUID


GREEDY = """
import subprocess, sys
children = []
try:
    for _ in range(60):
        children.append(subprocess.Popen(["sleep", "60"]))
except OSError as error:
    print(len(children) < 40, error.strerror, flush=True)
try:
    data = bytearray(400 << 20)
    data[:: 4096] = bytes(len(data) // 4096)
except MemoryError:
    sys.exit(137)
"""


@pytest.mark.parametrize("groups", [True, False], ids=["control groups", "rlimits"])
def test_memory_and_processes_are_limited(groups: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the limits that exist, which are reported; no group is left."""
    if not groups:
        monkeypatch.setattr(limits, "_find_hierarchies", dict)
    lines: list[str] = []
    process = start_container(
        ["python3", "-c", GREEDY], log=lines.append, limit=Limits(memory=150 << 20, cpus=0.9, pids=40)
    )
    assert process.wait(60) == 137
    memory, cpu, pids = process.limited
    assert memory.startswith("memory is limited to 157,286,400 bytes, ")
    by_group = ["control group (cgroup v" in sentence for sentence in (memory, cpu, pids)]
    assert any(by_group) or not groups
    assert not any(by_group) or groups
    assert lines == (["True Resource temporarily unavailable"] if by_group[2] else [])  # rlimits do not bind root
    monkeypatch.undo()
    here = {hierarchy.group for hierarchy in limits._find_hierarchies().values()}
    assert not [group for folder in here for group in folder.glob(f"tritonforge-{os.getpid()}-*")]


def test_sizes_are_read_as_docker_reads_them() -> None:
    """Units of 1024, with or without a b."""
    assert [MEMORY_SIZE.convert(text, None, None) for text in ("6291456", "512m", "8G", "7000kb")] == [
        6291456, 512 << 20, 8 << 30, 7000 << 10
    ]  # fmt: skip
    for wrong in ("", "lots", "1t", "-1m", "5m"):
        with pytest.raises(click.UsageError):
            MEMORY_SIZE.convert(wrong, None, None)
