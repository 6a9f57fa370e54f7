"""The image that a text names: a release, a tag, a whole address, with or without added backends. No I/O."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from tritonforge.errors import DefinitionError
from tritonforge.triton.registries import check_account
from tritonforge.triton.releases import CATALOGUE, VARIANTS, Image, newest, variant_of

__all__ = ["find"]

_TAG: Final = re.compile(rf"(?P<release>\d\d\.\d\d)(?:-(?P<variant>{'|'.join(VARIANTS)})-py3|-py3(?P<cpu>-cpu)?)?")
#: NVIDIA's images that are no servers, by the end of their tags, and what they are.
_NO_SERVERS: Final = {
    "-py3-sdk": "client libraries and tools",
    "-py3-min": "the base that a server is composed on",
}
_BACKEND: Final = re.compile(r"[a-z][a-z0-9_]*")
_ECR: Final = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")


def find(tag_or_uri: str) -> Image:
    """The image that a release (``24.09``), a tag (``24.09-py3-cpu``) or a whole image URI names.

    NVIDIA's images with few backends are among them (``24.09-vllm-python-py3``: backends vllm and python).

    ``+`` and a name behind any of these adds a backend: ``26.05+tensorflow`` is an image of the user's own, made from
    26.05, that has a TensorFlow backend besides (no registry allows a plus sign in a name, so this is never a part of
    one). The registry and the repository of a URI may be anyone's, as copies of AWS's and NVIDIA's images are; only an
    account of AWS's own that never held the release in that region is refused.

    Raises:
        DefinitionError: no such release is known, the tag is of another kind of image, the account is wrong, or what
            is added is no name of a backend.
    """
    reference, *added = tag_or_uri.split("+")
    image = _find(reference)
    for backend in added:
        if _BACKEND.fullmatch(backend) is None:
            raise DefinitionError(
                f"image {tag_or_uri!r}: {backend!r} is no name of a backend; write for example "
                f"{image.release}+tensorflow"
            )
    news = frozenset(added) - image.backends
    return replace(image, backends=image.backends | news, added=news) if news else image


def _find(tag_or_uri: str) -> Image:
    name = tag_or_uri.partition("@")[0]
    registry, _, repository = name.rpartition("/")
    _, colon, tag = repository.rpartition(":")
    if registry and not colon:
        raise DefinitionError(f"image {tag_or_uri!r} has no tag; name one, for example {repository}:{newest()}-py3")
    for ending, content in _NO_SERVERS.items():
        if tag.endswith(ending):
            raise DefinitionError(f"no Triton image {tag_or_uri!r}: it holds {content}, but no server")
    match = _TAG.fullmatch(tag)
    if match is None or match["release"] not in CATALOGUE:
        raise DefinitionError(
            f"no Triton image {tag_or_uri!r} is known; known are <release>-py3, <release>-vllm-python-py3, "
            "<release>-trtllm-python-py3, <release>-pyt-python-py3, <release>-tf2-python-py3 and, on AWS, "
            f"<release>-py3-cpu of {', '.join(CATALOGUE)}"
        )
    image = CATALOGUE[match["release"]]
    if match["variant"]:
        found = variant_of(image, match["variant"])
        if found is None:
            published = VARIANTS[match["variant"]].published
            since = f"from {published.first} on" if published.first else f"up to {published.last}"
            raise DefinitionError(
                f"no Triton image {tag_or_uri!r}: NVIDIA publishes <release>-{match['variant']}-py3 {since}"
            )
        image = found
    ecr = _ECR.match(registry)
    if ecr is not None:
        check_account(image, tag_or_uri, account=ecr["account"], region=ecr["region"])
    return replace(image, cpu=True) if match["cpu"] else image
