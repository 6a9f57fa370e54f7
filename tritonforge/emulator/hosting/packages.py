"""The container of a TensorFlow Serving package: its handlers and a predictor, in place of tritonserver."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from tritonforge.emulator.hosting.container import Container, Launched
from tritonforge.emulator.hosting.serve_script import Outcome
from tritonforge.serving.tfs.server import start

__all__ = ["TensorFlowContainer"]


class TensorFlowContainer(Container):
    """As `Container`, for a package as `tritonforge.serving.tfs` runs it."""

    def __init__(
        self,
        package: Path,
        folder: Path,
        *,
        environment: Mapping[str, str],
        log: Callable[[str], None],
        startup_timeout: float,
    ) -> None:
        super().__init__(
            package,
            folder,
            outcome=Outcome(()),
            environment=environment,
            log=log,
            startup_timeout=startup_timeout,
        )

    def launched(self, log: Path, cancelled: threading.Event) -> tuple[Launched, str]:
        """The package's server; raises LaunchError."""
        server = start(self._repository, self._environment, log=log, startup_timeout=self._timeout, cancelled=cancelled)
        return server, server.url
