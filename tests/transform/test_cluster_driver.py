"""The driver and the workers of a cluster, in threads: nothing is lost, and nothing finished is repeated."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.support.folder_transforms import REFUSAL, Folder, Model, ModelFaults
from tests.support.thread_cluster import ThreadCluster, run_in_threads
from tritonforge.errors import LaunchError
from tritonforge.transform.cluster.messages import WorkerReport
from tritonforge.transform.cluster.repository_archive import unpack_repository, write_archive


def write_lines(folder: Folder, count: int) -> None:
    folder.write({f"{number % 3}/{number:03}.csv": f"{number}\n{number}x\n".encode() for number in range(count)})


LINES = {
    "split_type": "Line",
    "batch_strategy": "SingleRecord",
    "assemble_with": "Line",
    "max_concurrent_transforms": 2,
}


@pytest.mark.parametrize("nodes", [("a",), ("a", "b"), ("a", "b", "c")])
def test_outputs_are_those_of_one_machine(tmp_path: Path, nodes: tuple[str, ...]) -> None:
    folder = Folder(tmp_path)
    write_lines(folder, 60)
    here = folder.run(Model(), **LINES)
    expected = folder.outputs()
    folder.target = tmp_path / "out2"
    outcome, notes, _ = run_in_threads(folder, Model(delay=0.0003), nodes, **LINES)
    assert (outcome.state, outcome.objects, outcome.records, outcome.size) == (
        here.state, here.objects, here.records, here.size,
    )  # fmt: skip
    assert folder.outputs() == expected
    assert notes == []
    assert sum(node.objects for node in outcome.nodes) == 60
    assert sum(node.records for node in outcome.nodes) == 120


def test_objects_of_a_lost_node_go_to_others_and_a_new_node_gets_a_worker(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write_lines(folder, 80)
    finished: list[str] = []

    def lose(cluster: ThreadCluster, node: str, report: WorkerReport) -> None:
        finished.extend(one.key for one in report.finished)
        if node == "a" and report.finished and "a" in cluster.nodes:
            cluster.lose("a")
            cluster.nodes["c"] = cluster.nodes["b"].__class__("c", "c", 4.0, 0.0)

    outcome, notes, cluster = run_in_threads(folder, Model(delay=0.002), ("a", "b"), on_report=lose, **LINES)
    assert (outcome.state, outcome.objects, outcome.failed, outcome.records) == ("Completed", 80, 0, 160)
    assert len(folder.outputs()) == 80
    assert len(finished) == len(set(finished)) == 80
    assert notes == ["a: the worker's process ended; its unfinished objects go to other workers"]
    assert "c" in cluster.placed.values()


def test_a_stopped_job_is_resumed_on_one_machine_and_back(tmp_path: Path) -> None:
    """The journal is the same: nothing finished is asked again, by either."""
    folder = Folder(tmp_path)
    write_lines(folder, 40)
    stop = threading.Event()
    model = Model(delay=0.002)
    outcome, _, _ = run_in_threads(
        folder, model, ("a", "b"), stop=stop, on_report=lambda *given: given[2].finished and stop.set(), **LINES
    )
    assert outcome.state == "Stopped"
    assert 0 < outcome.objects < 40
    rest = Model()
    here = folder.run(rest, work=True, **LINES)
    assert (here.state, here.objects, here.objects_before) == ("Completed", 40, outcome.objects)
    assert len(rest.bodies) == 2 * (40 - outcome.objects)
    again, _, _ = run_in_threads(folder, unused := Model(), ("a",), **LINES)
    assert (again.state, again.objects, again.objects_before) == ("Completed", 40, 40)
    assert unused.bodies == []


def test_an_object_that_fails_is_reported_and_others_are_finished(tmp_path: Path, quick: None) -> None:
    folder = Folder(tmp_path)
    write_lines(folder, 12)
    model = Model(ModelFaults({b"7x": (99, REFUSAL)}))
    outcome, _, _ = run_in_threads(folder, model, ("a", "b"), retries=0, **LINES)
    assert (outcome.state, outcome.objects, outcome.failed) == ("Failed", 11, 1)
    (failure,) = outcome.failures
    assert (failure.uri, failure.record) == (str(folder.source / "1/007.csv"), 1)
    assert outcome.reason.startswith("1 of 12 objects failed; the first is ")


def test_a_manifest_that_names_objects_twice_or_in_vain_runs_as_on_one_machine(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write_lines(folder, 6)
    top = str(folder.source)
    names = [f"{number % 3}/{number:03}.csv" for number in range(6)]
    manifest = folder.path / "manifest"
    manifest.write_text(json.dumps([{"prefix": f"{top}/"}, *names, names[2], "none.csv"]))
    fields = {**LINES, "uri": str(manifest), "data_type": "ManifestFile"}
    here = folder.run(Model(), **fields)
    expected = folder.outputs()
    folder.target = folder.path / "out2"
    outcome, _, _ = run_in_threads(folder, Model(), ("a",), **fields)
    assert (outcome.state, outcome.objects, outcome.reason) == (here.state, here.objects, here.reason)
    assert folder.outputs() == expected


def test_a_job_without_any_worker_fails_with_the_first_reason(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write_lines(folder, 3)
    outcome, notes, _ = run_in_threads(folder, Model(), ("a",), broken=("a",), **LINES)
    assert (outcome.state, outcome.reason) == ("Failed", "no worker can be started: a: its disk is full")
    assert notes == ["a: its disk is full; it runs no worker"]
    both, _, _ = run_in_threads(folder, Model(), ("a", "b"), broken=("a",), **LINES)
    assert (both.state, both.objects) == ("Completed", 3)


def test_an_object_that_ends_every_worker_fails_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write_lines(folder, 10)
    running: list[ThreadCluster] = []

    def end_worker(body: bytes) -> None:
        if body.startswith(b"3x"):
            cluster = running[0]
            cluster.lose_worker(next(name for name in reversed(cluster.sent) if "0/003.csv" in cluster.sent[name]))
            raise LaunchError("the worker is gone")

    outcome, _, _ = run_in_threads(
        folder,
        Model(end_worker),  # type: ignore[arg-type]
        ("a",),
        on_report=lambda cluster, node, report: running.append(cluster),
        retries=0,
        **LINES,
    )
    assert (outcome.state, outcome.objects, outcome.failed) == ("Failed", 9, 1)
    assert "it was alone with its worker when that ended, after two others that had it: a: " in outcome.reason


def test_an_empty_input_is_one_sentence(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    outcome, _, _ = run_in_threads(folder, Model(), **LINES)
    assert outcome.reason == "no objects to transform: the listing of the input is empty"


def test_a_repository_travels_in_chunks_and_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITONFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tritonforge.transform.cluster.repository_archive.ARCHIVE_CHUNK", 4096)
    repository = tmp_path / "repository"
    (repository / "model" / "1").mkdir(parents=True)
    (repository / "empty").mkdir()
    (repository / "model" / "config.pbtxt").write_text("name: 'model'")
    (repository / "model" / "1" / "model.bin").write_bytes(bytes(range(256)) * 100)
    chunks: list[bytes] = []
    digest = write_archive(repository, chunks.append)
    assert len(chunks) > 5
    unpacked = unpack_repository(digest, iter(chunks))
    assert unpack_repository(digest, iter(())) == unpacked
    files = {path.relative_to(repository): path.is_file() and path.read_bytes() for path in repository.rglob("*")}
    assert {path.relative_to(unpacked): path.is_file() and path.read_bytes() for path in unpacked.rglob("*")} == files
    with pytest.raises(LaunchError, match="SHA-256 differs"):
        unpack_repository("0" * 64, iter(chunks))
