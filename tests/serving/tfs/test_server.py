"""The processes of a running package: what they are started with, what becomes of them, what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.tfs_packages import PASSING, Start, Write, read_answer
from tritonforge.errors import ConnectError, LaunchError
from tritonforge.serving.tfs import server as module
from tritonforge.serving.tfs.package import build_batching_parameters, is_package
from tritonforge.serving.tfs.server import TfsServer
from tritonforge.triton.tfs_container import read_settings

pytestmark = pytest.mark.process

BATCHING = {
    "SAGEMAKER_TFS_ENABLE_BATCHING": "true",
    "SAGEMAKER_TFS_MAX_BATCH_SIZE": "16",
    "SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS": "50000",
}


@pytest.fixture(scope="module")
def passing(start_once: Start) -> TfsServer:
    """A package whose handlers pass everything on."""
    return start_once({"inference.py": PASSING})


@pytest.fixture(scope="module")
def plain(start_once: Start) -> TfsServer:
    """A package without code, with threads for TensorFlow."""
    environment = {"SAGEMAKER_TFS_INTER_OP_PARALLELISM": "2", "SAGEMAKER_TFS_INTRA_OP_PARALLELISM": "3"}
    return start_once(environment=environment)


def test_the_model_server_is_started_as_the_container_starts_it(plain: TfsServer) -> None:
    """Its flags, and the text that names the model's folder and versions."""
    found = read_answer(plain.invoke(b"[1]", {"Content-Type": "application/json"}))
    flags = found["flags"]
    assert sorted(flags) == [
        "max_num_load_retries",
        "model_config_file",
        "port",
        "rest_api_port",
        "tensorflow_inter_op_parallelism",
        "tensorflow_intra_op_parallelism",
    ]
    assert (flags["tensorflow_inter_op_parallelism"], flags["tensorflow_intra_op_parallelism"]) == ("2", "3")
    assert "".join(found["texts"]["model_config_file"].split()) == (
        f"model_config_list:{{config:{{name:'toy'base_path:'{plain.folder / 'toy'}'model_platform:'tensorflow'"
        "model_version_policy:{specific:{versions:1}}}}"
    )
    assert plain.predictor.endswith("tensorflow_model_server (TensorFlow ModelServer: 2.20.0-fake)")
    assert (plain.models, plain.default_model) == ({"toy": (1,)}, "toy")


def test_versions_at_the_top_are_of_the_model_named_model(package: Write, model_server: Path) -> None:
    """As AWS's own example packs it: ``1538687370/`` beside ``code/``."""
    with TfsServer(package({"inference.py": PASSING}, model="1538687370"), program=model_server) as server:
        assert read_answer(server.invoke(b"x"))["path"] == "/v1/models/model:predict"
        assert server.models == {"model": (1538687370,)}


NAMES = ("max_batch_size", "batch_timeout_micros", "num_batch_threads", "max_enqueued_batches")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (BATCHING, (16, 50000, 5, 5)),
        ({"SAGEMAKER_TFS_ENABLE_BATCHING": "TRUE"}, (8, 1000, 5, 5)),
        ({**BATCHING, "SAGEMAKER_BATCH": "true"}, (16, 50000, 5, 100_000_000)),
        (
            {**BATCHING, "SAGEMAKER_TFS_NUM_BATCH_THREADS": "3", "SAGEMAKER_TFS_MAX_ENQUEUED_BATCHES": "7"},
            (16, 50000, 3, 7),
        ),
    ],
)
def test_the_environment_sets_the_batching(environment: dict[str, str], expected: tuple[int, ...]) -> None:
    """SAGEMAKER_TFS_* become the batching parameters, with the container's defaults."""
    batching = read_settings(environment, cpus=5).batching
    assert batching is not None
    text = "".join(f"{name} {{ value: {value} }}\n" for name, value in zip(NAMES, expected, strict=True))
    assert build_batching_parameters(batching) == text


def test_the_batching_reaches_the_model_server(start: Start) -> None:
    """Its flag and its file are those of the environment."""
    environment = {**BATCHING, "SAGEMAKER_BATCH": "true"}
    found = read_answer(start(environment=environment).invoke(b"[1]", {"Content-Type": "application/json"}))
    assert found["flags"]["enable_batching"] == "true"
    expected = (16, 50000, os.cpu_count(), 100_000_000)
    text = "".join(f"{name} {{ value: {value} }}\n" for name, value in zip(NAMES, expected, strict=True))
    assert found["texts"]["batching_parameters_file"] == text


