"""The parts of deploy and destroy that concern Kubernetes: options, manifests that are written or applied, removal."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import click

from tritonforge.cli.options import DIRECTORY, SAGEMAKER, AwsOptions, declare_option, reject_options
from tritonforge.cli.printing import echo, echo_json
from tritonforge.cli.terminal import err, note, out, steps
from tritonforge.errors import DefinitionError
from tritonforge.escaping import escape_line
from tritonforge.files import describe_error, write_file
from tritonforge.kubernetes import ClusterPlan, ClusterSettings, format_documents, format_yaml, render_plan, to_document
from tritonforge.kubernetes.cluster import Cluster
from tritonforge.kubernetes.cluster_deployment import ClusterDeployment
from tritonforge.kubernetes.cluster_removal import ClusterRemoval
from tritonforge.kubernetes.field_support import ClusterTarget
from tritonforge.kubernetes.repository_upload import RepositoryUpload
from tritonforge.sagemaker.client import Session, Store
from tritonforge.sagemaker.endpoints import Deployment
from tritonforge.sagemaker.endpoints.local_repository import DeploymentSources

__all__ = ["KUBERNETES", "ClusterOptions", "RemovalOptions", "deploy_to_cluster", "destroy_on_cluster",
           "print_plan_lines"]  # fmt: skip

KUBERNETES: Final = "Kubernetes options"
_COLOURS: Final = {"+": "green", "~": "yellow", "-": "red"}
#: The exit code of `--plan --detailed-exitcode` if there are changes to apply.
_CHANGES: Final = 3
_FILES: Final = {
    "ServingRuntime": "serving-runtime.yaml",
    "InferenceService": "inference-service.yaml",
    "values": "values.yaml",
}


class _Replicas(click.ParamType):  # type: ignore[type-arg]  # click before 8.4 cannot subscript it
    """``MIN``, or ``MIN:MAX``."""

    name = "MIN[:MAX]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        least, colon, most = str(value).partition(":")
        if not least.isdecimal() or (colon and not most.isdecimal()):
            self.fail(f"expected {self.name} in numbers, got {value!r}", param, ctx)
        return int(least), int(most) if colon else max(int(least), 1)


class _Scale(click.ParamType):  # type: ignore[type-arg]
    """``METRIC:TARGET``."""

    name = "METRIC:TARGET"
    _METRICS: Final = ("cpu", "memory", "concurrency", "rps")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        metric, _, target = str(value).partition(":")
        if metric not in self._METRICS or not target.isdecimal():
            self.fail(f"expected one of {', '.join(self._METRICS)} and a number, got {value!r}", param, ctx)
        return metric, int(target)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """The options of deploy that describe the service on a cluster, and the cluster."""

    apply: bool = declare_option(
        "--apply", is_flag=True, group=KUBERNETES,
        help="Compare with the cluster, and send the changes when you confirm; with --plan compare only.",
    )  # fmt: skip
    output: Path | None = declare_option(
        "-o", "--output", type=DIRECTORY, metavar="DIR|-", group=KUBERNETES,
        help="Write the manifests into DIR, or to standard output.",
    )  # fmt: skip
    context: str | None = declare_option(
        "--context", metavar="NAME", group=KUBERNETES, help="The context of the kubeconfig. Default: the current one."
    )
    namespace: str | None = declare_option(
        "--namespace", metavar="NAME", group=KUBERNETES, help="The namespace. Default: default."
    )
    storage_uri: str | None = declare_option(
        "--storage-uri", metavar="URI", group=KUBERNETES,
        help="Where the repository lies: s3://, gs://, pvc:// and others; nfs://SERVER/PATH with --to helm. With "
        "--apply it is uploaded to s3:// first.",
    )  # fmt: skip
    no_upload: bool = declare_option(
        "--no-upload", is_flag=True, group=KUBERNETES,
        help="Do not upload the repository to s3://: it is there already.",
    )  # fmt: skip
    version: str | None = declare_option(
        "--target-version", metavar="VERSION", group=KUBERNETES,
        help="The version of KServe. Default: the newest known.",
    )  # fmt: skip
    service_account: str | None = declare_option(
        "--service-account",
        metavar="NAME",
        group=KUBERNETES,
        help="The service account with credentials.",
    )
    cpu: str | None = declare_option(
        "--cpu", metavar="QUANTITY", group=KUBERNETES, help="CPUs of a replica, such as 4 or 500m."
    )
    memory: str | None = declare_option(
        "--memory", metavar="QUANTITY", group=KUBERNETES, help="Memory of a replica, such as 8Gi."
    )
    gpus: int | None = declare_option(
        "--gpus", type=click.IntRange(0), metavar="N", group=KUBERNETES, help="GPUs of a replica."
    )
    shared_memory: str | None = declare_option(
        "--shared-memory", metavar="QUANTITY", group=KUBERNETES,
        help="The size of /dev/shm. Default: computed from the Python models.",
    )  # fmt: skip
    replicas: tuple[int, int] | None = declare_option(
        "--replicas",
        type=_Replicas(),
        metavar="MIN[:MAX]",
        group=KUBERNETES,
        help="Replicas. Default: 1.",
    )
    scale: tuple[str, int] | None = declare_option(
        "--scale", type=_Scale(), metavar="METRIC:TARGET", group=KUBERNETES,
        help="Scale the replicas by cpu or memory (percent), concurrency or rps.",
    )  # fmt: skip
    deployment_mode: str | None = declare_option(
        "--deployment-mode", type=click.Choice(["Standard", "Knative"]), group=KUBERNETES,
        help="How KServe runs the service. Default: the cluster's.",
    )  # fmt: skip
    load_models: tuple[str, ...] = declare_option(
        "--load-model", multiple=True, metavar="NAME", group=KUBERNETES,
        help="Load this model, in the model control mode explicit. Default: all.",
    )  # fmt: skip
    ready_timeout: float = declare_option(
        "--ready-timeout", type=click.FloatRange(0), default=900.0, metavar="SECONDS", group=KUBERNETES,
        help="Wait so long for the service. Default: 900.",
    )  # fmt: skip
    force_conflicts: bool = declare_option(
        "--force-conflicts", is_flag=True, group=KUBERNETES, help="Take over fields that another program manages."
    )

    def override(self, settings: ClusterSettings) -> ClusterSettings:
        """Return the settings with every option that was given. Raises DefinitionError as `ClusterSettings`."""
        names = {field.name for field in fields(ClusterSettings)} & {field.name for field in fields(self)}
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        given["load_models"] = self.load_models or None
        if self.replicas is not None:
            given["min_replicas"], given["max_replicas"] = self.replicas
        if self.scale is not None:
            given["scale_metric"], given["scale_target"] = self.scale
        return settings.with_settings(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalOptions:
    """The options of destroy that name the service on a cluster."""

    context: str | None = declare_option(
        "--context", metavar="NAME", group=KUBERNETES, help="The context of the kubeconfig. Default: the current one."
    )
    namespace: str | None = declare_option(
        "--namespace", metavar="NAME", group=KUBERNETES,
        help="The namespace. Default: that of the definition's ClusterSettings, else default.",
    )  # fmt: skip
    timeout: float = declare_option(
        "--timeout", type=click.FloatRange(0), default=300.0, metavar="SECONDS", group=KUBERNETES,
        help="Wait that long until the service is gone. Default: 300.",
    )  # fmt: skip


def deploy_to_cluster(
    target: ClusterTarget,
    deployment: Deployment,
    sources: DeploymentSources,
    options: ClusterOptions,
    *,
    aws: AwsOptions,
    only_plan: bool,
    detailed_exitcode: bool,
    as_json: bool,
    confirm: Callable[[], None],
) -> int:
    """Write the manifests of a deployment, or compare them with a cluster and apply them; return the exit code."""
    _check_options(target, options, only_plan=only_plan, as_json=as_json)
    settings = options.override(sources.find_value(ClusterSettings) or ClusterSettings())
    is_in_s3 = target == "kserve" and (settings.storage_uri or "").startswith("s3://")
    uploads = is_in_s3 and options.apply and not options.no_upload
    if not uploads:
        reject_options("applies to --to sagemaker, and to the upload of --to kserve --apply", group=SAGEMAKER)
    cluster = Cluster(options.context) if options.apply else None  # without its extra, this is what is missing
    with (
        steps() as progress,
        _open_upload(settings.storage_uri if uploads else None, aws) as upload,
        ClusterDeployment(
            deployment, settings, sources,
            target=target, cluster=cluster, upload=upload,
            force_conflicts=options.force_conflicts, ready_timeout=options.ready_timeout, progress=progress,
        ) as change,
    ):  # fmt: skip
        plan = change.plan()
        progress.end()
        is_final = only_plan or not options.apply or not plan.has_changes
        if options.output is not None:
            _write(plan, options.output)
        if as_json:
            if is_final:
                echo_json(to_document(plan))
        else:
            if options.output is None or options.apply:
                print_plan_lines(render_plan(plan))
            else:
                for sentence in plan.notes:
                    note(escape_line(sentence))
            if is_in_s3 and not options.apply:
                note(f"--apply uploads the repository to {escape_line(settings.storage_uri or '')} first")
            for finding in change.findings:
                err.print(escape_line(f"finding: {finding.code} {finding.path}: {finding.message}"), markup=False)
        if is_final:
            return _CHANGES if detailed_exitcode and plan.has_changes else 0
        confirm()
        change.submit()
        service = change.result()
        progress.end()
    if as_json:
        echo_json({**to_document(plan), "applied": True, "url": service.url})
        return 0
    out.print(f"{service.name} is ready in namespace {service.namespace}", markup=False)
    if service.url:
        out.print(f"  {service.url}", style="dim", markup=False)
    return 0


@contextmanager
def _open_upload(uri: str | None, aws: AwsOptions) -> Iterator[RepositoryUpload | None]:
    """Open the upload to an address in S3; None without one."""
    if uri is None:
        yield None
        return
    with Session(**aws.session_arguments) as session:
        yield RepositoryUpload(Store(session), uri)


def destroy_on_cluster(
    target: ClusterTarget,
    name: str,
    namespace: str,
    options: RemovalOptions,
    *,
    only_plan: bool,
    as_json: bool,
    confirm: Callable[[], None],
) -> int:
    """Delete a service from a cluster, or name the command of Helm that does; return the exit code."""
    if target == "helm":
        reject_options("applies to --to kserve only; helm removes the chart", names=["context", "timeout", "yes"])
        command = ["helm", "uninstall", name, "--namespace", namespace]
        if as_json:
            echo_json({"format": 1, "target": target, "command": command})
        else:
            note("tritonforge changes nothing here; remove the chart with helm:")
            echo(shlex.join(command))
        return 0
    with steps() as progress:
        removal = ClusterRemoval(name, namespace, Cluster(options.context), timeout=options.timeout, progress=progress)
        plan = removal.plan()
        progress.end()
        is_final = only_plan or not plan.steps
        if as_json and is_final:
            echo_json(to_document(plan))
        elif not as_json and (plan.steps or plan.notes):
            print_plan_lines(render_plan(plan))
        elif not as_json:
            out.print(f"There is nothing of {name} in namespace {namespace}.", markup=False)
        if is_final:
            return 0
        confirm()
        removal.submit()
        removal.result()
        progress.end()
    if as_json:
        echo_json({**to_document(plan), "applied": True})
    else:
        out.print(f"{name} is deleted from namespace {namespace}", markup=False)
    return 0


def print_plan_lines(lines: list[str]) -> None:
    """Print the lines of a plan, coloured by their signs."""
    for line in lines:
        sign = line[2:3] if line.startswith("  ") and line[3:4] == " " else ""
        out.print(escape_line(line), markup=False, style=_COLOURS.get(sign))


def _check_options(target: ClusterTarget, options: ClusterOptions, *, only_plan: bool, as_json: bool) -> None:
    if target == "helm":
        reject_options(
            "applies to --to kserve only; helm installs the chart with the values that -o DIR writes",
            names=["apply", "context", "force_conflicts", "no_upload", "ready_timeout"],
        )
    if not options.apply:
        reject_options("needs --apply", names=["context", "force_conflicts", "no_upload", "ready_timeout", "yes"])
    if not (only_plan or options.apply or options.output is not None):
        raise click.UsageError("give --plan to print the manifests, -o DIR to write them, or --apply to send them")
    if options.apply and options.output == Path("-"):
        raise click.UsageError("--apply and -o - both write to standard output; give -o DIR")
    if as_json and options.output == Path("-"):
        raise click.UsageError("--format json and -o - both write to standard output; give -o DIR")


def _write(plan: ClusterPlan, output: Path) -> None:
    if output == Path("-"):
        echo(format_documents(plan.manifests), nl=False)
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        for step in plan.steps:
            write_file(output / _FILES[step.kind], format_yaml(step.manifest).encode())
    except OSError as error:
        raise DefinitionError(f"{output}: cannot write: {describe_error(error)}") from error
    note(f"wrote {', '.join(str(output / _FILES[step.kind]) for step in plan.steps)}")
