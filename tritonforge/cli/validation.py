"""The subcommands of validation: validate, explain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click

from tritonforge.cli.printing import echo
from tritonforge.cli.reports import FORMATS, Judged, ServerVerdict
from tritonforge.triton.changes import REFERENCE, list_changes
from tritonforge.validation.report import Validated, validated
from tritonforge.validation.rules.catalogue import rules_by_code
from tritonforge.validation.tree import Tree

__all__ = ["explain", "rule_table", "validate"]

_REFUSED: Final = {
    "triton": "Triton refuses it",
    "sagemaker": "SageMaker refuses it",
    "tritonforge": "tritonforge refuses it",
    "tfs": "SageMaker's TensorFlow Serving container refuses it",
    None: "nothing refuses it",
}


@click.command()
@click.argument("repositories", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option(
    "--image",
    metavar="TAG",
    help="The server image it is meant for: 24.09, a tag, or a whole image URI. [default: 24.10, the local server]",
)
@click.option("--target", type=click.Choice(["triton", "sagemaker"]), default="triton", show_default=True)
@click.option(
    "--disable-auto-complete-config",
    "strict_config",
    is_flag=True,
    help="Judge as a server with this flag does: config.pbtxt must be complete.",
)
@click.option("--load-model", "load_models", multiple=True, metavar="NAME", help="Explicit mode: only what this needs.")
@click.option("--model-config-name", default="", metavar="NAME", help="Take configs/NAME.pbtxt where a model has it.")
@click.option("--gpus", type=click.IntRange(0), help="GPUs of the host; left out, nothing is judged by it.")
@click.option("--instance-type", metavar="ML.TYPE", help="The SageMaker instance type that it is meant for.")
@click.option(
    "--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the container on SageMaker."
)
@click.option("--select", default="", metavar="CODES", help="Show only findings of these rules or prefixes: E3,W201.")
@click.option(
    "--ignore", default="", metavar="CODES", help="Hide findings of these rules or prefixes. The verdict stays."
)
@click.option("--strict", is_flag=True, help="Exit 1 on every finding, hidden ones included.")
@click.option("--allow-empty", is_flag=True, help="Accept a folder without models.")
@click.option("--fix", is_flag=True, help="Mend what has one certain answer, and show the diff.")
@click.option("--with-server", is_flag=True, help="Ask the real tritonserver too, without weights, and compare.")
@click.option("--format", "form", type=click.Choice(list(FORMATS)), default="text", show_default=True)
def validate(
    repositories: tuple[Path, ...],
    image: str | None,
    target: str,
    strict_config: bool,
    load_models: tuple[str, ...],
    model_config_name: str,
    gpus: int | None,
    instance_type: str | None,
    variables: tuple[str, ...],
    select: str,
    ignore: str,
    strict: bool,
    allow_empty: bool,
    fix: bool,
    with_server: bool,
    form: str,
) -> int:
    """Judge model repositories as Triton would, without a server, and say what Triton does not see.

    A folder of numbered SavedModels is judged as SageMaker's TensorFlow Serving container would.

    --select and --ignore choose what is shown. They change neither the verdict nor the exit code.

    Exit code 0: it loads; 1: something is refused, or was not judged; 2: invalid usage, or there are no models.
    """
    chosen, ignored = _codes("--select", select), _codes("--ignore", ignore)

    def judge(subject: Path | Tree) -> Validated:
        return validated(
            subject,
            image=image,
            target="sagemaker" if target == "sagemaker" else "triton",
            auto_complete=not strict_config,
            load_models=load_models,
            model_config_name=model_config_name,
            gpus=gpus,
            instance_type=instance_type,
            environment=_environment(variables),
            allow_empty=allow_empty,
        )

    judged = []
    refused = False
    for repository in repositories:
        found = judge(repository)
        if found.tree.is_file("config.pbtxt"):
            echo(
                f"note: {repository} holds a config.pbtxt itself: if it is a model, give the folder above it", err=True
            )
        if fix:
            found = _fixed(repository, found, judge, form)
        asked = _asked(repository, found, not strict_config) if with_server else None
        result = Judged(
            str(repository),
            found.findings,
            found.models,
            found.texts,
            server=asked,
            is_tfs_package=found.is_tfs_package,
            select=chosen,
            ignore=ignored,
        )
        refused |= result.is_refused or (strict and bool(found.findings))
        refused |= asked is not None and (asked.loads is False or bool(asked.differences))
        judged.append(result)
    report = FORMATS[form](judged)
    if form == "github":  # its lines are commands, and escaped where they are made
        click.echo(report)
    else:
        echo(report)
    return 1 if refused else 0


def _environment(variables: Sequence[str]) -> dict[str, str] | None:
    wrong = [each for each in variables if "=" not in each]
    if wrong:
        raise click.UsageError(f"--env {wrong[0]}: write NAME=VALUE")
    return {name: value for name, _, value in (each.partition("=") for each in variables)} if variables else None


def _codes(option: str, text: str) -> tuple[str, ...]:
    """The codes and prefixes of an option; UsageError where no rule has one of them."""
    codes = tuple(code.strip().upper() for code in text.split(",") if code.strip())
    unknown = [code for code in codes if not any(known.startswith(code) for known in rules_by_code())]
    if unknown:
        raise click.UsageError(
            f"{option}: no rule has the code or prefix {unknown[0]!r}; see tritonforge explain --table"
        )
    return codes


def _asked(repository: Path, found: Validated, auto_complete: bool) -> ServerVerdict:
    """The real server's verdict, and where it and the findings disagree."""
    if found.is_tfs_package:
        raise click.UsageError(f"--with-server asks Triton, and {repository} is a package for TensorFlow Serving")
    from tritonforge.cli.comparison import differences
    from tritonforge.serving.server_check import check_on_server

    judgement = check_on_server(repository, auto_complete=auto_complete)
    return ServerVerdict(
        loads=judgement.loads,
        messages=judgement.messages,
        undecided=judgement.undecided,
        differences=differences(
            found.findings, judgement.messages, loads=judgement.loads, undecided=judgement.undecided
        ),
    )


