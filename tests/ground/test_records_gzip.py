"""Gzip by example: members, padding, damage at every kind of place, and memory that stays small."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest

from tests.support.draining import drain
from tritonforge.records import RecordError, frame_tfrecord, gunzip, split

CONTENT = b"".join(b"line %d\n" % number for number in range(1000))
STREAM = gzip.compress(CONTENT, 6, mtime=0)


def read(stream: bytes) -> tuple[bytes, RecordError]:
    """The content before the error, and the error."""
    chunks, error = drain(gunzip([stream]))
    assert error is not None
    return b"".join(chunks), error


def test_members_are_one_stream() -> None:
    """Members one after another, empty ones too, and with a file name in the header, are one content."""
    named = zlib.compressobj(9, zlib.DEFLATED, 31)
    stream = STREAM + gzip.compress(b"") + gzip.compress(b"tail", 0) + named.compress(CONTENT) + named.flush()
    assert b"".join(gunzip([stream])) == CONTENT + b"tail" + CONTENT


def test_zeros_after_a_member_are_padding() -> None:
    """As gzip itself has it; a member may follow them."""
    assert b"".join(gunzip([STREAM + bytes(512), bytes(3), STREAM, bytes(1)])) == CONTENT + CONTENT


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        (b"", "the gzip stream ends before any gzip data at byte 0; it was cut off; 0 bytes of content came before"),
        (STREAM[:1], "the gzip stream ends in member 1 at byte 1; it was cut off; 0 bytes"),
        (STREAM[:-1], f"ends in member 1 at byte {len(STREAM) - 1}; it was cut off; {len(CONTENT)} bytes of content"),
        (STREAM + STREAM[:9], f"the gzip stream ends in member 2 at byte {len(STREAM) + 9}; it was cut off"),
        (b"\xff\xd8\xff\xe0", "the stream is not gzip (incorrect header check); set CompressionType to None if"),
        (bytes(8), "the stream is not gzip (incorrect header check)"),
        (STREAM + b"{}", f"no gzip member follows at byte {len(STREAM)} of the compressed stream (incorrect header"),
        (STREAM + bytes(5) + b"{}", f"no gzip member follows at byte {len(STREAM) + 5} of the compressed stream"),
        (STREAM[:3] + b"\xff" + STREAM[4:], "gzip member 1 is damaged at byte 3 of the compressed stream (unknown"),
        (STREAM[:-1] + b"\x01", f"damaged at byte {len(STREAM) - 1} of the compressed stream (incorrect length check)"),
        (STREAM[:-8] + bytes(8), "of the compressed stream (incorrect data check)"),
        (STREAM[:10] + b"\x07" + STREAM[11:], "at byte 10 of the compressed stream (invalid block type); 0 bytes"),
    ],
)
def test_damage_is_one_sentence(stream: bytes, sentence: str) -> None:
    """Everything before it comes out, and the sentence says where in the compressed stream it is."""
    content, error = read(stream)
    assert sentence in str(error)
    assert str(error).endswith(f"; {len(content)} bytes of content came before")
    assert (CONTENT + CONTENT).startswith(content)
    assert error.offset == len(content)


def test_content_up_to_the_damaged_byte_comes_out() -> None:
    """A byte that is wrong in the middle of the second member loses what follows, not what stood before it."""
    deflate = zlib.compressobj(0, zlib.DEFLATED, 31)
    start = deflate.compress(b"first half") + deflate.flush(zlib.Z_FULL_FLUSH)  # ends at a byte, so a block starts here
    damaged = STREAM + start + b"\x07" + start
    content, error = read(damaged)
    assert content == CONTENT + b"first half"
    at = len(STREAM) + len(start)
    assert f"gzip member 2 is damaged at byte {at} of the compressed stream (invalid block type)" in str(error)


@pytest.mark.slow
def test_damage_after_much_content_is_found_in_bounded_memory() -> None:
    """A stream that says 1,000 times its size is given out piece by piece, and so is what came before its damage."""
    bomb = gzip.compress(bytes(64 * 2**20), 9)
    damaged = bomb[:-8] + bytes(8)

    def sizes(stream: bytes) -> Iterator[int]:
        for chunk in gunzip([stream]):
            yield len(chunk)

    for stream in (bomb, damaged, bomb[:-1]):
        tracemalloc.start()
        try:
            found, error = drain(sizes(stream))
            assert (sum(found), max(found)) == (64 * 2**20, 2**20)
            assert (error is None) == (stream is bomb)
            assert tracemalloc.get_traced_memory()[1] < 6 * 2**20
        finally:
            tracemalloc.stop()


@pytest.mark.slow
def test_what_zlib_holds_back_at_the_end_comes_out() -> None:
    """A stream that is cut off where a full chunk came out: the rest of what the data say is given out too."""
    bomb = gzip.compress(bytes(2 * 2**20), 9, mtime=0)
    for end in range(1000, 1100):
        expected = zlib.decompressobj(31).decompress(bomb[:end])
        content, error = read(bomb[:end])
        assert content == expected
        assert error.offset == len(expected)


def test_a_whole_object_that_inflates_above_the_limit_is_an_error() -> None:
    """The limit is that of the content, and nothing above it is held."""
    stream = gzip.compress(bytes(2**24))
    with pytest.raises(RecordError, match="has more than the 1048576 bytes that one payload may have"):
        list(split(gunzip([stream]), "None", max_record=2**20))


def test_chunks_are_asked_for_when_they_are_needed() -> None:
    """The first record comes out before the rest of the stream is fetched."""
    stream = gzip.compress(frame_tfrecord(b"first"), 0, mtime=0) + gzip.compress(frame_tfrecord(b"second"), 0, mtime=0)
    fetched = []

    def chunks() -> Iterator[bytes]:
        for at in range(0, len(stream), 8):
            fetched.append(at)
            yield stream[at : at + 8]

    records = split(gunzip(chunks()), "TFRecord")
    assert bytes(next(records).payload) == b"first"
    assert len(fetched) <= len(stream) // 16 + 1
    assert bytes(next(records).payload) == b"second"
