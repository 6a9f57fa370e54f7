"""`transform --on ray` on a cluster of three nodes of this machine, each with real tritonservers."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import run_tritonforge
from tests.support.command import tritonforge
from tests.support.folder_transforms import Folder
from tests.support.killed_transforms import outputs, wait_for
from tests.support.ray_nodes import find_working_node, list_listeners, start_nodes, write_repository

pytestmark = [pytest.mark.server, pytest.mark.process]

OBJECTS = 48


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with start_nodes(3) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Folder(tmp_path_factory.mktemp("texts"))
    folder.write({f"{number % 4}/{number:03}.txt": f"text {number}".encode() for number in range(OBJECTS)})
    return folder.source


@pytest.fixture(scope="module")
def expected(texts: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one machine writes."""
    target = tmp_path_factory.mktemp("here") / "out"
    done = run_tritonforge("transform", str(texts), str(target), "--repository", str(repository))
    assert done.returncode == 0, done.stderr
    return outputs(target)


def start(texts: Path, target: Path, repository: Path, *arguments: str) -> subprocess.Popen[str]:
    program = Path(sys.executable).with_name("tritonforge")
    command = [program, "transform", texts, target, "--repository", repository, "--on", "ray", "--json", *arguments]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    output, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    assert output, errors
    return json.loads(output), errors


def count_outputs(target: Path) -> int:
    return sum(1 for path in target.rglob("*.out"))


def read_finished(work: Path) -> set[str]:
    """The keys that the journal of a running job has as finished."""
    with closing(sqlite3.connect(f"file:{work}/journal.sqlite?mode=ro", uri=True)) as rows:
        return {key.decode() for (key,) in rows.execute("SELECT key FROM objects WHERE state = 1")}


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_outputs_on_one_two_and_three_nodes_are_those_of_one_machine(
    texts: Path, repository: Path, cluster: Any, expected: dict[str, bytes], tmp_path: Path, workers: int
) -> None:
    target = tmp_path / "out"
    process = start(texts, target, repository, "--address", cluster.address, "--workers", str(workers))
    report, errors = finish(process)
    assert (report["state"], report["objects"], report["records"]) == ("Completed", OBJECTS, OBJECTS), errors
    assert outputs(target) == expected
    assert 1 <= len(report["nodes"]) <= workers
    assert sum(node["objects"] for node in report["nodes"]) == OBJECTS
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_killed_node_loses_nothing_and_repeats_no_finished_object(
    texts: Path, repository: Path, cluster: Any, expected: dict[str, bytes], tmp_path: Path
) -> None:
    target, work, seen = tmp_path / "out", tmp_path / "work", tmp_path / "seen"
    seen.mkdir()
    pace = ["--env", "PAUSE=0.15", "--env", f"SEEN={seen}", "--gather", "never", "--max-concurrent", "1",
            "--work", str(work)]  # fmt: skip
    process = start(texts, target, repository, "--address", cluster.address, *pace)
    assert wait_for(lambda: count_outputs(target) >= 12)
    finished = read_finished(work)
    before = {
        path: (path.stat().st_ino, path.stat().st_mtime_ns) for key in finished for path in [target / f"{key}.out"]
    }
    node = find_working_node(cluster, seen)
    cluster.worker_list.remove(node)
    cluster.remove_node(node, allow_graceful=False)
    report, errors = finish(process)
    assert (report["state"], report["objects"], report["failed"]) == ("Completed", OBJECTS, 0), errors
    assert report["records"] == OBJECTS
    assert "its unfinished objects go to other workers" in errors
    assert outputs(target) == expected
    assert finished
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in before} == before


def test_a_local_cluster_listens_on_loopback_and_an_interrupted_job_is_resumed(
    texts: Path, repository: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    target, work = tmp_path / "out", tmp_path / "work"
    process = start(texts, target, repository, "--env", "PAUSE=0.1", "--gather", "never", "--work", str(work))
    assert wait_for(lambda: count_outputs(target) >= 4)
    listeners = list_listeners(process.pid)
    assert listeners
    assert all(address.startswith("127.") or address == "::1" for address in listeners), listeners
    process.send_signal(signal.SIGINT)
    report, errors = finish(process)
    assert process.returncode == 130, errors
    assert report["state"] == "Stopped"
    assert 4 <= report["objects"] < OBJECTS
    done = run_tritonforge(
        "transform", str(texts), str(target), "--repository", str(repository), "--json", "--work", str(work),
        "--env", "PAUSE=0.1",
    )  # fmt: skip
    again = json.loads(done.stdout)
    assert (again["state"], again["objects_before"]) == ("Completed", report["objects"])
    assert outputs(target) == expected


def test_options_of_another_place_are_refused_in_one_sentence(texts: Path, repository: Path, tmp_path: Path) -> None:
    command = ["transform", str(texts), str(tmp_path / "out"), "--repository", str(repository)]
    for arguments, sentence in (
        (["--on", "ray", "--address", "ray://127.0.0.2:1"], "Ray's client protocol (ray://) carries no streams"),
        (["--on", "ray", "--log", str(tmp_path / "log")], "--log is the log of one server"),
        (["--on", "ray", "--role", "Role"], "--role applies to --on sagemaker only"),
        (["--workers", "2"], "--workers applies to --on ray only"),
    ):
        done = tritonforge(*command, *arguments)
        assert done.returncode == 2
        assert sentence in done.stderr


#: Runs a job whose repository no node identifies as the driver's.
SCRIPT = """
import sys
from tritonforge.cli.options import AwsOptions
from tritonforge.cli.transform_cluster import ClusterStores
from pathlib import Path
from tritonforge.transform import RAW, LocalStore, TransformInput, TransformJob, TransformOutput
from tritonforge.transform.cluster import RayCluster, WorkerDemand, WorkerSettings, run_on_cluster
from tritonforge.transform.listing import Listing
texts, target, repository, address = sys.argv[1:]
job = TransformJob(input=TransformInput(uri=texts, content_type=RAW), output=TransformOutput(uri=target))
stores = ClusterStores(texts, target, Path(target + ".partial"), AwsOptions())
settings = WorkerSettings(
    job=job, repository=repository, identity="other", model=None, output_format="jsonl", gathering="auto",
    open_source=stores.open_source, open_sink=stores.open_sink,
)
with RayCluster(settings, address=address) as cluster:
    outcome = run_on_cluster(
        Listing(job, LocalStore()), cluster=cluster, demand=WorkerDemand(), source=LocalStore(), work=None,
        description={},
    )
    assert outcome.state == "Completed", outcome
"""


@pytest.mark.long
def test_nodes_that_do_not_see_the_repository_get_a_copy_of_it(
    texts: Path, repository: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITONFORGE_CACHE", str(tmp_path / "cache"))
    target = tmp_path / "out"
    with start_nodes(2) as nodes:
        command = [sys.executable, "-c", SCRIPT, texts, target, repository, nodes.address]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert outputs(target) == expected
    (copy,) = [path for path in (tmp_path / "cache" / "transform-models").iterdir() if path.is_dir()]
    assert (copy / "turn" / "config.pbtxt").read_bytes() == (repository / "turn" / "config.pbtxt").read_bytes()
