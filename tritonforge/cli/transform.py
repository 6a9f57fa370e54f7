"""The command transform: batch inference on this machine, or as a SageMaker transform job."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Final, get_args

import click

from tritonforge.cli.command import Command
from tritonforge.cli.data_set import create_store
from tritonforge.cli.job_monitor import INTERRUPTED, SubmitOptions
from tritonforge.cli.options import (
    EXISTING_PATH,
    FILE,
    LOCAL,
    AwsOptions,
    add_options,
    json_option,
    option,
    reject_options,
    reject_unused_aws_options,
)
from tritonforge.cli.terminal import note, steps, stop_on_signals
from tritonforge.cli.transform_cluster import RAY, ClusterOptions, run_on_ray
from tritonforge.cli.transform_job import TransformOptions, TransformSageMakerOptions, run_on_sagemaker
from tritonforge.cli.transform_report import print_outcome, show_progress
from tritonforge.files import cache_directory
from tritonforge.inference.http_transport import Address, detect_front_end
from tritonforge.sagemaker.jobs.transform import choose_concurrency
from tritonforge.transform import (
    HttpModelClient,
    LocalStore,
    ModelClient,
    Outcome,
    OutputFormat,
    RequestCoalescer,
    TransformJob,
    build_container_environment,
    check,
    remove_progress,
    run,
)
from tritonforge.transform.cluster.messages import Gathering
from tritonforge.transform.local_server import LocalServer, choose_requests_in_flight, identify_repository

__all__ = ["limit_malloc_arenas", "transform"]

#: Seconds to wait for the server at --url.
_CONNECT_TIMEOUT: Final = 10.0

#: Source: glibc, malloc.h.
_M_ARENA_MAX: Final = -8

_DEFAULT_MODEL: Final = "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"


@click.command(
    cls=Command,
    example="""\
tritonforge transform pictures out --repository build/digits
tritonforge transform s3://bucket/in/ s3://bucket/out --repository build/digits --on sagemaker --role Role""",
)
@click.argument("source", metavar="INPUT")
@click.argument("target", metavar="OUTPUT")
@option("--repository", type=EXISTING_PATH, metavar="PATH",
        help="A model repository; with --on sagemaker also an archive or a definition.")  # fmt: skip
@option("--model", metavar="NAME", help="The model to run. Default: the only one, or the outermost ensemble.")
@option("--url", metavar="URL", group=LOCAL, help="Use the running server http://host:8080 instead of --repository.")
@option(
    "--output-format",
    type=click.Choice(get_args(OutputFormat)),
    help="Write answers unchanged (container), as JSON lines, or as tables. Default: jsonl; container with data "
    "processing and --on sagemaker.",
)
@option(
    "--on",
    type=click.Choice(["here", "ray", "sagemaker"]),
    default="here",
    show_default=True,
    help="Run the model on this machine, on a Ray cluster or on SageMaker.",
)
@add_options(TransformOptions, "job_options")
@option(
    "--gather",
    type=click.Choice(get_args(Gathering)),
    default="auto",
    show_default=True,
    group=LOCAL,
    help="Send several records in one request if the model accepts them; auto: as long as no answer changes.",
)
@option(
    "--work",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    group=LOCAL,
    help="Keep progress here. Default: beside OUTPUT.",
)
@option("--afresh", is_flag=True, group=LOCAL, help="Start again, whatever an earlier run has finished.")
@option("--log", type=FILE, metavar="FILE", group=LOCAL, help="Write tritonserver's log to this file.")
@add_options(ClusterOptions, "cluster_options")
@add_options(TransformSageMakerOptions, "sagemaker_options")
@add_options(SubmitOptions, "submit_options")
@add_options(AwsOptions, "aws")
@json_option
def transform(
    source: str,
    target: str,
    repository: Path | None,
    model: str | None,
    url: str | None,
    output_format: OutputFormat | None,
    on: str,
    job_options: TransformOptions,
    gather: Gathering,
    work: Path | None,
    afresh: bool,
    log: Path | None,
    cluster_options: ClusterOptions,
    sagemaker_options: TransformSageMakerOptions,
    submit_options: SubmitOptions,
    aws: AwsOptions,
    as_json: bool,
) -> int:
    """Run batch inference on every record of INPUT and write OUTPUT/<key>.out for each object, as SageMaker does.

    INPUT and OUTPUT are directories or s3:// addresses. Each object, or with --split-type each of its records, is a
    request. After Ctrl-C or a crash the same command continues where it was. An object with a record that fails has no
    output; other objects are not affected.

    With --on ray a Ray cluster runs the job: every worker starts a tritonserver, and what a lost node has not finished
    goes to others. Directories must be shared by all nodes. --max-concurrent counts for each worker.

    With --on sagemaker the job runs on SageMaker, from S3 to S3: the model is packed and uploaded, the plan is shown,
    then the job's status and log.
    """
    limit_malloc_arenas()
    sources = {"--repository": repository, "--url": url, "--sagemaker-model": sagemaker_options.sagemaker_model}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} exclude each other")
    if model is not None and url is not None:
        raise click.UsageError("--model names a model of --repository; the server at --url has its own default model")
    job = job_options.build_job(source, target)
    if on != "ray":
        reject_options("applies to --on ray only", group=RAY)
    if on == "sagemaker":
        reject_options("applies to jobs on this machine only", group=LOCAL)
        if repository is None and sagemaker_options.sagemaker_model is None:
            raise click.UsageError("--on sagemaker needs a model: --repository PATH or --sagemaker-model NAME")
        if output_format not in (None, "container"):
            raise click.UsageError("--on sagemaker writes the answers unchanged: --output-format container")
        job = replace(job, max_concurrent_transforms=choose_concurrency(job))
        if model is not None:
            job = replace(job, environment={**(job.environment or {}), _DEFAULT_MODEL: model})
        return run_on_sagemaker(job, repository, sagemaker_options, submit_options, aws, as_json=as_json)
    names = [field.name for options in (TransformSageMakerOptions, SubmitOptions) for field in fields(options)]
    reject_options("applies to --on sagemaker only", names=names)
    reject_unused_aws_options(source, target)
    if on == "ray":
        reject_options("names one server; with --on ray every worker starts its own", names=["url"])
        reject_options("is the log of one server; with --on ray every worker has its own", names=["log"])
    if repository is None and url is None:
        raise click.UsageError("the model is missing: give --repository PATH, or --url of a server")
    work = work or _choose_work_directory(source, target)
    _check_separate(source, target, work)
    if afresh:
        remove_progress(work)
    if not source.startswith("s3://") and not Path(source).exists():
        raise click.UsageError(f"INPUT {source}: no such file or directory")
    objects = create_store(source, aws)
    outputs = create_store(target, aws) if target.startswith("s3://") else LocalStore(work / "partial")
    if url is not None:
        url = _check_url(url)
    first = check(job, source=objects, sink=outputs)
    written: OutputFormat = output_format or ("jsonl" if job.data_processing is None else "container")
    identity = f"{model or ''} {'' if repository is None else identify_repository(repository)}"
    if on == "ray":
        assert repository is not None
        outcome = run_on_ray(
            job,
            repository,
            cluster_options,
            model=model,
            model_identity=identity,
            first=first,
            output_format=written,
            gathering=gather,
            work=work,
            aws=aws,
            show_progress=show_progress,
        )
        return _finish(outcome, target, work, as_json=as_json)
    job = choose_requests_in_flight(job, os.cpu_count() or 1)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        client, coalescer = stack.enter_context(_open_client(repository, url, model, job, log))
        on_progress = stack.enter_context(show_progress())
        stop.is_running = True
        outcome = run(
            job,
            source=objects,
            sink=outputs,
            client=client,
            work=work,
            output_format=written,
            coalescer=coalescer if gather != "never" else None,
            always_coalesce=gather == "always",
            model_identity=identity,
            on_progress=on_progress,
            stop=stop.event,
        )
        stop.is_running = False
    return _finish(outcome, target, work, as_json=as_json)


