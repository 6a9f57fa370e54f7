"""What `pad_batch` rests on: decoders stop at the image's own end mark, so zeros behind it change no pixel."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from tritonforge.inference.wire import pad_batch

pytestmark = pytest.mark.framework

FORMATS = [
    ("JPEG", {"quality": 90}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("WEBP", {}),
]


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    """A real photograph in several formats, colour and grey, each file of another size."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    photograph = Image.fromarray(load_sample_image("china.jpg")).resize((96, 64))
    encoded = []
    for mode in ("RGB", "L"):
        for name, options in FORMATS:
            buffer = io.BytesIO()
            photograph.convert(mode).save(buffer, name, **options)
            encoded.append(buffer.getvalue())
    assert len({len(image) for image in encoded}) > len(FORMATS)
    return encoded


def test_pillow_decodes_padded_images_alike(files: list[bytes]) -> None:
    """Every padded row decodes to the pixels of the file."""
    from PIL import Image

    for row, file in zip(pad_batch(files), files, strict=True):
        padded, plain = (np.asarray(Image.open(io.BytesIO(data))) for data in (row.tobytes(), file))
        np.testing.assert_array_equal(padded, plain)


def test_dali_decodes_padded_images_alike(files: list[bytes]) -> None:
    """The decoder of the served pipelines gives the same pixels for the padded batch as for the files."""
    from nvidia.dali import fn, pipeline_def, types

    def decoded(rows: list[Any]) -> list[Any]:
        @pipeline_def(batch_size=len(rows), num_threads=1, device_id=None)
        def pipeline() -> Any:
            return fn.decoders.image(fn.external_source(lambda: rows, dtype=types.UINT8), output_type=types.RGB)

        built = pipeline()
        built.build()
        (images,) = built.run()
        return [np.array(images.at(index)) for index in range(len(rows))]

    plain = decoded([np.frombuffer(file, dtype=np.uint8) for file in files])
    padded = decoded(list(pad_batch(files)))
    for one, other in zip(plain, padded, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.shape == (64, 96, 3)
