"""The server's life: ports, models, ways to fail, ways to end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.tensor_client import FREE
from tests.support.throwaway_server import ThrowawayServer
from tritonforge.errors import LaunchError
from tritonforge.serving import server_process
from tritonforge.serving.server import ModelStatus, Server
from tritonforge.serving.supervisor import SHARED_MEMORY

pytestmark = pytest.mark.server

ECHO = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", each.inputs()[0].as_numpy())]) for each in requests]
"""
IO = 'input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }'


def add(repository: Path, name: str, *, code: str = ECHO, config: str = 'backend: "python"') -> Path:
    """A model of Triton's own python backend, which needs no framework."""
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(code)
    (repository / name / "config.pbtxt").write_text(f"{config} {IO}")
    return repository


def until(true: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether something came true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def family(pid: int) -> set[int]:
    """A process and all that descend from it."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found |= family(int(child))
    return found


def traces(pid: int) -> list[str]:
    """Shared memory of servers that a process started."""
    return [region.name for region in SHARED_MEMORY.iterdir() if f"_{pid}_" in region.name]


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of two models that echo."""
    repository = tmp_path_factory.mktemp("echo")
    add(repository, "first")
    return add(repository, "second")


def test_a_server_serves_what_it_was_asked_for(echo: Path, tmp_path: Path) -> None:
    """Named models are loaded and no others; ports that are off stay off; a log that was asked for is kept."""
    steps: list[str] = []
    log = tmp_path / "server.log"
    with Server(
        echo, default_model="second", sagemaker_port=0, http_port=None, grpc_port=None, metrics_port=None, log=log,
        on_progress=steps.append,
    ) as server:  # fmt: skip
        assert server.models() == (ModelStatus("second", "1", "READY", ""),)
        assert (server.http_url, server.grpc_url, server.metrics_url) == (None, None, None)
        assert server.returncode is None
        body = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [2.5]}]}'
        with urllib.request.urlopen(f"{server.sagemaker_url}/invocations", data=body) as answer:
            assert b'"model_name":"second"' in answer.read()
        # A web page could send this too, and name any folder of the machine.
        other = json.dumps({"model_name": "other", "url": str(tmp_path)}).encode()
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            urllib.request.urlopen(f"{server.sagemaker_url}/models", data=other)
        refused.value.close()
        pids = family(server.pid or 0)
        assert len(pids) > 1
    assert server.returncode == 0
    assert not list(echo.rglob("__pycache__"))
    assert not any(alive(pid) for pid in pids)
    assert "loading second version 1" in steps
    assert "Started Sagemaker HTTPService" in log.read_text()
    assert "successfully unloaded 'second'" in server.log_tail()


