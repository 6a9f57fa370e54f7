"""What conversions to ONNX need in several tests."""

from __future__ import annotations


class Silent:
    """Progress that nobody watches."""

    def begin(self, what: str) -> None:
        """A step."""

    def say(self, sentence: str) -> None:
        """A note."""

    def moved(self, done: int, total: int | None) -> None:
        """Bytes."""
