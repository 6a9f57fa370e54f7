"""Algorithms and model packages: a declared `Algorithm` becomes the request of CreateAlgorithm, and back. No I/O.

`Publication` and `ModelPackage` are the requests as values, `Profile` what validates them, `limits` what AWS documents
and its service model does not hold.
"""

from __future__ import annotations

from tritonforge.sagemaker.jobs.marketplace.profile import Profile
from tritonforge.sagemaker.jobs.marketplace.publication import ModelPackage, Publication
from tritonforge.sagemaker.jobs.marketplace.samples import Sample, validation
from tritonforge.sagemaker.jobs.marketplace.specification import Container

__all__ = ["Container", "ModelPackage", "Profile", "Publication", "Sample", "validation"]
