"""A repository as a deployment sees it: its digest, its size, what the container must be told of it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["Content"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What one repository is, without its bytes.

    ``digest`` is ``sha256:`` and 64 hex digits of the sorted paths and contents; ``size`` the bytes of all files, which
    the archive does not exceed by much. ``default_model`` is what SAGEMAKER_TRITON_DEFAULT_MODEL_NAME must be, None
    where the repository does not say it. ``batches`` says whether a model collects requests into batches
    (``dynamic_batching`` or ``sequence_batching`` with ``max_batch_size`` above 1). ``files`` are the sizes by path.
    """

    digest: str
    size: int
    default_model: str | None = None
    batches: bool = False
    files: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def hex(self) -> str:
        """The digest without the name of its function: 64 hex digits."""
        return self.digest.rpartition(":")[2]
