"""The subcommand of batch transform: transform."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar, cast, get_args

import click
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from tritonforge.cli import fleet
from tritonforge.cli.printing import echo
from tritonforge.cli.stopping import Stop, signals
from tritonforge.cli.terminal import err, human_bytes, out, shown, steps
from tritonforge.inference.http_transport import Address, detect_front_end
from tritonforge.records import AssembleWith, BatchStrategy, SplitType
from tritonforge.repository.download import cache_directory
from tritonforge.transform import (
    RAW,
    DataProcessing,
    HttpModelClient,
    LocalStore,
    ModelClient,
    ModelClientConfig,
    ObjectStore,
    Outcome,
    OutputFormat,
    TransformInput,
    TransformJob,
    TransformOutput,
    build_container_environment,
    check,
    remove_progress,
    run,
)
from tritonforge.transform import Progress as Course
from tritonforge.transform.local_server import LocalServer

__all__ = ["few_arenas", "job_flags", "job_of", "transform"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Seconds to wait for a server that is to be asked.
_CONNECT_TIMEOUT: Final = 10.0

#: Requests at once where nothing is said: one is answered while the next one is decoded, on each core.
_CONCURRENT: Final = max(4, 2 * (os.cpu_count() or 1))

#: Source: glibc, malloc.h.
_M_ARENA_MAX: Final = -8

#: Failed objects that are printed; the JSON report has more.
_SHOWN: Final = 20

_STOPPED: Final = 130

_JOB: Final = (
    click.option("--content-type", metavar="TYPE", help="Of the input; default: the model's one input as it stands."),
    click.option("--accept", metavar="TYPE", help="What the model is asked for."),
    click.option("--split-type", type=click.Choice(get_args(SplitType)), help="How objects become records."),
    click.option("--batch-strategy", type=click.Choice(get_args(BatchStrategy)), help="Records of a request."),
    click.option("--assemble-with", type=click.Choice(get_args(AssembleWith)), help="What stands between answers."),
    click.option("--compression-type", type=click.Choice(["None", "Gzip"]), help="Of the input's objects."),
    click.option("--max-concurrent", type=click.IntRange(0), metavar="N", help="Requests at once."),
    click.option("--max-payload", type=click.IntRange(0, 100), metavar="MB", help="Of a request; 0: any, chunked."),
    click.option("--retries", type=click.IntRange(0, 3), help="Of a request that fails; default 3."),
    click.option("--timeout", type=click.IntRange(1, 3600), metavar="SECONDS", help="For an answer; default 600."),
    click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="A variable of the container."),
    click.option("--input-filter", metavar="JSONPATH", help="What of a record the model gets."),
    click.option("--output-filter", metavar="JSONPATH", help="What of the joined answer is kept."),
    click.option("--join-source", type=click.Choice(["None", "Input"]), help="Join each answer to its record."),
    click.option("--manifest", is_flag=True, help="INPUT is a manifest: a list of objects."),
)


def few_arenas() -> None:
    """Keep malloc from giving every thread a heap of its own, of which each keeps what it once needed (mallopt(3)).

    A job's threads hand records on to each other; with two heaps its memory is a fifth smaller, and as fast.
    """
    with contextlib.suppress(OSError, AttributeError):  # another libc has no such thing
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def job_flags(command: _Command) -> _Command:
    """The flags of a job, for every command that runs one."""
    for option in reversed(_JOB):
        command = option(command)
    return command


def job_of(source: str, target: str, **flags: Any) -> TransformJob:
    """The job that the flags describe; a record of a TFRecord or RecordIO file goes without its frame by itself."""
    given = {name: flags.get(name) for name in ("input_filter", "output_filter", "join_source")}
    client = ModelClientConfig(
        invocations_timeout_in_seconds=flags.get("timeout"), invocations_max_retries=flags.get("retries")
    )
    split_type = cast("SplitType | None", flags.get("split_type"))
    content_type = flags.get("content_type") or RAW
    strategy = flags.get("batch_strategy")
    if strategy is None and content_type == RAW and split_type not in (None, "None"):
        strategy = "SingleRecord"
    return TransformJob(
        input=TransformInput(
            uri=source,
            data_type="ManifestFile" if flags.get("manifest") else "S3Prefix",
            content_type=content_type,
            compression_type=flags.get("compression_type"),
            split_type=split_type,
        ),
        output=TransformOutput(uri=target, accept=flags.get("accept"), assemble_with=flags.get("assemble_with")),
        max_concurrent_transforms=flags.get("max_concurrent"),
        max_payload_in_mb=flags.get("max_payload"),
        batch_strategy=strategy,
        model_client=None if client == ModelClientConfig() else client,
        environment=dict(_pair(each) for each in flags.get("environment") or ()) or None,
        data_processing=DataProcessing(**given) if any(given.values()) else None,
    )


@click.command()
@click.argument("source", metavar="INPUT")
@click.argument("target", metavar="OUTPUT")
@click.option("--model", type=click.Path(path_type=Path), help="A model repository, run on a real Triton here.")
@click.option("--url", help="A server that runs already, in place of --model: http://host:8080.")
@click.option("--default-model", metavar="NAME", help="The model to ask; default the only one, or the outermost.")
@click.option(
    "--form",
    type=click.Choice(get_args(OutputFormat)),
    help="What is written of the answers: as they are (container), JSON lines, tables. Default: jsonl.",
)
@click.option(
    "--gather",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Several records in one request, where the model takes them; auto: as long as that changes no answer.",
)
@job_flags
@fleet.fleet_flags
@click.option("--work", type=click.Path(path_type=Path), help="Where progress is kept; default: beside OUTPUT.")
@click.option("--afresh", is_flag=True, help="Begin anew, whatever an earlier run has finished.")
@click.option("--log", type=click.Path(path_type=Path, dir_okay=False), help="Keep tritonserver's log in this file.")
@click.option("--format", "report", type=click.Choice(["text", "json"]), default="text", help="How to report.")
def transform(
    source: str,
    target: str,
    model: Path | None,
    url: str | None,
    default_model: str | None,
    form: OutputFormat | None,
    gather: str,
    work: Path | None,
    afresh: bool,
    log: Path | None,
    report: str,
    **flags: Any,
) -> int:
    """Ask a model for every record of INPUT and write OUTPUT/<key>.out for each object, as SageMaker's jobs do.

    INPUT and OUTPUT are folders, or s3:// addresses. Each object is one request, or, with --split-type, each record
    of it. Ctrl-C stops; the same command goes on from there, and so it does after a crash. An object with a record
    that fails has no output; it costs no other object anything.

    With --on sagemaker the job runs on SageMaker's fleet, from S3 to S3: MODEL is packed and uploaded, or is the name
    of a model that is there; the plan is shown first, then the job's status and log.
    """
    few_arenas()
    if model is None and url is None:
        raise click.UsageError("say which model: --model FOLDER (a model repository), or --url of a server")
    if model is not None and url is not None:
        raise click.UsageError("--model and --url exclude each other: a repository is run here, or a server is asked")
    if url is not None and default_model is not None:
        raise click.UsageError("--default-model is for --model; a server at --url has its own default model")
    if flags["on"] == "sagemaker":
        if model is None or form not in (None, "container"):
            raise click.UsageError("--on sagemaker takes --model, and writes the answers as they are: --form container")
        if work or afresh or log or gather != "auto":
            raise click.UsageError("--work, --afresh, --log and --gather are for jobs of this machine")
        flags["max_concurrent"] = fleet.concurrent(flags["max_concurrent"], flags["max_payload"])
        job = fleet.asking_for(default_model, job_of(source, target, **flags))
        return fleet.on_sagemaker(job, model, report=report, **flags)
    fleet.check_unused(flags)
    if flags.get("max_concurrent") is None:
        payload = flags.get("max_payload")
        flags["max_concurrent"] = min(_CONCURRENT, 100 // payload) if payload else _CONCURRENT
    job = job_of(source, target, **flags)
    chosen: OutputFormat = form or ("jsonl" if job.data_processing is None else "container")
    folder = work or _work(source, target)
    _check_apart(source, target, folder)
    if url is not None:
        url = _front_end(url)
    if afresh:
        remove_progress(folder)
    objects, outputs = _place(source, flags), _place(target, flags, partial=folder / "partial")
    check(job, source=objects, sink=outputs)
    with ExitStack() as stack:
        stop = stack.enter_context(signals())
        asker, gathering = stack.enter_context(_server(model, url, default_model, job, log, stop))
        identity = f"{default_model or ''} {'' if model is None else _identity(model)}"
        progress = stack.enter_context(_bar())
        stop.working = True
        outcome = run(
            job,
            source=objects,
            sink=outputs,
            client=asker,
            work=folder,
            output_format=chosen,
            coalescer=gathering if gather != "never" else None,
            always_coalesce=gather == "always",
            model_identity=identity,
            on_progress=progress,
            stop=stop.event,
        )
        stop.working = False
    if outcome.state == "Completed":
        remove_progress(folder)
    _report(outcome, target, report, folder)
    return {"Completed": 0, "Failed": 1, "Stopped": _STOPPED}[outcome.state]


@contextmanager
def _server(
    model: Path | None, url: str | None, default_model: str | None, job: TransformJob, log: Path | None, stop: Stop
) -> Iterator[tuple[ModelClient, Any]]:
    """What answers, and how it takes several records at once."""
    connections = job.max_concurrent_transforms or 1
    if url is not None:
        asker = HttpModelClient(url, connections=connections)
        try:
            yield asker, None
        finally:
            asker.close()
        return
    assert model is not None
    with steps() as progress:
        progress.begin(f"starting tritonserver on {model}")
        server = LocalServer(
            model,
            default_model=default_model,
            environment=build_container_environment(job),
            connections=connections,
            log=log,
            on_progress=progress.detail,
            on_restart=lambda sentence: err.print(f"[yellow]note:[/yellow] {escape(sentence)}"),
        )
    with server:
        for warning in server.server.warnings:
            err.print(f"[yellow]note:[/yellow] {escape(warning)}")
        yield server, server.probe_coalescer()


def _front_end(url: str) -> str:
    """The address of a server with ``/invocations``; any other is refused before the job begins."""
    if "://" not in url:
        url = f"http://{url}"
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--url {url}: write http://host:port; SageMaker's models are asked with --on sagemaker")
    with closing(Address(url, timeout=_CONNECT_TIMEOUT, connections=1)) as address:
        if detect_front_end(address) == "triton":
            raise click.UsageError(
                f"--url {url} is Triton's own HTTP port, which has no /invocations; use its SageMaker port (8080)"
            )
    return url


@contextmanager
def _bar() -> Iterator[Callable[[Course], None]]:
    """A progress bar where somebody watches."""
    if not err.is_terminal:
        yield lambda course: None
        return
    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("listing ...", total=None)
        yield lambda course: _draw(bar, task, course)


def _draw(bar: Progress, task: TaskID, course: Course) -> None:
    objects = course.objects + course.objects_before
    of = "" if course.total_objects is None else f" of {course.total_objects:,}"
    parts = [f"{objects:,}{of} objects"]
    if course.failed:
        parts.append(f"[red]{course.failed:,} failed[/red]")
    parts.append(f"{course.rate:,.0f} images/s")
    if (left := course.seconds_left) is not None:
        minutes, seconds = divmod(round(left), 60)
        parts.append(f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left")
    bar.update(
        task,
        description=", ".join(parts),
        total=course.total_size or course.total_objects,
        completed=course.size + course.size_before if course.total_size else objects + course.failed,
    )


def _place(uri: str, flags: Mapping[str, Any], *, partial: Path | None = None) -> ObjectStore:
    return fleet.objects(flags) if uri.startswith("s3://") else LocalStore(partial)


def _work(source: str, target: str) -> Path:
    """Where progress is kept: beside a folder of this machine, so that finished files need only be moved."""
    if not target.startswith("s3://"):
        folder = Path(target).absolute()
        return folder.with_name(f".{folder.name}.transform")
    return cache_directory() / "transform" / hashlib.sha256(f"{source}\n{target}".encode()).hexdigest()[:16]


def _check_apart(source: str, target: str, work: Path) -> None:
    """Outputs and progress must not lie among the input, where the next run would take them for objects."""
    if source.startswith("s3://") and target.startswith("s3://"):
        apart = not f"{target.rstrip('/')}/".startswith(f"{source.rstrip('/')}/")
    elif source.startswith("s3://"):
        apart = True
    else:
        top = Path(source).resolve()
        apart = not any(top == each or top in each.parents for each in (Path(target).resolve(), work.resolve()))
    if not apart:
        raise click.UsageError(f"OUTPUT {target} (or --work) lies inside of INPUT {source}; name a folder beside it")


def _identity(repository: Path) -> str:
    """A text that changes when a repository's files do."""
    digest = hashlib.sha256()
    for path in sorted(repository.rglob("*")):
        status = path.stat()
        digest.update(f"{path.relative_to(repository)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--env {text!r}: write NAME=VALUE")
    return name, value


