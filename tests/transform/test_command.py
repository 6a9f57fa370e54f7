"""`tritonforge transform`: one sentence for each mistake, a report for people and for machines, nothing left behind."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import checkout
from tests.support.command import tritonforge
from tests.support.folder_transforms import FRAMES, Folder
from tests.support.invocation_container import Container

pytestmark = pytest.mark.process


@pytest.fixture
def container() -> Iterator[Container]:
    """A container that answers with the body, doubled."""
    with Container() as server:
        yield server
        server.shutdown()


def test_answers_as_they_are_with_a_report(folder: Folder, container: Container) -> None:
    """The flags are CreateTransformJob's fields; when all is done only the outputs are left."""
    folder.write({"a.csv": b"1,2\n3,4\n", "b/c.csv": b"5,6\n"})
    flags = ["--content-type", "text/csv", "--accept", "text/csv", "--split-type", "Line", "--assemble-with", "Line"]
    flags += [
        "--batch-strategy",
        "SingleRecord",
        "--max-payload",
        "1",
        "--max-concurrent",
        "3",
        "--output-format",
        "container",
    ]
    done = checkout.run_tritonforge("transform", str(folder.source), str(folder.target), "--url", container.url, *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Completed  2 objects -> {folder.target}  3 records, 12 B")
    assert folder.outputs() == {"a.csv.out": b"1,21,2\n3,43,4\n", "b/c.csv.out": b"5,65,6\n"}
    assert {(headers["content-type"], headers["accept"]) for headers, _ in container.asked} == {
        ("text/csv", "text/csv")
    }
    assert sorted(path.name for path in folder.path.iterdir()) == ["in", "out"]


def test_a_join_is_asked_for_by_flags(folder: Folder, container: Container) -> None:
    """And the form stays the container's."""
    folder.write({"a.csv": b"7,2\n8,4\n"})
    flags = ["--content-type", "text/csv", "--split-type", "Line", "--assemble-with", "Line", "--join-source", "Input"]
    flags += ["--batch-strategy", "SingleRecord", "--input-filter", "$[1]", "--output-filter", "$[0,-1]"]
    done = tritonforge("transform", str(folder.source), str(folder.target), "--url", container.url, *flags)
    assert done.returncode == 0, done.stderr
    assert folder.outputs() == {"a.csv.out": b"7,22\n8,44\n"}


def test_records_of_the_models_one_input_go_bare(folder: Folder, container: Container) -> None:
    """Without a content type, TFRecords are split into single records: what the seed's example forgot."""
    folder.write({"a": FRAMES["TFRecord"](b"one") + FRAMES["TFRecord"](b"two")})
    flags = ["--split-type", "TFRecord", "--output-format", "container", "--max-concurrent", "1"]
    done = tritonforge("transform", str(folder.source), str(folder.target), "--url", container.url, *flags)
    assert done.returncode == 0, done.stderr
    assert [body for _, body in container.asked] == [b"one", b"two"]
    assert container.asked[0][0]["content-type"].endswith("json-header-size=0")


def test_failures_are_listed_and_the_next_run_asks_for_them_only(folder: Folder, container: Container) -> None:
    good = FRAMES["TFRecord"](b"fine")
    folder.write({"bad": good + b"cut", "good": good})
    command = ["transform", str(folder.source), str(folder.target), "--url", container.url, "--split-type", "TFRecord"]
    command += ["--output-format", "container", "--format", "json"]
    done = checkout.run_tritonforge(*command)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["state"], report["objects"], report["failed"]) == ("Failed", 1, 1)
    (failure,) = report["failures"]
    assert (failure["object"], failure["record"]) == (str(folder.source / "bad"), 1)
    assert "the stream ends in it" in failure["reason"]
    assert f"{folder.source}/bad, record 1: record 1 at byte" in done.stderr
    assert "the same command continues from here" in done.stderr
    assert list(folder.outputs()) == ["good.out"]
    folder.write({"bad": good + good})
    container.asked.clear()
    again = json.loads(checkout.run_tritonforge(*command).stdout)
    assert (again["state"], again["objects"], again["objects_before"]) == ("Completed", 2, 1)
    assert len(container.asked) == 2


