"""The releases of Triton's images, one row each, and the image that a release, a tag or an address names. No I/O.

Sources: the release branches of triton-inference-server/server (``TRITON_VERSION``, ``build.py`` `enable_all`),
NVIDIA's release notes, the release files of aws/deep-learning-containers (DLC).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from tritonforge.errors import DefinitionError
from tritonforge.triton.backends import list_image_backends
from tritonforge.triton.changes import (
    LLM_IMAGES,
    PASCAL,
    PYTHON_3_10,
    PYTHON_3_12,
    TENSORFLOW_IMAGE,
    TURING,
    Change,
)

__all__ = ["CATALOGUE", "VARIANTS", "Image", "Variant", "find_gpu_family", "find_newest_release", "find_variant",
           "has_unsupported_gpu", "parse_instance_family", "parse_tag"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Image:
    """One Triton image.

    ``release`` is NVIDIA's ``YY.MM`` and ``triton`` the server's version. ``backends`` are the names that
    ``backend:`` may have. ``dali``, ``onnxruntime``, ``python``, ``cuda``, ``openvino`` and ``treelite`` are versions:
    of python and cuda AWS's (DLC) where it states them, else NVIDIA's. ``tensorrt`` is a major version (``10``), or the
    oldest that it can be (``10+``). ``min_compute_capability`` is the oldest GPU architecture that the
    release notes support (7.5 = Turing). ``sagemaker_regions`` names the regions where AWS publishes the release (a
    key of `tritonforge.triton.registries.REGIONS`), "" where it does not; ``cpu`` is True for AWS's CPU variant.
    ``added`` are backends that the release does not have: the image is one of the user's own, made from it
    (``26.05+tensorflow``). ``variant`` is the part of the tag between the release and ``-py3`` (a key of `VARIANTS`),
    "" for the image with all backends. ``provisional`` is True where no release branch was read, so that its server
    is assumed to behave as the release before.
    """

    release: str
    triton: str
    backends: frozenset[str]
    dali: str | None = None
    onnxruntime: str | None = None
    python: str | None = None
    cuda: str | None = None
    openvino: str | None = None
    treelite: str | None = None
    tensorrt: str | None = None
    min_compute_capability: float | None = None
    sagemaker_regions: str = ""
    cpu: bool = False
    added: frozenset[str] = frozenset()
    variant: str = ""
    provisional: bool = False

    @property
    def sagemaker(self) -> bool:
        """True if AWS publishes the release for SageMaker."""
        return bool(self.sagemaker_regions)

    @property
    def tag(self) -> str:
        """The tag in the registry: ``24.09-py3``, ``24.09-py3-cpu`` or ``24.09-vllm-python-py3``.

        The GPU image has no suffix of its own. An image with added backends has the tag of the one it is made from.
        """
        variant = f"-{self.variant}" if self.variant else ""
        return f"{self.release}{variant}-py3{'-cpu' if self.cpu else ''}"

    @property
    def text(self) -> str:
        """The text that `find_image` finds this image by: the tag, and each added backend after a plus sign."""
        return "+".join((self.tag, *sorted(self.added)))


@dataclass(frozen=True, slots=True)
class Variant:
    """An image that NVIDIA publishes beside the one with all backends: its backends, and in which releases."""

    backends: frozenset[str]
    published: Change


#: NVIDIA's images with few backends, by the part of the tag between the release and ``-py3``. Source: the release notes
#: ("support for vLLM and Python backends only", and so on); server README.md (r21.08) for PyTorch.
VARIANTS: Final[Mapping[str, Variant]] = MappingProxyType(
    {
        "vllm-python": Variant(frozenset({"python", "vllm"}), LLM_IMAGES),
        "trtllm-python": Variant(frozenset({"python", "tensorrtllm"}), LLM_IMAGES),
        "pyt-python": Variant(frozenset({"python", "pytorch"}), Change(text="", source="")),
        "tf2-python": Variant(frozenset({"python", "tensorflow"}), TENSORFLOW_IMAGE),
    }
)

#: Columns: release, Triton, ONNX Runtime, DALI, CUDA, Python, OpenVINO, treelite, TensorRT's major version (``10+``: 10
#: or later), the regions where AWS publishes it for SageMaker (a key of `tritonforge.triton.registries.REGIONS`), and
#: whether its release branch was read; "-" where no source states it.
#: Sources: TRITON_VERSION and build.py's version map of each branch up to r26.08 (also OpenVINO, from 23.12 on);
#: dali_backend DALI_VERSION up to r26.06 (r22.06 and r23.03 state none of their own), its PR 302 of July 2026 for
#: 26.07; fil_backend CMakeLists.txt `find_and_configure_treelite` up to r26.06; release notes (CUDA; all of 26.09 to
#: 26.11). TensorRT: server Dockerfile.win10.min (8.6.1 at r23.12, 10.0.1 at r24.06), tensorrt_backend PR 88 (r24.05:
#: "Adding support for TensorRT 10 APIs in the backend. Keep TRT 8 support as well"), server issue 7613 (24.01 reads
#: plans of 8.6); TensorRT 11 is of 2026 (its releases on PyPI). Where AWS built the image, CUDA and Python are those of
#: DLC ``docs/src/data/sagemaker-tritonserver/*.yml``. AWS's tags: the DLC release files (25.12: DLC PR 6683) and the
#: image table of the SageMaker SDK.
_RELEASES: Final = """
21.08 2.13.0 1.8.1  -      -          -    -        -     -   all               read
22.05 2.22.0 1.11.1 -      -          -    -        -     -   all               read
22.06 2.23.0 1.11.1 -      -          -    -        -     -   -                 read
22.07 2.24.0 1.12.0 1.14   -          -    -        -     -   all               read
22.08 2.25.0 1.12.0 1.16   -          -    -        -     -   all               read
22.09 2.26.0 1.12.1 1.17   -          -    -        -     -   all               read
22.10 2.27.0 1.13.1 1.16   -          -    -        -     -   all               read
22.11 2.28.0 1.13.1 1.18   -          -    -        -     -   -                 read
22.12 2.29.0 1.13.1 1.19   -          -    -        -     -   all               read
23.01 2.30.0 1.13.1 1.21   -          -    -        -     -   all               read
23.02 2.31.0 1.13.1 1.22   -          -    -        -     -   all               read
23.03 2.32.0 1.14.1 -      -          -    -        -     -   all               read
23.04 2.33.0 1.14.1 1.24   -          -    -        -     -   -                 read
23.05 2.34.0 1.15.0 1.25   -          -    -        -     -   all               read
23.06 2.35.0 1.15.0 1.26   -          -    -        -     -   all               read
23.07 2.36.0 1.15.1 1.26   -          -    -        -     -   all               read
23.08 2.37.0 1.15.1 1.26   12.2.1     -    -        -     -   all               read
23.09 2.38.0 1.16.0 1.26   -          -    -        -     -   all               read
23.10 2.39.0 1.16.0 1.30   -          -    -        -     -   all               read
23.11 2.40.0 1.16.3 1.31   -          -    -        -     -   -                 read
23.12 2.41.0 1.16.3 1.31   -          -    2023.0.0 3.9.1 8   no-new-regions    read
24.01 2.42.0 1.16.3 1.31   -          -    2023.0.0 3.9.1 8   no-new-regions    read
24.02 2.43.0 1.16.3 1.31   -          -    2023.3.0 3.9.1 8   -                 read
24.03 2.44.0 1.17.2 1.31   12.4       -    2023.3.0 4.0.0 8   no-new-regions    read
24.04 2.45.0 1.17.3 1.36   12.4       -    2023.3.0 4.0.0 8   -                 read
24.05 2.46.0 1.18.0 1.36   -          -    2023.3.0 4.1.2 8+  no-new-regions    read
24.06 2.47.0 1.18.0 1.37.1 12.5.0.23  -    2024.0.0 4.1.2 10  -                 read
24.07 2.48.0 1.18.1 1.38   12.5.1     -    2024.0.0 4.1.2 10  -                 read
24.08 2.49.0 1.19.0 1.39   -          -    2024.0.0 4.1.2 10  -                 read
24.09 2.50.0 1.19.2 1.39   12.4       3.10 2024.0.0 4.3.0 10  no-new-regions    read
24.10 2.51.0 1.19.2 1.42   12.6.2     -    2024.4.0 4.3.0 10  -                 read
24.11 2.52.0 1.19.2 1.42   -          -    2024.4.0 4.4.0 10  -                 read
24.12 2.53.0 1.20.1 1.44   -          -    2024.5.0 4.4.0 10  -                 read
25.01 2.54.0 1.20.1 1.45   -          -    2024.5.0 4.4.1 10  -                 read
25.02 2.55.0 1.20.1 1.44   -          -    2025.0.0 4.4.1 10  -                 read
25.03 2.56.0 1.21.0 1.44   12.8.1.012 -    2025.0.0 4.4.1 10  -                 read
25.04 2.57.0 1.21.0 1.47   12.9       3.12 2025.0.0 4.4.1 10  no-ap-southeast-6 read
25.05 2.58.0 1.22.0 1.49   -          -    2025.1.0 4.4.1 10  -                 read
25.06 2.59.0 1.22.0 1.49   12.9.1.010 -    2025.1.0 4.4.1 10  -                 read
25.07 2.59.1 1.22.0 1.49   12.9.1.010 -    2025.1.0 4.4.1 10  -                 read
25.08 2.60.0 1.23.0 1.51.2 -          -    2025.2.0 4.4.1 10  -                 read
25.09 2.61.0 1.23.0 1.51.2 13.0       3.12 2025.3.0 4.4.1 10  no-china          read
25.10 2.62.0 1.23.1 1.51.2 -          -    2025.3.0 4.4.1 10  -                 read
25.11 2.63.0 1.23.2 1.51.2 -          -    2025.3.0 4.4.1 10  -                 read
25.12 2.64.0 1.23.2 1.51.2 -          -    2025.4.0 4.4.1 10  all               read
26.01 2.65.0 1.23.2 1.51.2 -          -    2025.4.1 4.6.1 10+ -                 read
26.02 2.66.0 1.24.1 1.53   13.1.1     -    2025.4.1 4.6.1 10+ -                 read
26.03 2.67.0 1.24.2 2.0.0  13.0       3.12 2026.0.0 4.6.1 10+ all               read
26.04 2.68.0 1.24.4 2.0.0  13.0       3.12 2026.1.0 4.6.1 10+ all               read
26.05 2.69.0 1.24.4 2.1.0  13.2       3.12 2026.1.0 4.6.1 10+ no-china          read
26.06 2.70.0 1.24.4 2.1.1  13.3.0     -    2026.2.0 4.7.0 10+ -                 read
26.07 2.71.0 1.27.0 2.2    13.3.1     -    2026.2.0 -     10+ -                 read
26.08 2.72.0 1.28.0 -      13.4.1     -    2026.3.0 -     -   -                 read
26.09 2.73.0 -      -      13.4.1     -    -        -     -   -                 provisional
26.10 2.74.0 -      -      13.4.3.001 -    -        -     -   -                 provisional
26.11 2.75.0 -      -      -          -    -        -     -   -                 provisional
"""


def _read_row(row: str) -> Image:
    release, triton, *versions, regions, branch = row.split()
    onnxruntime, dali, cuda, python, openvino, treelite, tensorrt = (
        None if version == "-" else version for version in versions
    )
    if python is None:
        python = "3.10" if PYTHON_3_10.applies_to(release) else "3.12" if PYTHON_3_12.applies_to(release) else None
    oldest = 6.0 if PASCAL.applies_to(release) else 7.5 if TURING.applies_to(release) else None
    return Image(
        release=release,
        triton=triton,
        backends=list_image_backends(release),
        dali=dali,
        onnxruntime=onnxruntime,
        python=python,
        cuda=cuda,
        openvino=openvino,
        treelite=treelite,
        tensorrt=tensorrt,
        min_compute_capability=oldest,
        sagemaker_regions="" if regions == "-" else regions,
        provisional=branch == "provisional",
    )


#: Every known release, oldest first, by its ``YY.MM``; each is the GPU variant.
CATALOGUE: Final[Mapping[str, Image]] = MappingProxyType(
    {image.release: image for image in map(_read_row, _RELEASES.strip().splitlines())}
)

_TAG: Final = re.compile(rf"(?P<release>\d\d\.\d\d)(?:-(?P<variant>{'|'.join(VARIANTS)})-py3|-py3(?P<cpu>-cpu)?)?")
#: NVIDIA's images without a server, by the end of their tags, and what they hold.
_WITHOUT_SERVER: Final = {
    "-py3-sdk": "client libraries and tools",
    "-py3-min": "the base that a server is composed on",
}


def find_newest_release() -> str:
    """Return the newest release that AWS publishes for SageMaker."""
    return max(release for release, image in CATALOGUE.items() if image.sagemaker)


def find_variant(image: Image, variant: str) -> Image | None:
    """Return NVIDIA's image of the same release with few backends, None where the release has none."""
    row = VARIANTS[variant]
    if not row.published.applies_to(image.release):
        return None
    # trtllm-python moved to Python 3.12 a release later than the others (docs/introduction/compatibility.md).
    python = "3.10" if variant == "trtllm-python" and image.release == "24.11" else image.python
    return replace(
        image, backends=row.backends, variant=variant, sagemaker_regions="", dali=None, onnxruntime=None, openvino=None,
        treelite=None, tensorrt=None, python=python,
    )  # fmt: skip


