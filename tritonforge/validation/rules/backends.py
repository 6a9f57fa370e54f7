"""The sentence on a backend that is not there, which changed four times. No I/O."""

from __future__ import annotations

from tritonforge.triton import changes
from tritonforge.validation.rules.context import Context, ModelView

__all__ = ["missing_backend"]


def missing_backend(context: Context, view: ModelView) -> str:
    """What the server says of a model whose backend has neither a library nor a ``model.py``."""
    backend, version = view.backend, view.versions[-1] if view.versions else 1
    library, directory = f"libtriton_{backend}.so", f"<backends>/{backend}"
    if context.has(changes.LOOKUP_OF_LIBRARIES):
        return (
            f"unable to find '{library}' for model '{view.name}', searched: <repo>/{view.name}/{version}, "
            f"<repo>/{view.name}, {directory}"
        )
    if context.has(changes.LOOKUP_OF_PYTHON):
        return f"unable to find '{backend}/model.py' for model '{view.name}', in {directory}"
    if context.has(changes.LOOKUP_OF_BOTH):
        return f"unable to find '{library}' or '{backend}/model.py' for model '{view.name}', in {directory}"
    return f"unable to find backend library for backend '{backend}', try specifying runtime on the model configuration."
