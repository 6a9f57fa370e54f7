"""Records by example: framing byte for byte, lines, whole objects, batches, assembly, a sentence for each damage."""

from __future__ import annotations

import itertools
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import pytest

from tests.support.draining import drain
from tritonforge.errors import DecodeError, DefinitionError, EncodeError, MissingExtraError
from tritonforge.records import (
    MAX_RECORD,
    Batch,
    Record,
    RecordError,
    assemble,
    build_batches,
    frame_recordio,
    frame_tfrecord,
    split,
)
from tritonforge.records.formats import compute_crc32c, mask_checksum

Item = TypeVar("Item")
MAGIC = bytes.fromhex("0a23d7ce")

#: payload, the record. The first two are TensorFlow's own writer's; RecordIO's follow dmlc-core's writer.
TFRECORDS = [
    (b"", "000000000000000029039807d8ea82a2"),
    (b"hello", "0500000000000000eab2043e68656c6c6fbb1f1c19"),
]
RECORDIOS = [
    (b"", "0a23d7ce00000000"),
    (b"hello", "0a23d7ce0500000068656c6c6f000000"),
    (b"1", "0a23d7ce0100000031000000"),
    (MAGIC, "0a23d7ce000000200a23d7ce00000060"),
    (b"abcd" + MAGIC + b"xyz", "0a23d7ce04000020616263640a23d7ce0300006078797a00"),
    (MAGIC + MAGIC, "0a23d7ce000000200a23d7ce000000400a23d7ce00000060"),
    (b"ab" + MAGIC, "0a23d7ce0600000061620a23d7ce0000"),
    (b"abcd" + MAGIC[:3], "0a23d7ce07000000616263640a23d700"),
    (MAGIC + b"abcd" + MAGIC, "0a23d7ce000000200a23d7ce04000040616263640a23d7ce00000060"),
]
FRAMED = [
    *(("TFRecord", frame_tfrecord, payload, text) for payload, text in TFRECORDS),
    *(("RecordIO", frame_recordio, payload, text) for payload, text in RECORDIOS),
]


def plain(records: Iterable[Record]) -> list[tuple[bytes, bytes, int, int]]:
    """The records with their bytes copied, to be compared."""
    return [(bytes(payload), bytes(framed), offset, number) for payload, framed, offset, number in records]


def payloads(records: Iterable[Record]) -> list[bytes]:
    """What each record holds."""
    return [bytes(record.payload) for record in records]


def until_error(items: Iterable[Item]) -> tuple[list[Item], RecordError]:
    """Everything before the error, and the error, which there must be."""
    found, error = drain(items)
    assert error is not None
    return found, error


def test_checksums_are_those_of_the_catalogue() -> None:
    """CRC-32C has the check value of RFC 3720, in one piece, in views, and above the size that is copied at once."""
    assert compute_crc32c(b"123456789") == 0xE3069283
    assert compute_crc32c(bytes(32)) == 0x8A9136AA
    assert compute_crc32c(memoryview(bytearray(b"x123456789"))[1:]) == 0xE3069283
    large = np.arange(300_001, dtype=np.uint32).tobytes()
    extended = compute_crc32c(bytes(large))
    assert extended == _slow_crc32c(large)
    assert mask_checksum(0) == 0xA282EAD8
    assert mask_checksum(0xFFFFFFFF) == 0xA282EAD7


def _slow_crc32c(data: bytes) -> int:
    """CRC-32C by its definition, with a table."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(("split_type", "frame", "payload", "text"), FRAMED)
def test_golden_records_both_ways(split_type: Any, frame: Callable[[bytes], bytes], payload: bytes, text: str) -> None:
    """A payload is framed to these bytes, and these bytes are read as the payload, alone and between others."""
    framed = bytes.fromhex(text)
    for kind in (bytes, bytearray, memoryview):
        assert frame(kind(payload)) == framed
    size = len(framed)
    expected = [(payload, framed, 0, 0), (payload, framed, size, 1)]
    assert plain(split([framed + framed], split_type)) == expected
    assert plain(split([bytes([byte]) for byte in framed + framed], split_type)) == expected


@pytest.mark.parametrize("frame", [frame_tfrecord, frame_recordio])
def test_a_frame_counts_bytes_whatever_the_items_of_a_view_are(frame: Callable[[Any], bytes]) -> None:
    """A view of 32-bit numbers is framed as its bytes."""
    numbers = np.arange(5, dtype=np.uint32)
    assert frame(memoryview(numbers)) == frame(numbers.tobytes())


def test_recordio_refuses_what_its_29_bits_cannot_say() -> None:
    """2**29 bytes are refused before they are copied."""
    with pytest.raises(EncodeError, match=r"fewer than 2\*\*29 bytes, found 536870912"):
        frame_recordio(memoryview(np.zeros(1 << 29, np.uint8)))


def test_recordio_padding_is_not_looked_at() -> None:
    """As in the format's own reader, what fills a record up to 4 bytes may be anything."""
    stream = frame_recordio(b"hello")[:-3] + b"xyz" + frame_recordio(b"1")
    assert payloads(split([stream], "RecordIO")) == [b"hello", b"1"]


