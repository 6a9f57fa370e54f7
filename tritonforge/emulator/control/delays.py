"""How long things take: the emulator's own pauses, and the waits that requests ask for, divided by ``speed``.

On AWS a creation takes some minutes and a deletion one. At speed 1 a creation takes three seconds here, or as long as
its containers need where that is longer; the waits of a DeploymentConfig take as long as they say. A speed of 60 turns
minutes into seconds. What a container needs to start, and its timeouts, are never scaled.
"""

from __future__ import annotations

import threading
from typing import Final

__all__ = ["CREATION", "DELETION", "ROLLBACK", "SCALING", "Pauses"]

#: Seconds at speed 1.
CREATION: Final = 3.0
SCALING: Final = 2.0
ROLLBACK: Final = 2.0
DELETION: Final = 2.0

#: Seconds between two looks at an alarm, unscaled: the longest, and the shortest.
_LOOK: Final = 1.0
_GLANCE: Final = 0.02


class Pauses:
    """Waits that end early when ``closing`` is set."""

    def __init__(self, speed: float, closing: threading.Event) -> None:
        if not speed > 0:
            raise ValueError(f"speed is {speed}; it must be greater than 0")
        self._speed = speed
        self._closing = closing

    def wait(self, seconds: float) -> bool:
        """Wait so many scaled seconds; False where the emulator is being stopped."""
        return not self._closing.wait(max(seconds, 0.0) / self._speed)

    def looks(self, seconds: float) -> list[float]:
        """So many scaled seconds cut into pieces, after each of which alarms are looked at."""
        real = seconds / self._speed
        piece = min(_LOOK, max(_GLANCE, real / 10))
        count = max(1, round(real / piece))
        return [seconds / count] * count

    def scaled(self, seconds: float) -> float:
        """Real seconds as the scaled ones that they stand for."""
        return seconds * self._speed
