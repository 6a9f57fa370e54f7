"""How a container ends: by itself, at SIGTERM, when it ignores SIGTERM, and when its owner is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.sandbox_containers import STARTER, Ran, folders, mounts, running, seconds, until
from tritonforge.training.sandbox import start_container

pytestmark = pytest.mark.process

#: Waits for SIGTERM with a child beside it, says whether the child was signalled as well, and ends with status 5.
LISTENS = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
def handle(*_):
    time.sleep(0.1)
    print("child lives" if child.poll() is None else "child was signalled", flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, handle)
print("ready", flush=True)
while True:
    time.sleep(1)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


def ready(script: str, **given: object) -> Ran:
    """A Python program that has reported that it is ready."""
    begun = Ran("python3", "-c", script, **given)
    assert until(lambda: "ready" in begun.lines)
    return begun


def test_terminate_signals_the_command_alone() -> None:
    """SIGTERM goes to the command, as docker stop sends it; its children hear of it from the command, or not."""
    begun = ready(LISTENS)
    assert begun.process.terminate(30) == 5
    assert begun.lines == ["ready", "child lives"]


def test_terminate_kills_what_does_not_listen() -> None:
    """After the grace period everything is killed: 137, as docker says it."""
    begun = ready(DEAF)
    assert begun.process.returncode is None
    assert begun.process.terminate(0.2) == 137
    assert begun.process.returncode == 137


def test_a_container_that_ended_may_be_reported_again() -> None:
    """Its status stays what it was."""
    process = start_container(["sh", "-c", "exit 3"])
    assert process.wait(30) == 3
    assert [process.terminate(1), process.kill(), process.wait()] == [3, 3, 3]


def test_wait_gives_up_in_time() -> None:
    word = seconds()
    with start_container(["sleep", word]) as process:
        with pytest.raises(TimeoutError, match=r"^the container still runs after 0\.1 s$"):
            process.wait(0.1)
        assert running(word)
    assert process.returncode == 137
    assert not running(word)


@pytest.mark.parametrize("victim", ["starter", "keeper"])
def test_kill_9_leaves_nothing_behind(victim: str) -> None:
    """Whoever is killed, the process that wanted the container or the keeper in between: nothing of it is left."""
    before = mounts(), folders()
    word = seconds()
    starter = subprocess.Popen([*STARTER, word], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert starter.stdout is not None
        first, port = starter.stdout.readline().split()
        assert until(lambda: len(running(word)) == 2)  # the starter, and the container's command
        status = Path(f"/proc/{first}/status").read_text()
        keeper = int(status.partition("PPid:")[2].split()[0])
        os.kill(starter.pid if victim == "starter" else keeper, signal.SIGKILL)
        assert until(lambda: running(word) == ([starter.pid] if victim == "keeper" else []))
        assert until(lambda: not Path(f"/proc/{first}").exists())
    finally:
        starter.kill()
        starter.communicate()
    assert (mounts(), folders()) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)))


#: Whether this process's mounts are the same before a container, while it runs, and after it.
SPREADING = """
from pathlib import Path
from tritonforge.training.sandbox import start_container
mounts = Path("/proc/self/mountinfo")
before = mounts.read_text()
with start_container(["sleep", "60"]):
    during = mounts.read_text()
print(before == during == mounts.read_text(), "shared:" in before)
"""


def test_mounts_do_not_spread() -> None:
    """Where mounts are shared, as systemd has them, what a container mounts stays in it."""
    shared = ["unshare", "--user", "--map-root-user", "--mount", "--propagation=shared"]
    done = subprocess.run(
        [*shared, sys.executable, "-c", SPREADING], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.stdout == "True True\n", done.stderr


def test_the_container_hears_nothing_of_ctrl_c() -> None:
    """A terminal's Ctrl-C goes to the process that started the container, which decides."""
    word = seconds()
    starter = subprocess.Popen(
        [*STARTER, word], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, start_new_session=True
    )
    try:
        assert starter.stdout is not None
        first, _ = starter.stdout.readline().split()
        assert os.getpgid(int(first)) != starter.pid
        os.killpg(starter.pid, signal.SIGINT)
        assert starter.wait(30) == -signal.SIGINT  # it does not catch it: its end is the container's
        assert until(lambda: not running(word))
    finally:
        starter.kill()
        starter.communicate()


def test_many_containers_at_once() -> None:
    """Each has its own port 8080, its own files and its own end; none is left."""
    before = mounts()

    def one(number: int) -> tuple[int, list[str]]:
        script = (
            "import socket, time\n"
            "server = socket.create_server(('', 8080))\n"
            f"open('/tmp/number', 'x').write('{number}')\n"
            "print('ready', flush=True)\n"
            "peer, _ = server.accept()\n"
            "peer.sendall(open('/tmp/number').read().encode())\n"
            "peer.close()\n"
        )
        begun = ready(script, publish=8080)
        with socket.create_connection(("127.0.0.1", begun.process.port or 0)) as client:
            assert client.recv(10) == str(number).encode()
        return begun.end()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(12))) == [(0, ["ready"])] * 12
    assert mounts() == before
