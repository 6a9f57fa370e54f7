"""The command lsp."""

from __future__ import annotations

import importlib.util

import click

from tritonforge.cli.command import Command
from tritonforge.cli.options import option
from tritonforge.errors import MissingExtraError
from tritonforge.triton.targets import Target
from tritonforge.validation.context import Options

__all__ = ["lsp"]


@click.command(cls=Command, example="tritonforge lsp --image 24.09")
@option("--image", metavar="TAG", help="The server image: 24.09, a tag, or an image URI. [default: the target's, else "
        "24.10, the local server]")  # fmt: skip
@option("--target", type=click.Choice(["triton", "sagemaker", "kserve", "dynamo"]), default="triton",
        show_default=True, help="Where the repository will be served.")  # fmt: skip
@option("--run-definitions", is_flag=True, help="Run a definition.py that is open, in a process of its own, to report "
        "what is wrong with it. Use it for directories that you trust.")  # fmt: skip
def lsp(image: str | None, target: Target, run_definitions: bool) -> int:
    """Run the language server for config.pbtxt and definition.py on standard input and output.

    An editor starts this command. Its initialization options (image, target, targetVersion, storageUri, instanceType,
    gpus, autoComplete, runDefinitions) override the options here. docs/editors.md has the setup of VS Code, Neovim and
    Zed.

    Exit code 0: the editor ended the server; 2: invalid usage.
    """
    if importlib.util.find_spec("pygls") is None:
        raise MissingExtraError("pygls", extra="lsp")
    from tritonforge.language_server.features import create_server
    from tritonforge.validation.model_views import build_context
    from tritonforge.validation.tree import Tree

    options = Options(image=image, target=target)
    build_context(Tree({}), options)  # an unknown image ends the command, not each validation
    create_server(options, runs_definitions=run_definitions).start_io()
    return 0
