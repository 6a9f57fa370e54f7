"""AWS's registries: which account holds an image in a region, image addresses, and the image that a text names. No I/O.

Source of the accounts: the image table of the SageMaker SDK (``image_uri_config/sagemaker-tritonserver.json`` of
sagemaker-core 2.27.0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from tritonforge.errors import DefinitionError
from tritonforge.triton.releases import CATALOGUE, Image, find_newest_release, parse_tag
from tritonforge.triton.tfs_layout import is_tfs_image

__all__ = [
    "build_image_uri",
    "build_tfs_image_uri",
    "find_account",
    "find_image",
    "is_published",
    "is_tfs_image_name",
    "list_regions",
]  # fmt: skip

_SHARED_ACCOUNT_REGIONS: Final = (
    "us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1",
    "eu-west-2", "eu-west-3", "sa-east-1", "ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1",
    "ap-southeast-2",
)  # fmt: skip
#: The AWS account that holds the images of 23.12 and later, by region. Source: the SDK's image table.
_ACCOUNTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(_SHARED_ACCOUNT_REGIONS, "763104351884"),
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
_NOT_BEFORE_2504: Final = frozenset(
    {
        "ap-east-2", "ap-south-2", "ap-southeast-4", "ap-southeast-5", "ap-southeast-7", "eu-central-2", "eu-south-2",
        "me-central-1", "mx-central-1",
    }
)  # fmt: skip

#: The regions with an account in which the SDK's image table does not list a release, by the word in the release's row.
#: Releases that AWS published and the table leaves out (25.12, 26.03, 26.04) are "all".
REGIONS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "all": frozenset(),
        "no-china": _CHINA,
        "no-ap-southeast-6": frozenset({"ap-southeast-6"}),
        "no-new-regions": _NOT_BEFORE_2504 | {"ap-southeast-6"},
    }
)

_BACKEND: Final = re.compile(r"[a-z][a-z0-9_]*")
_ECR: Final = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")

_TFS_REPOSITORY: Final = "tensorflow-inference"
_TFS_NAME: Final = re.compile(rf"{_TFS_REPOSITORY}:(?P<tag>[\w][\w.-]{{0,127}})")
_TFS_VERSION: Final = re.compile(r"(?P<major>\d+)\.(?P<minor>\d+)(?P<patch>\.\d+)?")
#: From this version on tags name the patch and the Python, too: "2.19-cpu" before, "2.20.0-cpu-py312" then. Source: the
#: image tables of the SageMaker SDK (2.257.7; sagemaker-core 2.27.0), and aws/deep-learning-containers' releases.
_TFS_WITH_PYTHON: Final = (2, 20)
_TFS_PYTHON: Final = "py312"


def find_image(tag_or_uri: str) -> Image:
    """Return the image that a release (``24.09``), a tag (``24.09-py3-cpu``) or a whole image URI names.

    NVIDIA's images with few backends are among them (``24.09-vllm-python-py3``: backends vllm and python).

    ``+`` and a name after any of these adds a backend: ``26.05+tensorflow`` is an image of the user's own, made from
    26.05, with a TensorFlow backend (no registry allows a plus sign in a name, so it is never a part of one). The
    registry and the repository of a URI may be any, since AWS's and NVIDIA's images are often copied; only an account
    of AWS's own that never held the release in that region is refused.

    Raises:
        DefinitionError: the release is not known, the tag is of another kind of image, the account is wrong, or what
            is added cannot be the name of a backend.
    """
    reference, *added = tag_or_uri.split("+")
    name = reference.partition("@")[0]
    registry, _, repository = name.rpartition("/")
    _, colon, tag = repository.rpartition(":")
    if registry and not colon:
        raise DefinitionError(
            f"image {reference!r} has no tag; name one, for example {repository}:{find_newest_release()}-py3"
        )
    image = parse_tag(tag, reference)
    if ecr := _ECR.match(registry):
        _check_account(image, reference, account=ecr["account"], region=ecr["region"])
    for backend in added:
        if _BACKEND.fullmatch(backend) is None:
            raise DefinitionError(
                f"image {tag_or_uri!r}: {backend!r} is not the name of a backend; write for example "
                f"{image.release}+tensorflow"
            )
    new = frozenset(added) - image.backends
    return replace(image, backends=image.backends | new, added=new) if new else image


def is_published(tag_or_uri: str) -> bool:
    """Return True if the text names an image as NVIDIA publishes it: a bare tag, or an address of nvcr.io.

    An image in another registry may have more in it; AWS does not document what it adds to its own.
    """
    registry, _, repository = tag_or_uri.partition("@")[0].rpartition("/")
    if "+" in tag_or_uri:
        return False
    return not registry or (registry == "nvcr.io/nvidia" and repository.startswith("tritonserver:"))


def _check_account(image: Image, name: str, *, account: str, region: str) -> None:
    """Raise DefinitionError where an address names an account of AWS that never held the image in that region."""
    shared, old = _ACCOUNTS.get(region), _OLD_ACCOUNTS.get(region)
    right, wrong = (shared, old) if image.release >= _FIRST_SHARED_ACCOUNT else (old, shared)
    if account == wrong and right is not None:
        raise DefinitionError(f"image {name!r}: AWS keeps {image.release} of {region} in account {right}")


def list_regions(image: Image) -> tuple[str, ...]:
    """Return the regions in which AWS publishes the image, sorted; none for an image that AWS does not publish."""
    if not image.sagemaker:
        return ()
    if image.release < _FIRST_SHARED_ACCOUNT:
        return tuple(sorted(_OLD_ACCOUNTS))
    return tuple(sorted(_ACCOUNTS.keys() - REGIONS[image.sagemaker_regions]))


def find_account(image: Image, region: str) -> str:
    """Return the AWS account that holds the image in a region; raises DefinitionError as `build_image_uri` does."""
    if image.variant:
        raise DefinitionError(
            f"AWS publishes no {image.tag} for SageMaker; copy NVIDIA's image into your registry and name it there"
        )
    if not image.sagemaker:
        published = [release for release, row in CATALOGUE.items() if row.sagemaker]
        nearest = max((release for release in published if release <= image.release), default=published[0])
        raise DefinitionError(
            f"AWS publishes no Triton {image.release} for SageMaker; the nearest before it is {nearest}, "
            f"the newest {find_newest_release()}"
        )
    if region not in list_regions(image):
        raise DefinitionError(
            f"AWS publishes Triton {image.release} not in {region!r}, but in {', '.join(list_regions(image))}"
        )
    return (_OLD_ACCOUNTS if image.release < _FIRST_SHARED_ACCOUNT else _ACCOUNTS)[region]


def build_image_uri(image: Image, region: str, *, cpu: bool | None = None) -> str:
    """Return the image's address in AWS's registry of a region, as `CreateModel` takes it.

    ``cpu`` overrides ``image.cpu``.

    Raises:
        DefinitionError: AWS does not publish the release, or not in this region; or backends were added to it.
    """
    if image.added:
        names = " and ".join(sorted(image.added))
        raise DefinitionError(
            f"AWS publishes no Triton {image.release} with {names}; make that image with the Dockerfile's stage "
            "sagemaker-tensorflow, push it to a registry of yours, and name it there"
            if image.added == {"tensorflow"}
            else f"AWS publishes no Triton {image.release} with {names}; name the image that you made"
        )
    chosen = image if cpu is None else replace(image, cpu=cpu)
    return f"{_build_host(find_account(image, region), region)}/sagemaker-tritonserver:{chosen.tag}"


def is_tfs_image_name(image: str | None) -> bool:
    """Return True for SageMaker's TensorFlow Serving images: an address, or ``tensorflow-inference:2.19``."""
    return image is not None and (_TFS_NAME.fullmatch(image) is not None or is_tfs_image(image))