def test_another_job_over_the_same_output_is_refused_unless_afresh(folder: Folder, container: Container) -> None:
    """What an interrupted run left is not mixed with another model's answers, and a user's files are never removed."""
    folder.write({"a": b"1", "bad": b""})
    work = folder.path / "work"
    work.mkdir()
    (work / "mine").write_bytes(b"a user's own")
    command = ["transform", str(folder.source), str(folder.target), "--url", container.url, "--work", str(work)]
    container.hang_up = True
    assert tritonforge(*command, "--output-format", "container", "--retries", "0").returncode == 1
    container.hang_up = False
    refused = tritonforge(*command, "--output-format", "jsonl")
    assert refused.returncode == 2
    assert "the progress of another job (expected format" in refused.stderr
    assert "--afresh" in refused.stderr
    assert tritonforge(*command, "--output-format", "container", "--accept", "x/y", "--afresh").returncode == 0
    assert [path.name for path in work.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["IN", "OUT"], "the model is missing"),
        (
            ["IN", "OUT", "--url", "http://127.0.0.1:9", "--repository", "IN"],
            "--repository and --url exclude each other",
        ),
        (
            ["IN", "OUT", "--url", "http://127.0.0.1:9", "--model", "x"],
            "--model names a model of --repository",
        ),
        (["IN/full", "OUT", "--url", "grpc://127.0.0.1:9"], "--url grpc://127.0.0.1:9: expected http://host:port"),
        (["IN/full", "OUT", "--url", "http://127.0.0.1:9/invocations"], "leave /invocations out"),
        (["IN/full", "OUT", "--repository", "nowhere"], "Path 'nowhere' does not exist"),
        (["IN", "IN/out", "--url", "http://127.0.0.1:9"], "is inside of INPUT"),
        (["IN", "OUT", "--work", "IN/work", "--url", "http://127.0.0.1:9"], "is inside of INPUT"),
        (["s3://b/in/", "s3://b/in/out", "--url", "http://127.0.0.1:9"], "is inside of INPUT"),
        (["IN/full", "OUT", "--url", "http://127.0.0.1:9"], "no server answers at http://127.0.0.1:9"),
        (["IN", "OUT", "--url", "http://127.0.0.1:9", "--env", "A"], "expected NAME=VALUE"),
        (["IN", "OUT", "--url", "URL", "--max-payload", "50", "--max-concurrent", "3"], "it cannot exceed 100 MB"),
        (["IN", "OUT", "--url", "URL", "--input-filter", "x"], "it must begin with $"),
        (["IN/none", "OUT", "--url", "URL"], "no such file or directory"),
        (["IN", "OUT", "--url", "URL"], "no objects to transform"),
        # The input and the output are looked at before a server is waited for.
        (["IN/none", "OUT", "--repository", "repos"], "no such file or directory"),
        (["IN/empty", "OUT", "--repository", "repos"], "no objects to transform"),
        (["IN/full", "IN/full/1/out", "--repository", "repos"], "is inside of INPUT"),
        (["IN/full", "IN/file/out", "--repository", "repos"], "cannot write"),
        (["IN/full/1", "OUT", "--repository", "repos", "--manifest"], "the manifest must be a JSON array"),
    ],
)
def test_mistakes_are_one_sentence(folder: Folder, container: Container, arguments: list[str], sentence: str) -> None:
    """No traceback, an exit code that says whose turn it is, and nothing written."""
    if any(argument.startswith("IN/") for argument in arguments):
        folder.write({"full/1": b"a picture", "file": b""})
        (folder.source / "empty").mkdir()
    places = {"IN": str(folder.source), "OUT": str(folder.target), "URL": container.url}
    given = [places.get(argument, argument.replace("IN/", f"{folder.source}/")) for argument in arguments]
    done = tritonforge("transform", *given)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert container.asked == []


def test_the_command_loads_no_framework() -> None:
    """A job over a server that runs elsewhere needs no model's framework, nor AWS's client."""
    import subprocess

    script = (
        "import sys, tritonforge.cli.transform, tritonforge.transform\n"
        "print(sorted({'tensorflow', 'nvidia.dali', 'onnxruntime', 'boto3', 'grpc', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_work_lies_beside_the_output(tmp_path: Path) -> None:
    """So that a finished file is moved, not copied; for S3 it lies in the cache."""
    from tritonforge.cli.transform import _choose_work_directory

    assert _choose_work_directory("in", f"{tmp_path}/out/") == tmp_path / ".out.transform"
    assert _choose_work_directory("in", "s3://b/out").parent.name == "transform"
    assert _choose_work_directory("in", "s3://b/out") != _choose_work_directory("in2", "s3://b/out")
