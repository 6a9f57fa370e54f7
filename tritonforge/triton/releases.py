"""What each release of Triton's images holds. This module does no I/O.

Sources, named at each table: the release branches of triton-inference-server/server (``TRITON_VERSION``, ``build.py``
`enable_all`), NVIDIA's release notes, the release files of aws/deep-learning-containers (DLC).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from tritonforge.triton.changes import LLM_IMAGES, PASCAL, TENSORFLOW, TENSORFLOW_IMAGE, TURING, Change

__all__ = ["CATALOGUE", "PROVISIONAL", "VARIANTS", "Image", "Variant", "newest", "variant_of", "words"]


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class Image:
    """One Triton image.

    ``release`` is NVIDIA's ``YY.MM`` and ``triton`` the server's version. ``backends`` are the names that
    ``backend:`` may have. ``dali``, ``onnxruntime``, ``python`` and ``cuda`` are versions: of python and cuda AWS's
    (DLC) where it states them, else NVIDIA's. ``min_compute_capability`` is the oldest GPU architecture that the
    release notes support (7.5 = Turing). ``sagemaker`` says whether AWS publishes the release, ``cpu`` whether this is
    AWS's CPU variant of it. ``added`` are those of the backends that the release has not: the image is one of the
    user's own, made from it (`find` of ``26.05+tensorflow``). ``variant`` is the part of the tag between the release
    and ``-py3`` (a key of `VARIANTS`), empty for the image with all backends. ``provisional`` says that no release
    branch of it was read, so that its server is taken to behave as the release before.
    """

    release: str
    triton: str
    backends: frozenset[str]
    dali: str | None = None
    onnxruntime: str | None = None
    python: str | None = None
    cuda: str | None = None
    min_compute_capability: float | None = None
    sagemaker: bool = False
    cpu: bool = False
    added: frozenset[str] = frozenset()
    variant: str = ""
    provisional: bool = False

    @property
    def tag(self) -> str:
        """The tag in the registry: ``24.09-py3``, ``24.09-py3-cpu`` or ``24.09-vllm-python-py3``.

        The GPU image has no suffix of its own. An image with added backends has the tag of the one it is made from.
        """
        variant = f"-{self.variant}" if self.variant else ""
        return f"{self.release}{variant}-py3{'-cpu' if self.cpu else ''}"

    @property
    def text(self) -> str:
        """What `find` finds this image by: the tag, and each added backend behind a plus sign."""
        return "+".join((self.tag, *sorted(self.added)))


#: Source: `enable_all` in server/build.py, the same list from r22.05 to r26.08 but for TensorFlow; r21.08's
#: ``*_BACKENDS`` hold these too. "ensemble" stands in that list and is no backend library.
_BACKENDS: Final = frozenset(
    {"dali", "fil", "identity", "onnxruntime", "openvino", "python", "pytorch", "repeat", "square", "tensorrt"}
)


@dataclass(frozen=True, slots=True)
class Variant:
    """An image that NVIDIA publishes beside the one with all backends: its backends, and in which releases."""

    backends: frozenset[str]
    published: Change


#: NVIDIA's images with few backends, by the part of the tag between the release and ``-py3``. Source: the release notes
#: ("support for vLLM and Python backends only", and so on); server README.md (r21.08) for PyTorch.
VARIANTS: Final[Mapping[str, Variant]] = MappingProxyType(
    {
        "vllm-python": Variant(words("python vllm"), LLM_IMAGES),
        "trtllm-python": Variant(words("python tensorrtllm"), LLM_IMAGES),
        "pyt-python": Variant(words("python pytorch"), Change(text="", source="")),
        "tf2-python": Variant(words("python tensorflow"), TENSORFLOW_IMAGE),
    }
)

#: Release, Triton, ONNX Runtime, DALI, CUDA of NVIDIA's release notes. "-" = not stated there.
#: Sources: TRITON_VERSION and build.py's version map of each branch up to r26.08; dali_backend DALI_VERSION up to
#: r26.06 (r22.06 and r23.03 state none of their own), its PR 302 of July 2026 for 26.07; release notes (CUDA; all of
#: 26.09 and 26.10). The DALI of 26.08 and later is stated nowhere that was read.
_RELEASES: Final = """
21.08 2.13.0 1.8.1 - -
22.05 2.22.0 1.11.1 - -
22.06 2.23.0 1.11.1 - -
22.07 2.24.0 1.12.0 1.14 -
22.08 2.25.0 1.12.0 1.16 -
22.09 2.26.0 1.12.1 1.17 -
22.10 2.27.0 1.13.1 1.16 -
22.11 2.28.0 1.13.1 1.18 -
22.12 2.29.0 1.13.1 1.19 -
23.01 2.30.0 1.13.1 1.21 -
23.02 2.31.0 1.13.1 1.22 -
23.03 2.32.0 1.14.1 - -
23.04 2.33.0 1.14.1 1.24 -
23.05 2.34.0 1.15.0 1.25 -
23.06 2.35.0 1.15.0 1.26 -
23.07 2.36.0 1.15.1 1.26 -
23.08 2.37.0 1.15.1 1.26 12.2.1
23.09 2.38.0 1.16.0 1.26 -
23.10 2.39.0 1.16.0 1.30 -
23.11 2.40.0 1.16.3 1.31 -
23.12 2.41.0 1.16.3 1.31 -
24.01 2.42.0 1.16.3 1.31 -
24.02 2.43.0 1.16.3 1.31 -
24.03 2.44.0 1.17.2 1.31 12.4
24.04 2.45.0 1.17.3 1.36 12.4
24.05 2.46.0 1.18.0 1.36 -
24.06 2.47.0 1.18.0 1.37.1 12.5.0.23
24.07 2.48.0 1.18.1 1.38 12.5.1
24.08 2.49.0 1.19.0 1.39 -
24.09 2.50.0 1.19.2 1.39 -
24.10 2.51.0 1.19.2 1.42 12.6.2
24.11 2.52.0 1.19.2 1.42 -
24.12 2.53.0 1.20.1 1.44 -
25.01 2.54.0 1.20.1 1.45 -
25.02 2.55.0 1.20.1 1.44 -
25.03 2.56.0 1.21.0 1.44 12.8.1.012
25.04 2.57.0 1.21.0 1.47 -
25.05 2.58.0 1.22.0 1.49 -
25.06 2.59.0 1.22.0 1.49 12.9.1.010
25.07 2.59.1 1.22.0 1.49 12.9.1.010
25.08 2.60.0 1.23.0 1.51.2 -
25.09 2.61.0 1.23.0 1.51.2 -
25.10 2.62.0 1.23.1 1.51.2 -
25.11 2.63.0 1.23.2 1.51.2 -
25.12 2.64.0 1.23.2 1.51.2 -
26.01 2.65.0 1.23.2 1.51.2 -
26.02 2.66.0 1.24.1 1.53 13.1.1
26.03 2.67.0 1.24.2 2.0.0 -
26.04 2.68.0 1.24.4 2.0.0 13.2.1
26.05 2.69.0 1.24.4 2.1.0 13.2.1
26.06 2.70.0 1.24.4 2.1.1 13.3.0
26.07 2.71.0 1.27.0 2.2 13.3.1
26.08 2.72.0 1.28.0 - 13.4.1
26.09 2.73.0 - - 13.4.1
26.10 2.74.0 - - 13.4.3.001
"""

#: Python and CUDA of the images that AWS built. Source: DLC ``docs/src/data/sagemaker-tritonserver/*.yml``.
_AWS_BUILDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "24.09": ("3.10", "12.4"),
        "25.04": ("3.12", "12.9"),
        "25.09": ("3.12", "13.0"),
        "26.03": ("3.12", "13.0"),
        "26.04": ("3.12", "13.0"),
        "26.05": ("3.12", "13.2"),
    }
)

#: Every tag that AWS is known to have published. Sources: the DLC release files (25.12: DLC PR 6683), the SDK's table.
_AWS_TAGS: Final = words(
    "21.08 22.05 22.07 22.08 22.09 22.10 22.12 23.01 23.02 23.03 23.05 23.06 23.07 23.08 23.09 23.10 "
    "23.12 24.01 24.03 24.05 24.09 25.04 25.09 25.12 26.03 26.04 26.05"
)

#: Releases of which no branch was read: their servers are taken to behave as the release before.
PROVISIONAL: Final = words("26.09 26.10")


def _image(line: str) -> Image:
    release, triton, onnxruntime, dali, cuda = (None if word == "-" else word for word in line.split())
    assert release is not None
    assert triton is not None
    python, aws_cuda = _AWS_BUILDS.get(release, (None, None))
    oldest = 6.0 if PASCAL.applies_to(release) else 7.5 if TURING.applies_to(release) else None
    return Image(
        release=release,
        triton=triton,
        backends=_BACKENDS | {"tensorflow"} if TENSORFLOW.applies_to(release) else _BACKENDS,
        dali=dali,
        onnxruntime=onnxruntime,
        python=python,
        cuda=aws_cuda or cuda,
        min_compute_capability=oldest,
        sagemaker=release in _AWS_TAGS,
        provisional=release in PROVISIONAL,
    )


#: Every known release, oldest first, by its ``YY.MM``; each is the GPU variant.
CATALOGUE: Final[Mapping[str, Image]] = MappingProxyType(
    {image.release: image for image in map(_image, _RELEASES.strip().splitlines())}
)


def variant_of(image: Image, variant: str) -> Image | None:
    """NVIDIA's image of the same release with few backends; None where the release has none."""
    found = VARIANTS[variant]
    if not found.published.applies_to(image.release):
        return None
    return replace(image, backends=found.backends, variant=variant, sagemaker=False, dali=None, onnxruntime=None)


def newest() -> str:
    """The newest release that AWS publishes for SageMaker."""
    return max(_AWS_TAGS)
