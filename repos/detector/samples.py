"""Labelled images as training reads them: decoded and resized once, and then always in one order.

They come from a folder (``images/`` and ``annotations.json``, in File and FastFile mode) or out of a pipe (an image
record, then its boxes as Ground Truth writes them, and its metadata where the job asks for them). The order is that of
the images' digests: it does not depend on how the data came, nor on what shuffled them on the way, so that the same
images in both forms are the same training. Each epoch has its own permutation of it, by the seed.

Pixels and what the locations are to answer lie in one temporary file that is mapped into memory: what is used often is
held by the kernel, as far as memory goes, and more data than memory costs time instead. So in Pipe mode one epoch is
read.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from locations import assign, count

from tritonforge.errors import ManifestError
from tritonforge.training.algorithm import ChannelInput, InputError
from tritonforge.training.manifest import read_annotations
from tritonforge.training.manifest.labels import METADATA_SUFFIX, Boxes, read_boxes, read_class_map
from tritonforge.training.manifest.lines import read_json

__all__ = ["Samples", "read", "split"]

#: Images that are decoded ahead of the one that is written.
_AHEAD: Final = 16

#: Parts of a pixel to which boxes are exact: 12.1 + 30.2 is not 42.3 to the last bit.
_EXACT: Final = 3

#: One of this many images is for validation, unless a channel has others.
_VALIDATION: Final = 10


@dataclass(frozen=True, slots=True)
class _Raw:
    """An image as it came; ``where`` names it in errors."""

    where: str
    data: bytes
    boxes: Boxes
    names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Images in their order. ``records`` is the file, ``rows`` the place of each image in it.

    ``boxes`` (normalised [xmin, ymin, xmax, ymax]) and ``ids`` (category numbers) are the truth of each image, in the
    order of ``rows``; ``names`` are those in the data.
    """

    side: int
    records: Any
    rows: Any
    boxes: tuple[Any, ...]
    ids: tuple[Any, ...]
    names: Mapping[int, str]
    digest: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def categories(self) -> tuple[int, ...]:
        """The category numbers that appear, sorted."""
        return tuple(sorted({int(identifier) for ids in self.ids for identifier in ids}))

    def batch(self, places: Any, classes: Sequence[int]) -> tuple[Any, Any, Any]:
        """(pixels UINT8 [b, side, side, 3], class of each location or -1 [b, n], its box in pixels [b, n, 4])."""
        records = self.records[self.rows[places]]
        known = np.asarray(classes, np.int64)
        ids = records["ids"]
        wanted = np.where(ids >= 0, np.searchsorted(known, ids), -1).astype(np.int32)
        return records["pixels"], wanted, records["targets"]

    def part(self, places: slice) -> Samples:
        """Some of the images, in the same order."""
        return Samples(
            self.side, self.records, self.rows[places], self.boxes[places], self.ids[places], self.names, self.digest
        )


def read(channel: ChannelInput, side: int) -> Samples:
    """All labelled images of a channel, resized to ``side`` x ``side``.

    Raises:
        InputError: something is wrong with the data: the file or the record, what, and what to do.
    """
    raw = _records(channel) if channel.mode == "Pipe" else _files(channel)
    layout = np.dtype(
        [
            ("pixels", np.uint8, (side, side, 3)),
            ("ids", np.int32, (count(side),)),
            ("targets", np.float32, (count(side), 4)),
        ]
    )
    digests: list[bytes] = []
    boxes: list[Any] = []
    ids: list[Any] = []
    names: dict[int, str] = {}
    # Without a name: it is gone with the process, however that ends.
    with tempfile.TemporaryFile() as file:
        for made in _decode_all(raw, side):
            record = np.zeros((), layout)
            record["pixels"] = made.pixels
            record["ids"], record["targets"] = assign(made.boxes * side, made.ids, side)
            file.write(record.tobytes())
            digests.append(made.digest)
            boxes.append(made.boxes)
            ids.append(made.ids)
            names.update(made.names)
        if not digests:
            raise InputError(f"channel {channel.name} holds no labelled image")
        file.flush()
        records = np.memmap(file, dtype=layout, mode="r", shape=(len(digests),))
    rows = np.asarray(sorted(range(len(digests)), key=digests.__getitem__), np.int64)
    digest = hashlib.sha256(b"".join(sorted(digests))).hexdigest()
    return Samples(
        side, records, rows, tuple(boxes[row] for row in rows), tuple(ids[row] for row in rows), names, digest
    )