def test_the_users_own_variables_are_not_the_containers(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell has for SageMaker or Python does not reach the container; what is given, and the rest, does."""
    monkeypatch.setenv("SAGEMAKER_TFS_ENABLE_BATCHING", "true")
    monkeypatch.setenv("TFS_DEFAULT_MODEL_NAME", "other")
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    monkeypatch.setenv("GREETING", "hello")
    code = "import json, os\ndef handler(data, context):\n    return json.dumps(dict(os.environ)), None\n"
    found = read_answer(start({"inference.py": code}, {"SAGEMAKER_BATCH": "true"}).invoke(b""))
    assert "SAGEMAKER_TFS_ENABLE_BATCHING" not in found
    assert "PYTHONSTARTUP" not in found
    assert (found["TFS_DEFAULT_MODEL_NAME"], found["GREETING"], found["SAGEMAKER_BATCH"]) == ("toy", "hello", "true")
    assert found["OMP_NUM_THREADS"] == os.environ.get("OMP_NUM_THREADS", "1")


def test_everything_listens_on_loopback_only(plain: TfsServer) -> None:
    """Also the model server, which asks for every interface and has no flag for another."""
    found = read_answer(plain.invoke(b"[1]", {"Content-Type": "application/json"}))
    assert found["address"] == "::ffff:127.0.0.1"


def test_several_model_servers_and_workers(start: Start) -> None:
    """SAGEMAKER_TFS_INSTANCE_COUNT and SAGEMAKER_GUNICORN_WORKERS are how many processes there are."""
    code = """
import json, os, requests

def handler(data, context):
    return json.dumps([os.getpid(), requests.post(context.rest_uri, data=b"x").json()["pid"]]), None
"""
    server = start({"inference.py": code}, {"SAGEMAKER_TFS_INSTANCE_COUNT": "2", "SAGEMAKER_GUNICORN_WORKERS": "2"})
    pairs = set()
    deadline = time.monotonic() + 60
    # Each request on a connection of its own: a connection stays with its worker.
    while time.monotonic() < deadline and (len({p for p, _ in pairs}) < 2 or len({p for _, p in pairs}) < 2):
        answer = server.request("POST", "/invocations", b"", {"Connection": "close"})
        pairs.add(tuple(json.loads(answer.body)))
    assert len({worker for worker, _ in pairs}) == len({predictor for _, predictor in pairs}) == 2


def test_requests_are_answered_at_the_same_time(passing: TfsServer) -> None:
    """Eight requests reach the model server together, which answers none of them before all are there."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(passing.invoke, [b"together"] * 8))
    assert [answer.status for answer in answers] == [200] * 8


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"SAGEMAKER_TFS_ENABLE_BATCHING": "yes"}, "SAGEMAKER_TFS_ENABLE_BATCHING must be 'true' or 'false'"),
        ({"SAGEMAKER_TFS_MAX_BATCH_SIZE": "0"}, "SAGEMAKER_TFS_MAX_BATCH_SIZE is '0'; it must be an integer of at"),
        ({"SAGEMAKER_TFS_DEFAULT_MODEL_NAME": "none"}, "is 'none'; the package has toy"),
        ({"SAGEMAKER_MULTI_MODEL": "True"}, "multi-model containers of TensorFlow Serving are not supported"),
    ],
)
def test_an_environment_that_the_container_refuses(start: Start, environment: dict[str, str], sentence: str) -> None:
    """The container's own sentence, before anything is started."""
    with pytest.raises(LaunchError, match=sentence):
        start(environment=environment)


def test_packages_that_are_none(tmp_path: Path, model_server: Path) -> None:
    """No folder, no SavedModel in a numbered folder, a model that does not load: one sentence each."""
    with pytest.raises(LaunchError, match="is not a directory"):
        TfsServer(tmp_path / "nowhere", program=model_server)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(LaunchError, match="no SavedModel bundles found!"):
        TfsServer(tmp_path, program=model_server)
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(LaunchError, match=r"^broken version 1 did not load: damaged$"):
        TfsServer(tmp_path, program=model_server)


def test_a_package_differs_from_a_repository(package: Write, tmp_path: Path) -> None:
    """By its files, links and all; a folder that holds itself ends somewhere."""
    folder = package({"inference.py": PASSING})
    (folder / "toy" / "2").symlink_to("1")
    (folder / "again").symlink_to(".")
    assert is_package(folder)
    (tmp_path / "triton" / "m").mkdir(parents=True)
    (tmp_path / "triton" / "m" / "config.pbtxt").write_text("")
    assert not is_package(tmp_path / "triton")
    assert not is_package(tmp_path / "nowhere")


