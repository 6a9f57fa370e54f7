"""Pipe mode through real FIFOs to programs in real namespaces: what they read, in which order, and when."""

import gzip
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.training_jobs import Memory, channel, run_job
from tritonforge.records import frame_recordio
from tritonforge.training.job.objects import SchemeStore
from tritonforge.training.manifest import shuffle_order

pytestmark = pytest.mark.process

#: Reads two epochs, and keeps them.
TWO = "cat input/data/train_0 > model/0; cat input/data/train_1 > model/1"
MAGIC = b"\x0a\x23\xd7\xce"


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, list[tuple[bytes, bytes]]]:
    """An augmented manifest beside its pictures, and the samples that it says: a picture, then its label."""
    samples = []
    (tmp_path / "images").mkdir()
    with (tmp_path / "a.manifest").open("w") as manifest:
        for number in range(7):
            # The magic number in a picture is what makes framing hard; one is empty, one is large.
            picture = MAGIC * number + random.Random(number).randbytes([0, 3, 10, 99, 4096, 300_000, 5][number])
            (tmp_path / "images" / f"{number}.jpg").write_bytes(picture)
            label = {"annotations": [{"class_id": number}], "text": "画像"}
            line = {"other": 1, "label": label, "label-metadata": {}, "source-ref": f"images/{number}.jpg"}
            manifest.write(json.dumps(line) + "\n")
            samples.append((picture, json.dumps(label, separators=(",", ":"), ensure_ascii=False).encode()))
    return tmp_path / "a.manifest", samples


