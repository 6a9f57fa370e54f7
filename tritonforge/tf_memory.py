"""Import TensorFlow or Keras in less time and memory, and return freed memory to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["import_keras", "import_tensorflow", "trim_heap", "without_keras"]


def without_keras() -> None:
    """Keep TensorFlow from loading Keras, in this process from now on; call it before TensorFlow is imported.

    ``import tensorflow`` loads Keras, where it is installed, "to support autocompletion" (tensorflow/__init__.py), and
    Keras loads scikit-learn: a third of the time of the import and 80 MB. Graphs are run without either.
    """
    # None makes Python raise ImportError, which TensorFlow ignores.
    sys.modules.setdefault("keras", None)  # type: ignore[arg-type]  # typeshed allows modules alone


def import_tensorflow() -> Any:
    """Import TensorFlow without Keras and return it; for a process that does nothing else."""
    without_keras()
    with _no_collection():
        import tensorflow as tf
    return tf


def import_keras() -> Any:
    """Import TensorFlow and Keras without scikit-learn and return Keras; for a process that does nothing else.

    Keras loads scikit-learn, where it is installed, for wrappers that make a model an estimator of it: a quarter of the
    time of the import.
    """
    # None makes Python raise ImportError, which Keras ignores.
    sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]  # typeshed allows modules alone
    with _no_collection():
        import keras
    return keras


@contextmanager
def _no_collection() -> Iterator[None]:
    """Turn the garbage collector off in this context, in which TensorFlow is imported.

    The import makes 260,000 objects that live as long as the process, and the garbage collector would go through them
    again and again: a fifth of the time of the import, and 0.2 s in every full collection after it. So it is off
    during the import, and passes over what the process has by then.
    """
    is_first, is_collecting = "tensorflow" not in sys.modules, gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_collecting:
            gc.enable()
    if is_first:
        gc.freeze()


def trim_heap() -> None:
    """Return freed memory to the system.

    TensorFlow copies a graph with all its weights at every step from the file to the first run. The copies are freed in
    fragments, which glibc keeps for the process: 650 MB of the 1.9 GB that Inception V3 with its 96 MB of weights has
    after its first run. Later runs allocate as fast as before.
    """
    gc.collect()
    # Other C libraries have no such function; TensorFlow's wheels are built for glibc.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
