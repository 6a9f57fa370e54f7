"""Where AWS keeps its TensorFlow Serving images. This module does no I/O."""

from __future__ import annotations

import re
from typing import Final

from tritonforge.triton import registries
from tritonforge.triton.tfs.layout import serves_packages

__all__ = ["is_named", "uri"]

_REPOSITORY: Final = "tensorflow-inference"
_NAME: Final = re.compile(rf"{_REPOSITORY}:(?P<tag>[\w][\w.-]{{0,127}})")
_VERSION: Final = re.compile(r"(?P<major>\d+)\.(?P<minor>\d+)(?P<patch>\.\d+)?")

#: From this version on tags name the patch and the Python, too: "2.19-cpu" before, "2.20.0-cpu-py312" then. Source: the
#: image tables of the SageMaker SDK (2.257.7; sagemaker-core 2.27.0), and aws/deep-learning-containers' releases.
_WITH_PYTHON: Final = (2, 20)
_PYTHON: Final = "py312"


def is_named(image: str | None) -> bool:
    """Whether an image is one of SageMaker's for TensorFlow Serving: an address, or ``tensorflow-inference:2.19``."""
    return image is not None and (_NAME.fullmatch(image) is not None or serves_packages(image))


def uri(image: str, region: str, *, cpu: bool) -> str:
    """The address of an image in a region, as `CreateModel` takes it; one that is an address stays as it is.

    ``image`` is ``tensorflow-inference:TAG``; of a version alone (``2.19``) the tag is made, for the CPU or the GPU.

    >>> uri("tensorflow-inference:2.19", "us-west-2", cpu=True)
    '763104351884.dkr.ecr.us-west-2.amazonaws.com/tensorflow-inference:2.19-cpu'

    Raises:
        DefinitionError: AWS has no such images in the region.
    """
    found = _NAME.fullmatch(image)
    if found is None:
        return image
    tag = found["tag"]
    if version := _VERSION.fullmatch(tag):
        processor = "cpu" if cpu else "gpu"
        if (int(version["major"]), int(version["minor"])) < _WITH_PYTHON:
            tag = f"{tag}-{processor}"
        else:
            tag = f"{tag}{'' if version['patch'] else '.0'}-{processor}-{_PYTHON}"
    return f"{registries.registry(region)}/{_REPOSITORY}:{tag}"
