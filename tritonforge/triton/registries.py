"""Where AWS keeps its Triton images: accounts, regions, addresses. This module does no I/O.

Source of the accounts: the image table of the SageMaker SDK (``image_uri_config/sagemaker-tritonserver.json`` of
sagemaker-core 2.27.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from tritonforge.errors import DefinitionError
from tritonforge.triton.releases import CATALOGUE, Image, newest, words

__all__ = ["account", "check_account", "regions", "registry", "uri"]


#: The AWS account that holds the images of 23.12 and later, by region. Source: the SDK's image table.
_ACCOUNTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(
            words(
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
_NOT_BEFORE_2504: Final = words(
    "ap-east-2 ap-south-2 ap-southeast-4 ap-southeast-5 ap-southeast-7 eu-central-2 eu-south-2 me-central-1 "
    "mx-central-1"
)

#: Regions in which the SDK's image table does not list a release, though the region has an account. The releases that
#: AWS published and the table leaves out (25.12, 26.03, 26.04) are not judged by region.
_ABSENT: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        **dict.fromkeys(("23.12", "24.01", "24.03", "24.05", "24.09"), _NOT_BEFORE_2504 | {"ap-southeast-6"}),
        "25.04": frozenset({"ap-southeast-6"}),
        "25.09": _CHINA,
        "26.05": _CHINA,
    }
)


def check_account(image: Image, name: str, *, account: str, region: str) -> None:
    """Raise DefinitionError where an address names an account of AWS that never held the image in that region."""
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
    if image.variant:
        raise DefinitionError(
            f"AWS publishes no {image.tag} for SageMaker; copy NVIDIA's image into your registry and name it there"
        )
    if not image.sagemaker:
        known = [release for release, each in CATALOGUE.items() if each.sagemaker]
        near = max((release for release in known if release <= image.release), default=known[0])
        raise DefinitionError(
            f"AWS publishes no Triton {image.release} for SageMaker; the nearest before it is {near}, "
            f"the newest {newest()}"
        )
    if region not in regions(image):
        raise DefinitionError(
            f"AWS publishes Triton {image.release} not in {region!r}, but in {', '.join(regions(image))}"
        )
    return (_OLD_ACCOUNTS if image.release < _FIRST_SHARED_ACCOUNT else _ACCOUNTS)[region]


def uri(image: Image, region: str, *, cpu: bool | None = None) -> str:
    """The image's address in AWS's registry of a region, as `CreateModel` takes it; ``cpu`` overrides ``image.cpu``.

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
    return f"{_host(account(image, region), region)}/sagemaker-tritonserver:{chosen.tag}"


def registry(region: str) -> str:
    """The registry of AWS's deep learning containers in a region, of which Triton's images are a part since 23.12.

    Raises:
        DefinitionError: AWS has none there.
    """
    if region not in _ACCOUNTS:
        raise DefinitionError(
            f"AWS has no deep learning containers in {region!r}, but in {', '.join(sorted(_ACCOUNTS))}"
        )
    return _host(_ACCOUNTS[region], region)


def _host(owner: str, region: str) -> str:
    return f"{owner}.dkr.ecr.{region}.{'amazonaws.com.cn' if region in _CHINA else 'amazonaws.com'}"
