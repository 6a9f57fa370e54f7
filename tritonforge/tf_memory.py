"""What a process that runs TensorFlow graphs can do without: Keras, and the memory of what loading left behind."""

from __future__ import annotations

import ctypes
import gc
import sys

__all__ = ["give_back", "without_keras"]


def without_keras() -> None:
    """Keep TensorFlow from loading Keras, in this process from now on; call it before TensorFlow is imported.

    ``import tensorflow`` loads Keras, where it is installed, "to support autocompletion" (tensorflow/__init__.py), and
    Keras loads scikit-learn: a third of the time of the import and 80 MB. Graphs are run without either.
    """
    # None is how Python is told that there is no such module; TensorFlow goes on without.
    sys.modules.setdefault("keras", None)  # type: ignore[arg-type]  # typeshed knows modules alone


def give_back() -> None:
    """Hand to the system what this process holds of freed memory.

    TensorFlow copies a graph with all its weights at every step from the file to the first run. The copies are freed in
    pieces between what stays, and glibc keeps such pieces for the process: 650 MB of the 1.9 GB that Inception V3 with
    its 96 MB of weights has after its first run. Later runs find their memory as fast as before.
    """
    gc.collect()
    # Other C libraries have no such function, and no such need: they are not what TensorFlow's wheels are built for.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
