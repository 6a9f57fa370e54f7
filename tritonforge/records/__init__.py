"""Records: streams of bytes are split into records, joined into requests, and the responses assembled. No I/O.

    chunks -> (`gunzip`) -> `split` -> `Record` -> `build_batches` -> `Batch` -> (requests, responses) -> `assemble`

Everything is a stream with bounded memory. Damaged input is one RecordError with the byte offset, raised after
everything before it was yielded. `frame_tfrecord` and `frame_recordio` write what `split` reads; `encode_example` and
`decode_example` convert the usual content of TFRecords.
"""

from __future__ import annotations

from tritonforge.records.formats import (
    Feature,
    FeatureValue,
    decode_example,
    encode_example,
    frame_recordio,
    frame_tfrecord,
)
from tritonforge.records.splitting import AssembleWith, Batch, assemble, build_batches, split
from tritonforge.records.stream import MAX_RECORD, BatchStrategy, Buffer, Record, RecordError, SplitType, gunzip

__all__ = [
    "MAX_RECORD", "AssembleWith", "Batch", "BatchStrategy", "Buffer", "Feature", "FeatureValue", "Record",
    "RecordError", "SplitType", "assemble", "build_batches", "decode_example", "encode_example", "frame_recordio",
    "frame_tfrecord", "gunzip", "split",
]  # fmt: skip
