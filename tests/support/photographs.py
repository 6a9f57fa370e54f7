"""Photographs for tests of image models: scikit-learn's two, and crops of them."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

from PIL import Image


def _find_photographs() -> Path:
    spec = importlib.util.find_spec("sklearn")  # importing scikit-learn itself takes a second
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "images"


#: The directory of the photographs.
FOLDER = _find_photographs()
#: The smaller photograph.
CHINA = FOLDER / "china.jpg"

#: scikit-learn's two photographs, as JPEG.
PHOTOGRAPHS = [(FOLDER / name).read_bytes() for name in ("china.jpg", "flower.jpg")]


def photographs_and_crops() -> list[bytes]:
    """Eight JPEG files of different sizes: the two photographs, and crops of them."""
    crops = []
    for index in range(6):
        image = Image.open(io.BytesIO(PHOTOGRAPHS[index % 2]))
        crop = image.crop((40 * index, 20 * index, 300 + 50 * index, 260 + 25 * index))
        buffer = io.BytesIO()
        crop.save(buffer, "JPEG", quality=70 + 4 * index)
        crops.append(buffer.getvalue())
    return PHOTOGRAPHS + crops
