"""TFRecords and Examples beside TensorFlow's own reader and writer: the same bytes, records and verdicts."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.draining import drain
from tritonforge.records import decode_example, encode_example, frame_tfrecord, gunzip, split

pytestmark = pytest.mark.framework

RANDOM = random.Random(0)
#: Sizes around every boundary of the layout, and around the pieces in which checksums are made and files are read.
SIZES = (0, 1, 3, 4, 7, 8, 11, 12, 100, 4095, 4096, 65_535, 262_143, 262_144, 262_145, 600_000)
PAYLOADS = [RANDOM.randbytes(size) for size in SIZES]


def read_by_tensorflow(path: Path, compression: str = "") -> tuple[list[bytes], str | None]:
    """The records that TensorFlow reads, and what its error says where it ends in one."""
    import tensorflow as tf

    found: list[bytes] = []
    try:
        for record in tf.data.TFRecordDataset(str(path), compression_type=compression):
            found.append(record.numpy())  # noqa: PERF401 - what came before the error is kept
    except tf.errors.DataLossError as error:
        return found, str(error)
    return found, None


def iterate_by_tensorflow(path: Path) -> tuple[list[bytes], str | None]:
    """The same by the iterator over one file, which needs no graph for each: a tenth of the time."""
    import tensorflow as tf

    found: list[bytes] = []
    try:
        found.extend(tf.compat.v1.io.tf_record_iterator(str(path)))
    except tf.errors.DataLossError as error:
        return found, str(error)
    return found, None


def read_by_us(data: bytes, chunk: int = 2**20) -> tuple[list[bytes], str | None]:
    """The records that we read, in the same form."""
    records, error = drain(split((data[at : at + chunk] for at in range(0, len(data), chunk)), "TFRecord"))
    return [bytes(record.payload) for record in records], None if error is None else str(error)


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_what_tensorflow_writes_is_read(tmp_path: Path, compression: str) -> None:
    """Its file is the bytes that we would write, plain and in gzip."""
    import tensorflow as tf

    path = tmp_path / "data.tfrecord"
    with tf.io.TFRecordWriter(str(path), options=compression) as writer:
        for payload in PAYLOADS:
            writer.write(payload)
    data = path.read_bytes()
    content = b"".join(gunzip([data])) if compression else data
    assert content == b"".join(map(frame_tfrecord, PAYLOADS))
    for chunk in (7, 1000, 2**20):
        assert read_by_us(content, chunk) == (PAYLOADS, None)


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_what_we_write_is_read_by_tensorflow(tmp_path: Path, compression: str) -> None:
    """Its reader gives every payload; several gzip members are one file to it too."""
    path = tmp_path / "data.tfrecord"
    records = [frame_tfrecord(payload) for payload in PAYLOADS]
    members = b"".join(records[:8]), b"".join(records[8:])
    path.write_bytes(b"".join(map(gzip.compress, members) if compression else members))
    assert read_by_tensorflow(path, compression) == (PAYLOADS, None)


def test_damaged_files_get_the_same_verdict(tmp_path: Path) -> None:
    """A file with a changed, lost or added byte, or an end cut off: the same records come out, and an error in both."""
    path = tmp_path / "data.tfrecord"
    stream = b"".join(frame_tfrecord(RANDOM.randbytes(RANDOM.randrange(40))) for _ in range(5))
    failed = 0
    for _ in range(120):
        data = bytearray(stream)
        at = RANDOM.randrange(len(data))
        match RANDOM.choice(("change", "lose", "add", "cut", "zeros")):
            case "change":
                data[at] ^= 1 << RANDOM.randrange(8)
            case "lose":
                del data[at]
            case "add":
                data.insert(at, RANDOM.randrange(256))
            case "cut":
                del data[at:]
            case "zeros":
                data += bytes(RANDOM.randrange(1, 40))
        path.write_bytes(data)
        ours, our_error = read_by_us(bytes(data))
        theirs, their_error = iterate_by_tensorflow(path)
        assert ours == theirs, (data, our_error, their_error)
        if our_error is None or "with its header" not in our_error:
            assert (our_error is None) == (their_error is None), (data, our_error, their_error)
        failed += our_error is not None
    assert 90 < failed < 120


def test_a_cut_off_header_is_an_error_here_alone(tmp_path: Path) -> None:
    """The one difference: TensorFlow takes up to 11 bytes that are left for the end, a lost record unnoticed."""
    path = tmp_path / "data.tfrecord"
    record = frame_tfrecord(b"hello")
    for left in range(len(record)):
        path.write_bytes(record + record[:left])
        ours, our_error = read_by_us(path.read_bytes())
        theirs, their_error = iterate_by_tensorflow(path)
        assert ours == theirs == [b"hello"]
        assert (our_error is None) == (left == 0)
        assert (their_error is None) == (left < 12)


FEATURES: dict[str, Any] = {
    "image/encoded": [RANDOM.randbytes(1000)],
    "image/class/label": [7],
    "image/class/text": [b"sept"],
    "box": [0.25, 0.5, -1e-40, float("inf")],
    "numbers": [0, -1, 2**63 - 1, -(2**63)],
    "names": [b"", "é".encode()],
    "nothing": [],
    "": [1],
}


def test_our_examples_are_read_by_tensorflow() -> None:
    """Its message class and its parser of Examples give the same values."""
    import tensorflow as tf

    encoded = encode_example(FEATURES)
    features = tf.train.Example.FromString(encoded).features.feature
    assert set(features) == set(FEATURES)
    for name, values in FEATURES.items():
        kind = features[name].WhichOneof("kind")
        found = list(getattr(features[name], kind).value) if kind else []
        assert np.array_equal(np.asarray(found), np.asarray(np.float32(values) if name == "box" else values)), name
    parsed = tf.io.parse_single_example(
        encoded,
        {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/class/label": tf.io.FixedLenFeature([], tf.int64),
            "numbers": tf.io.VarLenFeature(tf.int64),
            "box": tf.io.FixedLenFeature([4], tf.float32),
        },
    )
    assert parsed["image/encoded"].numpy() == FEATURES["image/encoded"][0]
    assert parsed["image/class/label"].numpy() == 7
    assert parsed["numbers"].values.numpy().tolist() == FEATURES["numbers"]
    assert parsed["box"].numpy().tolist() == np.float32(FEATURES["box"]).tolist()


def test_examples_of_bytes_are_the_bytes_that_tensorflow_writes() -> None:
    """Its deterministic serialisation and ours agree, an empty feature included."""
    import tensorflow as tf

    texts = {"b": [b"two", b""], "a": [bytes(300)], "nothing": [], "é": [b"x"]}
    lists = {name: tf.train.BytesList(value=values) for name, values in texts.items()}
    features = {
        name: tf.train.Feature(bytes_list=texts_of_name if texts_of_name.value else None)
        for name, texts_of_name in lists.items()
    }
    message = tf.train.Example(features=tf.train.Features(feature=features))
    assert encode_example(texts) == message.SerializeToString(deterministic=True)


def test_tensorflows_examples_are_read() -> None:
    """What its classes serialise is decoded to the same values."""
    import tensorflow as tf

    def feature(values: list[Any]) -> Any:
        if not values:
            return tf.train.Feature()
        if isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    message = tf.train.Example(
        features=tf.train.Features(feature={name: feature(values) for name, values in FEATURES.items()})
    )
    found = decode_example(message.SerializeToString())
    for name, values in FEATURES.items():
        expected = np.float32(values).tolist() if name == "box" else values
        assert found[name] == tuple(expected), name
    assert set(found) == set(FEATURES)
