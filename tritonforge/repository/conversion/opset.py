"""Which ONNX opset a model is written in for an image. This module does no I/O."""

from __future__ import annotations

from typing import Final

from tritonforge.triton import CATALOGUE, Image

__all__ = ["opset"]

#: What tf2onnx is tested with. Source: README of tf2onnx 1.17, "We support and test ONNX opset-14 to opset-18".
_OLDEST: Final = 14
_NEWEST: Final = 18

#: The first ONNX Runtime that runs opset 18 (ONNX 1.13). Source: onnxruntime docs/Versioning.md.
_FIRST_WITH_NEWEST: Final = (1, 14)


def opset(image: Image) -> int:
    """The newest opset that both the converter writes and the image's ONNX Runtime takes.

    Where no source states the image's ONNX Runtime, that of the nearest known release before it counts: a later one
    runs all that an earlier one ran (docs/Versioning.md, "Backwards compatibility").
    """
    upto = [each.onnxruntime for each in CATALOGUE.values() if each.release <= image.release]
    known = [version for version in upto if version is not None]
    if not known:
        return _OLDEST
    version = tuple(int(part) for part in known[-1].split(".")[:2])
    return _NEWEST if version >= _FIRST_WITH_NEWEST else _OLDEST
