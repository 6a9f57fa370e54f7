"""The page of ``serve --ui``: the ensemble's graph with live figures, and every tensor of a request.

`open_console` starts it. ``static/`` has the page itself: HTML, CSS and ES modules, without a build step.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tritonforge.serving.server import Server
    from tritonforge.web_console.console_server import ConsoleServer

__all__ = ["open_console"]


def open_console(server: Server, *, model: str | None, port: int, samples: Path | None) -> ConsoleServer:
    """Return the console of a running server, which answers at once.

    Args:
        server: its HTTP port is on.
        model: the only model that the server was started for; None for all.
        port: the port of the page, 0 for any free one.
        samples: the directory of golden test cases and images; None searches beside the repository.
    """
    from tritonforge.web_console.console_server import ConsoleServer
    from tritonforge.web_console.served_repository import ServedRepository

    assert server.http_url is not None  # its port is on
    served = ServedRepository(
        server.repository, server.http_url, grpc_url=server.grpc_url, model=model, samples=samples
    )
    return ConsoleServer(served, port=port)