@pytest.mark.parametrize(
    ("stream", "lines"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\nb", [b"a", b"b"]),
        (b"\n\na\n\n", [b"", b"", b"a", b""]),
        (b"a\r\nb\r\n", [b"a\r", b"b\r"]),
        (b"a\rb\n", [b"a\rb"]),
        ("é\u2028\x85\x0b\n".encode(), ["é\u2028\x85\x0b".encode()]),
    ],
)
def test_lines_end_at_newlines_alone(stream: bytes, lines: list[bytes]) -> None:
    """The one boundary is the newline: empty lines are records, the last line needs none, and ``\\r`` is kept."""  # noqa: D301 - an escape that is meant
    records = plain(split([stream], "Line"))
    assert [payload for payload, *_ in records] == lines
    assert b"".join(framed for _, framed, *_ in records) == stream
    assert [offset for *_, offset, _ in records] == [stream.find(framed, offset) for _, framed, offset, _ in records]


@pytest.mark.parametrize("chunks", [[], [b""], [b"abc"], [b"", b"a", b"", b"bc"], [bytearray(b"a"), memoryview(b"bc")]])
def test_an_object_that_is_not_split_is_one_record(chunks: list[Any]) -> None:
    """The whole object is one record, also an empty one."""
    whole = b"".join(chunks)
    assert plain(split(chunks, "None")) == [(whole, whole, 0, 0)]


@pytest.mark.parametrize("split_type", ["Line", "RecordIO", "TFRecord"])
def test_an_empty_object_has_no_records(split_type: Any) -> None:
    for chunks in ([], [b""], [b"", b""]):
        assert plain(split(chunks, split_type)) == []


def test_records_are_views_of_their_chunk() -> None:
    """A record that lies in one chunk is not copied."""
    chunk = np.frombuffer(b"".join(map(frame_tfrecord, (b"one", b"two"))), np.uint8)
    for record in split([memoryview(chunk)], "TFRecord"):
        assert np.shares_memory(np.frombuffer(record.framed, np.uint8), chunk)
        assert np.shares_memory(np.frombuffer(record.payload, np.uint8), chunk)
    text = b"one\ntwo\n"
    for record in split([text], "Line"):
        assert np.shares_memory(np.frombuffer(record.framed, np.uint8), np.frombuffer(text, np.uint8))


def test_a_stream_is_resumed_where_it_was() -> None:
    """Chunks from the middle of a stream give the numbers and offsets of the whole stream, in errors too."""
    stream = b"".join(map(frame_tfrecord, (b"one", b"two", b"three")))
    whole = plain(split([stream], "TFRecord"))
    offset = whole[1][2]
    assert plain(split([stream[offset:]], "TFRecord", offset=offset, number=1)) == whole[1:]
    _, error = until_error(split([stream[offset:-1]], "TFRecord", offset=offset, number=1))
    assert (error.offset, str(error)[:20]) == (whole[2][2], "record 2 at byte 38:")


@pytest.mark.parametrize("split_type", ["none", "line", "CSV", "", None])
def test_an_unknown_split_type_is_refused_at_once(split_type: Any) -> None:
    """The call itself says which there are; nothing is read."""
    with pytest.raises(DefinitionError, match="split_type must be one of None, Line, RecordIO, TFRecord, found"):
        split(iter(()), split_type)


def header(length: int) -> bytes:
    """The start of a TFRecord that claims that many bytes, with a good checksum."""
    size = struct.pack("<Q", length)
    return size + struct.pack("<I", mask_checksum(compute_crc32c(size)))


