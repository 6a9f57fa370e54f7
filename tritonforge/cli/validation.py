"""The commands validate and explain."""

from __future__ import annotations

import gc
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tritonforge.cli.command import Command
from tritonforge.cli.options import EXISTING_PATH, OUTPUT, format_option, json_option, name_value_option, option
from tritonforge.cli.printing import echo, echo_json
from tritonforge.cli.reports import FORMATS, RepositoryReport, ServerVerdict, render_configs
from tritonforge.files import documentation_address
from tritonforge.triton.changes import REFERENCE, list_changes
from tritonforge.triton.targets import Target, list_versions
from tritonforge.validation.context import Options
from tritonforge.validation.findings import Finding, ValidationReport, verdict
from tritonforge.validation.registry import Rule, load_rules
from tritonforge.validation.report import run
from tritonforge.validation.result_cache import ResultCache
from tritonforge.validation.rule_page import REFUSERS, escape_prose, list_rule_changes, locate_page

if TYPE_CHECKING:
    from tritonforge.validation.loaded_config import LoadedConfig

__all__ = ["compare_with_server", "explain", "render_rule_table", "select_core_findings", "validate"]

_DEPENDS: Final = re.compile(r"^ensemble '[^']*' depends on '(?P<step>[^']*)'")

_SERVER_OPTIONS: Final = "Server options"


@click.command(
    cls=Command,
    example="tritonforge validate build/digits --image 24.09\n"
    "tritonforge validate build/digits --target sagemaker --instance-type ml.g4dn.xlarge --format sarif",
)
@click.argument("repositories", nargs=-1, required=True, metavar="PATH...", type=EXISTING_PATH)
@option("--image", metavar="TAG", group=_SERVER_OPTIONS,
        help="The server image: 24.09, a tag, or an image URI. "
        "[default: the target's, else 24.10, the local server]")  # fmt: skip
@option("--target", type=click.Choice(["triton", "sagemaker", "kserve", "dynamo"]), default="triton",
        show_default=True, group=_SERVER_OPTIONS, help="Where the repository will be served. sagemaker adds the rules "
        "of its archives and endpoints, kserve those of its storage and runtime, dynamo the limits of NVIDIA "
        "Dynamo.")  # fmt: skip
@option("--target-version", metavar="VERSION", group=_SERVER_OPTIONS,
        help=f"The version of KServe ({', '.join(list_versions('kserve'))}) or Dynamo "
        f"({', '.join(list_versions('dynamo'))}). [default: the newest of these]")  # fmt: skip
@option("--storage-uri", metavar="URI", group=_SERVER_OPTIONS, help="The storageUri of the KServe InferenceService.")
@option("--disable-auto-complete-config", "auto_complete", is_flag=True, flag_value=False, default=True,
        group=_SERVER_OPTIONS, help="Validate as a server with this flag does: config.pbtxt must be "
        "complete.")  # fmt: skip
@option("--load-model", "load_models", multiple=True, metavar="NAME", group=_SERVER_OPTIONS,
        help="Explicit mode: validate this model and what it needs only.")  # fmt: skip
@option("--model-config-name", default="", metavar="NAME", group=_SERVER_OPTIONS,
        help="Read configs/NAME.pbtxt of models that have it.")  # fmt: skip
@option("--gpus", type=click.IntRange(0), metavar="N", group=_SERVER_OPTIONS,
        help="GPUs of the host. Default: skip the rules that depend on it.")  # fmt: skip
@option("--instance-type", metavar="ML.TYPE", group=_SERVER_OPTIONS, help="The SageMaker instance type.")
@name_value_option("--env", "environment", group=_SERVER_OPTIONS, help="A variable of the container on SageMaker.")
@option("--select", default="", metavar="CODES", group=OUTPUT,
        help="Show findings of these rules or prefixes only: E3,W201.")  # fmt: skip
@option("--ignore", default="", metavar="CODES", group=OUTPUT,
        help="Hide findings of these rules or prefixes. The verdict does not change.")  # fmt: skip
@option("--strict", is_flag=True, help="Exit 1 if there is any finding, hidden ones included.")
@option("--cache/--no-cache", default=True, help="Use the stored result of a directory that has not changed. "
        "[default: --cache]")  # fmt: skip
@option("--allow-empty", is_flag=True, help="Accept a directory without models.")
@option("--fix", is_flag=True, help="Fix what has exactly one correct value, and print the diff.")
@option("--show-config", is_flag=True, help="Print each model's configuration as the server has it after loading, and "
        "the findings on standard error. With --format text or json.")  # fmt: skip
@option("--with-server", is_flag=True, help="Also load the repository in the real tritonserver, without weights, and "
        "compare.")  # fmt: skip
