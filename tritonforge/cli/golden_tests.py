"""The command test: it runs golden tests on the real server or on a deployed endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tritonforge.cli.case_reports import FORMATS, SuiteReport, format_result, format_total
from tritonforge.cli.command import Command
from tritonforge.cli.options import (
    EXISTING_DIRECTORY,
    EXISTING_PATH,
    OUTPUT,
    SAGEMAKER,
    AwsOptions,
    add_options,
    format_option,
    option,
    reject_options,
)
from tritonforge.cli.terminal import Steps, escape_markup, format_count, note, out, steps
from tritonforge.golden_tests.case_files import CaseDirectory
from tritonforge.golden_tests.pictures import write_tensors
from tritonforge.golden_tests.runner import EndpointRunner, RepositoryRunner
from tritonforge.golden_tests.session import TestedPath, find_tested_path, open_runner
from tritonforge.golden_tests.suite import CaseResult, Mode, list_unreadable_cases, run_case, select_cases
from tritonforge.inference.client import Client

__all__ = ["test"]

_STYLES = {"failed": "red", "invalid": "red", "passed": "green", "recorded": "cyan", "updated": "cyan"}


@click.command(
    cls=Command,
    example="""\
tritonforge test repos/digits --record
tritonforge test repos/digits
tritonforge test repos/digits -k seven --report build/report
tritonforge test repos/digits --against sagemaker://digits""",
)
@click.argument("path", type=EXISTING_PATH)
@option("--cases", type=EXISTING_DIRECTORY, metavar="DIR",
        help="The directory of the cases. Default: tests, beside the definition or the repository.")  # fmt: skip
@option("--record", is_flag=True, help="Record the answers of cases that have no recording, and compare the others.")
@option("--update", is_flag=True, help="Record the answers of all cases that differ, and print what changed.")
@option("-k", "pattern", metavar="TEXT", help="Run the cases whose names contain TEXT.")
@option("--last-failed", "--lf", is_flag=True, help="Run the cases that failed last; all if none did.")
@option("--against", metavar="URL", help="Ask this server instead of a local one: sagemaker://ENDPOINT-NAME, "
        "http://host:8000 or grpc://host:8001. It compares the outputs of the model, not of its steps.")  # fmt: skip
@option("--timeout", default=300.0, type=click.FloatRange(0, min_open=True), metavar="SECONDS", show_default=True,
        help="Wait this long for the models to load.")  # fmt: skip
@add_options(AwsOptions, "aws")
@option("--report", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", group=OUTPUT,
        help="Write the tensors of failed cases to DIR: arrays, and pictures before and after.")  # fmt: skip
@format_option("text", "json", "junit", "github")
def test(
    path: Path,
    cases: Path | None,
    record: bool,
    update: bool,
    pattern: str | None,
    last_failed: bool,
    against: str | None,
    timeout: float,
    aws: AwsOptions,
    report: Path | None,
    output_format: str,
) -> int:
    """Run the golden tests of PATH, a definition or a model repository, on a real Triton on this machine.

    A case is DIR/NAME.json: inputs, and what is expected of the answer. --record asks the server and stores what every
    step answers in DIR/recorded/NAME.json. A later run asks again; if an answer differs, it names the first step whose
    output differs, and by how much. A definition is built first.
    """
    if record and update:
        raise click.UsageError("--record and --update exclude each other")
    if against is not None and (record or update):
        raise click.UsageError(f"--{'record' if record else 'update'} asks a local server; remove --against")
    if against is None or not against.startswith("sagemaker://"):
        reject_options("applies to --against sagemaker://... only", group=SAGEMAKER)
    tested = find_tested_path(path, cases)
    directory = CaseDirectory(tested.cases)
    names = select_cases(directory.list_names(), pattern)
    if not names:
        described = f"no cases contain {pattern!r}" if pattern is not None else "no cases"
        raise click.UsageError(f"{tested.cases}: {described} (expected NAME.json)")
    if last_failed:
        failed = set(directory.read_failures())
        names = [name for name in names if name in failed] or names
    mode: Mode = "update" if update else "record" if record else "replay"
    advice = f"record it: tritonforge test {path} --record" if cases is None else "record it with --record"
    by_name = list_unreadable_cases(directory, names)
    readable = [name for name in names if name not in by_name]
    files: dict[str, list[str]] = {}
    if readable:
        with steps() as progress, _open(tested, against, aws, timeout, progress) as runner:
            progress.begin(f"running {format_count(len(readable), 'case')}")
            for index, name in enumerate(readable):
                progress.detail(f"{index + 1} of {len(readable)}: {name}")
                result = by_name[name] = run_case(directory, name, runner, mode=mode, advice=advice)
                if report is not None and result.status in ("failed", "updated"):
                    files[name] = [str(file) for file in write_tensors(report, result)]
    results = [by_name[name] for name in names]
    _store_failures(directory, results)
    suite = SuiteReport(str(path) if against is None else against, str(tested.cases), results, files)
    if output_format == "text":
        _print_text(suite)
    else:
        click.echo(FORMATS[output_format](suite))  # each format escapes for itself
    return suite.exit_code


@contextmanager
def _open(
    tested: TestedPath, against: str | None, aws: AwsOptions, timeout: float, progress: Steps
) -> Iterator[RepositoryRunner | EndpointRunner]:
    if against is not None:
        options: dict[str, Any] = {"region": aws.region, "profile": aws.profile, "endpoint_url": aws.endpoint_url}
        with Client(against, **{name: value for name, value in options.items() if value is not None}) as client:
            yield EndpointRunner(client)
        return
    repository = tested.build(progress.on_build)
    progress.begin(f"starting tritonserver on {repository}")
    with open_runner(repository, timeout=timeout, on_progress=progress.detail, on_warning=note) as runner:
        yield runner


def _store_failures(directory: CaseDirectory, results: list[CaseResult]) -> None:
    """Store which cases failed; those that did not run keep their state."""
    ran = {result.name for result in results}
    failed = [result.name for result in results if not result.is_success]
    directory.write_failures(sorted({*(set(directory.read_failures()) - ran), *failed}))


def _print_text(suite: SuiteReport) -> None:
    for result in suite.results:
        first, *others = format_result(result, suite.files.get(result.name, ()))
        word, _, rest = first.partition(" ")
        style = _STYLES[result.status]
        out.print(f"[{style}]{word}[/{style}] {escape_markup(rest)}")
        for line in others:
            out.print(line, markup=False)
    out.print(format_total(suite), markup=False)