def _fixed(repository: Path, found: Validated, judge: Callable[[Path | Tree], Validated], form: str) -> Validated:
    from tritonforge.validation.autofix_writer import apply_fixes

    done = apply_fixes(repository, found.tree, lambda tree: judge(tree).findings)
    for diff in done.diffs:
        echo(diff, nl=False, err=form != "text")
    return judge(repository) if done.diffs else found


@click.command()
@click.argument("code", required=False)
@click.option("--table", is_flag=True, help="Print every rule as a table in Markdown.")
def explain(code: str | None, table: bool) -> int:
    """Print what the rule CODE means, why it is there, and a wrong and a correct example."""
    if table == (code is not None):
        raise click.UsageError("give the code of a rule, or --table for all of them")
    if code is None:
        echo(rule_table(), nl=False)
        return 0
    rule = rules_by_code().get(code.upper())
    if rule is None:
        near = [known for known in rules_by_code() if known.startswith(code.upper()[:2])]
        rules = f"there are {', '.join(near)}" if near else "tritonforge explain --table lists all rules"
        raise click.UsageError(f"there is no rule {code!r}; {rules}")
    click.secho(f"{rule.code}  {rule.severity}, {_REFUSED[rule.refused_by]}", bold=True)
    echo(f"\n  {rule.summary}\n\n{rule.why}\n")
    for heading, example in (("wrong", rule.bad), ("correct", rule.good)):
        click.secho(f"{heading}:", bold=True)
        echo("".join(f"    {line}\n" for line in example.strip("\n").splitlines()))
    echo(f"source: {rule.source}")
    for change in list_changes():
        if rule.code in change.rules:
            since, until = change.first or "the first release", change.last or "the newest"
            echo(f"releases {since} to {until}: {change.text}")
    return 0


def rule_table() -> str:
    """Every rule as Markdown: the file tritonforge/validation/rules/README.md, word for word."""
    lines = [
        "# The rules of `tritonforge validate`",
        "",
        "Made by `tritonforge explain --table`. The first letter is the severity (E error, W warning), the first digit",
        "the room: 1 layout, 2 model, 3 ensemble, 4 SageMaker, 5 DALI, 6 image, 7 packages for SageMaker's TensorFlow",
        "Serving container (tfs). `tritonforge explain CODE` says more.",
        "",
        "| code | refused by | rule | source |",
        "|---|---|---|---|",
    ]
    for rule in rules_by_code().values():
        cells = (rule.code, rule.refused_by or "", rule.summary, rule.source)
        lines.append("| " + " | ".join(_cell(each) for each in cells) + " |")
    lines += [
        "",
        "## What changed between releases of Triton",
        "",
        f"The rules read this table (`tritonforge/triton/changes.py`); without `--image`, for {REFERENCE}.",
        "",
        "| change | from | to | rules | source |",
        "|---|---|---|---|---|",
    ]
    for change in list_changes():
        row = (change.text, change.first or "", change.last or "", ", ".join(change.rules), change.source)
        lines.append("| " + " | ".join(_cell(each) for each in row) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