def split(samples: Samples) -> tuple[Samples, Samples]:
    """(for training, for validation): one image of ten is kept apart, by its digest alone."""
    if len(samples) < 2:
        raise InputError("channel training holds one image only; give at least two, or a channel validation")
    apart = max(1, len(samples) // _VALIDATION)
    return samples.part(slice(apart, None)), samples.part(slice(None, apart))


@dataclass(frozen=True, slots=True, eq=False)
class _Decoded:
    pixels: Any
    boxes: Any
    ids: Any
    digest: bytes
    names: Mapping[int, str]


def _decode_all(raw: Iterable[_Raw], side: int) -> Iterator[_Decoded]:
    """Images in their order, decoded by all cores."""
    waiting: deque[Future[_Decoded]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for sample in raw:
                waiting.append(pool.submit(_decode, sample, side))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _decode(raw: _Raw, side: int) -> _Decoded:
    from PIL import Image

    size = raw.boxes.size
    try:
        with Image.open(io.BytesIO(raw.data), formats=("JPEG", "PNG")) as opened:
            if opened.size != (size.width, size.height):
                raise InputError(
                    f"{raw.where} has {opened.width} x {opened.height} pixels, and its label has {size.width} x "
                    f"{size.height}; label the image that is there"
                )
            image = opened.convert("RGB")
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{raw.where} is not a JPEG or PNG image; replace it, or remove it with its label") from error
    except Exception as error:  # Pillow's decoders raise what they like on damaged data
        raise InputError(
            f"{raw.where} cannot be decoded: {' '.join(str(error).split())}; replace it, or take it out with its label"
        ) from error
    pixels = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
    corners = [[box.left, box.top, box.right, box.bottom] for box in raw.boxes.boxes]
    exact = np.round(np.asarray(corners, np.float64).reshape(-1, 4), _EXACT)
    ids = np.asarray([box.class_id for box in raw.boxes.boxes], np.int64)
    digest = hashlib.sha256(raw.data)
    digest.update(exact.tobytes() + ids.tobytes())
    scale = (size.width, size.height, size.width, size.height)
    return _Decoded(pixels, (exact / scale).astype(np.float32), ids, digest.digest(), raw.names)


def _files(channel: ChannelInput) -> Iterator[_Raw]:
    """What ``annotations.json`` names."""
    document = channel.folder / "annotations.json"
    try:
        text = document.read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"channel {channel.name} has no annotations.json; it takes a folder with images/ and annotations.json"
        ) from error
    try:
        for annotation in read_annotations(text):
            name = f"images/{annotation.source}"
            path = channel.folder / "images" / annotation.source
            try:
                data = path.read_bytes()
            except (FileNotFoundError, NotADirectoryError) as error:
                raise InputError(
                    f"channel {channel.name}: {name} is not there, but annotations.json names it; add it, or take its "
                    "entry out"
                ) from error
            yield _Raw(f"channel {channel.name}: {name}", data, annotation.boxes, annotation.names)
    except ManifestError as error:
        raise InputError(f"channel {channel.name}: annotations.json: {error}; correct it there") from error


def _records(channel: ChannelInput) -> Iterator[_Raw]:
    """What comes out of the pipe: image, boxes, and metadata where the job asks for them."""
    if channel.record_wrapper != "RecordIO":
        raise InputError(
            f"channel {channel.name} comes in Pipe mode without RecordWrapperType RecordIO, so it is unknown where an "
            "image ends; set it"
        )
    image: tuple[str, bytes] | None = None
    ready: _Raw | None = None
    with channel.epoch(0) as stream:
        number = -1
        for number, record in enumerate(stream.records()):
            where = f"channel {channel.name}: record {number}"
            value = _object(record)
            if image is not None:
                ready = _read_label(image, value, where)
                image = None
            elif value is None:
                if ready is not None:
                    yield ready
                ready, image = None, (f"{where}, an image,", record)
            elif ready is not None and "annotations" not in value:
                ready = _Raw(ready.where, ready.data, ready.boxes, read_class_map(value.get("class-map")))
            else:
                raise InputError(f"{where} is a label without an image before it; {_ATTRIBUTES}")
    if image is not None:
        raise InputError(f"channel {channel.name}: the stream ends after record {number}, an image; {_ATTRIBUTES}")
    if ready is not None:
        yield ready


_ATTRIBUTES: Final = (
    f'AttributeNames must be the image and its boxes, ["source-ref", "<label>"], and "<label>{METADATA_SUFFIX}" where '
    "the names of the classes are required"
)


def _read_label(image: tuple[str, bytes], value: Mapping[str, Any] | None, where: str) -> _Raw:
    if value is None:
        raise InputError(f"{where} is not a label of the image before it; {_ATTRIBUTES}")
    boxes, faults = read_boxes(value)
    if boxes is None:
        path, what = faults[0]
        raise InputError(
            f"{where}, a label: {path}{': ' if path else ''}{what}; correct it in the manifest, or remove its line"
        )
    return _Raw(*image, boxes)


def _object(record: bytes) -> Mapping[str, Any] | None:
    """The JSON object that a record is; None for what is none, as an image."""
    if record.lstrip()[:1] != b"{":
        return None
    try:
        value = read_json(record, what="the record")
    except ManifestError:
        return None
    return value if isinstance(value, dict) else None
