"""Packages: a repository as ``model.tar.gz``, with equal bytes for equal repositories, and archives from anywhere.

`check_package` reports what SageMaker makes of a repository, `read_contents` computes its digest, `write_package`
writes it, `pack` writes any directory. `list_members`, `inspect` and `unpack` read archives and trust nothing in them.
"""

from __future__ import annotations

from tritonforge.sagemaker.package.archive_stream import DEFAULT_LIMITS, ArchiveLimits
from tritonforge.sagemaker.package.contents import Contents, list_objects, read_contents
from tritonforge.sagemaker.package.inspection import Inspection, inspect, unpack
from tritonforge.sagemaker.package.members import Member, list_members
from tritonforge.sagemaker.package.package_report import (
    DEFAULT_MODEL,
    PackageReport,
    check_package,
    check_repository,
    check_tree,
    find_default_model,
)
from tritonforge.sagemaker.package.writer import Package, pack, write_package

__all__ = ["DEFAULT_LIMITS", "DEFAULT_MODEL", "ArchiveLimits", "Contents", "Inspection", "Member", "Package",
           "PackageReport", "check_package", "check_repository", "check_tree", "find_default_model", "inspect",
           "list_members", "list_objects", "pack", "read_contents", "unpack", "write_package"]  # fmt: skip
