"""The names of jobs: SageMaker gives none twice, so they carry the time. This module does no I/O."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from tritonforge.sagemaker.endpoints.deployment import LONGEST_NAME

__all__ = ["job_name", "plain"]

_LONGEST: Final = 63
_STAMP: Final = "%Y-%m-%d-%H-%M-%S-%f"
_NOT_NAME: Final = re.compile(r"[^a-zA-Z0-9]+")


def job_name(base: str, now: dt.datetime, *, otherwise: str = "transform") -> str:
    """A name for a job: what it is about (``otherwise`` where that is no word) and the time, to the millisecond.

    >>> job_name("resnet50_tfs", dt.datetime(2026, 1, 2, 3, 4, 5, 678901))
    'resnet50-tfs-2026-01-02-03-04-05-678'
    """
    stamp = now.strftime(_STAMP)[:-3]
    return f"{plain(base, _LONGEST - len(stamp) - 1, otherwise=otherwise)}-{stamp}"


def plain(text: str, most: int = LONGEST_NAME, *, otherwise: str = "transform") -> str:
    """A text as a name of SageMaker's: letters and digits with hyphens between them, ``most`` characters of it."""
    return _NOT_NAME.sub("-", text).strip("-")[:most].strip("-") or otherwise