@format_option(*FORMATS)
def validate(
    repositories: tuple[Path, ...],
    image: str | None,
    target: Target,
    target_version: str | None,
    storage_uri: str | None,
    auto_complete: bool,
    load_models: tuple[str, ...],
    model_config_name: str,
    gpus: int | None,
    instance_type: str | None,
    environment: dict[str, str],
    select: str,
    ignore: str,
    strict: bool,
    cache: bool,
    allow_empty: bool,
    fix: bool,
    show_config: bool,
    with_server: bool,
    output_format: str,
) -> int:
    """Validate model repositories as Triton does, without a server, and report what Triton does not check.

    A directory of numbered SavedModels is validated as SageMaker's TensorFlow Serving container does.

    --select and --ignore choose which findings are shown. They change neither the verdict nor the exit code.

    Exit code 0: it loads; 1: something is refused or was not judged; 2: invalid usage, or there are no models.
    """
    selected, ignored = _parse_codes("--select", select), _parse_codes("--ignore", ignore)
    if show_config and output_format not in ("text", "json"):
        raise click.UsageError(f"--show-config: expected --format text or json, got {output_format}")
    options = Options(
        image=image,
        target=target,
        auto_complete=auto_complete,
        load_models=load_models,
        model_config_name=model_config_name,
        gpus=gpus,
        instance_type=instance_type,
        environment=environment or None,
        target_version=target_version,
        storage_uri=storage_uri,
        allow_empty=allow_empty,
    )
    reports = []
    is_refused = False
    for repository in repositories:
        with _pause_collector():
            result = run(repository, options, cache=ResultCache() if cache else None)
        if result.is_model:
            from tritonforge.cli.terminal import note  # rich costs a third of a validation

            note(f"{repository} contains a config.pbtxt: if it is a model, pass its parent directory")
        if fix:
            result = _fix(repository, result, options, output_format)
        server = _ask_server(repository, result, auto_complete=auto_complete) if with_server else None
        report = RepositoryReport(
            str(repository),
            result.findings,
            result.models,
            result.texts,
            server=server,
            is_tfs_package=result.is_tfs_package,
            select=selected,
            ignore=ignored,
            configs=_read_configs(repository, options) if show_config and not result.is_tfs_package else None,
            documentation=documentation_address(),
        )
        is_refused |= report.is_refused or (strict and bool(result.findings))
        is_refused |= server is not None and (server.loads is False or bool(server.differences))
        reports.append(report)
    text = FORMATS[output_format](reports)
    if output_format == "github":  # its lines are commands, which the renderer has escaped
        click.echo(text)
    else:
        echo(text, err=show_config and output_format == "text")
    if show_config and output_format == "text":
        echo(render_configs(reports), nl=False)
    return 1 if is_refused else 0


def _read_configs(repository: Path, options: Options) -> Mapping[str, LoadedConfig]:
    from tritonforge.validation.loaded_config import build_loaded_configs
    from tritonforge.validation.model_views import build_context
    from tritonforge.validation.tree_reader import read_tree

    return build_loaded_configs(build_context(read_tree(repository), options))


@contextmanager
def _pause_collector() -> Iterator[None]:
    """Pause the garbage collector, which would visit the many objects of a validation again and again.

    All of them live until its end, and the size of what is read is bounded.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _parse_codes(name: str, text: str) -> tuple[str, ...]:
    """Return the codes and prefixes of an option. Raises click.UsageError if no rule has one of them."""
    codes = tuple(code.strip().upper() for code in text.split(",") if code.strip())
    unknown = [code for code in codes if not any(known.startswith(code) for known in load_rules())]
    if unknown:
        raise click.UsageError(
            f"{name}: no rule has the code or prefix {unknown[0]!r}; see tritonforge explain --table"
        )
    return codes


def _ask_server(repository: Path, result: ValidationReport, *, auto_complete: bool) -> ServerVerdict:
    """Return the real server's verdict and where it disagrees with the findings."""
    if result.is_tfs_package:
        raise click.UsageError(f"--with-server runs Triton, but {repository} is a package for TensorFlow Serving")
    from tritonforge.serving.server_check import check_on_server

    answer = check_on_server(repository, auto_complete=auto_complete)
    differences = compare_with_server(result.findings, answer.messages, loads=answer.loads, undecided=answer.undecided)
    return ServerVerdict(
        loads=answer.loads, messages=answer.messages, undecided=answer.undecided, differences=differences
    )


def _fix(repository: Path, result: ValidationReport, options: Options, output_format: str) -> ValidationReport:
    from tritonforge.validation.autofix import apply_fixes
    from tritonforge.validation.tree_reader import read_tree

    fixed = apply_fixes(repository, read_tree(repository), lambda tree: run(tree, options).findings)
    for diff in fixed.diffs:
        echo(diff, nl=False, err=output_format != "text")
    return run(repository, options) if fixed.diffs else result


