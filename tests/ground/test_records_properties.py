"""Over generated streams: any chunks give the same records, any bytes are records or one error, any payload is kept."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.draining import drain
from tritonforge.records import Record, build_batches, frame_recordio, frame_tfrecord, gunzip, split

MAGIC = bytes.fromhex("0a23d7ce")

#: Payloads with what the formats are made of: magic numbers, aligned and not, newlines, headers of other records.
PIECES = st.sampled_from(
    [
        MAGIC,
        MAGIC[:2],
        b"a",
        b"abcd",
        b"\n",
        b"\r\n",
        bytes(8),
        MAGIC + bytes(4),
        MAGIC + b"\0\0\0\x60",
        b"\x1f\x8b\x08",
    ]
)
PAYLOADS = st.lists(PIECES, max_size=8).map(b"".join) | st.binary(max_size=40)
FRAMES = {"TFRecord": frame_tfrecord, "RecordIO": frame_recordio, "Line": lambda data: data + b"\n", "None": bytes}
SPLIT_TYPES: Any = st.sampled_from(sorted(FRAMES))

#: What a stream gives: the records as plain values, and the error's sentence and offset.
Outcome = tuple[list[Any], "tuple[str, int] | None"]


@st.composite
def chunked(draw: st.DrawFn, stream: bytes) -> list[Any]:
    """The stream in chunks of any sizes, empty ones too, of any type that holds bytes."""
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=12))
    bounds = [0, *sorted(cuts), len(stream)]
    kinds = st.sampled_from([bytes, bytearray, memoryview])
    return [draw(kinds)(stream[start:end]) for start, end in itertools.pairwise(bounds)]


def outcome(records: Iterable[Record]) -> Outcome:
    """Everything that comes out before the stream ends or fails."""
    found, error = drain((bytes(payload), bytes(framed), offset, number) for payload, framed, offset, number in records)
    return found, None if error is None else (str(error), error.offset)


def checked(stream: bytes, result: Outcome) -> None:
    """Holds what is true of every outcome: framed records are the stream from its start up to the error."""
    records, error = result
    assert b"".join(framed for _, framed, *_ in records) == (stream[: error[1]] if error else stream)
    at = 0
    for number, (_, framed, offset, counted) in enumerate(records):
        assert (offset, counted) == (at, number)
        at += len(framed)


@st.composite
def damaged(draw: st.DrawFn, stream: bytes) -> bytes:
    """The stream with some bytes changed, added, or cut away."""
    data = bytearray(stream)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.sampled_from(["change", "insert", "cut", "remove"]))
        if what == "change" and at < len(data):
            data[at] ^= draw(st.integers(1, 255))
        elif what == "insert":
            data[at:at] = draw(PAYLOADS)
        elif what == "cut":
            del data[at:]
        else:
            del data[at : at + draw(st.integers(1, 8))]
    return bytes(data)


@settings(deadline=None)
@given(payloads=st.lists(PAYLOADS, max_size=5), data=st.data())
def test_any_payload_survives_framing_in_any_chunks(payloads: list[bytes], data: st.DataObject) -> None:
    """What is framed is read back, whatever it holds and wherever the chunks end."""
    for split_type, frame in ((name, FRAMES[name]) for name in ("TFRecord", "RecordIO")):
        framed = [frame(payload) for payload in payloads]
        stream = b"".join(framed)
        result = outcome(split(data.draw(chunked(stream)), split_type))  # type: ignore[arg-type]  # names of the table
        checked(stream, result)
        assert [payload for payload, *_ in result[0]] == payloads
        assert [record for _, record, *_ in result[0]] == framed


@settings(deadline=None)
@given(payload=PAYLOADS)
def test_recordio_cuts_at_every_aligned_magic_number(payload: bytes) -> None:
    """The record is the one that the format's writer builds word by word."""
    assert frame_recordio(payload) == by_words(payload)


@settings(deadline=None, max_examples=30)
@given(places=st.lists(st.integers(0, 9000), max_size=6), length=st.integers(8000, 9000))
def test_large_payloads_are_cut_at_the_same_places(places: list[int], length: int) -> None:
    """A large payload is searched in another way, and gives the record that the definition says."""
    payload = bytearray(length)
    for place in places:
        payload[place : place + 4] = MAGIC[: max(0, length - place)]
    assert frame_recordio(payload) == by_words(bytes(payload))


def by_words(payload: bytes) -> bytes:
    """RecordIO as its definition reads: look at every whole word, and end a part where it is the magic number."""
    out, part, kind = b"", b"", 0
    words = [payload[at : at + 4] for at in range(0, len(payload), 4)]
    for word in words:
        if word == MAGIC:
            kind = 2 if kind else 1
            out += MAGIC + (kind << 29 | len(part)).to_bytes(4, "little") + part
            part = b""
        else:
            part += word
    last = 3 if kind else 0
    return out + MAGIC + (last << 29 | len(part)).to_bytes(4, "little") + part + bytes(-len(part) % 4)


