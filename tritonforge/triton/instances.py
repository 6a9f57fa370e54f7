"""Which SageMaker instance types have GPUs, and which of them are too old for an image. This module does no I/O."""

from __future__ import annotations

from typing import Final

from tritonforge.errors import DefinitionError
from tritonforge.triton.releases import Image, words

__all__ = ["gpu_family", "instance_family", "too_old_gpu"]

#: Families of SageMaker instances with NVIDIA GPUs. Source: `ProductionVariantInstanceType` of botocore 1.44.5.
_GPU_FAMILIES: Final = words("p2 p3 p4d p4de p5 p5e p5en p6-b200 p6-b300 p6e-gb200 g4dn g5 g6 g6e g7 g7e")

#: GPU families that releases which need compute capability 7.5 no longer support (NVIDIA's notes from 25.03 on name
#: V100 = P3; P2 is older).
_BEFORE_TURING: Final = frozenset({"p2", "p3"})


def instance_family(instance_type: str) -> str:
    """The family of a SageMaker instance type: ``g5`` of ``ml.g5.xlarge``; raises DefinitionError for other text."""
    words = instance_type.split(".")
    if len(words) != 3 or words[0] != "ml" or not all(words):
        raise DefinitionError(f"instance type {instance_type!r} is not of the form ml.<family>.<size>")
    return words[1]


def gpu_family(instance_type: str) -> str | None:
    """The family of an instance type with NVIDIA GPUs, None for one without; raises as `instance_family` does."""
    family = instance_family(instance_type)
    return family if family in _GPU_FAMILIES else None


def too_old_gpu(image: Image, instance_type: str) -> bool:
    """Whether the release notes of the image leave out the GPUs of an instance type, as far as they say so."""
    family, oldest = gpu_family(instance_type), image.min_compute_capability
    return oldest is not None and oldest >= 7.5 and family in _BEFORE_TURING
