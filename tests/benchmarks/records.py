"""How fast records are read: TFRecords of 100 KB beside tf.data, from one file, with both checksums checked by both.

``run()`` gives rows as the other benchmarks do. Every reader hands each record to Python; how fast TensorFlow is where
it hands over none, and only counts them, is a row without a target. The rows of memory have mebibytes in the place of
milliseconds: the peak of a process that splits 2 GB, beside one that splits 10 MB.
"""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from wire import compared, timed

from tritonforge.records import build_batches, frame_recordio, frame_tfrecord, gunzip, split

Row = dict[str, Any]

RECORDS: Final = 1000
RECORD_BYTES: Final = 100_000
CHUNK: Final = 2**20
GIGABYTES_A_SECOND: Final = 3.0

#: Splits a stream of records as large as asked, which no disk has to hold, and prints the peak memory in KiB: Linux's
#: VmHWM, since ru_maxrss of a child starts with what its parent has.
SCRIPT: Final = """
import itertools, pathlib, random, sys
from tritonforge.records import build_batches, frame_recordio, frame_tfrecord, split
size, split_type, strategy = int(sys.argv[1]), sys.argv[2], sys.argv[3]
payload = random.Random(0).randbytes(100_000)
line = payload.hex().encode() + b"\\n"
framed = {"TFRecord": frame_tfrecord(payload), "RecordIO": frame_recordio(payload), "Line": line}[split_type]
def chunks():
    stream = itertools.cycle([framed])
    left, carry = size // len(framed) * len(framed), b""
    while left:
        while len(carry) < 2**20 and len(carry) < left:
            carry += next(stream)
        chunk, carry = carry[:2**20], carry[2**20:]
        left -= len(chunk)
        yield chunk
count = sum(batch.count for batch in build_batches(split(chunks(), split_type), strategy, 2**20))
assert count == size // len(framed), count
print(pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


def run() -> list[Row]:
    """All figures; about half a minute on two cores."""
    chance = random.Random(0)
    payloads = [chance.randbytes(RECORD_BYTES) for _ in range(RECORDS)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "records.tfrecord")
        path.write_bytes(b"".join(map(frame_tfrecord, payloads)))
        read_by_tensorflow, counted_by_tensorflow = tensorflow_readers(path)
        data = path.read_bytes()
        rows = [
            compared(
                f"{RECORDS:,} TFRecords of 100 KB from a file, tf.data / ours",
                lambda: last(split(chunks_of(path), "TFRecord")),
                read_by_tensorflow,
                faster=5,
                seconds=8,
            ),
            compared(
                "the same, tf.data counts them and hands over none / ours",
                lambda: last(split(chunks_of(path), "TFRecord")),
                counted_by_tensorflow,
                seconds=4,
            ),
            compared(
                "the same, as MultiRecord bodies of 6 MB, tf.data / ours",
                lambda: last(build_batches(split(chunks_of(path), "TFRecord"), "MultiRecord", 6 * 2**20)),
                read_by_tensorflow,
                seconds=4,
            ),
        ]
    for megabytes in (1, 8):
        size = megabytes * 2**20
        chunks = [data[start : start + size] for start in range(0, len(data), size)]
        name = f"the same from memory in chunks of {megabytes} MB, beside {GIGABYTES_A_SECOND:.0f} GB/s"
        rows.append(bound(name, lambda chunks=chunks: last(split(chunks, "TFRecord")), len(data)))
    recordio = b"".join(map(frame_recordio, payloads))
    chunks = [recordio[start : start + CHUNK] for start in range(0, len(recordio), CHUNK)]
    name = f"RecordIO of 100 KB from memory in chunks of 1 MB, beside {GIGABYTES_A_SECOND:.0f} GB/s"
    rows.append(bound(name, lambda: last(split(chunks, "RecordIO")), len(recordio)))
    compressed = gzip.compress(data[: len(data) // 4], 1)
    pieces = [compressed[start : start + CHUNK] for start in range(0, len(compressed), CHUNK)]
    rows.append(
        compared(
            "gunzip as a stream / gzip.decompress in one piece",
            lambda: last(gunzip(pieces)),
            lambda: gzip.decompress(compressed),
            at_most=1.2,
        )
    )
    return rows + memory()


def chunks_of(path: Path) -> Iterator[bytes]:
    """The file in chunks, read as they are asked for."""
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def last(items: Iterator[Any]) -> Any:
    """Take everything, and keep nothing but the last."""
    item = None
    for item in items:  # noqa: B007 - what it gives is the point
        pass
    return item


def tensorflow_readers(path: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    """tf.data's reader, set as its guide has it for speed: every record to Python as bytes, and all of them counted."""
    import tensorflow as tf

    dataset = tf.data.TFRecordDataset(str(path), buffer_size=8 * 2**20).prefetch(tf.data.AUTOTUNE)

    def read() -> object:
        return last(dataset.as_numpy_iterator())

    @tf.function
    def count() -> Any:
        return dataset.reduce(0, lambda total, _: total + 1)

    assert len(read()) == RECORD_BYTES
    assert int(count()) == RECORDS
    return read, lambda: int(count())


def bound(name: str, call: Callable[[], object], size: int) -> Row:
    """The best of several runs beside the time that the bound allows for the given number of bytes."""
    ours = min(timed(call) for _ in range(9)) * 1e3
    most = size / GIGABYTES_A_SECOND / 1e6
    return {
        "name": name,
        "ours_ms": ours,
        "other_ms": most,
        "ratio": ours / most,
        "target": "<= 1.0",
        "ok": ours <= most,
    }


def memory() -> list[Row]:
    """The peak memory of 2 GB beside that of 10 MB, in processes of their own."""
    rows = []
    for split_type, strategy in (("TFRecord", "SingleRecord"), ("TFRecord", "MultiRecord"), ("Line", "MultiRecord")):
        small, large = (peak(size, split_type, strategy) for size in (10**7, 2 * 10**9))
        ratio = large / small
        name = f"memory for 2 GB / for 10 MB, {split_type} and {strategy}, MiB"
        rows.append(
            {"name": name, "ours_ms": large, "other_ms": small, "ratio": ratio, "target": "<= 1.1", "ok": ratio <= 1.1}
        )
    return rows


def peak(size: int, split_type: str, strategy: str) -> float:
    """The peak memory of a process that splits the given number of bytes, in MiB."""
    command = [sys.executable, "-c", SCRIPT, str(size), split_type, strategy]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024


if __name__ == "__main__":
    for row in run():
        print(  # noqa: T201 - a benchmark that is run by hand prints its table
            f"{row['name']:76} {row['ours_ms']:9.2f} {row['other_ms']:9.2f} {row['ratio']:6.2f} {row['target']:7}"
            f" {'ok' if row['ok'] else 'MISSED'}"
        )
