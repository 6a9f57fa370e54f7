"""The group of an algorithm's subcommands; each has a module of its own, imported when it runs."""

from __future__ import annotations

from typing import Final

import click

from tritonforge.cli.commands import Commands

__all__ = ["algorithm"]

_ROWS: Final = {
    "run": ("tritonforge.cli.container:run", "Do what docker run would do with an algorithm's image."),
    "show": ("tritonforge.cli.publishing:show", "Print what a program declares: hyperparameters, channels, metrics."),
    "requests": ("tritonforge.cli.publishing:requests", "Print the requests that publish an algorithm, as JSON."),
    "publish": ("tritonforge.cli.publication:publish", "Create an algorithm on SageMaker, and watch its validation."),
    "package": (
        "tritonforge.cli.publication:package",
        "Create a model package on SageMaker, and watch its validation.",
    ),
}


@click.command(cls=Commands, rows=_ROWS)
def algorithm() -> None:
    """Run an algorithm's programs as their images would be run, show it, and bring it to SageMaker.

    PROGRAM is a folder with the executables `train` and `serve`, as an image has them in /opt/program.
    """
