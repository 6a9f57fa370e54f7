"""The command transform with --on ray: its options, the stores of its workers, and its run on a cluster."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from tritonforge.cli.data_set import create_store
from tritonforge.cli.options import AwsOptions, declare_option
from tritonforge.cli.terminal import note, steps, stop_on_signals
from tritonforge.transform import LocalStore, ObjectStore, Outcome, OutputFormat, Progress, TransformJob
from tritonforge.transform.cluster import Gathering, RayCluster, WorkerDemand, WorkerSettings, run_on_cluster
from tritonforge.transform.engine import check_format, describe_job
from tritonforge.transform.job import resolve_settings
from tritonforge.transform.listing import Listing
from tritonforge.transform.local_server import identify_repository
from tritonforge.transform.object_store import MARKER
from tritonforge.transform.run_state import InputObject

__all__ = ["RAY", "ClusterOptions", "ClusterStores", "run_on_ray"]

#: Heading under which the help lists the options.
RAY: Final = "Ray options"


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """The cluster of a job and its workers."""

    address: str | None = declare_option(
        "--address", metavar="ADDRESS", group=RAY,
        help="Join this Ray cluster: HOST:PORT, or auto for the one that runs on this machine. Default: start a "
        "cluster on this machine for the job.",
    )  # fmt: skip
    workers: int | None = declare_option(
        "--workers", type=click.IntRange(1), metavar="N", group=RAY,
        help="The number of workers, each with a tritonserver. Default: one for each node.",
    )  # fmt: skip
    worker_cpus: float | None = declare_option(
        "--worker-cpus", type=click.FloatRange(0, min_open=True), metavar="N", group=RAY,
        help="CPUs that a worker reserves. Default: an equal part of its node's.",
    )  # fmt: skip
    worker_gpus: float | None = declare_option(
        "--worker-gpus", type=click.FloatRange(0), metavar="N", group=RAY,
        help="GPUs that a worker reserves. Default: 0.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClusterStores:
    """Opens the stores of a job on a node. Credentials are those of the node; they are never sent.

    ``partial`` is the directory below which every worker of a local OUTPUT has its own for outputs that are being
    written.
    """

    source: str
    target: str
    partial: Path
    aws: AwsOptions

    def open_source(self) -> ObjectStore:
        """Open the store of the input."""
        return create_store(self.source, self.aws)

    def open_sink(self, worker: str) -> ObjectStore:
        """Open the store of the outputs for a worker."""
        if self.target.startswith("s3://"):
            return create_store(self.target, self.aws)
        return LocalStore(self.partial / worker)


def run_on_ray(
    job: TransformJob,
    repository: Path,
    options: ClusterOptions,
    *,
    model: str | None,
    model_identity: str,
    first: InputObject,
    output_format: OutputFormat,
    gathering: Gathering,
    work: Path,
    aws: AwsOptions,
    show_progress: Callable[[], AbstractContextManager[Callable[[Progress], None]]],
) -> Outcome:
    """Run a job on a Ray cluster and return its outcome; ``first`` is the first object of its input."""
    if options.address is not None and "://" in options.address:
        raise click.UsageError(
            f"--address {options.address}: Ray's client protocol (ray://) carries no streams. Run the command on a "
            "node of the cluster with --address auto, or give HOST:PORT"
        )
    if not repository.is_dir():
        raise click.UsageError(f"--repository {repository}: not a directory (expected a built model repository)")
    check_format(job, output_format)
    source = create_store(job.input.uri, aws)
    located = _locate_job(job)
    stores = ClusterStores(located.input.uri, located.output.uri, work.absolute() / "partial", aws)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        marker = stack.enter_context(_mark_output(located.output.uri))
        settings = WorkerSettings(
            job=located,
            repository=str(repository.absolute()),
            identity=identify_repository(repository),
            model=model,
            output_format=output_format,
            gathering=gathering,
            open_source=stores.open_source,
            open_sink=stores.open_sink,
            first=locate_object(first).stored or stores.open_source().find(located.input.uri),
            marker=marker,
        )
        with steps() as progress:
            where = "a local Ray cluster" if options.address is None else f"the Ray cluster at {options.address}"
            progress.begin(f"starting {where}" if options.address is None else f"joining {where}")
            cluster = stack.enter_context(RayCluster(settings, address=options.address))
        on_progress = stack.enter_context(show_progress())
        stop.is_running = True
        outcome = run_on_cluster(
            Listing(job, source),
            cluster=cluster,
            demand=WorkerDemand(workers=options.workers, cpus=options.worker_cpus, gpus=options.worker_gpus or 0.0),
            source=source,
            work=work,
            description=describe_job(job, resolve_settings(job), output_format, model_identity=model_identity),
            locate=locate_object,
            total=Listing(job, source),
            on_progress=on_progress,
            on_note=note,
            stop=stop.event,
        )
        stop.is_running = False
    return outcome


def locate_object(listed: InputObject) -> InputObject:
    """Return an object with an address that is the same on all nodes: a relative path becomes an absolute one."""
    if "://" in listed.uri:
        return listed
    uri = _make_absolute(listed.uri)
    return replace(listed, uri=uri, stored=None if listed.stored is None else replace(listed.stored, uri=uri))


def _locate_job(job: TransformJob) -> TransformJob:
    return replace(
        job,
        input=replace(job.input, uri=_make_absolute(job.input.uri)),
        output=replace(job.output, uri=_make_absolute(job.output.uri)),
    )


def _make_absolute(uri: str) -> str:
    return uri if "://" in uri else os.path.join(Path.cwd(), uri)  # noqa: PTH118 - Path would normalise the prefix


@contextmanager
def _mark_output(target: str) -> Iterator[tuple[str, bytes] | None]:
    """Put a file with a random text into a local OUTPUT, by which nodes see that it is the same directory."""
    if "://" in target:
        yield None
        return
    marker = Path(target) / MARKER
    content = secrets.token_bytes(16)
    marker.write_bytes(content)
    try:
        yield str(marker), content
    finally:
        marker.unlink(missing_ok=True)
