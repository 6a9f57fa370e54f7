"""The container that serves a repository: image, machine image (AMI), environment. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from tritonforge import triton
from tritonforge.errors import DefinitionError
from tritonforge.sagemaker.endpoints.deployment import Content, Variant
from tritonforge.triton import Image
from tritonforge.triton.registries import build_tfs_image_uri, is_tfs_image_name

__all__ = ["ContainerImage", "build_environment", "choose_ami", "choose_image", "count_vcpus"]

#: Drivers of the GPU machine images and the newest CUDA that they run without the image's own compatibility library.
#: Source: service model of SageMaker, ``ProductionVariant.InferenceAmiVersion``.
_AMIS: Final = (
    ((12, 2), "al2-ami-sagemaker-inference-gpu-2", "535"),
    ((12, 4), "al2-ami-sagemaker-inference-gpu-3-1", "550"),
    ((13, 0), "al2023-ami-sagemaker-inference-gpu-4-1", "580"),
)
_FIRST_CUDA: Final = (12, 0)

#: Triton's own default of --sagemaker-thread-count (server/src/command_line_parser.cc), and where more gains nothing.
_THREADS: Final = 8
_MOST_THREADS: Final = 64
_MOST_COPIERS: Final = 4

_SIZE: Final = re.compile(r"(?P<times>\d*)xlarge")
_DEFAULT: Final = "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"
_THREAD_COUNT: Final = "SAGEMAKER_TRITON_THREAD_COUNT"
_COPIERS: Final = "SAGEMAKER_TRITON_BUFFER_MANAGER_THREAD_COUNT"


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """An image: its URI, and its row in the catalogue; None for SageMaker's TensorFlow Serving images."""

    uri: str
    image: Image | None


def choose_image(variant: Variant, region: str) -> ContainerImage:
    """Choose the image of a variant in a region.

    Of a release (``"24.09"``, ``"tensorflow-inference:2.19"``) it is the CPU image if the instances have no GPU.

    Raises:
        DefinitionError: no image is given, it is unknown, or AWS does not publish it in the region.
    """
    name = variant.image
    if name is None:
        raise DefinitionError(
            "the server image is missing. Give image='24.09' (--image 24.09), the last on SageMaker with a TensorFlow "
            "backend, or a newer one; or 'tensorflow-inference:2.19' for a TensorFlow Serving package"
        )
    if is_tfs_image_name(name):
        return ContainerImage(variant.image_uri or build_tfs_image_uri(name, region, cpu=_lacks_gpu(variant)), None)
    try:
        image = triton.find_image(name)
    except DefinitionError as error:
        if "/" not in name:
            raise
        raise DefinitionError(
            f"{error}; for an image of your own give the release that it is made from, and its URI: "
            f"image='24.09' (--image), image_uri={name!r} (--image-uri)"
        ) from error
    reference = name.partition("+")[0]
    if reference in triton.CATALOGUE and _lacks_gpu(variant):
        image = replace(image, cpu=True)
    if variant.image_uri is not None:
        return ContainerImage(variant.image_uri, image)
    if "/" in reference:
        return ContainerImage(reference, image)
    if image.added:
        raise DefinitionError(
            f"image {name!r}: AWS publishes none with {', '.join(sorted(image.added))}; build your own, and give its "
            "URI: image_uri=... (--image-uri)"
        )
    return ContainerImage(triton.build_image_uri(image, region), image)


def _lacks_gpu(variant: Variant) -> bool:
    if variant.serverless_config is not None:
        return True
    return variant.instance_type is not None and triton.find_gpu_family(variant.instance_type) is None


def choose_ami(variant: Variant, image: Image | None) -> tuple[str | None, str]:
    """Choose the machine image for a variant, None to leave it to SageMaker, and return why."""
    if variant.inference_ami_version is not None:
        return variant.inference_ami_version, "as given"
    if variant.instance_type is None or triton.find_gpu_family(variant.instance_type) is None:
        return None, "the instances have no NVIDIA GPU"
    if image is None:
        return None, "the CUDA of TensorFlow Serving's images is not stated, so it is left to SageMaker"
    if image.cpu:
        return None, "the image is for the CPU"
    if image.cuda is None:
        return None, f"the CUDA of Triton {image.release} is not stated, so it is left to SageMaker"
    cuda = tuple(int(part) for part in image.cuda.split(".")[:2])
    if cuda < _FIRST_CUDA:
        return None, f"CUDA {image.cuda} runs on every driver that SageMaker has"
    for newest, name, driver in _AMIS:
        if cuda <= newest:
            return name, f"the image has CUDA {image.cuda}, driver {driver} runs up to {_format_version(newest)}"
    newest, name, driver = _AMIS[-1]
    return name, (
        f"the image has CUDA {image.cuda}, which the newest driver that SageMaker has ({driver}, CUDA "
        f"{_format_version(newest)}) runs by CUDA's compatibility within a major version"
    )


def _format_version(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def count_vcpus(instance_type: str) -> int | None:
    """Return the vCPUs of an instance type by its size: large has 2, xlarge 4, Nxlarge 4 N; None for other sizes.

    Source: EC2's tables of instance types, with a few old exceptions (c4.8xlarge has 36).
    """
    size = instance_type.rpartition(".")[2]
    if size in ("medium", "large"):
        return 2
    match = _SIZE.fullmatch(size)
    return None if match is None else 4 * int(match["times"] or 1)


def build_environment(
    variant: Variant, content: Content | None, image: Image | None, *, multi_model: bool
) -> Mapping[str, str]:
    """Build the container's environment: what the repository and the instances require, then what the user gave.

    A TensorFlow Serving image gets only what the user gave.

    SAGEMAKER_TRITON_DEFAULT_MODEL_NAME is the repository's default model; a multi-model container has none.

    SAGEMAKER_TRITON_THREAD_COUNT: the front end's threads parse requests and write answers, while inference itself is
    asynchronous; so more threads than vCPUs gain nothing. Set if that is more than Triton's default of 8.

    SAGEMAKER_TRITON_BUFFER_MANAGER_THREAD_COUNT: threads that gather the requests of a batch into one pinned buffer in
    parallel (backend_input_collector.cc: from 2 on, and only where the copy is through pinned memory). Set if the
    instances have a GPU and a model of the repository collects batches.
    """
    if image is None:
        return dict(variant.environment)
    variables: dict[str, str] = {}
    if content is not None and content.default_model is not None and not multi_model:
        variables[_DEFAULT] = content.default_model
    cpus = None if variant.instance_type is None else count_vcpus(variant.instance_type)
    if cpus is not None and cpus > _THREADS:
        variables[_THREAD_COUNT] = str(min(cpus, _MOST_THREADS))
    if cpus is not None and content is not None and content.batches and not image.cpu and not _lacks_gpu(variant):
        variables[_COPIERS] = str(min(_MOST_COPIERS, max(2, cpus // 2)))
    return {**variables, **variant.environment}
