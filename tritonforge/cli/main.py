"""The command `tritonforge`: finds the subcommand and turns every error into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

import click

from tritonforge import temporary
from tritonforge.cli.command import Command, Group, Row
from tritonforge.cli.printing import echo, echo_json, get_verbosity, print_error, set_verbosity
from tritonforge.errors import MissingExtraError, TritonForgeError

__all__ = ["cli", "main"]

_ALGORITHM: Final[dict[str, Row]] = {
    "run": ("tritonforge.cli.algorithm_run:run", "Run the train or serve program of an algorithm's image."),
    "show": (
        "tritonforge.cli.algorithm:show",
        "Print what a program declares: hyperparameters, channels, metrics.",
    ),
    "requests": (
        "tritonforge.cli.algorithm:requests",
        "Print the requests that publish an algorithm, as JSON.",
    ),
    "publish": ("tritonforge.cli.algorithm:publish", "Create an algorithm on SageMaker."),
    "package": ("tritonforge.cli.algorithm:package", "Create a model package on SageMaker."),
}

_MANIFEST: Final[dict[str, Row]] = {
    "check": ("tritonforge.cli.manifest_check:check", "List everything that is invalid in a data set."),
    "convert": ("tritonforge.cli.manifest:convert", "Write a data set in another form."),
    "split": ("tritonforge.cli.manifest:split", "Split a manifest into training and validation lines."),
    "show": ("tritonforge.cli.contact_sheet:show", "Draw images with their boxes and classes as one PNG."),
}


#: The packages of the extra ``client``, by the names that are imported. Modules that work on tensors import them at
#: their top, so that a command without them fails here.
_CLIENT: Final[dict[str, str]] = {"numpy": "numpy", "ml_dtypes": "ml-dtypes"}

#: The extra of a command that needs more than ``client``, which each of these extras includes.
_EXTRAS: Final[dict[str, str]] = {
    "algorithm": "aws", "deploy": "aws", "destroy": "aws", "emulate": "emulator", "package": "aws", "serve": "local",
    "test": "local", "train": "aws", "transform": "transform", "tune": "local",
}  # fmt: skip


@click.command(cls=Group, rows=_ALGORITHM)
def algorithm() -> None:
    """Run the programs of an algorithm as its images run them, show what it declares, and publish it on SageMaker.

    PROGRAM is a directory with the executables `train` and `serve`, as an image has them in /opt/program.
    """


@click.command(cls=Group, rows=_MANIFEST)
def manifest() -> None:
    """Check, convert, split and draw labelled data as SageMaker reads it.

    A data set is an augmented manifest (JSON lines, as Ground Truth writes them), a classic manifest (a JSON array), an
    annotations.json, or a directory of the built-in detector's documents; it is on this machine or on S3.
    """


@click.command(
    cls=Command, example='eval "$(tritonforge completion bash)"',
    epilog="Add the line to ~/.bashrc or ~/.zshrc; for fish: tritonforge completion fish | source",
)  # fmt: skip
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print a script that completes commands, options and paths in SHELL."""
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    assert completer is not None  # the choices above are click's own
    click.echo(completer(cli, {}, "tritonforge", "_TRITONFORGE_COMPLETE").source())
    return 0


