"""Short waits of tritonforge's own clients: an emulated job or endpoint changes in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tritonforge.sagemaker.client import Session


def sleep_shortly(seconds: float) -> None:
    """Sleep a tenth of the time, and half a second where a log is waited for."""
    time.sleep(0.5 if seconds >= 1 else seconds / 10)


@contextmanager
def shorten_waits() -> Iterator[None]:
    """Let every session of this process wait shortly, those of the command line too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "sleep", lambda _, seconds: sleep_shortly(seconds))
        yield