@pytest.fixture(scope="module")
def zoo(repositories: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two models of the zoo that need no TensorFlow, one of them made for a GPU."""
    repository = tmp_path_factory.mktemp("zoo")
    for name in ("pixels", "versions"):
        shutil.copytree(repositories / "zoo" / name, repository / name)
    with ThrowawayServer(repository, default_model="versions", **FREE) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("systemsharedmemory/region/x/register", {"key": "/x", "offset": 0, "byte_size": 1}),
        ("cudasharedmemory/region/x/register", {"raw_handle": {"b64": ""}, "device_id": 0, "byte_size": 1}),
        ("logging", {"log_verbose_level": 9}),
        ("trace/setting", {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"}),
        ("repository/models/evil/load", {"parameters": {"config": "{}", "file:1/model.py": "aW1wb3J0IGV2aWw="}}),
    ],
)
def test_a_web_page_changes_nothing_of_tritons_own_http_api(zoo: Server, path: str, request_: object) -> None:
    """A request that a browser sends without a preflight; Triton looks at neither Origin nor content type."""
    headers = {"Content-Type": "text/plain", "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    sent = urllib.request.Request(f"{zoo.http_url}/v2/{path}", json.dumps(request_).encode(), headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(sent)
    refused.value.close()
    assert refused.value.code == (503 if path.endswith("load") else 403)
    assert "Access-Control-Allow-Origin" not in refused.value.headers


def test_the_repository_is_never_written_to(zoo: Server) -> None:
    """The view for a machine without GPU leaves the repository's own files as they are."""
    assert "KIND_GPU" in (zoo.repository / "pixels" / "config.pbtxt").read_text()


def test_every_port_listens_on_loopback_only(zoo: Server) -> None:
    """The kernel's socket tables show 127.0.0.1 for each port, the SageMaker front end's included."""
    assert zoo.pid is not None
    sockets = set()
    for pid in family(zoo.pid):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    listening = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and rest[5] in sockets:
                address, port = local.split(":")
                listening[int(port, 16)] = address
    urls = (zoo.sagemaker_url, zoo.http_url, zoo.grpc_url, zoo.metrics_url)
    ports = {int(url.split(":")[2].split("/")[0]) for url in urls if url is not None}
    assert set(listening) == ports
    mapped = "0000000000000000FFFF00000100007F"  # ::ffff:127.0.0.1, as grpc writes it
    assert set(listening.values()) <= {"0100007F", mapped}


def test_a_port_in_use_is_named(echo: Path) -> None:
    """Before anything is started, with the flag that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LaunchError, match=rf"port {port} on 127.0.0.1 is in use; .* --grpc-port"):
            Server(echo, default_model="first", **{**FREE, "grpc_port": port})


def test_a_configuration_that_is_a_directory_is_named(tmp_path: Path) -> None:
    """No request has been sent when tritonserver ends of it."""
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "config.pbtxt").mkdir()
    with pytest.raises(LaunchError, match=r"m/config\.pbtxt is a directory") as caught, Server(tmp_path, **FREE):
        pass
    assert "2 GiB" not in str(caught.value)


def test_a_missing_repository_is_named(tmp_path: Path) -> None:
    """A folder that is not there."""
    with pytest.raises(LaunchError, match="nowhere is not a directory"):
        Server(tmp_path / "nowhere", **FREE)


def test_odd_paths_are_served(echo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's stubs are started through a shell and read ASCII only; the repository's path and TMPDIR may be odd."""
    odd = tmp_path / "it's $HOME here; (really) \u00e9:"
    shutil.copytree(echo, odd)
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    with ThrowawayServer(odd, **FREE, default_model=sorted(path.name for path in odd.iterdir())[0]) as server:
        assert all(row.state == "READY" for row in server.models())


def test_a_model_name_with_a_blank_is_refused_at_once(echo: Path, tmp_path: Path) -> None:
    """The message advises to rename the model."""
    shutil.copytree(sorted(echo.iterdir())[0], tmp_path / "odd" / "two words")
    with pytest.raises(LaunchError, match="'two words' has characters that Triton's python backend passes to a shell"):
        Server(tmp_path / "odd", **FREE)


def test_a_folder_for_temporary_files_that_cannot_be_used_is_named(
    echo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the character that is in the way, and the variable that names another."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a b"))
    monkeypatch.setattr(server_process, "_SYSTEM_ROOTS", ())
    with pytest.raises(LaunchError, match=r"a b: its path has the characters ' '\); set TMPDIR to a writable one"):
        Server(echo, default_model="first", **FREE)