@settings(deadline=None)
@given(split_type=SPLIT_TYPES, payloads=st.lists(PAYLOADS, max_size=4), limit=st.integers(0, 60), data=st.data())
def test_records_do_not_depend_on_the_chunks(
    split_type: Any, payloads: list[bytes], limit: int, data: st.DataObject
) -> None:
    """Good and damaged streams give the same records and the same error in any chunks, with any limit."""
    stream = b"".join(map(FRAMES[split_type], payloads))
    if data.draw(st.booleans()):
        stream = data.draw(damaged(stream))
    whole = outcome(split([stream], split_type, max_record=limit))
    checked(stream, whole)
    assert all(len(payload) <= limit for payload, *_ in whole[0])
    assert outcome(split(data.draw(chunked(stream)), split_type, max_record=limit)) == whole
    assert outcome(split([bytes([byte]) for byte in stream], split_type, max_record=limit)) == whole


@settings(deadline=None)
@given(split_type=SPLIT_TYPES, stream=st.binary(max_size=80) | PAYLOADS, limit=st.integers(0, 2**63))
def test_any_bytes_are_records_or_one_error(split_type: Any, stream: bytes, limit: int) -> None:
    """Bytes of no format at all never raise anything else."""
    checked(stream, outcome(split([stream], split_type, max_record=limit)))


@settings(deadline=None)
@given(split_type=SPLIT_TYPES, payloads=st.lists(PAYLOADS, max_size=6), limit=st.integers(1, 80), data=st.data())
def test_batches_hold_every_record_once_and_in_order(
    split_type: Any, payloads: list[bytes], limit: int, data: st.DataObject
) -> None:
    stream = b"".join(map(FRAMES[split_type], payloads))
    if data.draw(st.booleans()):
        stream = data.draw(damaged(stream))
    records, error = outcome(split([stream], split_type))
    for strategy, which in (("SingleRecord", 0), ("MultiRecord", 1)):
        bodies = [record[which] for record in records]
        good = next((index for index, body in enumerate(bodies) if len(body) > limit), len(bodies))
        found, raised = drain(build_batches(split([stream], split_type), strategy, limit))  # type: ignore[arg-type]  # its names
        assert (raised is None) == (error is None and good == len(bodies))
        at = 0
        for batch in found:
            assert (batch.number, batch.offset) == (at, records[at][2])
            assert bytes(batch.body) == b"".join(bodies[at : at + batch.count])
            assert len(batch.body) <= limit
            assert strategy == "MultiRecord" or batch.count == 1
            at += batch.count
            assert strategy == "SingleRecord" or at == good or len(batch.body) + len(bodies[at]) > limit
        assert at == good


def inflated(chunks: Iterable[Any]) -> Outcome:
    """The content before the stream ends or fails."""
    found, error = drain(gunzip(chunks))
    content = b"".join(found)
    assert error is None or error.offset == len(content)
    return [content], None if error is None else (str(error), error.offset)


def compressed(members: Sequence[bytes], level: int) -> bytes:
    """A gzip stream of these members."""
    return b"".join(gzip.compress(member, level, mtime=0) for member in members)


@pytest.mark.slow
@settings(deadline=None)
@given(
    members=st.lists(st.binary(max_size=300) | PAYLOADS, min_size=1, max_size=4),
    level=st.integers(0, 9),
    data=st.data(),
)
def test_gzip_content_does_not_depend_on_the_chunks(members: list[bytes], level: int, data: st.DataObject) -> None:
    """Good and damaged gzip streams give the same content and the same error in any chunks."""
    stream = compressed(members, level)
    assert inflated(data.draw(chunked(stream))) == ([b"".join(members)], None)
    broken = data.draw(damaged(stream))
    whole = inflated([broken])
    assert inflated(data.draw(chunked(broken))) == whole
    assert inflated([bytes([byte]) for byte in broken]) == whole
    if whole[1] is None:
        assert whole[0] == [gzip.decompress(broken)]


@settings(deadline=None)
@given(payloads=st.lists(PAYLOADS, min_size=1, max_size=4), data=st.data())
def test_records_before_damaged_gzip_are_not_lost(payloads: list[bytes], data: st.DataObject) -> None:
    """Every record that the intact content holds is given out before the error of the compression is."""
    content = b"".join(map(frame_tfrecord, payloads))
    stream = compressed([content], 6)
    cut = data.draw(st.integers(0, len(stream) - 1))
    intact = zlib.decompressobj(31).decompress(stream[:cut])
    records, error = outcome(split(gunzip([stream[:cut]]), "TFRecord"))
    assert error is not None
    assert (error[1], "the gzip stream ends" in error[0]) == (len(intact), True)
    assert records == outcome(split([intact], "TFRecord"))[0]
