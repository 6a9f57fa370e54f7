"""Golden cases of the repositories of `repos/` that take images: one image, and a batch of eight of several sizes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from tests.support.checkout import ROOT

__all__ = ["write_picture_cases"]

#: The input of each repository's ensemble.
_INPUTS = {"digits": "IMAGE", "inception_v3": "INPUT", "detector": "IMAGE"}


def write_picture_cases(folder: Path, name: str) -> None:
    """Write the cases ``one`` and ``eight`` with held-out digits, or parts of photographs, as PNG and JPEG."""
    folder.mkdir()
    pictures = _draw_digits() if name == "digits" else _crop_photographs()
    files = []
    for index, picture in enumerate(pictures):
        files.append(f"{index}.img")
        (folder / files[-1]).write_bytes(picture)
    for case, used in (("one", files[:1]), ("eight", files)):
        (folder / f"{case}.json").write_text(json.dumps({"inputs": {_INPUTS[name]: {"files": used}}}))


def _draw_digits() -> list[bytes]:
    sys.path.insert(0, str(ROOT / "repos" / "digits"))
    try:
        from network import heldout
    finally:
        sys.path.pop(0)
        sys.modules.pop("network", None)
    images, _ = heldout()
    return list(images[:8])


def _crop_photographs() -> list[bytes]:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    encoded = []
    for index in range(8):
        photograph = Image.fromarray(load_sample_images().images[index % 2])
        left, top = 40 * index, 20 * index
        part = photograph.crop((left, top, left + 350 - 10 * index, top + 280))
        buffer = io.BytesIO()
        part.save(buffer, "JPEG" if index % 2 else "PNG", **({"quality": 95} if index % 2 else {}))
        encoded.append(buffer.getvalue())
    return encoded
