"""Which Triton release a container image stands for here. This module does no I/O.

Every image is served by the local tritonserver, held to the rules of the release that it stands for: a known image by
its own tag, an image of the user's own by what it is declared as, ``24.09`` or ``26.05+tensorflow`` (the release that
it is based on, and the backends that it adds).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tritonforge import triton
from tritonforge.emulator.hosting.definitions import ContainerError
from tritonforge.errors import DefinitionError
from tritonforge.triton.tfs import layout
from tritonforge.validation.findings import Finding

__all__ = ["Served", "served_as", "serving_package"]


#: What an image of the user's own is declared as that serves TensorFlow Serving packages.
_PACKAGES: Final = "tensorflow-inference"

#: The repository of the first images, and the last release that it holds. Source:
#: aws/sagemaker-tensorflow-serving-container, README, and the image URIs of sagemaker-python-sdk.
_OLD_PACKAGES: Final = re.compile(r"/sagemaker-tensorflow-serving(?:-eia)?:(?P<major>\d+)\.(?P<minor>\d+)")
_LAST_OLD: Final = (1, 12)


@dataclass(frozen=True, slots=True)
class Served:
    """An image as it is served here: the tag whose rules hold, and the backends that were added to it."""

    tag: str
    added: frozenset[str] = frozenset()

    @property
    def release(self) -> str:
        """The release, ``YY.MM``."""
        return self.tag.partition("-")[0]

    def refuses(self, finding: Finding) -> bool:
        """Whether the image's container would end for what was found; an added backend is not missed."""
        if finding.refused_by is None:
            return False
        return not any(f"for backend '{name}'" in finding.message for name in self.added)


def serving_package(uri: str, declared: Mapping[str, str]) -> bool:
    """Whether an image is for TensorFlow Serving packages, by its own name or as declared: "tensorflow-inference".

    Raises:
        ContainerError: it is an image that AWS never published.
    """
    if uri in declared:
        return declared[uri].partition(":")[0] == _PACKAGES
    if not layout.serves_packages(uri):
        return False
    found = _OLD_PACKAGES.search(uri)
    if found is not None and (int(found["major"]), int(found["minor"])) > _LAST_OLD:
        raise ContainerError(
            f"The image {uri!r} cannot be pulled: sagemaker-tensorflow-serving ends with 1.12.0; from 1.13.0 on the "
            "repository is tensorflow-inference, of account 763104351884 in most regions."
        )
    return True


def served_as(uri: str, declared: Mapping[str, str]) -> Served:
    """What an image of this URI stands for.

    Raises:
        ContainerError: it is neither a Triton image that is known, nor declared.
    """
    words = declared.get(uri, uri).split("+") if uri in declared else [uri]
    try:
        return Served(triton.find(words[0]).tag, frozenset(words[1:]))
    except DefinitionError as error:
        known = uri in declared or "tritonserver" in uri
        detail = (
            f"({str(error).partition(';')[0]}.)"
            if known
            else "It is not known as a Triton image. Declare the release that it is based on, and the backends that it "
            f"adds: Emulator(images={{{uri!r}: '26.05+tensorflow'}}), or tritonforge emulate --image "
            f"'{uri}=26.05+tensorflow'; {_PACKAGES} for TensorFlow Serving packages, a folder with the executables "
            "train and serve for an algorithm."
        )
        raise ContainerError(f"The image {uri!r} cannot be run here.", detail=detail) from error