def _report(outcome: Outcome, target: str, form: str, work: Path) -> None:
    rate = outcome.records / outcome.seconds if outcome.seconds else 0.0
    if form == "json":
        told = {
            "state": outcome.state,
            "objects": outcome.objects,
            "objects_before": outcome.objects_before,
            "failed": outcome.failed,
            "records": outcome.records,
            "bytes": outcome.size,
            "seconds": round(outcome.seconds, 3),
            "images_per_second": round(rate, 1),
            "reason": outcome.reason,
            "notes": list(outcome.notes),
            "failures": [
                {"object": each.uri, "record": each.record, "reason": each.reason} for each in outcome.failures
            ],
        }
        echo(json.dumps(told, indent=2))
    else:
        colour = {"Completed": "green", "Failed": "red", "Stopped": "yellow"}[outcome.state]
        before = f" ({outcome.objects_before:,} of them before)" if outcome.objects_before else ""
        out.print(
            f"[{colour}]{outcome.state}[/{colour}]  {outcome.objects:,} objects{before} -> {shown(target)}  "
            f"[dim]{outcome.records:,} records, {human_bytes(outcome.size)}, {outcome.seconds:.1f} s, "
            f"{rate:,.0f} images/s[/dim]"
        )
    for note in outcome.notes:
        err.print(f"[yellow]note:[/yellow] {escape(note)}")
    for each in outcome.failures[:_SHOWN]:
        where = f", record {each.record}" if each.record is not None else ""
        err.print(f"[red]failed:[/red] {shown(each.uri)}{where}: {shown(each.reason)}")
    if outcome.failed > _SHOWN:
        err.print(f"[red]failed:[/red] {outcome.failed - _SHOWN:,} more (--format json lists 1,000)")
    if outcome.reason and not outcome.failures:
        err.print(f"[red]error:[/red] {escape(outcome.reason)}")
    if outcome.state != "Completed":
        kept = f"the same command goes on from here (--afresh begins anew); progress is kept in {work}"
        err.print(f"[dim]{escape(kept)}[/dim]")