def parse_tag(tag: str, reference: str) -> Image:
    """Return the image of a release or a tag; errors quote ``reference``, the text that the user gave.

    Raises:
        DefinitionError: the tag is not one of a known Triton server image.
    """
    for ending, content in _WITHOUT_SERVER.items():
        if tag.endswith(ending):
            raise DefinitionError(f"no Triton image {reference!r}: it holds {content}, but no server")
    match = _TAG.fullmatch(tag)
    if match is None or match["release"] not in CATALOGUE:
        raise DefinitionError(
            f"no Triton image {reference!r} is known; known are <release>-py3, <release>-vllm-python-py3, "
            "<release>-trtllm-python-py3, <release>-pyt-python-py3, <release>-tf2-python-py3 and, on AWS, "
            f"<release>-py3-cpu of {', '.join(CATALOGUE)}"
        )
    image = CATALOGUE[match["release"]]
    if match["variant"]:
        variant = find_variant(image, match["variant"])
        if variant is None:
            published = VARIANTS[match["variant"]].published
            since = f"from {published.first} on" if published.first else f"up to {published.last}"
            raise DefinitionError(
                f"no Triton image {reference!r}: NVIDIA publishes <release>-{match['variant']}-py3 {since}"
            )
        return variant
    return replace(image, cpu=True) if match["cpu"] else image