def compare_with_server(
    findings: Sequence[Finding],
    messages: Sequence[str],
    *,
    loads: bool | None,
    undecided: Collection[str] = (),
) -> tuple[str, ...]:
    """Return a sentence for each disagreement: another verdict, or a message of the server that no finding has.

    Args:
        findings: all findings on the repository.
        messages: the messages of the server.
        loads: the server's verdict, None if it is not decided.
        undecided: models that the server does not decide; their findings are not compared.
    """
    core = select_core_findings(findings)
    skipped = {
        *undecided,
        *(_get_model(finding) for finding in findings if finding not in core and finding.refused_by == "triton"),
    }
    core = [finding for finding in core if _get_model(finding) not in skipped]
    core = [
        finding for finding in core if not ((match := _DEPENDS.search(finding.message)) and match["step"] in skipped)
    ]
    disagreements = []
    ours, theirs = verdict(core), "loads" if loads else "refused"
    if loads is not None and ours != theirs and ours != "not judged":
        disagreements.append(f"the server's verdict is {theirs}, the findings' verdict is {ours}")
    known = [_normalize(finding.message) for finding in core]
    disagreements += [
        f"only the server reports: {message}"
        for message in messages
        if not any(text in _normalize(message) or _normalize(message) in text for text in known)
    ]
    return tuple(disagreements)


def select_core_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings of Triton's core, which a server with stub backends can confirm: they open no model file."""
    from tritonforge.validation.rules.backend_files import CODES_OF_BACKENDS

    backend_rules = ("E5", "E6", *CODES_OF_BACKENDS)
    return [finding for finding in findings if not finding.code.startswith(backend_rules)]


def _get_model(finding: Finding) -> str:
    return finding.path.split("/")[0]


def _normalize(sentence: str) -> str:
    return re.sub(r"\s+", " ", sentence).strip().rstrip(".;")


@click.command(cls=Command, example="tritonforge explain E306")
@click.argument("code", required=False)
@option("--table", is_flag=True, help="Print every rule as a table in Markdown.")
@json_option
def explain(code: str | None, table: bool, as_json: bool) -> int:
    """Print what the rule CODE means, why it exists, and an invalid and a valid example."""
    if table == (code is not None):
        raise click.UsageError("expected the code of a rule, or --table for all of them")
    if code is None:
        if as_json:
            echo_json([_to_json(rule) for rule in load_rules().values()])
        else:
            echo(render_rule_table(), nl=False)
        return 0
    rule = load_rules().get(code.upper())
    if rule is None:
        near = [known for known in load_rules() if known.startswith(code.upper()[:2])]
        rules = f"similar rules: {', '.join(near)}" if near else "tritonforge explain --table lists all rules"
        raise click.UsageError(f"rule {code!r} not found; {rules}")
    if as_json:
        echo_json(_to_json(rule))
        return 0
    click.secho(f"{rule.code}  {rule.severity}, {REFUSERS[rule.refused_by]}", bold=True)
    echo(f"\n  {rule.sentence}\n\n{rule.why}\n")
    for heading, example in (("invalid", rule.bad), ("valid", rule.good)):
        click.secho(f"{heading}:", bold=True)
        echo("".join(f"    {line}\n" for line in example.strip("\n").splitlines()))
    echo(f"source: {rule.source}")
    for sentence in list_rule_changes(rule.code):
        echo(sentence)
    if site := documentation_address():
        echo(f"page: {locate_page(rule.code, site)}")
    return 0


def _to_json(rule: Rule) -> dict[str, Any]:
    names = ("code", "severity", "refused_by", "sentence", "why", "bad", "good", "source")
    return {**{name: getattr(rule, name) for name in names}, "page": locate_page(rule.code, documentation_address())}


def render_rule_table(*, has_pages: bool = False) -> str:
    """Return every rule as Markdown: the content of docs/rules.md, with links to the rules' pages if there are any."""
    lines = [
        "# The rules of `tritonforge validate`",
        "",
        "Written by `tritonforge explain --table`. The first letter is the severity (E error, W warning), the first",
        "digit the subject: 1 layout, 2 model, 3 ensemble, 4 where it is served (40 to 44 SageMaker, 45 KServe, 46",
        "Dynamo, 47 shared memory), 5 DALI, 6 image, 7 packages for SageMaker's TensorFlow Serving container (tfs), 8",
        "model files. `tritonforge explain CODE` prints more.",
        "",
        "| code | refused by | rule |" if has_pages else "| code | refused by | rule | source |",
        "|---|---|---|" if has_pages else "|---|---|---|---|",
    ]
    for rule in load_rules().values():
        name = f"[{rule.code}](rules/{rule.code}.md)" if has_pages else rule.code
        cells = [rule.refused_by or "", rule.sentence, *(() if has_pages else (rule.source,))]  # a page has the source
        lines.append("| " + " | ".join((name, *(_escape_cell(cell) for cell in cells))) + " |")
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
        lines.append("| " + " | ".join(_escape_cell(cell) for cell in row) + " |")
    return "\n".join(lines) + "\n"


def _escape_cell(text: str) -> str:
    return escape_prose(" ".join(text.split())).replace("|", "\\|")
