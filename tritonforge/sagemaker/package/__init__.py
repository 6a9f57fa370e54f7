"""The package: a repository as ``model.tar.gz``, with equal bytes for equal repositories; and read as a stranger's.

`prepare` judges, `write` writes, `contents` digests without writing, `pack` writes a folder that is no repository;
`entries`, `inspect` and `unpack` read archives from anywhere.
"""

from __future__ import annotations

from tritonforge.sagemaker.package.archive_stream import LIMITS, Limits
from tritonforge.sagemaker.package.contents import Contents, contents, uncompressed
from tritonforge.sagemaker.package.inspection import Inspection, inspect, unpack
from tritonforge.sagemaker.package.members import Member, entries
from tritonforge.sagemaker.package.package_report import (
    DEFAULT_MODEL,
    Judgement,
    check_repository,
    default_model,
    judge,
    prepare,
)
from tritonforge.sagemaker.package.writer import Package, pack, write

__all__ = [
    "DEFAULT_MODEL",
    "LIMITS",
    "Contents",
    "Inspection",
    "Judgement",
    "Limits",
    "Member",
    "Package",
    "check_repository",
    "contents",
    "default_model",
    "entries",
    "inspect",
    "judge",
    "pack",
    "prepare",
    "uncompressed",
    "unpack",
    "write",
]
