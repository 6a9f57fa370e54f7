"""The subcommands of deployments: deploy, destroy."""

from __future__ import annotations

from tritonforge.cli.deployment.deploying import deploy
from tritonforge.cli.deployment.destroying import destroy

__all__ = ["deploy", "destroy"]
