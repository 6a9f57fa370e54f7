"""The Triton images: what each release holds, which of them AWS publishes for SageMaker, and under which URI.

A figure that no source states is None, and nothing is judged by it. Nothing here does I/O.
"""

from tritonforge.triton.instances import gpu_family, instance_family, too_old_gpu
from tritonforge.triton.names import find
from tritonforge.triton.registries import account, regions, uri
from tritonforge.triton.releases import CATALOGUE, VARIANTS, Image

__all__ = [
    "CATALOGUE",
    "VARIANTS",
    "Image",
    "account",
    "find",
    "gpu_family",
    "instance_family",
    "regions",
    "too_old_gpu",
    "uri",
]
