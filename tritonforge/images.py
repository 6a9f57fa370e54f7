"""The Triton images: what each release holds, which of them AWS publishes for SageMaker, and under which URI.

A figure that no source states is None, and nothing is judged by it. Sources, named at each table: the release branches
of triton-inference-server/server (``TRITON_VERSION``, ``build.py`` `enable_all`), NVIDIA's release notes, the release
files of aws/deep-learning-containers (DLC) and the image table of the SageMaker SDK
(``image_uri_config/sagemaker-tritonserver.json`` of sagemaker-core 2.27.0). This module does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from tritonforge.errors import DefinitionError

__all__ = [
    "CATALOGUE",
    "FIELDS_BY_RELEASE",
    "VALUES_BY_RELEASE",
    "Image",
    "account",
    "find",
    "gpu_family",
    "instance_family",
    "regions",
    "too_old_gpu",
    "uri",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class Image:
    """One Triton image.

    ``release`` is NVIDIA's ``YY.MM`` and ``triton`` the server's version. ``backends`` are the names that
    ``backend:`` may have. ``dali``, ``onnxruntime``, ``python`` and ``cuda`` are versions: of python and cuda AWS's
    (DLC) where it states them, else NVIDIA's. ``min_compute_capability`` is the oldest GPU architecture that the
    release notes support (7.5 = Turing). ``sagemaker`` says whether AWS publishes the release, ``cpu`` whether this is
    AWS's CPU variant of it.
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

    @property
    def tag(self) -> str:
        """The tag in the registry: ``24.09-py3``, or ``24.09-py3-cpu``. The GPU variant has no suffix of its own."""
        return f"{self.release}-py3-cpu" if self.cpu else f"{self.release}-py3"


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
_AWS_TAGS: Final = _words(
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

#: The AWS account that holds the images of 23.12 and later, by region. Source: the SDK's image table.
_ACCOUNTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(
            _words(
                "us-east-1 us-east-2 us-west-1 us-west-2 ca-central-1 eu-central-1 eu-north-1 eu-west-1 eu-west-2 "
                "eu-west-3 sa-east-1 ap-northeast-1 ap-northeast-2 ap-south-1 ap-southeast-1 ap-southeast-2"
            ),
            "763104351884",
        ),
        "af-south-1": "626614931356",
        "ap-east-1": "871362719292",
        "ap-east-2": "975050140332",
        "ap-northeast-3": "364406365360",
        "ap-south-2": "772153158452",
        "ap-southeast-3": "907027046896",
        "ap-southeast-4": "457447274322",
        "ap-southeast-5": "550225433462",
        "ap-southeast-6": "633930458069",
        "ap-southeast-7": "590183813437",
        "ca-west-1": "204538143572",
        "cn-north-1": "727897471807",
        "cn-northwest-1": "727897471807",
        "eu-central-2": "380420809688",
        "eu-south-1": "692866216735",
        "eu-south-2": "503227376785",
        "il-central-1": "780543022126",
        "me-central-1": "914824155844",
        "me-south-1": "217643126080",
        "mx-central-1": "637423239942",
    }
)

#: The account that holds the images before 23.12, by region. Source: notebooks of aws/amazon-sagemaker-examples.
_OLD_ACCOUNTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "af-south-1": "774647643957",
        "ap-east-1": "110948597952",
        "ap-northeast-1": "941853720454",
        "ap-northeast-2": "151534178276",
        "ap-south-1": "763008648453",
        "ap-southeast-1": "324986816169",
        "ap-southeast-2": "355873309152",
        "ca-central-1": "464438896020",
        "cn-north-1": "472730292857",
        "cn-northwest-1": "474822919863",
        "eu-central-1": "746233611703",
        "eu-north-1": "601324751636",
        "eu-south-1": "966458181534",
        "eu-west-1": "802834080501",
        "eu-west-2": "205493899709",
        "eu-west-3": "254080097072",
        "me-south-1": "836785723513",
        "sa-east-1": "756306329178",
        "us-east-1": "785573368785",
        "us-east-2": "007439368137",
        "us-west-1": "710691900526",
        "us-west-2": "301217895009",
    }
)
_FIRST_SHARED_ACCOUNT: Final = "23.12"

_CHINA: Final = frozenset({"cn-north-1", "cn-northwest-1"})
_NOT_BEFORE_2504: Final = _words(
    "ap-east-2 ap-south-2 ap-southeast-4 ap-southeast-5 ap-southeast-7 eu-central-2 eu-south-2 me-central-1 "
    "mx-central-1"
)

