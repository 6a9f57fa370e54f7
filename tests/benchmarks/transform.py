"""Batch transform: the engine beside the model in process, one request at a time, and its memory; rows as in `wire`.

The engine's side is the whole job: it lists, reads and splits the input, asks a real tritonserver, decodes the answers
and writes JSON lines. Both sides alternate, each while the other one is idle.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

import make_pictures
from serving import build, in_process, photographs

from tritonforge.records import frame_tfrecord
from tritonforge.transform import (
    RAW,
    LocalStore,
    ModelClientConfig,
    Outcome,
    TransformInput,
    TransformJob,
    TransformOutput,
)
from tritonforge.transform import run as transform
from tritonforge.transform.local_server import LocalServer

Row = dict[str, Any]

PHOTOGRAPHS: Final = 64
BATCH: Final = 8
PICTURES: Final = 2000
ROUNDS: Final = 3
RECORD_BYTES: Final = 100_000

#: Runs a job over one file, repeated the given number of times, against a model that answers at once, and prints the
#: peak memory in KiB: Linux's VmHWM, since ru_maxrss of a child starts with what its parent has.
SCRIPT: Final = """
import pathlib, sys, tempfile
from tritonforge.cli.transform import limit_malloc_arenas
from tritonforge.transform import LocalStore, StoredObject, Reply, TransformInput, TransformJob, TransformOutput, run
limit_malloc_arenas()
path, times, kind = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
size = path.stat().st_size
class Source(LocalStore):
    def list(self, prefix):
        if kind == "objects":
            yield from (StoredObject(f"in/{number:07}", size, "e") for number in range(times))
        else:
            yield StoredObject("in/part", times * size, "e")
    def open(self, uri, offset=0):
        for _ in range(1 if kind == "objects" else times):
            yield from super().open(str(path))
class Sink(LocalStore):
    def put(self, content, uri):
        if isinstance(content, pathlib.Path):
            content.unlink()
class Model:
    def invoke(self, body, headers, *, timeout):
        return Reply(200, {}, bytes(body[:12_000]))
    def fetch_parameters(self):
        return None
with tempfile.TemporaryDirectory() as folder:
    job = TransformJob(
        input=TransformInput(uri="in/", split_type=None if kind == "objects" else "TFRecord"),
        output=TransformOutput(uri=folder + "/out", assemble_with="Line"),
        batch_strategy="SingleRecord", max_concurrent_transforms=8, max_payload_in_mb=1,
    )
    outcome = run(job, source=Source(), sink=Sink(), client=Model(), work=pathlib.Path(folder, "work"))
    assert outcome.state == "Completed" and outcome.size == times * size, outcome
