"""Whether the program is told to stop: SIGTERM is heard, remembered, and kills nothing. An edge.

SageMaker stops a training job with SIGTERM, and with SIGKILL 120 seconds later. Source: API_StopTrainingJob.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Final

from tritonforge.training.algorithm.failures import StoppedError

__all__ = ["GRACE", "Stopping"]

#: Seconds between SIGTERM and SIGKILL for a training container. Source: API_StopTrainingJob.
GRACE: Final = 120

#: Seconds between two looks at the flag while something is waited for.
TICK: Final = 0.05


class Stopping:
    """A flag that SIGTERM sets, once and for all; a second SIGTERM changes nothing.

    Not a `threading.Event`: its `set` takes a lock, which the interrupted thread may hold when the signal comes.
    """

    __slots__ = ("_set",)

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Tell everybody to stop."""
        self._set = True

    def is_set(self) -> bool:
        """Whether the program is told to stop."""
        return self._set

    __bool__ = is_set  #: so that ``if stopping:`` means what it says

    def raise_if_set(self) -> None:
        """Raise StoppedError when the program is told to stop."""
        if self._set:
            raise StoppedError("stopped by SIGTERM")

    def wait(self, seconds: float) -> bool:
        """Wait until the program is told to stop, or seconds have passed; whether it is told."""
        until = time.monotonic() + seconds
        while not self._set and (left := until - time.monotonic()) > 0:
            time.sleep(min(TICK, left))
        return self._set

    def listen(self) -> None:
        """Hear SIGTERM from now on; outside the main thread, where Python allows no handlers, this does nothing."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._heard)

    def _heard(self, signum: int, frame: FrameType | None) -> None:
        self.set()
