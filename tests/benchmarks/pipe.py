"""Pipe mode: records a second through the real feeder, a FIFO and our reader, beside reading the same files directly.

The feeder runs in a process of its own, as it does beside a program; the reader is what a program has. The other side
opens the manifest and reads every file of it, in one process, from the same page cache. Rows as in `wire`.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tritonforge.training.algorithm.container import ChannelInput

Row = dict[str, Any]

#: Bytes of a picture, and how many there are: a photograph's, and a digit's.
SIZES: Final = ((100_000, 2000), (3000, 20_000))
ROUNDS: Final = 5
NAMES: Final = ("source-ref", "label")

#: Feeds a manifest until standard input ends.
FEEDER: Final = """
import sys, threading
from pathlib import Path
from tritonforge.transform import LocalStore
from tritonforge.training.job import Channel, S3Data, Source
from tritonforge.training.job.objects import EpochStreams, build_index
from tritonforge.training.job.channel_setup import PipeWriter
folder, names, ended = Path(sys.argv[1]), tuple(sys.argv[2:]), threading.Event()
data = S3Data(uri=str(folder / "manifest"), data_type="AugmentedManifestFile", attribute_names=names)
channel = Channel(name="train", source=Source(s3=data), record_wrapper_type="RecordIO")
index = build_index(channel, data, LocalStore(), folder / "entries", ended)
streams = EpochStreams(channel, data, index, LocalStore(), ended)
writer = PipeWriter(streams, folder, on_error=sys.exit, ahead=False)
writer.start()
print("begun", flush=True)
sys.stdin.read()
ended.set()
writer.end()
"""


def run() -> list[Row]:
    """All figures; about half a minute on two cores."""
    return [row for size, count in SIZES for row in rows(size, count)]


def rows(size: int, count: int) -> Iterator[Row]:
    """One size of pictures: rounds in turn, each while the other side is idle."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        picture = random.Random(0).randbytes(size)
        label = {"annotations": [{"class_id": 0, "left": 1, "top": 2, "width": 3, "height": 4}] * 4}
        (folder / "images").mkdir()
        with (folder / "manifest").open("w") as manifest:
            for number in range(count):
                (folder / "images" / f"{number}.jpg").write_bytes(picture)
                line = {"source-ref": f"images/{number}.jpg", "label": label, "label-metadata": {"job-name": "cars"}}
                manifest.write(json.dumps(line) + "\n")
        with feeding(folder):
            channel = ChannelInput("train", folder=folder / "train", mode="Pipe", record_wrapper="RecordIO")
            rounds = [(through_the_pipe(channel, epoch, count), directly(folder, count)) for epoch in range(ROUNDS + 1)]
        ratio = statistics.median(ours / other for ours, other in rounds[1:])
        yield {
            "name": f"samples/s of {count:,} pictures of {size // 1000} KB with their labels: pipe / reading the files",
            "ours_ms": 1000 / statistics.median(ours for ours, _ in rounds[1:]),
            "other_ms": 1000 / statistics.median(other for _, other in rounds[1:]),
            "ratio": ratio,
            "target": "",
            "ok": True,
        }


@contextmanager
def feeding(folder: Path) -> Iterator[None]:
    """A feeder in a process of its own."""
    command = [sys.executable, "-c", FEEDER, str(folder), *NAMES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as feeder:
        assert feeder.stdout is not None
        assert feeder.stdout.readline() == "begun\n"
        yield
        feeder.communicate("")


def through_the_pipe(channel: ChannelInput, number: int, count: int) -> float:
    """Samples a second of one epoch."""
    began = time.perf_counter()
    with channel.epoch(number) as epoch:
        found = sum(1 for _ in epoch.samples(len(NAMES)))
    assert found == count
    return count / (time.perf_counter() - began)


def directly(folder: Path, count: int) -> float:
    """Samples a second of a loop that reads the manifest and its files."""
    began = time.perf_counter()
    found = 0
    with (folder / "manifest").open("rb") as manifest:
        for text in manifest:
            line = json.loads(text)
            (folder / line["source-ref"]).read_bytes()
            json.dumps(line["label"])
            found += 1
    assert found == count
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    for row in run():
        print(  # noqa: T201 - a benchmark that is run by hand prints its table
            f"{row['name']:90} {row['ours_ms']:9.3f} {row['other_ms']:9.3f} {row['ratio']:6.2f}"
        )
