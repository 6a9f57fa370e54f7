"""Facts about Triton as data: releases, images and registries, backends, changes between releases. No I/O.

A figure that no source states is None, and no rule judges by it.
"""

from tritonforge.triton.registries import build_image_uri, find_account, find_image, list_regions
from tritonforge.triton.releases import (
    CATALOGUE,
    VARIANTS,
    Image,
    find_gpu_family,
    has_unsupported_gpu,
    parse_instance_family,
)

__all__ = ["CATALOGUE", "VARIANTS", "Image", "build_image_uri", "find_account", "find_gpu_family", "find_image",
           "has_unsupported_gpu", "list_regions", "parse_instance_family"]  # fmt: skip