GOOD = frame_tfrecord(b"good")
PART = frame_recordio(b"good")
ENDS = "the stream ends in it; "
LIMIT = "the 104857600 bytes that one payload may have; raise MaxPayloadInMB"
NO_TFRECORDS = "the stream is damaged here, or holds no TFRecords"
NO_MAGIC = "should start the magic number 0xced7230a, found 0xced72378; the stream is damaged"
IS_GZIP = "it starts as gzip does: set CompressionType to Gzip"
AT_START = "should start a whole record or the first part of a record, found"
INSIDE = "should start a middle part or a last part, found"
GZIP = b"\x1f\x8b\x08" + bytes(9)
FIRST = frame_recordio(MAGIC)[:8]
LAST = frame_recordio(MAGIC)[8:]
DAMAGED = [
    ("TFRecord", GOOD + GOOD[:1], 20, f"record 1 at byte 20: {ENDS}with its header it has 12 bytes, and 1 are there"),
    ("TFRecord", GOOD + GOOD[:-1], 20, f"{ENDS}with its 4 bytes of data it has 20 bytes, and 19 are there"),
    ("TFRecord", GOOD + b"\x05" + GOOD[1:], 20, "record 1 at byte 20: its length should have the masked CRC-32C 0x"),
    ("TFRecord", GOOD + GOOD.replace(b"good", b"gold"), 20, "at byte 20: its data should have the masked CRC-32C 0x"),
    ("TFRecord", GOOD + header(2**63), 20, f"record 1 at byte 20 has 9223372036854775808 bytes, more than {LIMIT}"),
    (
        "TFRecord",
        GOOD + header(2**64 - 1),
        20,
        f"record 1 at byte 20 has 18446744073709551615 bytes, more than {LIMIT}",
    ),
    ("TFRecord", GOOD + header(2**20) + b"few", 20, "with its 1048576 bytes of data it has 1048592 bytes, and 15 are"),
    ("TFRecord", b"\xff\xd8\xff\xe0 a JPEG file", 0, NO_TFRECORDS),
    ("TFRecord", GZIP, 0, IS_GZIP),
    ("TFRecord", GOOD + GZIP, 20, NO_TFRECORDS),
    ("RecordIO", PART + PART[:7], 12, f"record 1 at byte 12: {ENDS}it has at least 8 bytes, and 7 are there"),
    ("RecordIO", PART + PART[:-1], 12, f"record 1 at byte 12: {ENDS}it has at least 12 bytes, and 11 are there"),
    ("RecordIO", PART + frame_recordio(b"hello")[:-1], 12, "it has at least 16 bytes, and 15 are there"),
    ("RecordIO", PART + b"x" + PART[1:], 12, f"record 1 at byte 12: byte 12 {NO_MAGIC}"),
    ("RecordIO", PART + FIRST + b"x" + LAST[1:], 12, f"record 1 at byte 12: byte 20 {NO_MAGIC}"),
    ("RecordIO", GZIP, 0, IS_GZIP),
    ("RecordIO", PART + LAST, 12, f"byte 12 {AT_START} a last part"),
    ("RecordIO", PART + FIRST + PART, 12, f"record 1 at byte 12: byte 20 {INSIDE} a whole record"),
    ("RecordIO", PART + FIRST + FIRST, 12, f"record 1 at byte 12: byte 20 {INSIDE} the first part of a record"),
    ("RecordIO", PART + FIRST, 12, f"record 1 at byte 12: {ENDS}it has at least 16 bytes, and 8 are there"),
    ("RecordIO", MAGIC + struct.pack("<I", 5 << 29), 0, f"{AT_START} the unknown kind 5"),
    ("RecordIO", PART + MAGIC + struct.pack("<I", 2**29 - 1), 12, f"at byte 12 has 536870911 bytes, more than {LIMIT}"),
    ("RecordIO", PART + MAGIC + struct.pack("<I", 2**30 - 1), 12, f"record 1 at byte 12 has more than {LIMIT}"),
]


@pytest.mark.parametrize(("split_type", "stream", "offset", "sentence"), DAMAGED)
def test_damage_is_one_sentence_with_its_byte(split_type: Any, stream: bytes, offset: int, sentence: str) -> None:
    """Everything before the damage is given out, then one error says where it is; the same byte by byte."""
    whole, error = until_error(split([stream], split_type))
    assert isinstance(error, DecodeError)
    assert b"".join(bytes(record.framed) for record in whole) == stream[:offset]
    assert error.offset == offset
    assert sentence in str(error)
    bytewise, same = until_error(split([bytes([byte]) for byte in stream], split_type))
    assert (plain(bytewise), str(same), same.offset) == (plain(whole), str(error), offset)


