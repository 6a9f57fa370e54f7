"""A server for tests, killed at its end instead of stopped."""

import contextlib
import os
import signal

from tritonforge.serving.server import Server


class ThrowawayServer(Server):
    """A `Server` that is killed at its end, without the two to three seconds in which Triton unloads its models.

    For tests that are not about the end of a server; serving/test_server.py stops servers as users do.
    """

    def stop(self) -> None:
        """Kill tritonserver; its supervisor removes the rest."""
        if self.pid is not None and self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        super().stop()
