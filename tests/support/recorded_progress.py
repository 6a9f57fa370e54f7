"""Progress that a test reads afterwards."""

from __future__ import annotations

from tritonforge.sagemaker.plans.plan import SilentProgress


class RecordedProgress(SilentProgress):
    """Records steps and details."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.details: list[str] = []

    def begin(self, what: str) -> None:
        """Record a step."""
        self.steps.append(what)

    def detail(self, text: str) -> None:
        """Record a detail."""
        self.details.append(text)
