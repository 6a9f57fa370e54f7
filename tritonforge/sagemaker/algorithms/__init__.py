"""Algorithms and model packages: a declared `Algorithm` becomes the request of CreateAlgorithm, and back. No I/O.

`Publication` and `ModelPackage` are the requests as values, `Profile` what validates them, `limits` what AWS documents
and its service model does not hold.
"""

from __future__ import annotations

from tritonforge.sagemaker.algorithms.limits import exceeded
from tritonforge.sagemaker.algorithms.profile import Profile
from tritonforge.sagemaker.algorithms.publication import ModelPackage, Publication
from tritonforge.sagemaker.algorithms.samples import Sample, validation
from tritonforge.sagemaker.algorithms.specification import Container

__all__ = ["Container", "ModelPackage", "Profile", "Publication", "Sample", "exceeded", "validation"]
