"""Channels: files in a stable order, and real FIFOs, one an epoch, read as SageMaker fills them."""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tritonforge.records import frame_recordio
from tritonforge.training.algorithm import ChannelInput, InputError, StoppedError, Stopping

#: Bytes that RecordIO must cut and join again: its own magic number.
MAGIC = (0xCED7230A).to_bytes(4, "little")


def piped(folder: Path, *, wrapper: str = "RecordIO", stopping: Stopping | None = None) -> ChannelInput:
    """A channel in Pipe mode whose FIFOs lie in a folder."""
    return ChannelInput(
        "training",
        folder=folder / "training",
        mode="Pipe",
        record_wrapper=wrapper,
        stopping=Stopping() if stopping is None else stopping,
    )


@contextmanager
def feeding(folder: Path, *epochs: Iterable[bytes]) -> Iterator[list[int]]:
    """SageMaker's side: one FIFO after the other, each made when the one before is closed; how many bytes each took."""
    taken: list[int] = []

    def feed() -> None:
        for number, chunks in enumerate(epochs):
            path = folder / f"training_{number}"
            os.mkfifo(path)
            sent = 0
            with path.open("wb", buffering=0) as opened:
                try:
                    for chunk in chunks:
                        sent += opened.write(chunk)
                except BrokenPipeError:  # closed early, which is allowed
                    pass
            taken.append(sent)
            path.unlink()

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield taken
    finally:
        thread.join(30)
        assert not thread.is_alive()


def test_files_come_in_the_order_of_s3_without_hidden_ones(tmp_path: Path) -> None:
    names = ("b.txt", "a/1.txt", "a-b.txt", "a/.hidden", ".git/x", "Z.txt", "é.txt", "a/2/x")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = ChannelInput("training", folder=tmp_path).files()
    found = [file.relative_to(tmp_path).as_posix() for file in files]
    assert found == ["Z.txt", "a-b.txt", "a/1.txt", "a/2/x", "b.txt", "é.txt"]


def test_channels_say_how_they_are_read(tmp_path: Path) -> None:
    """Files of a pipe, epochs of files, a folder that is not there or empty: one sentence each."""
    with pytest.raises(InputError, match="channel training comes in Pipe mode, which has no files; read its epochs"):
        piped(tmp_path).files()
    with pytest.raises(InputError, match="channel x comes in File mode, which has no epochs; read its files"):
        ChannelInput("x", folder=tmp_path).epoch(0)
    with pytest.raises(InputError, match=f"channel x: {tmp_path} holds no file"):
        ChannelInput("x", folder=tmp_path).files()
    with pytest.raises(InputError, match="channel x has no folder"):
        ChannelInput("x", folder=tmp_path / "x").files()


def test_each_epoch_is_a_fifo_of_its_own(tmp_path: Path) -> None:
    """The next one is waited for until it is there; records come without their framing, whatever they hold."""
    records = [b"one", b"", MAGIC * 3, os.urandom(300_000)]
    framed = [frame_recordio(record) for record in records]
    with feeding(tmp_path, framed, [], framed[::-1]):
        channel = piped(tmp_path)
        with channel.epoch(0) as epoch:
            assert list(epoch) == records
        with channel.epoch(1) as epoch:
            assert list(epoch) == []  # opened, and closed without a byte
        with channel.epoch(2) as epoch:
            assert list(epoch) == records[::-1]


def test_records_may_come_in_any_pieces(tmp_path: Path) -> None:
    """What a writer writes at once has nothing to do with records."""
    records = [b"one", b"two" * 1000, MAGIC]
    stream = b"".join(frame_recordio(record) for record in records)
    with (
        feeding(tmp_path, (stream[at : at + 1] for at in range(len(stream)))),
        piped(tmp_path).epoch(0) as epoch,
    ):
        assert list(epoch) == records


def test_attributes_are_grouped_into_samples(tmp_path: Path) -> None:
    """N records make one line of the augmented manifest, in the order of AttributeNames."""
    values = [b"jpeg-1", b'{"class_id":0}', b"jpeg-2", b'{"class_id":1}']
    with feeding(tmp_path, map(frame_recordio, values)), piped(tmp_path).epoch(0) as epoch:
        assert list(epoch.samples(2)) == [(b"jpeg-1", b'{"class_id":0}'), (b"jpeg-2", b'{"class_id":1}')]


def test_sagemakers_own_bytes_are_read(tmp_path: Path) -> None:
    """Two attributes of one line as the developer guide has them, framed by hand: magic, length, data, padding."""
    stream = bytes.fromhex("0a23d7ce 05000000 ffd8ffe000 000000  0a23d7ce 01000000 31 000000")
    with feeding(tmp_path, [stream]), piped(tmp_path).epoch(0) as epoch:
        assert list(epoch.samples(2)) == [(b"\xff\xd8\xff\xe0\x00", b"1")]