#: Regions in which the SDK's image table does not list a release, though the region has an account. The releases that
#: AWS published and the table leaves out (26.03, 26.04) are not judged by region.
_ABSENT: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        **dict.fromkeys(("23.12", "24.01", "24.03", "24.05", "24.09"), _NOT_BEFORE_2504 | {"ap-southeast-6"}),
        "25.04": frozenset({"ap-southeast-6"}),
        "25.09": _CHINA,
        "26.05": _CHINA,
    }
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

#: Families of SageMaker instances with NVIDIA GPUs. Source: `ProductionVariantInstanceType` of botocore 1.44.5.
_GPU_FAMILIES: Final = _words("p2 p3 p4d p4de p5 p5e p5en p6-b200 p6-b300 p6e-gb200 g4dn g5 g6 g6e g7 g7e")

#: GPU families that releases which need compute capability 7.5 no longer support (NVIDIA's notes from 25.03 on name
#: V100 = P3; P2 is older).
_BEFORE_TURING: Final = frozenset({"p2", "p3"})

_TAG: Final = re.compile(r"(?P<release>\d\d\.\d\d)(?:-py3(?P<cpu>-cpu)?)?")
_ECR: Final = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")


def find(tag_or_uri: str) -> Image:
    """The image that a release (``24.09``), a tag (``24.09-py3-cpu``) or a whole image URI names.

    The registry and the repository of a URI may be anyone's, as copies of AWS's and NVIDIA's images are; only an
    account of AWS's own that never held the release in that region is refused.

    Raises:
        DefinitionError: no such release is known, the tag is of another kind of image, or the account is wrong.
    """
    name = tag_or_uri.partition("@")[0]
    registry, _, repository = name.rpartition("/")
    _, colon, tag = repository.rpartition(":")
    if registry and not colon:
        raise DefinitionError(f"image {tag_or_uri!r} has no tag; name one, for example {repository}:{_newest()}-py3")
    match = _TAG.fullmatch(tag)
    if match is None or match["release"] not in CATALOGUE:
        raise DefinitionError(
            f"no Triton image {tag_or_uri!r} is known; known are <release>-py3 and, on AWS, <release>-py3-cpu of "
            f"{', '.join(CATALOGUE)}"
        )
    image = CATALOGUE[match["release"]]
    ecr = _ECR.match(registry)
    if ecr is not None:
        _check_account(image, tag_or_uri, account=ecr["account"], region=ecr["region"])
    return replace(image, cpu=True) if match["cpu"] else image


def _newest() -> str:
    return max(_AWS_TAGS)


def _check_account(image: Image, name: str, *, account: str, region: str) -> None:
    shared, before = _ACCOUNTS.get(region), _OLD_ACCOUNTS.get(region)
    right, wrong = (shared, before) if image.release >= _FIRST_SHARED_ACCOUNT else (before, shared)
    if account == wrong and right is not None:
        raise DefinitionError(f"image {name!r}: AWS keeps {image.release} of {region} in account {right}")


def regions(image: Image) -> tuple[str, ...]:
    """The regions in which AWS publishes the image, sorted; none for an image that AWS does not publish."""
    if not image.sagemaker:
        return ()
    if image.release < _FIRST_SHARED_ACCOUNT:
        return tuple(sorted(_OLD_ACCOUNTS))
    return tuple(sorted(_ACCOUNTS.keys() - _ABSENT.get(image.release, frozenset())))


def account(image: Image, region: str) -> str:
    """The twelve digits of the AWS account that holds the image in a region; raises DefinitionError as `uri` does."""
    if not image.sagemaker:
        known = [release for release in CATALOGUE if release in _AWS_TAGS]
        near = max((release for release in known if release <= image.release), default=known[0])
        raise DefinitionError(
            f"AWS publishes no Triton {image.release} for SageMaker; the nearest before it is {near}, "
            f"the newest {_newest()}"
        )
    if region not in regions(image):
        raise DefinitionError(
            f"AWS publishes Triton {image.release} not in {region!r}, but in {', '.join(regions(image))}"
        )
    return (_OLD_ACCOUNTS if image.release < _FIRST_SHARED_ACCOUNT else _ACCOUNTS)[region]


def uri(image: Image, region: str, *, cpu: bool | None = None) -> str:
    """The image's address in AWS's registry of a region, as `CreateModel` takes it; ``cpu`` overrides ``image.cpu``.

    Raises:
        DefinitionError: AWS does not publish the release, or not in this region.
    """
    chosen = image if cpu is None else replace(image, cpu=cpu)
    domain = "amazonaws.com.cn" if region in _CHINA else "amazonaws.com"
    return f"{account(image, region)}.dkr.ecr.{region}.{domain}/sagemaker-tritonserver:{chosen.tag}"


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