print(pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


def run() -> list[Row]:
    """All figures; about four minutes on two cores, building the repositories included."""
    return [bound(), *light(), *memory()]


def bound() -> Row:
    """Images/s of the engine on Inception V3 over those of a plain loop in process, on the same cores."""
    repository = build("inception_v3")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in")
        source.mkdir()
        for index, image in enumerate(photographs(PHOTOGRAPHS)):
            (source / f"{index:03}.jpg").write_bytes(image)
        with (
            LocalServer(repository) as server,
            in_process(
                repository / "dali/1/model.dali", repository / "inception_graphdef/1/model.graphdef", BATCH
            ) as ask,
        ):
            images = photographs(BATCH)

            def ours() -> float:
                return rate(job(server, source, Path(folder, "out"), concurrent=2, batch=BATCH, always=True))

            def other() -> float:
                rounds = PHOTOGRAPHS // BATCH
                return rounds * BATCH / sum(ask(images, rounds))

            ours(), other()
            return alternating(
                "images/s of a job over JPEG objects, Inception V3: engine / in process, batch 8",
                ours,
                other,
                at_least=0.97,
            )


def light() -> Iterator[Row]:
    """A model that is light enough for everything else to matter: the digits."""
    repository = build("digits_examples")
    with tempfile.TemporaryDirectory() as folder:
        jpegs, records, out = Path(folder, "jpegs"), Path(folder, "records"), Path(folder, "out")
        make_pictures.make(jpegs, PICTURES)
        make_pictures.make(records, PICTURES, form="TFRecord", files=8)
        with LocalServer(repository, default_model="digits_examples") as server:

            def gathered() -> float:
                return rate(job(server, records, out, concurrent=4))

            def apart() -> float:
                return rate(job(server, records, out, concurrent=8, batch=1))

            def one_by_one() -> float:
                return rate(job(server, records, out, concurrent=1, batch=1))

            gathered(), one_by_one()
            yield alternating(
                "images/s of 2,000 digits in 8 TFRecords: engine / one request at a time",
                gathered,
                one_by_one,
                at_least=3,
            )
            yield alternating("the same, eight single requests at once / one at a time", apart, one_by_one)
            yield alternating(
                "the same, records gathered into requests / eight single requests at once", gathered, apart
            )
        with (
            LocalServer(repository, default_model="digits") as objects,
            LocalServer(repository, default_model="digits_examples") as examples,
        ):

            def over_records() -> float:
                return rate(job(examples, records, out, concurrent=4))

            def over_objects() -> float:
                return rate(job(objects, jpegs, out, concurrent=4))

            over_records(), over_objects()
            yield alternating("images/s of 2,000 digits: in 8 TFRecords / as JPEG objects", over_records, over_objects)


def memory() -> Iterator[Row]:
    """The peak memory of a job over 2 GB beside that over 10 MB, each in a process of its own."""
    payload = random.Random(0).randbytes(RECORD_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        files = {"objects": Path(folder, "object"), "records": Path(folder, "records")}
        files["objects"].write_bytes(payload)
        files["records"].write_bytes(100 * frame_tfrecord(payload))
        for kind, name in (("records", "one object of TFRecords"), ("objects", "objects of 100 KB")):
            times = 1 if kind == "records" else 100
            small, large = (
                statistics.median(peak(files[kind], times * factor, kind) for _ in range(ROUNDS)) for factor in (1, 200)
            )
            yield {
                "name": f"memory of a job over 2 GB / over 10 MB, {name}, MiB",
                "ours_ms": large,
                "other_ms": small,
                "ratio": large / small,
                "target": "<= 1.1",
                "ok": large / small <= 1.1,
            }


def job(
    server: LocalServer, source: Path, target: Path, *, concurrent: int, batch: int | None = None, always: bool = False
) -> Outcome:
    """One job from its start to its end; ``batch`` is the most that go into one request, 1 for none."""
    import dataclasses

    shutil.rmtree(target, ignore_errors=True)
    gathering = server.probe_coalescer()
    assert gathering is not None
    if batch is not None:
        gathering = dataclasses.replace(gathering, max_batch=batch) if batch > 1 else None
    records = any(source.glob("*.tfrecord"))
    outcome = transform(
        TransformJob(
            input=TransformInput(uri=str(source), content_type=RAW, split_type="TFRecord" if records else None),
            output=TransformOutput(uri=str(target)),
            batch_strategy="SingleRecord" if records else None,
            max_concurrent_transforms=concurrent,
            model_client=ModelClientConfig(invocations_max_retries=0),
        ),
        source=LocalStore(),
        sink=LocalStore(),
        client=server,
        output_format="jsonl",
        coalescer=gathering,
        always_coalesce=always,
    )
    assert outcome.state == "Completed", outcome.reason
    assert not outcome.notes, outcome.notes
    return outcome


def rate(outcome: Outcome) -> float:
    """Images a second."""
    return outcome.records / outcome.seconds


def alternating(name: str, ours: Callable[[], float], other: Callable[[], float], *, at_least: float = 0.0) -> Row:
    """The median ratio of rounds in turn; an image's milliseconds stand for both sides."""
    rounds = [(ours(), other()) for _ in range(ROUNDS)]
    ratio = statistics.median(a / b for a, b in rounds)
    return {
        "name": name,
        "ours_ms": 1000 / statistics.median(a for a, _ in rounds),
        "other_ms": 1000 / statistics.median(b for _, b in rounds),
        "ratio": ratio,
        "target": f">= {at_least:g}" if at_least else "",
        "ok": ratio >= at_least,
    }


def peak(path: Path, times: int, kind: str) -> float:
    """The peak memory of a process that runs a job over a file the given number of times, in MiB."""
    command = [sys.executable, "-c", SCRIPT, str(path), str(times), kind]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024


if __name__ == "__main__":
    for row in run():
        print(  # noqa: T201 - a benchmark that is run by hand prints its table
            f"{row['name']:90} {row['ours_ms']:9.2f} {row['other_ms']:9.2f} {row['ratio']:6.2f} {row['target']:7}"
            f" {'ok' if row['ok'] else 'MISSED'}"
        )