def test_a_stream_that_ends_in_a_sample_is_one_sentence(tmp_path: Path) -> None:
    """Every whole sample before it was given out."""
    with feeding(tmp_path, map(frame_recordio, [b"a", b"1", b"b"])), piped(tmp_path).epoch(0) as epoch:
        samples = epoch.samples(2)
        assert next(samples) == (b"a", b"1")
        with pytest.raises(InputError) as caught:
            next(samples)
    assert str(caught.value) == (
        "channel training, epoch 0: the stream ends in sample 1: after record 2 it has 1 of 2 attributes; "
        "does the job name all of them in AttributeNames?"
    )


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        (frame_recordio(b"one") + frame_recordio(b"x" * 100)[:-9], "record 1 at byte 12: the stream ends in it"),
        (b"\xff\xd8\xff\xe0" * 10, "record 0 at byte 0: byte 0 should start the magic number"),
    ],
    ids=["cut off", "no RecordIO"],
)
def test_a_damaged_stream_is_one_sentence(tmp_path: Path, stream: bytes, sentence: str) -> None:
    """The channel, the epoch, the record and its byte."""
    with (
        feeding(tmp_path, [stream]),
        piped(tmp_path).epoch(0) as epoch,
        pytest.raises(InputError) as caught,
    ):
        list(epoch)
    assert str(caught.value).startswith(f"channel training, epoch 0: {sentence}")


def test_an_epoch_may_be_left_early(tmp_path: Path) -> None:
    """The rest is neither read nor waited for, and the next epoch begins at its beginning."""
    many = [frame_recordio(b"x" * 100_000) for _ in range(200)]
    with feeding(tmp_path, many, [frame_recordio(b"next")]) as taken:
        channel = piped(tmp_path)
        with channel.epoch(0) as epoch:
            assert next(iter(epoch)) == b"x" * 100_000
        with channel.epoch(1) as epoch:
            assert list(epoch) == [b"next"]
    assert taken[0] < 20 * 2**20


def test_an_unwrapped_stream_comes_as_it_is(tmp_path: Path) -> None:
    """Without RecordIO nothing is delimited: one stream of bytes, and no samples."""
    with feeding(tmp_path, [b"one", b"two"]):
        channel = piped(tmp_path, wrapper="None")
        with channel.epoch(0) as epoch:
            with pytest.raises(InputError, match="is not wrapped, so the end of a value is unknown"):
                next(epoch.samples(2))
            assert b"".join(epoch) == b"onetwo"


def test_an_epoch_is_read_inside_of_its_context(tmp_path: Path) -> None:
    """Outside of it there is nothing to read."""
    with pytest.raises(InputError, match="channel training, epoch 3 is not open; read it inside of `with`"):
        list(piped(tmp_path).epoch(3))


@pytest.mark.parametrize("waiting", ["for the FIFO", "for a writer", "for data"])
def test_waiting_ends_when_the_program_gets_a_request_to_stop(tmp_path: Path, waiting: str) -> None:
    """Whatever a program waits for, SIGTERM ends it."""
    stopping = Stopping()
    if waiting != "for the FIFO":
        os.mkfifo(tmp_path / "training_0")
    threading.Timer(0.2, stopping.set).start()

    def read() -> None:
        with piped(tmp_path, stopping=stopping).epoch(0) as epoch:
            if waiting == "for data":
                with (tmp_path / "training_0").open("wb", buffering=0) as opened:
                    opened.write(frame_recordio(b"one"))
                    list(epoch)
            list(epoch)

    with pytest.raises(StoppedError):
        read()


def test_a_writer_that_comes_and_goes_between_two_looks_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "training_0"
    os.mkfifo(path)
    read = os.read

    def first(opened: int, size: int) -> bytes:
        monkeypatch.setattr(os, "read", read)
        nothing = read(opened, size)
        with path.open("wb", buffering=0) as writer:
            writer.write(frame_recordio(b"one"))
        return nothing

    monkeypatch.setattr(os, "read", first)
    with piped(tmp_path).epoch(0) as epoch:
        assert list(epoch) == [b"one"]


def test_a_regular_file_is_an_epoch_too(tmp_path: Path) -> None:
    """What a developer puts there by hand to try a program."""
    (tmp_path / "training_0").write_bytes(frame_recordio(b"one"))
    (tmp_path / "training_1").touch()
    with piped(tmp_path).epoch(0) as epoch:
        assert list(epoch) == [b"one"]
    with piped(tmp_path).epoch(1) as epoch:
        assert list(epoch) == []


def test_memory_is_bounded_by_a_record(tmp_path: Path) -> None:
    """An epoch of 200 MB in records of 1 MB takes a few of them at a time."""
    record = frame_recordio(os.urandom(2**20))
    with feeding(tmp_path, (record for _ in range(200))), piped(tmp_path).epoch(0) as epoch:
        tracemalloc.start()
        try:
            count = sum(1 for _ in epoch)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert count == 200
    assert peak < 16 * 2**20
