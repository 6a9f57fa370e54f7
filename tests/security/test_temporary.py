"""What killed runs leave in shared folders is removed by the next run, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tritonforge import temporary
from tritonforge.cli.main import main


@pytest.mark.process
def test_what_a_killed_run_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every command: a folder with what is in it; what a living process made stays."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = (
        "from tritonforge import temporary; import os\n"
        "with temporary.open_directory('build') as folder:\n"
        "    (folder / 'file').write_text('x'); print(folder, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    left = Path(done.stdout.strip())
    assert left.parent == tmp_path
    assert (left / "file").exists()
    monkeypatch.setattr("tempfile.tempdir", None)
    with temporary.open_directory("kept") as kept:
        with pytest.raises(SystemExit):
            main(["explain", "E101"])
        assert list(tmp_path.iterdir()) == [kept]
    assert list(tmp_path.iterdir()) == []


def test_only_this_users_folders_of_ended_processes_are_removed(tmp_path: Path) -> None:
    """Not another user's, not those of another PID namespace; and a link goes, never what it leads to."""
    own = temporary.build_prefix()
    family, namespace, process, began = own.strip("_").split("_")
    reused = f"{family}_{namespace}_{process}_{int(began) - 1}_x"  # the number is this process's, its start is not
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("x")
    places = tmp_path / "shared"
    places.mkdir()
    for name in (f"{own}x", reused, f"{family}_{int(namespace) + 1}_{process}_1_x", f"{family}_{namespace}_x", "other"):
        (places / name).mkdir()
    (places / f"{reused}_link").symlink_to(victim)
    (places / f"{reused}_file").write_text("")
    (places / reused / "inner").symlink_to(victim)
    kept = {f"{own}x", f"{family}_{int(namespace) + 1}_{process}_1_x", f"{family}_{namespace}_x", "other"}
    if os.geteuid() == 0:  # only root can create another user's
        (places / f"{reused}_theirs").mkdir()
        os.chown(places / f"{reused}_theirs", 65534, 65534)
        kept.add(f"{reused}_theirs")
    temporary.sweep([places, tmp_path / "none"])
    assert {entry.name for entry in places.iterdir()} == kept
    assert (victim / "file").exists()


def test_folders_of_the_python_backend_stay_while_a_process_may_use_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton makes one in /tmp at each start, and leaves it when it is killed."""
    for name, age in (("python_env_old", 3600 * 24 * 365), ("python_env_new", -60)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, time.time() - age))
    monkeypatch.setattr(temporary, "_runs_backend", lambda process: process.name == str(os.getpid()))
    temporary.sweep_backend(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["python_env_new"]
    monkeypatch.setattr(temporary, "_runs_backend", lambda process: False)
    temporary.sweep_backend(tmp_path)
    assert list(tmp_path.iterdir()) == []
