"""What each release of Triton's images holds. This module does no I/O.

Sources, named at each table: the release branches of triton-inference-server/server (``TRITON_VERSION``, ``build.py``
`enable_all`), NVIDIA's release notes, the release files of aws/deep-learning-containers (DLC).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["CATALOGUE", "FIELDS_BY_RELEASE", "VALUES_BY_RELEASE", "Image", "newest", "words"]


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
    user's own, made from it (`find` of ``26.05+tensorflow``).
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

    @property
    def tag(self) -> str:
        """The tag in the registry: ``24.09-py3``, or ``24.09-py3-cpu``. The GPU variant has no suffix of its own.

        An image with added backends has the tag of the one that it is made from.
        """
        return f"{self.release}-py3-cpu" if self.cpu else f"{self.release}-py3"

    @property
    def text(self) -> str:
        """What `find` finds this image by: the tag, and each added backend behind a plus sign."""
        return "+".join((self.tag, *sorted(self.added)))


#: Source: `enable_all` in server/build.py, the same list from r22.05 to r26.08 but for TensorFlow; r21.08's
#: ``*_BACKENDS`` hold these too. "ensemble" stands in that list and is no backend library.
_BACKENDS: Final = frozenset(
    {"dali", "fil", "identity", "onnxruntime", "openvino", "python", "pytorch", "repeat", "square", "tensorrt"}
)

#: The last release whose build.py names the TensorFlow backend; r25.03 has none (server PR 8068).
_LAST_TENSORFLOW: Final = "25.02"

#: Release, Triton, ONNX Runtime, DALI, CUDA of NVIDIA's release notes. "-" = not stated there.
#: Sources: TRITON_VERSION of each branch; dependency tables of build.py; release notes (CUDA).
_RELEASES: Final = """
21.08 2.13.0 - - -
22.05 2.22.0 - - -
22.07 2.24.0 - - -
22.08 2.25.0 - - -
22.09 2.26.0 - - -
22.10 2.27.0 - - -
22.12 2.29.0 - - -
23.01 2.30.0 - - -
23.02 2.31.0 - - -
23.03 2.32.0 - - -
23.05 2.34.0 - - -
23.06 2.35.0 - - -
23.07 2.36.0 - - -
23.08 2.37.0 - - 12.2.1
23.09 2.38.0 - - -
23.10 2.39.0 - - -
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
26.07 2.71.0 1.27.0 2.1.1 -
26.08 2.72.0 - 2.1.1 13.4.1
26.09 2.73.0 - 2.1.1 13.4.1
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

#: Every tag that AWS is known to have published. Sources: the DLC release files and the SDK's image table.
_AWS_TAGS: Final = words(
    "21.08 22.05 22.07 22.08 22.09 22.10 22.12 23.01 23.02 23.03 23.05 23.06 23.07 23.08 23.09 23.10 "
    "23.12 24.01 24.03 24.05 24.09 25.04 25.09 26.03 26.04 26.05"
)

#: Releases up to this one support compute capability 6.0, those from `_TURING` on 7.5; the notes leave 24.11 open.
_LAST_PASCAL: Final = "24.10"
_TURING: Final = "24.12"


def _image(line: str) -> Image:
    release, triton, onnxruntime, dali, cuda = (None if word == "-" else word for word in line.split())
    assert release is not None
    assert triton is not None
    python, aws_cuda = _AWS_BUILDS.get(release, (None, None))
    oldest = 6.0 if release <= _LAST_PASCAL else 7.5 if release >= _TURING else None
    return Image(
        release=release,
        triton=triton,
        backends=_BACKENDS | {"tensorflow"} if release <= _LAST_TENSORFLOW else _BACKENDS,
        dali=dali,
        onnxruntime=onnxruntime,
        python=python,
        cuda=aws_cuda or cuda,
        min_compute_capability=oldest,
        sagemaker=release in _AWS_TAGS,
    )


#: Every known release, oldest first, by its ``YY.MM``; each is the GPU variant.
CATALOGUE: Final[Mapping[str, Image]] = MappingProxyType(
    {image.release: image for image in map(_image, _RELEASES.strip().splitlines())}
)

#: The first release that knows a field of `ModelConfig`, by the field's path in the message; "*" stands for any path.
#: An older server refuses the whole file. Source: the history of common/protobuf/model_config.proto.
FIELDS_BY_RELEASE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "instance_group.host_policy": "21.06",
        "instance_group.passive": "21.06",
        "instance_group.secondary_devices": "21.06",
        "sequence_batching.control_input.control.bool_false_true": "21.09",
        "response_cache": "21.10",
        "sequence_batching.state": "21.11",
        "input.optional": "22.01",
        "sequence_batching.state.initial_state": "22.01",
        "model_warmup.count": "22.07",
        "ensemble_scheduling.step.model_namespace": "23.03",
        "sequence_batching.oldest.preserve_ordering": "23.08",
        "sequence_batching.state.use_growable_memory": "23.11",
        "sequence_batching.state.use_same_buffer_for_input_output": "23.11",
        "sequence_batching.iterative_sequence": "23.11",
        "runtime": "24.01",
        "input.is_non_linear_format_io": "24.08",
        "output.is_non_linear_format_io": "24.08",
        "model_metrics": "24.11",
        "ensemble_scheduling.max_inflight_requests": "25.11",
    }
)

#: The first release that knows the name of an enum's value. Source: as above.
VALUES_BY_RELEASE: Final[Mapping[str, str]] = MappingProxyType(
    {"BATCH_ITEM_SHAPE": "22.03", "BATCH_ITEM_SHAPE_FLATTEN": "22.03", "TYPE_BF16": "22.05"}
)


def newest() -> str:
    """The newest release that AWS publishes for SageMaker."""
    return max(_AWS_TAGS)
