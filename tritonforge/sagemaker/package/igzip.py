"""Intel's igzip, where it is installed: the extra ``aws`` brings it."""

from __future__ import annotations

from typing import Any

from tritonforge.errors import MissingExtraError

__all__ = ["igzip", "igzip_decompressors"]


def igzip() -> Any:
    """The module ``isal.isal_zlib``; raises MissingExtraError where it is not installed."""
    try:
        from isal import isal_zlib
    except ImportError as error:
        raise MissingExtraError("isal", extra="aws") from error
    return isal_zlib


def igzip_decompressors() -> Any:
    """The module ``isal.igzip_lib``; raises MissingExtraError where it is not installed."""
    try:
        from isal import igzip_lib
    except ImportError as error:
        raise MissingExtraError("isal", extra="aws") from error
    return igzip_lib