#: Families of SageMaker instances with NVIDIA GPUs. Source: `ProductionVariantInstanceType` of botocore 1.44.5.
_GPU_FAMILIES: Final = frozenset(
    {
        "p2", "p3", "p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300", "p6e-gb200", "g4dn", "g5", "g6", "g6e",
        "g7", "g7e",
    }
)  # fmt: skip

#: GPU families that releases which need compute capability 7.5 no longer support (NVIDIA's notes from 25.03 on name
#: V100 = P3; P2 is older).
_BEFORE_TURING: Final = frozenset({"p2", "p3"})


def parse_instance_family(instance_type: str) -> str:
    """Return the family of a SageMaker instance type.

    >>> parse_instance_family("ml.g5.xlarge")
    'g5'

    Raises:
        DefinitionError: the text does not name an instance type.
    """
    parts = instance_type.split(".")
    if len(parts) != 3 or parts[0] != "ml" or not all(parts):
        raise DefinitionError(f"instance type {instance_type!r} is not of the form ml.<family>.<size>")
    return parts[1]


def find_gpu_family(instance_type: str) -> str | None:
    """Return the family of an instance type with NVIDIA GPUs, None for one without.

    Raises:
        DefinitionError: the text does not name an instance type.
    """
    family = parse_instance_family(instance_type)
    return family if family in _GPU_FAMILIES else None


def has_unsupported_gpu(image: Image, instance_type: str) -> bool:
    """Return True if the release notes of the image no longer list the GPUs of an instance type."""
    family, oldest = find_gpu_family(instance_type), image.min_compute_capability
    return oldest is not None and oldest >= 7.5 and family in _BEFORE_TURING