def build_tfs_image_uri(image: str, region: str, *, cpu: bool) -> str:
    """Return the address of a TensorFlow Serving image in a region; one that is an address already stays as it is.

    ``image`` is ``tensorflow-inference:TAG``; a version alone (``2.19``) becomes its tag for the CPU or the GPU.

    >>> build_tfs_image_uri("tensorflow-inference:2.19", "us-west-2", cpu=True)
    '763104351884.dkr.ecr.us-west-2.amazonaws.com/tensorflow-inference:2.19-cpu'

    Raises:
        DefinitionError: AWS has no such images in the region.
    """
    match = _TFS_NAME.fullmatch(image)
    if match is None:
        return image
    tag = match["tag"]
    if version := _TFS_VERSION.fullmatch(tag):
        processor = "cpu" if cpu else "gpu"
        if (int(version["major"]), int(version["minor"])) < _TFS_WITH_PYTHON:
            tag = f"{tag}-{processor}"
        else:
            tag = f"{tag}{'' if version['patch'] else '.0'}-{processor}-{_TFS_PYTHON}"
    if region not in _ACCOUNTS:
        raise DefinitionError(
            f"AWS has no deep learning containers in {region!r}, but in {', '.join(sorted(_ACCOUNTS))}"
        )
    return f"{_build_host(_ACCOUNTS[region], region)}/{_TFS_REPOSITORY}:{tag}"


def _build_host(account: str, region: str) -> str:
    return f"{account}.dkr.ecr.{region}.{'amazonaws.com.cn' if region in _CHINA else 'amazonaws.com'}"
