"""The command `tritonforge`: finds the subcommand, and turns every error into one sentence and an exit code.

A subcommand's module is imported only when it runs, so that `--help` loads click and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

import click

from tritonforge import temporary
from tritonforge.cli.commands import Commands
from tritonforge.cli.printing import echo
from tritonforge.errors import TritonForgeError

__all__ = ["cli", "main"]

#: Subcommand: the function that holds it, and its line in `tritonforge --help`.
_COMMANDS: Final = {
    "build": ("tritonforge.cli.repository:build", "Build a model repository from its Python definition."),
    "validate": ("tritonforge.cli.validation:validate", "Judge model repositories as Triton would, without a server."),
    "explain": ("tritonforge.cli.validation:explain", "Say what a rule means, and how to mend it."),
    "serve": ("tritonforge.cli.serving:serve", "Run a model repository on a real Triton on this machine."),
    "infer": ("tritonforge.cli.inference:infer", "Send tensors or images to a server, and print the outputs."),
    "train": ("tritonforge.cli.train:train", "Train a model as a SageMaker training job, here or there."),
    "transform": ("tritonforge.cli.transform:transform", "Ask a model for every record of a folder or a prefix."),
    "manifest": ("tritonforge.cli.manifest:manifest", "Check, convert, split and look at labelled data."),
    "package": ("tritonforge.cli.packaging:package", "Pack a model repository as SageMaker's model.tar.gz."),
    "deploy": ("tritonforge.cli.deployment:deploy", "Plan a SageMaker endpoint, and make it so."),
    "destroy": ("tritonforge.cli.deployment:destroy", "Remove a deployment from SageMaker, and nothing else."),
    "algorithm": ("tritonforge.cli.algorithm:algorithm", "Run an algorithm's programs as images do; publish it."),
    "emulate": ("tritonforge.cli.emulation:emulate", "Run SageMaker on this machine, for unmodified AWS code."),
}


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from tritonforge import __version__

        click.echo(f"tritonforge {__version__}")
        ctx.exit()


@click.command(
    cls=Commands,
    rows=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 done; 1 the job ran and failed, validate refused, or --check found a difference; "
    "2 invalid input or usage; 3 only for deploy --plan --detailed-exitcode: there is something to do; "
    "130 interrupted.",
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print it.")
def cli() -> None:
    """Python definitions become a Triton model repository, proved right before any server sees it."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    temporary.sweep()
    try:
        code: Any = cli.main(arguments, prog_name="tritonforge", standalone_mode=False)
    except TritonForgeError as error:
        _tell(str(error), error.exit_code, arguments)
        return error.exit_code
    except click.UsageError as error:
        hint = f" (see: {error.ctx.command_path} --help)" if error.ctx is not None else ""
        _tell(f"{error.format_message()}{hint}", 2, arguments)
        return 2
    except click.ClickException as error:
        _tell(error.format_message(), error.exit_code, arguments)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        # The reader of our output left (`| head`): nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


def _tell(sentence: str, code: int, arguments: list[str]) -> None:
    """One error: as a sentence on standard error, and for machines as JSON on standard output as well."""
    if _wants_json(arguments):
        echo(json.dumps({"error": {"message": sentence, "exit_code": code}}))
    click.secho("error: ", err=True, nl=False, fg="red")
    echo(sentence, err=True)


def _wants_json(arguments: list[str]) -> bool:
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return "--json" in arguments or any(
        each == "--format=json" or (each, after) == ("--format", "json") for each, after in pairs
    )
