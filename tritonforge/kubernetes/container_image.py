"""The image of a Triton container on Kubernetes: the release for which the repository was validated. No I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tritonforge import triton
from tritonforge.errors import DefinitionError
from tritonforge.sagemaker.endpoints.deployment import Deployment
from tritonforge.triton.registries import is_tfs_image_name

__all__ = ["choose_container_image"]

#: Source: NGC catalogue, Triton Inference Server; the image of NVIDIA's chart (server deploy/k8s-onprem/values.yaml).
_REPOSITORY: Final = "nvcr.io/nvidia/tritonserver"


def choose_container_image(deployment: Deployment) -> str:
    """Return the image that serves a deployment: NVIDIA's of the release, or the URI of an own one.

    Raises:
        DefinitionError: no image is given, it is unknown, or none is published with the backends that it adds.
    """
    name = deployment.image
    if name is None:
        raise DefinitionError(
            "the server image is missing. Give image='24.09' (--image 24.09), the release for which the repository is "
            "validated"
        )
    if is_tfs_image_name(name):
        raise DefinitionError(f"image {name!r}: a container of SageMaker's (expected a Triton image)")
    image = triton.find_image(name)
    if deployment.image_uri is not None:
        return deployment.image_uri
    reference = name.partition("+")[0]
    if "/" in reference:
        return reference
    if image.added:
        raise DefinitionError(
            f"image {name!r}: NVIDIA publishes none with {', '.join(sorted(image.added))}; build your own, and give "
            "its URI: image_uri=... (--image-uri)"
        )
    return f"{_REPOSITORY}:{replace(image, cpu=False).tag}"  # the tags with -cpu are AWS's