@pytest.mark.parametrize(
    ("split_type", "stream", "largest"),
    [
        ("None", b"12345", 5),
        ("Line", b"12345\n1", 5),
        ("Line", b"12345", 5),
        ("TFRecord", frame_tfrecord(b"12345"), 5),
        ("RecordIO", frame_recordio(b"12345"), 5),
        ("RecordIO", frame_recordio(b"abcd" + MAGIC + b"x"), 9),
    ],
)
def test_the_limit_counts_the_payload(split_type: Any, stream: bytes, largest: int) -> None:
    """A payload of exactly the limit is a record, in any chunks; a byte more is an error at its start."""
    for chunks in ([stream], [bytes([byte]) for byte in stream]):
        assert len(payloads(split(chunks, split_type, max_record=largest))[0]) == largest
        found, error = until_error(split(chunks, split_type, max_record=largest - 1))
        assert (found, error.offset) == ([], 0)
        assert f"the {largest - 1} bytes that one payload may have" in str(error)


def peak(call: Callable[[], object]) -> int:
    """The most bytes that a call held at once."""
    call()  # what is imported and cached once is not counted
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def hostile(length: int, stream: int) -> Iterator[bytes]:
    """A TFRecord that claims ``length`` bytes in a stream of ``stream`` bytes."""
    yield header(length)
    yield from itertools.repeat(bytes(2**16), stream // 2**16)


def test_a_hostile_length_asks_for_no_memory() -> None:
    """A length of 2**63, or of the limit with little behind it, takes what is there and no more."""
    for length in (2**63, MAX_RECORD):
        assert peak(lambda length=length: until_error(split(hostile(length, 2**20), "TFRecord"))) < 3 * 2**20
    large = memoryview(bytes(8 * 2**20))
    assert peak(lambda: compute_crc32c(large)) < 2**20
    lines = lambda: until_error(split(itertools.repeat(bytes(2**16), 200), "Line", max_record=2**20))  # noqa: E731
    assert peak(lines) < 3 * 2**20
    whole = lambda: until_error(split(itertools.repeat(bytes(2**16)), "None", max_record=2**20))  # noqa: E731
    assert peak(whole) < 3 * 2**20


@pytest.mark.slow
def test_a_record_of_very_many_parts_takes_the_memory_of_its_bytes() -> None:
    """16,384 empty parts are one record; what is held is their bytes and the payload, not an object for each."""
    first, middle, last = (MAGIC + struct.pack("<I", kind << 29) for kind in (1, 2, 3))
    stream = first + middle * 16_382 + last
    (record,) = split([stream[at : at + 1000] for at in range(0, len(stream), 1000)], "RecordIO")
    assert bytes(record.payload) == MAGIC * 16_383
    chunks = lambda: (stream[at : at + 1000] for at in range(0, len(stream), 1000))  # noqa: E731
    assert peak(lambda: list(split(chunks(), "RecordIO"))) < 3 * len(stream)


@pytest.mark.parametrize("split_type", ["Line", "RecordIO", "TFRecord"])
@pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])
def test_memory_does_not_grow_with_the_stream(split_type: Any, strategy: Any) -> None:
    """A stream of 64 MB in chunks of 1 MB is split and batched in a few MB."""
    payload = b"x" * 99_999
    framed = {"Line": payload + b"\n", "RecordIO": frame_recordio(payload), "TFRecord": frame_tfrecord(payload)}
    block = framed[split_type] * 10

    def call() -> None:
        records = split((bytes(bytearray(block)) for _ in range(64)), split_type)
        assert sum(batch.count for batch in build_batches(records, strategy, 2**20)) == 640

    assert peak(call) < 5 * 2**20


def batched(records: Iterable[Record], strategy: Any, limit: int) -> list[tuple[bytes, int, int, int]]:
    """The batches with their bytes copied: body, number, count, offset."""
    return [
        (bytes(batch.body), batch.number, batch.count, batch.offset)
        for batch in build_batches(records, strategy, limit)
    ]


def test_single_records_go_without_their_framing() -> None:
    """SingleRecord sends each payload alone, the limit counts payload bytes, and nothing is copied."""
    stream = b"".join(map(frame_tfrecord, (b"one", b"", b"three")))
    assert batched(split([stream], "TFRecord"), "SingleRecord", 5) == [
        (b"one", 0, 1, 0), (b"", 1, 1, 19), (b"three", 2, 1, 35),
    ]  # fmt: skip
    (batch,) = build_batches([Record(payload := memoryview(b"x"), b"framed", 0)], "SingleRecord", 1)
    assert batch == Batch(payload, 0, 1, 0)
    assert batch.body is payload