def test_a_full_disk_is_named(echo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence, and nothing of the server is left."""

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tritonforge.serving.installation.prepare_folder", full)
    before = traces(os.getpid())  # of the servers that other tests of this file share
    with pytest.raises(LaunchError, match="cannot write the files of the server: No space left on device"):
        Server(echo, default_model="second", sagemaker_port=0, http_port=None, grpc_port=None, metrics_port=None)
    assert set(traces(os.getpid())) <= set(before)


def test_a_log_that_cannot_be_written_is_named(echo: Path, tmp_path: Path) -> None:
    """The log in a folder that is not there."""
    with pytest.raises(LaunchError, match=r"server\.log: cannot write: No such file"):
        Server(echo, default_model="first", log=tmp_path / "none" / "server.log", **FREE)


def test_a_model_that_is_not_there_is_named_with_those_that_are(echo: Path) -> None:
    """A name that was misspelt."""
    with pytest.raises(LaunchError, match="model 'third' not found in the repository; it has first, second"):
        Server(echo, models=["third"], **FREE)


def test_models_that_fail_to_load_give_tritons_reasons(tmp_path: Path) -> None:
    """All reasons at once, in one line each and without prefixes or tracebacks; nothing is left running."""
    before = traces(os.getpid())
    add(tmp_path, "raises", code=ECHO + "    def initialize(self, args): raise ValueError('what a \"day\"')\n")
    add(tmp_path, "unknown", config='backend: "tensorrt" platform: "tensorrt_plan"')
    add(tmp_path, "wrong", config='backend: "dali" max_batch_size: 4')
    add(tmp_path, "unparsed", config="max_batch_size: none")
    with pytest.raises(LaunchError) as caught:
        Server(tmp_path, **{**FREE, "sagemaker_port": None})
    lines = sorted(str(caught.value).splitlines())
    assert lines[0] == "model 'raises' did not load: ValueError: what a \"day\""
    assert lines[1].startswith("model 'unknown' did not load: unable to find backend library for backend 'tensorrt'")
    assert lines[2] == f"model 'unparsed' did not load: failed to read text proto from {tmp_path}/unparsed/config.pbtxt"
    assert lines[3].startswith("model 'wrong' did not load: Failed to load model file. The program looked in")
    assert len(lines) == 4
    assert traces(os.getpid()) == before


def test_an_ensemble_that_does_not_fit_gives_tritons_reason(tmp_path: Path) -> None:
    """The verdict on an ensemble is in a line of its own in the log."""
    add(tmp_path, "echo")
    step = 'input_map { key: "x" value: "x" } output_map { key: "y" value: "y" }'
    config = f'platform: "ensemble" ensemble_scheduling {{ step {{ model_name: "echo" model_version: -1 {step} }} }}'
    io = IO.replace("FP32", "INT8")
    (tmp_path / "whole" / "1").mkdir(parents=True)
    (tmp_path / "whole" / "config.pbtxt").write_text(f"{config} {io}")
    with pytest.raises(LaunchError, match=r"in ensemble whole, ensemble tensor .: inconsistent data type"):
        Server(tmp_path, **FREE)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (None, r"model 'm' did not load: Python model file not found in '.*/repository/m/1/model.py'"),
        ("import os; os.kill(os.getpid(), 11)", "model 'm' did not load: its Python process ended by signal SIGSEGV"),
    ],
    ids=["no model.py", "killed"],
)
def test_a_start_that_cannot_succeed_any_more_ends(tmp_path: Path, code: str | None, reason: str) -> None:
    """Tritonserver itself waits for ever for a stub that ended before it answered."""
    add(tmp_path / "repository", "m", code=code or "")
    if code is None:
        (tmp_path / "repository" / "m" / "1" / "model.py").unlink()
    with pytest.raises(LaunchError, match=reason):
        Server(tmp_path / "repository", startup_timeout=300, **FREE)


def test_a_model_that_takes_too_long_is_not_waited_for(tmp_path: Path) -> None:
    """The timeout ends the start, and everything that was started."""
    add(tmp_path, "slow", code=ECHO + "    def initialize(self, args):\n        import time; time.sleep(60)\n")
    with pytest.raises(LaunchError, match="not ready after 2 s"):
        Server(tmp_path, startup_timeout=2, **FREE)


@pytest.fixture
def running(echo: Path) -> Iterator[Server]:
    """A small server to be harmed."""
    with Server(echo, default_model="first", **FREE) as server:
        yield server


def test_a_server_that_dies_is_reported_with_its_last_words(running: Server) -> None:
    """`wait` raises when tritonserver was killed; its stubs do not live on."""
    assert running.pid is not None
    pids = family(running.pid)
    os.kill(running.pid, signal.SIGKILL)
    with pytest.raises(
        LaunchError, match=r"ended by signal SIGKILL; its log ends with:\n(.*\n)*.*Started Metrics Service"
    ):
        running.wait()
    assert running.returncode == -signal.SIGKILL
    assert until(lambda: not any(alive(pid) for pid in pids))


def test_a_model_whose_process_dies_ends_the_server(running: Server) -> None:
    """Tritonserver would answer 500 for the model for ever, and 200 to health checks."""
    assert running.pid is not None
    (stub,) = family(running.pid) - {running.pid}
    os.kill(stub, signal.SIGKILL)
    with pytest.raises(LaunchError, match="model 'first': its Python process ended by signal SIGKILL"):
        running.wait()
    assert running.death is not None
    assert (running.death.model, running.returncode) == ("first", 0)


def test_wait_returns_when_another_thread_stops_the_server(running: Server) -> None:
    """A requested stop is not an error."""
    threading.Timer(0.2, running.stop).start()
    assert running.wait() == 0


PARENT = """
import sys, time
from tritonforge.serving.server import Server
server = Server(sys.argv[1], default_model="first", sagemaker_port=0, http_port=0, grpc_port=0, metrics_port=0)
print(server.pid, server._process.supervisor_pid, server._process.folder, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("victim", ["parent", "supervisor"])
def test_a_killed_process_leaves_nothing_behind(echo: Path, victim: str) -> None:
    """SIGKILL to the process that started the server, or of the supervisor in between, ends all of it."""
    with subprocess.Popen([sys.executable, "-c", PARENT, str(echo)], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            server, supervisor, folder = parent.stdout.readline().split()
            pids = family(int(supervisor))
            assert int(server) in pids
            assert len(pids) > 2
            assert traces(parent.pid)
            os.kill(parent.pid if victim == "parent" else int(supervisor), signal.SIGKILL)
            assert until(lambda: not any(alive(pid) for pid in pids))
        finally:
            parent.kill()
            parent.wait()
    if victim == "supervisor":  # the next server cleans up
        with ThrowawayServer(echo, default_model="first", **FREE):
            pass
    assert until(lambda: not Path(folder).exists())
    assert traces(parent.pid) == []


OTHER_USER = """
import os, sys
from tritonforge.serving.server import Server
with Server(sys.argv[1], default_model="first", sagemaker_port=0, http_port=0, grpc_port=0, metrics_port=0) as server:
    print(os.geteuid(), *server.models()[0])
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root becomes another user")
def test_an_installation_of_roots_serves_another_user(echo: Path) -> None:
    """Triton changes the mode of the stub that it runs, so it is given a copy; root's Python may lie in root's home."""
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    user += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    environment = {**os.environ, "TMPDIR": "/tmp", "HOME": "/nonexistent"}
    command = [*user, sys.executable, "-c", OTHER_USER, str(echo)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "65534 first 1 READY \n", done.stderr


def test_a_multi_model_server_starts_empty_and_takes_models(tmp_path: Path) -> None:
    """Nothing is loaded; the SageMaker front end loads the requested ones, in the environment that was given."""
    code = ECHO.replace("import triton", "import os\nassert os.environ['WHERE'] == 'here'\nimport triton")
    add(tmp_path / "archive", "echo", code=code)
    (tmp_path / "empty").mkdir()
    ports = {"http_port": None, "grpc_port": None, "metrics_port": None, "sagemaker_port": 0}
    with ThrowawayServer(tmp_path / "empty", multi_model=True, environment={"WHERE": "here"}, **ports) as server:
        assert (server.models(), server.default_model) == ((), None)
        load = json.dumps({"model_name": "hash", "url": str(tmp_path / "archive")}).encode()
        urllib.request.urlopen(f"{server.sagemaker_url}/models", data=load).close()
        body = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [2.5]}]}'
        with urllib.request.urlopen(f"{server.sagemaker_url}/models/hash/invoke", data=body) as answer:
            assert b'"model_name":"hash"' in answer.read()


def test_a_start_can_be_called_off(tmp_path: Path) -> None:
    """A model that takes its time to load does not delay the cancellation."""
    add(tmp_path, "slow", code="import time\ntime.sleep(60)")
    cancelled = threading.Event()
    threading.Timer(0.5, cancelled.set).start()
    began = time.monotonic()
    with pytest.raises(LaunchError, match="startup cancelled"):
        Server(tmp_path, **FREE, cancelled=cancelled)
    assert time.monotonic() - began < 45
