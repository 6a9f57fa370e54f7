"""The progress of slow work, told to whoever shows it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """What is told: a step begins, where it is at, the bytes moved, and sentences that must not be missed."""

    def begin(self, what: str) -> None:
        """A step begins; the one before it is done."""
        ...

    def detail(self, text: str) -> None:
        """Where the step is at."""
        ...

    def moved(self, done: int, total: int | None) -> None:
        """The bytes moved so far, and of how many where that is known."""
        ...

    def say(self, sentence: str) -> None:
        """A sentence that must not be missed."""
        ...


class Silent:
    """Progress that nobody watches."""

    def begin(self, what: str) -> None:
        """Nothing."""

    def detail(self, text: str) -> None:
        """Nothing."""

    def moved(self, done: int, total: int | None) -> None:
        """Nothing."""

    def say(self, sentence: str) -> None:
        """Nothing."""