def flat(samples: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Samples as the records they are in a pipe."""
    return [value for sample in samples for value in sample]


def test_an_augmented_manifest_comes_attribute_by_attribute(
    tmp_path: Path, pictures: tuple[Path, list[tuple[bytes, bytes]]]
) -> None:
    """Each attribute is a record of its own, in AttributeNames' order, line by line, every epoch anew."""
    manifest, samples = pictures
    ran = run_job(tmp_path, TWO, channel(manifest, names=["source-ref", "label"], record_wrapper_type="RecordIO"))
    assert ran.outcome.state == "Completed", ran.lines
    assert ran.records("0") == ran.records("1") == flat(samples)
    assert ran.phases == ["Starting", "Downloading", "Training", "Uploading"]


def test_without_a_wrapper_values_follow_each_other_unmarked(
    tmp_path: Path, pictures: tuple[Path, list[tuple[bytes, bytes]]]
) -> None:
    """RecordWrapperType None is plain concatenation, here of the label and then the picture."""
    manifest, samples = pictures
    ran = run_job(tmp_path, TWO, channel(manifest, names=["label", "source-ref"]))
    assert (ran.model / "0").read_bytes() == b"".join(label + picture for picture, label in samples)


def test_a_shuffle_has_an_order_of_its_own_every_epoch(
    tmp_path: Path, pictures: tuple[Path, list[tuple[bytes, bytes]]]
) -> None:
    """The order is that of `manifest.order`, so that it can be found again, and a sample stays together."""
    manifest, samples = pictures
    names = ["source-ref", "label"]
    ran = run_job(tmp_path, TWO, channel(manifest, names=names, seed=3, record_wrapper_type="RecordIO"))
    orders = [shuffle_order(len(samples), seed=3, epoch=number) for number in (0, 1)]
    assert orders[0] != orders[1] != sorted(orders[1])
    for epoch, indices in enumerate(orders):
        assert ran.records(str(epoch)) == flat([samples[index] for index in indices])


def test_objects_of_a_prefix_are_wrapped_whole_and_unpacked(tmp_path: Path) -> None:
    """In S3Prefix each object is one record, in the order of keys; Gzip is undone before the wrapping."""
    contents = {"b/1": b"one", "b-2": MAGIC * 2, "c": b""}
    for name, content in contents.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(gzip.compress(content))
    one = channel(tmp_path / "in", compression_type="Gzip", record_wrapper_type="RecordIO")
    ran = run_job(tmp_path, TWO, one)
    assert ran.records("1") == [contents[name] for name in ("b-2", "b/1", "c")]


def test_a_manifest_of_objects_comes_in_its_own_order(tmp_path: Path) -> None:
    """ManifestFile: the objects as they are listed, not as they sort."""
    place = Memory({"s3://b/m": b'[{"prefix":"s3://b/in/"},"z","a"]', "s3://b/in/a": b"A", "s3://b/in/z": b"Z"})
    ran = run_job(tmp_path, TWO, channel("s3://b/m", data_type="ManifestFile"), store=place)
    assert (ran.model / "1").read_bytes() == b"ZA"


def test_a_reader_may_leave_an_epoch_early(tmp_path: Path) -> None:
    """After it closes, the next FIFO is the next epoch from its start; channels do not wait for each other."""
    for name in ("large", "small"):
        (tmp_path / name).mkdir()
    (tmp_path / "large" / "a").write_bytes(bytes(5 << 20) + b"end")
    (tmp_path / "small" / "a").write_bytes(b"small")
    script = """
    for epoch in 0 1 2; do head -c 100 input/data/train_$epoch | wc -c; done
    cat input/data/validation_0 > model/validation
    tail -c 3 input/data/train_3 > model/tail
    """
    ran = run_job(tmp_path, script, channel(tmp_path / "large"), channel(tmp_path / "small", "validation"))
    assert ran.outcome.state == "Completed"
    assert [line.strip() for line in ran.lines] == ["100"] * 3
    assert (ran.model / "validation").read_bytes() == b"small"
    assert (ran.model / "tail").read_bytes() == b"end"


def test_epochs_that_are_not_opened_do_not_wait(tmp_path: Path) -> None:
    """A program that never reads a channel ends, and the job with it."""
    (tmp_path / "in").write_bytes(b"x")
    ran = run_job(tmp_path, "ls input/data > model/list", channel(tmp_path / "in"))
    assert ran.outcome.state == "Completed"
    assert (ran.model / "list").read_text().split() == ["train_0", "train_1"]


def test_both_modes_give_the_same_samples_in_the_same_order(tmp_path: Path) -> None:
    """A prefix in File mode, its files sorted by their bytes, is the prefix in Pipe mode."""
    for name in ("b/1", "b-2", "a", "ä"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(name.encode())
    script = """
    cat input/data/train_0 > model/pipe
    cd input/data/files
    find . -type f | sed s,^./,, | LC_ALL=C sort | while read name; do cat $name; done > /opt/ml/model/files
    """
    ran = run_job(tmp_path, script, channel(tmp_path / "in"), channel(tmp_path / "in", "files", mode="File"))
    assert (ran.model / "pipe").read_bytes() == (ran.model / "files").read_bytes() == "ab-2b/1ä".encode()


def test_a_far_store_is_read_ahead_in_order(tmp_path: Path) -> None:
    """Objects are fetched several at a time, whichever arrives first, and written in their order."""

    class Slow(Memory):
        now, most = 0, 0

        def fault(self, uri: str, chunk: int) -> None:
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            time.sleep(0.05 if uri.endswith("0") else 0.005)
            with self.lock:
                self.now -= 1

    place = Slow({f"s3://b/in/{number:03}": f"{number:03}".encode() for number in range(60)})
    one = channel("s3://b/in/")
    ran = run_job(tmp_path, "cat input/data/train_0 > model/0", one, store=SchemeStore(lambda: place))
    assert (ran.model / "0").read_bytes() == b"".join(place.objects[f"s3://b/in/{number:03}"] for number in range(60))
    assert place.most > 2


def test_an_object_of_any_size_is_never_held(tmp_path: Path) -> None:
    """Of a large object only a few MiB are read before the program reads on."""

    class Endless(Memory):
        given = 0

        def open(self, uri: str, offset: int = 0, *, size: int = 1 << 16) -> Iterator[bytes]:
            if uri.endswith("m"):
                yield b'{"a-ref":"s3://b/in/a"}\n'
                return
            for _ in range(1 << 14):
                self.given += size
                yield bytes(size)

    place = Endless({})
    stop = threading.Event()
    read: list[int] = []

    def line(_: str) -> None:
        time.sleep(0.3)
        read.append(place.given)
        stop.set()

    script = "exec 3< input/data/train_0; head -c 10 <&3 > model/x; echo begun; sleep 20"
    ran = run_job(tmp_path, script, channel("s3://b/m", names=["a-ref"]), store=place, on_line=line, stop=stop)
    assert ran.outcome.state == "Stopped"
    assert 0 < read[0] < 16 << 20


def test_frames_are_those_of_the_reader(tmp_path: Path) -> None:
    """A value is exactly one RecordIO record on the wire: no more bytes, no fewer."""
    place = Memory({"s3://b/m": b'{"a":"hello","b":1}\n'})
    one = channel("s3://b/m", names=["a", "b"], record_wrapper_type="RecordIO")
    ran = run_job(tmp_path, TWO, one, store=place)
    assert (ran.model / "0").read_bytes() == frame_recordio(b"hello") + frame_recordio(b"1")