def test_multiple_records_keep_their_framing_and_fill_the_payload() -> None:
    """MultiRecord sends as many framed records as fit: exactly the limit is full, a byte less holds one fewer."""
    framed = [frame_recordio(payload) for payload in (b"1", b"two", b"threethree", b"4", b"5")]
    stream = b"".join(framed)
    assert [len(frame) for frame in framed] == [12, 12, 20, 12, 12]

    def sizes(limit: int) -> list[int]:
        found = batched(split([stream], "RecordIO"), "MultiRecord", limit)
        assert b"".join(body for body, *_ in found) == stream
        assert [offset for *_, offset in found] == [len(b"".join(framed[:number])) for _, number, *_ in found]
        assert [number for _, number, *_ in found] == list(
            itertools.accumulate((count for *_, count, _ in found[:-1]), initial=0)
        )
        return [count for *_, count, _ in found]

    assert sizes(68) == [5]
    assert sizes(67) == [4, 1]
    assert sizes(44) == [3, 2]
    assert sizes(43) == [2, 2, 1]
    assert sizes(24) == [2, 1, 2]
    assert sizes(20) == [1, 1, 1, 1, 1]


def test_lines_are_batched_with_their_newlines() -> None:
    """MultiRecord joins lines as they stood; the last one gets no newline that it had not."""
    records = lambda: split([b"a,1\r\nb,2\n\nc"], "Line")  # noqa: E731
    assert batched(records(), "MultiRecord", 9) == [(b"a,1\r\nb,2\n", 0, 2, 0), (b"\nc", 2, 2, 9)]
    assert [body for body, *_ in batched(records(), "SingleRecord", 9)] == [b"a,1\r", b"b,2", b"", b"c"]


@pytest.mark.parametrize(("strategy", "size", "limit"), [("SingleRecord", 4, 3), ("MultiRecord", 20, 19)])
def test_a_record_above_the_payload_is_one_error(strategy: Any, size: int, limit: int) -> None:
    """The records before it are given out; the error names its number, its byte and both sizes."""
    stream = frame_tfrecord(b"ok") + frame_tfrecord(b"good") + frame_tfrecord(b"ok")
    found, error = until_error(build_batches(split([stream], "TFRecord"), strategy, limit))
    assert [(batch.number, batch.count) for batch in found] == [(0, 1)]
    assert error.offset == 18
    assert str(error).startswith(f"record 1 at byte 18 has {size} bytes, more than the {limit} bytes")


@pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])
def test_what_was_read_before_damage_is_batched(strategy: Any) -> None:
    """A batch that is not full yet is given out before the error of the stream is."""
    stream = GOOD + GOOD + GOOD[:-1]
    found, error = until_error(build_batches(split([stream], "TFRecord"), strategy, 1000))
    assert sum(batch.count for batch in found) == 2
    assert error.offset == 40


@pytest.mark.parametrize(("strategy", "limit"), [("Single", 1), (None, 1), ("SingleRecord", 0), ("MultiRecord", -1)])
def test_an_unknown_strategy_or_an_empty_payload_is_refused_at_once(strategy: Any, limit: int) -> None:
    """The call itself raises; nothing is read."""
    with pytest.raises(DefinitionError, match=r"strategy must be one of SingleRecord, MultiRecord|must be 1 byte"):
        build_batches(iter(()), strategy, limit)


def test_answers_are_assembled() -> None:
    """None adds nothing, Line a newline after every answer, also the last and an empty one."""
    parts = [b"a", b"", b"b\n"]
    assert b"".join(assemble(parts, "None")) == b"ab\n"
    assert b"".join(assemble(parts, "Line")) == b"a\n\nb\n\n"
    assert b"".join(assemble([], "Line")) == b""
    with pytest.raises(DefinitionError, match="assemble_with must be one of None, Line, found 'line'"):
        assemble([], "line")  # type: ignore[arg-type]  # refused at run time too


def test_the_missing_checksum_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without google-crc32c the error is the command that installs it; other split types do without."""
    from tritonforge.records import formats

    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    formats._extend.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match=r"pip install .*\[transform\]'"):
            frame_tfrecord(b"x")
        assert payloads(split([PART], "RecordIO")) == [b"good"]
    finally:
        formats._extend.cache_clear()


@pytest.mark.process
def test_the_import_is_light() -> None:
    """Importing it loads neither numpy, nor a framework, nor the checksum library."""
    script = "import sys, tritonforge.records; print({'numpy', 'tensorflow', 'google_crc32c'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