def test_a_program_that_is_none_and_a_port_that_is_taken(plain: TfsServer, model_server: Path) -> None:
    """The message has the remedy: the program's path, another port."""
    port = int(plain.url.rpartition(":")[2])
    with pytest.raises(LaunchError, match=f"port {port} on 127.0.0.1 is in use"):
        TfsServer(plain.folder, program=model_server, port=port)
    with pytest.raises(LaunchError, match="program not found; give the path of tensorflow_model_server"):
        TfsServer(plain.folder, program="/nowhere/at/all")


def test_a_model_server_that_ends_before_its_models_are_loaded(package: Write, tmp_path: Path) -> None:
    """Its status is reported, and its output is in the log."""
    program = tmp_path / "tensorflow_model_server"
    program.write_text("#!/bin/sh\necho some last words\nexit 3\n")
    program.chmod(0o755)
    log = tmp_path / "container.log"
    with pytest.raises(LaunchError, match="TensorFlow Serving ended with 3 before its models loaded"):
        TfsServer(package(), program=program, log=log)
    assert "some last words" in log.read_text()


def test_a_model_server_that_is_never_ready(package: Write, tmp_path: Path) -> None:
    """The container's own limit ends the wait, and the sentence names the variable that moves it."""
    program = tmp_path / "tensorflow_model_server"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] || sleep 600\n')
    program.chmod(0o755)
    sentence = "toy: Timed out after 1 seconds; the variable SAGEMAKER_TFS_WAIT_TIME_SECONDS gives it more"
    with pytest.raises(LaunchError, match=sentence):
        TfsServer(package(), program=program, environment={"SAGEMAKER_TFS_WAIT_TIME_SECONDS": "1"})


IMPORTING = """
import json
import numpy, requests, google.protobuf
import {module}

def handler(data, context):
    return json.dumps([{module}.VERSION, {module}.__file__, numpy.__file__]), None
"""


def test_requirements_are_installed_for_the_handlers_alone(start: Start, wheels: Path) -> None:
    """They come from the configured index, in an environment that ends with the container."""
    progress: list[str] = []
    code = {"inference.py": IMPORTING.format(module="greeting"), "requirements.txt": "# text\ngreeting==1.2\n"}
    server = start(code, {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}, on_progress=progress.append)
    version, path, numpy = json.loads(server.invoke(b"").body)
    assert version == "1.2"
    assert progress[0] == "installing code/requirements.txt"
    assert server.warnings == ()
    assert Path(numpy).parent.resolve() == Path(np.__file__).parent  # the image's packages are those of this Python
    server.stop()
    assert not Path(path).exists()


def test_requirements_that_cannot_be_installed_end_the_start(start: Start, wheels: Path) -> None:
    """As in the container, whose process ends when pip fails."""
    code = {"inference.py": PASSING, "requirements.txt": "greeting==9\n"}
    with pytest.raises(LaunchError, match=r"requirements\.txt: failed to install required packages: .*greeting==9"):
        start(code, {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)})


def test_requirements_beside_a_library_are_ignored(start: Start) -> None:
    """Where code/lib exists, nothing is installed."""
    server = start({"inference.py": PASSING, "requirements.txt": "no-such-package\n", "lib/x.py": ""})
    assert "ignoring requirements.txt" in server.log_tail()


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with one wheel, greeting 1.2."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "greeting-1.2.dist-info"
    with zipfile.ZipFile(folder / "greeting-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("greeting.py", 'VERSION = "1.2"\n')
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.2\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"greeting.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return folder


def test_a_start_can_be_called_off(package: Write, tmp_path: Path) -> None:
    """Once the event is set, the start ends, and so does what it had started."""
    program = tmp_path / "tensorflow_model_server"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] || sleep 600\n')
    program.chmod(0o755)
    cancelled = threading.Event()
    threading.Timer(0.5, cancelled.set).start()
    with pytest.raises(LaunchError, match="startup cancelled"):
        TfsServer(package(), program=program, cancelled=cancelled)


