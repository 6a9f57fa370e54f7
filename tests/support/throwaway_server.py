"""A server whose end is not what a test is about."""

import contextlib
import os
import signal

from tritonforge.serving.server import Server


class ThrowawayServer(Server):
    """A `Server` that is killed at its end, which saves the two to three seconds in which Triton unloads its models.

    serving/test_server.py stops servers as users do.
    """

    def stop(self) -> None:
        """Kill tritonserver; its supervisor removes the rest."""
        if self.pid is not None and self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        super().stop()