def _finish(outcome: Outcome, target: str, work: Path, *, as_json: bool) -> int:
    """Print the outcome and return the exit code; the progress of a completed job is removed."""
    if outcome.state == "Completed":
        remove_progress(work)
    print_outcome(outcome, target, work, as_json=as_json)
    return {"Completed": 0, "Failed": 1, "Stopped": INTERRUPTED}[outcome.state]


def limit_malloc_arenas() -> None:
    """Keep malloc from giving every thread a heap of its own, each of which keeps what it once needed (mallopt(3)).

    A job's threads pass records to each other; with two heaps its memory is a fifth smaller at the same speed.
    """
    with contextlib.suppress(OSError, AttributeError):  # another libc has no such function
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


@contextmanager
def _open_client(
    model: Path | None, url: str | None, default_model: str | None, job: TransformJob, log: Path | None
) -> Iterator[tuple[ModelClient, RequestCoalescer | None]]:
    """Connect to a server or start one; yield its client, and how it accepts several records at once."""
    connections = job.max_concurrent_transforms or 1
    if url is not None:
        with closing(HttpModelClient(url, connections=connections)) as client:
            yield client, None
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
            on_restart=note,
        )
    with server:
        for warning in server.server.warnings:
            note(warning)
        yield server, server.probe_coalescer()


def _check_url(url: str) -> str:
    """Return the address of a server with ``/invocations``; reject others before the job begins."""
    if "://" not in url:
        url = f"http://{url}"
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--url {url}: expected http://host:port; for a model on SageMaker use --on sagemaker")
    with closing(Address(url, timeout=_CONNECT_TIMEOUT, connections=1)) as address:
        if detect_front_end(address) == "triton":
            raise click.UsageError(
                f"--url {url} is Triton's own HTTP port, which has no /invocations; use its SageMaker port (8080)"
            )
    return url


def _choose_work_directory(source: str, target: str) -> Path:
    """Return where progress is kept: beside a local directory, so that finished files need only be moved."""
    if not target.startswith("s3://"):
        directory = Path(target).absolute()
        return directory.with_name(f".{directory.name}.transform")
    return cache_directory() / "transform" / hashlib.sha256(f"{source}\n{target}".encode()).hexdigest()[:16]


def _check_separate(source: str, target: str, work: Path) -> None:
    """Reject outputs and progress inside of the input, where the next run would read them as objects."""
    if source.startswith("s3://") and target.startswith("s3://"):
        is_inside = f"{target.rstrip('/')}/".startswith(f"{source.rstrip('/')}/")
    elif source.startswith("s3://"):
        is_inside = False
    else:
        top = Path(source).resolve()
        is_inside = any(path.is_relative_to(top) for path in (Path(target).resolve(), work.resolve()))
    if is_inside:
        raise click.UsageError(f"OUTPUT {target} (or --work) is inside of INPUT {source}; give a separate directory")
