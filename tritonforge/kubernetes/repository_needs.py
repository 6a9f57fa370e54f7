"""What the models of a repository need of the pod that serves them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from tritonforge.validation.context import Context
from tritonforge.validation.rules.ensemble_models import select_models
from tritonforge.validation.rules.shared_memory import find_default_size, measure_needs

__all__ = ["DEFAULT_SHARED_MEMORY", "RepositoryNeeds", "choose_shared_memory", "measure_repository"]

_MEBIBYTE: Final = 1 << 20
#: What a pod has at /dev/shm without a volume, in bytes. Source: `tritonforge.triton.targets`.
DEFAULT_SHARED_MEMORY: Final = 64 * _MEBIBYTE
#: The computed need is a lower bound: tensors of variable size, and what a region's allocator adds, are not in it.
_MARGIN: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryNeeds:
    """What a plan reads of a repository.

    ``digest`` is ``sha256:`` and 64 hex digits of its paths and contents. ``start_memory`` and ``full_memory`` are the
    bytes of /dev/shm that the Python models take at least when they start, and after a full batch of each instance; 0
    without such models. ``is_decoupled`` is True if a model answers over gRPC only, ``has_own_stub`` if one brings its
    own Python stub, which Triton makes executable.
    """

    digest: str
    start_memory: int = 0
    full_memory: int = 0
    is_decoupled: bool = False
    has_own_stub: bool = False


def measure_repository(context: Context, digest: str) -> RepositoryNeeds:
    """Return the needs of the models that the server would load; ``context`` has the image and the GPUs."""
    names = select_models(context)
    context = replace(context, models={name: context.models[name] for name in names if name in context.models})
    needs = measure_needs(context, find_default_size(context))
    models = [model for model in context.models.values() if model.parsed]
    return RepositoryNeeds(
        digest=digest,
        start_memory=sum(need.start for need in needs),
        full_memory=sum(need.full for need in needs),
        is_decoupled=any(model.decoupled for model in models),
        has_own_stub=any(
            model.backend == "python" and context.tree.is_file(f"{model.name}/triton_python_backend_stub")
            for model in models
        ),
    )


def choose_shared_memory(needs: RepositoryNeeds) -> str | None:
    """Return the size of the volume at /dev/shm, None if no model uses it.

    Twice the computed need, and at least what a pod has without a volume, in steps of 64 MiB. Pages that are not
    written take no memory.

    >>> choose_shared_memory(RepositoryNeeds(digest="", start_memory=1 << 20, full_memory=70 << 20))
    '192Mi'
    """
    need = max(needs.start_memory, needs.full_memory)
    if not need:
        return None
    steps = -(-max(_MARGIN * need, DEFAULT_SHARED_MEMORY) // DEFAULT_SHARED_MEMORY)
    return f"{steps * DEFAULT_SHARED_MEMORY // _MEBIBYTE}Mi"
