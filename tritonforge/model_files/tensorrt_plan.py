"""What a TensorRT plan states about itself: the version of TensorRT that built it.

The format is not documented; the position of the version is NVIDIA's own answer in TensorRT issue 3073 (comment
1599934548): major, minor, patch and build in one byte each, from byte 24 on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tritonforge.model_files.source import ModelFileError, Source

__all__ = ["TensorRTPlan", "read_tensorrt_plan"]

#: The bytes after the first one: ``ftrt`` begins plans, ``ptrt`` what older versions wrote.
_MAGIC: Final = b"trt"
_VERSION: Final = 24


@dataclass(frozen=True, slots=True)
class TensorRTPlan:
    """A plan's header. ``version`` is that of the TensorRT that built it: major, minor, patch, build."""

    version: tuple[int, int, int, int]

    @property
    def version_text(self) -> str:
        """The version as NVIDIA writes it: ``10.5.0.18``."""
        return ".".join(map(str, self.version))


def read_tensorrt_plan(source: Source) -> TensorRTPlan:
    """Read the header of a TensorRT plan. Raises ModelFileError: the file is not a plan."""
    if source.size < _VERSION + 4 or source.read_at(1, 3) != _MAGIC:
        raise ModelFileError("this is not a TensorRT plan: it does not begin with 'ftrt'")
    major, minor, patch, build = source.read_at(_VERSION, 4)
    return TensorRTPlan((major, minor, patch, build))