#: Subcommand: what it is loaded from, and its line in `tritonforge --help`.
_COMMANDS: Final[dict[str, Row]] = {
    "new": ("tritonforge.cli.new:new", "Write a first definition that builds, serves and answers."),
    "build": ("tritonforge.cli.build:build", "Build a model repository from its Python definition."),
    "import": (
        "tritonforge.cli.repository_import:import_definition",
        "Write the Python definition of a hand-written model repository.",
    ),
    "validate": (
        "tritonforge.cli.validation:validate",
        "Validate model repositories without a server.",
    ),
    "explain": (
        "tritonforge.cli.validation:explain",
        "Print what a validation rule means.",
    ),
    "lsp": ("tritonforge.cli.language_server:lsp", "Run the language server for editors."),
    "graph": ("tritonforge.cli.graph:graph", "Draw a model repository: steps, tensors, settings, findings."),
    "serve": ("tritonforge.cli.serving:serve", "Run a model repository on a real Triton on this machine."),
    "watch": ("tritonforge.cli.watch:watch", "Show what running servers do: a live table of models and steps."),
    "trace": ("tritonforge.cli.trace:trace", "Show where single requests spent their time: a waterfall of the steps."),
    "test": (
        "tritonforge.cli.golden_tests:test",
        "Compare the answers of every step with the recorded ones.",
    ),
    "tune": ("tritonforge.cli.tune:tune", "Search batching, instances and threads on a real Triton."),
    "infer": ("tritonforge.cli.inference:infer", "Send tensors or images to a server and print the outputs."),
    "profile": ("tritonforge.cli.profile:profile", "Measure a model under load and name the step that limits it."),
    "train": ("tritonforge.cli.train:train", "Run a SageMaker training job on this machine or on SageMaker."),
    "transform": (
        "tritonforge.cli.transform:transform",
        "Run batch inference on every record of the input.",
    ),
    "manifest": (manifest, "Check, convert, split and draw labelled data."),
    "package": ("tritonforge.cli.packaging:package", "Pack a model repository as SageMaker's model.tar.gz."),
    "deploy": ("tritonforge.cli.deployment:deploy", "Create or update a SageMaker endpoint."),
    "destroy": ("tritonforge.cli.deployment:destroy", "Delete a deployment from SageMaker or Kubernetes."),
    "algorithm": (algorithm, "Run an algorithm's programs as its images do; publish it on SageMaker."),
    "emulate": ("tritonforge.cli.emulation:emulate", "Run SageMaker on this machine for unmodified AWS code."),
    "completion": (completion, "Print the shell completion script for bash, zsh or fish."),
}


def _print_version(ctx: click.Context, _: click.Parameter, is_given: bool) -> None:
    if is_given and not ctx.resilient_parsing:
        from tritonforge import __version__

        click.echo(f"tritonforge {__version__}")
        ctx.exit()


@click.command(
    cls=Group,
    rows=_COMMANDS,
    epilog="Exit codes: 0 success; 1 the job ran and failed, validate refused, or --check found a difference; "
    "2 invalid input or usage; 3 only for deploy --plan --detailed-exitcode: there are changes to apply; "
    "130 interrupted.",
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print the version."
)
def cli() -> None:
    """Build, validate, serve and deploy Triton model repositories from Python definitions."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    temporary.sweep()
    set_verbosity("normal")
    try:
        code: Any = cli.main(arguments, prog_name="tritonforge", standalone_mode=False)
    except TritonForgeError as error:
        return _report_error(str(error), error.exit_code, arguments)
    except ModuleNotFoundError as error:
        package = _CLIENT.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        extra = _EXTRAS.get(arguments[0], "client")
        return _report_error(str(MissingExtraError(package, extra=extra)), MissingExtraError.exit_code, arguments)
    except click.UsageError as error:
        hint = f" (see: {error.ctx.command_path} --help)" if error.ctx is not None else ""
        return _report_error(f"{' '.join(error.format_message().split())}{hint}", 2, arguments)
    except click.ClickException as error:
        return _report_error(error.format_message(), error.exit_code, arguments)
    except (click.Abort, KeyboardInterrupt):
        echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        # The reader of standard output ended (`| head`); the interpreter must not flush to it on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


def _report_error(sentence: str, code: int, arguments: list[str]) -> int:
    """Print an error as a sentence on standard error, and as JSON on standard output if JSON is requested."""
    if get_verbosity() == "verbose":
        import traceback  # 20 ms, for this alone

        traceback.print_exc()
    if _is_json_requested(arguments):
        echo_json({"error": {"message": sentence, "exit_code": code}}, indent=None)
    print_error(sentence)
    return code


def _is_json_requested(arguments: list[str]) -> bool:
    """Return True if the arguments before ``--`` request JSON; they may be invalid otherwise."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    text = " ".join(["", *options, ""])
    return any(f" {form} " in text for form in ("--json", "--format=json", "--format json"))