def test_a_model_server_that_dies_is_started_again(start: Start) -> None:
    """As the container does; what is asked meanwhile is answered with an error, and nothing hangs."""
    server = start({"inference.py": PASSING})
    first = read_answer(server.invoke(b"x"))["pid"]
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 60
    statuses = []
    while time.monotonic() < deadline:
        answer = server.invoke(b"x")
        statuses.append(answer.status)
        if answer.status == 200 and json.loads(answer.body)["pid"] != first:
            break
        time.sleep(0.05)
    assert statuses[-1] == 200
    assert set(statuses) <= {200, 500}
    assert "unexpected tensorflow serving exit" in server.log_tail(100_000)


def test_a_worker_that_dies_is_started_again(start: Start) -> None:
    """A handler that ends its process costs the request, and no other one."""
    code = (
        "import os\ndef handler(data, context):\n    return (os._exit(9) if data.read() == b'die' else 'fine'), None\n"
    )
    server = start({"inference.py": code})
    with pytest.raises(ConnectError, match="gave no answer"):
        server.invoke(b"die")
    assert server.invoke(b"", timeout=60).body == b"fine"


def test_a_container_that_ends_by_itself_is_noticed(start: Start) -> None:
    """`wait` raises, and requests are refused as such."""
    server = start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(LaunchError, match="the container ended by signal SIGKILL"):
        server.wait()
    with pytest.raises(ConnectError):
        server.ping()


def test_an_answer_that_takes_too_long_is_a_timeout(passing: TfsServer) -> None:
    """The time that the caller gives is kept."""
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
        passing.invoke(b"slow", timeout=0.1)


def test_stopping_waits_for_answers_and_leaves_nothing_behind(start: Start, tmp_path: Path) -> None:
    """Requests under way are answered, then every process and the temporary folder are gone; the log stays readable."""
    arrived = tmp_path / "arrived"
    code = PASSING.replace("return data.read()", f"open({str(arrived)!r}, 'w').close(); return data.read()")
    server = start({"inference.py": "print('hello from the handlers')\n" + code}, log=tmp_path / "container.log")
    process = server._process
    pids = {read_answer(server.invoke(b"x"))["pid"], server.pid}
    arrived.unlink()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(server.invoke, b"slow")
        while not arrived.exists():
            time.sleep(0.01)
        server.stop()
        assert under_way.result().status == 200
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not process.folder.exists()
    assert "hello from the handlers" in server.log_tail()
    assert server.wait() == 0
    server.stop()


def test_nothing_outlives_a_process_that_is_killed(package: Write, model_server: Path, tmp_path: Path) -> None:
    """Whoever kills the process that started the container ends all of it, and its folder is removed."""
    program = f"""
        import json, os, time
        from tritonforge.serving.tfs.server import TfsServer
        server = TfsServer({str(package({"inference.py": PASSING}))!r}, program={str(model_server)!r})
        found = json.loads(server.invoke(b"x").body)["pid"]
        print(json.dumps([server.pid, found, str(server._process.folder)]), flush=True)
        time.sleep(600)
    """
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(program))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        container, predictor, folder = json.loads(child.stdout.readline())
        child.kill()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (Path(f"/proc/{container}").exists() or Path(folder).exists()):
        time.sleep(0.05)
    assert not Path(f"/proc/{container}").exists()
    assert not Path(f"/proc/{predictor}").exists()
    assert not Path(folder).exists()


def test_nothing_outlives_a_supervisor_that_is_killed(start: Start) -> None:
    """The kernel ends the container with it, and the container's children with that."""
    server = start({"inference.py": "import os\nprint('worker', os.getpid())\n" + PASSING})
    predictor = read_answer(server.invoke(b"x"))["pid"]
    worker = int(next(line for line in server.log_tail(50).splitlines() if line.startswith("worker")).split()[1])
    container = server.pid
    supervisor = server._process._supervisor
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    pids = (container, predictor, worker)
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_hosts_hook_starts_what_answers(package: Write, model_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`start` is TfsServer for those who host models: a folder and an environment, a free port, answers as values."""
    monkeypatch.setenv("PATH", f"{model_server.parent}:{os.environ['PATH']}")
    running = module.start_tfs_server(package({"inference.py": PASSING}), {"SAGEMAKER_BATCH": "true"})
    try:
        assert running.ping().status == 200
        answer = running.invoke(b"abc", {"Accept": "a/b"}, timeout=30)
        assert (answer.status, answer.headers["content-type"]) == (200, "a/b")
        assert json.loads(answer.body)["body"] == "abc"
    finally:
        running.stop()
    with pytest.raises(ConnectError, match="was stopped"):
        running.ping()
