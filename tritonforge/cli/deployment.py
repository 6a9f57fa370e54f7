"""The commands deploy and destroy."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import click

from tritonforge.cli.cluster import (
    KUBERNETES,
    ClusterOptions,
    RemovalOptions,
    deploy_to_cluster,
    destroy_on_cluster,
    print_plan_lines,
)
from tritonforge.cli.command import Command
from tritonforge.cli.deployment_options import DeploymentOptions
from tritonforge.cli.options import SAGEMAKER, AwsOptions, add_options, json_option, option, reject_options, yes_option
from tritonforge.cli.printing import echo_json
from tritonforge.cli.terminal import err, note, out, steps
from tritonforge.escaping import escape_line
from tritonforge.kubernetes import ClusterSettings
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Deployment, Plan, render, to_json
from tritonforge.sagemaker.endpoints.deployer import EndpointDeployment, EndpointRemoval
from tritonforge.sagemaker.endpoints.local_repository import DeploymentSources, find_deployment, is_definition

__all__ = ["confirm_plan", "deploy", "destroy"]

#: The exit code of `--plan --detailed-exitcode` if there are changes to apply; 1 and 2 are errors everywhere.
_CHANGES: Final = 3


@click.command(
    cls=Command,
    example="""\
tritonforge deploy build/digits --image 24.09 --instance-type ml.g4dn.xlarge --role TritonForgeExecutionRole
tritonforge deploy build/digits --image 24.09 --serverless 4096:5 --role TritonForgeExecutionRole --plan
tritonforge deploy build/digits --to kserve --image 24.09 --storage-uri s3://models/digits --memory 4Gi --plan""",
)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path, exists=True))
@option(
    "--to", "target", type=click.Choice(["sagemaker", "kserve", "helm"]), default="sagemaker",
    help="SageMaker, KServe, or values for NVIDIA's chart deploy/k8s-onprem. Default: sagemaker.",
)  # fmt: skip
@option("--plan", "only_plan", is_flag=True, help="Print the plan with every request; change nothing.")
@option("--detailed-exitcode", is_flag=True, help="With --plan: exit 3 if there are changes to apply.")
@yes_option
@option("--prune", is_flag=True, help="Delete old generations afterwards.")
@option("--keep", type=click.IntRange(0), default=0, metavar="N", help="With --prune: keep the N newest. Default: 0.")
@add_options(DeploymentOptions, "options")
@add_options(AwsOptions, "aws")
@add_options(ClusterOptions, "cluster")
@json_option
def deploy(
    paths: tuple[Path, ...],
    target: Literal["sagemaker", "kserve", "helm"],
    only_plan: bool,
    detailed_exitcode: bool,
    yes: bool,
    prune: bool,
    keep: int,
    options: DeploymentOptions,
    aws: AwsOptions,
    cluster: ClusterOptions,
    as_json: bool,
) -> int:
    """Create or update a SageMaker endpoint from PATH: a built repository, a model.tar.gz, or a definition.

    With --to kserve it writes a ServingRuntime and an InferenceService, and with --apply uploads the repository to an
    s3:// storage URI and sends them to a cluster; with --to helm it writes values for NVIDIA's chart. The repository is
    validated first, for the same image.

    A definition is built first. The command compares what AWS has with the definition (deployment = Deployment(...))
    and the options, which override it, prints the plan, and applies it when you confirm. Names carry digests: a second
    run changes nothing, and a run that was interrupted is continued by the next one.

    Exit codes: 0 applied, or no changes; 1 AWS or the endpoint failed; 2 invalid input or usage; 3 only with --plan
    --detailed-exitcode: there are changes to apply.
    """
    if target != "sagemaker":
        reject_options("applies to --to sagemaker only", names=["prune", "keep"])
    else:
        reject_options("applies to --to kserve and --to helm only", group=KUBERNETES)
    if detailed_exitcode and not only_plan:
        raise click.UsageError("--detailed-exitcode needs --plan")
    if keep and not prune:
        raise click.UsageError("--keep needs --prune")
    if not paths and not options.variants:
        raise click.UsageError("missing PATH: give a built repository, a model.tar.gz or a definition, or --variant")
    if target != "sagemaker":
        sources = DeploymentSources.load(paths)
        return deploy_to_cluster(
            target,
            options.override(sources.describe_deployment(name=options.name), region=None),
            sources,
            cluster,
            aws=aws,
            only_plan=only_plan,
            detailed_exitcode=detailed_exitcode,
            as_json=as_json,
            confirm=lambda: confirm_plan(yes=yes, as_json=as_json),
        )
    with steps() as progress:
        sources = DeploymentSources.load(paths)
        desired = options.override(sources.describe_deployment(name=options.name), region=aws.region)
        if options.variants:  # the paths of this option are relative to the working directory
            sources = replace(sources, base=Path())
        arguments = {**aws.session_arguments, "region_name": desired.region}
        with (
            Session(**arguments) as session,
            EndpointDeployment(
                desired, sources, session, keep=keep if prune else None, is_preview=only_plan, progress=progress
            ) as deployment,
        ):
            plan = deployment.plan()
            progress.end()
            if not as_json:
                _print_plan(plan)
                for finding in deployment.findings:
                    sentence = f"finding: {finding.code} {finding.path}: {finding.message}"
                    err.print(escape_line(sentence), markup=False)
            elif only_plan or not plan.steps:
                echo_json(to_json(plan))
            if only_plan:
                return _CHANGES if detailed_exitcode and plan.steps else 0
            if not plan.steps:
                return 0
            confirm_plan(yes=yes, as_json=as_json)
            deployment.submit()
            endpoint = deployment.result()
            progress.end()
    if as_json:
        echo_json({**to_json(plan), "applied": True})
        return 0
    out.print(f"{endpoint.name} is in service in {endpoint.region} with {endpoint.config}")
    out.print(f"  tritonforge infer {endpoint.url} ...", style="dim")
    if plan.old:
        note(f"{len(plan.old)} old generations are kept; delete them with tritonforge deploy --prune")
    return 0


@click.command(
    cls=Command,
    example="""\
tritonforge destroy digits --plan
tritonforge destroy digits --to kserve --namespace ml --plan""",
)
@click.argument("name", metavar="NAME")
@option(
    "--to", "target", type=click.Choice(["sagemaker", "kserve", "helm"]), default="sagemaker",
    help="SageMaker, KServe, or NVIDIA's chart deploy/k8s-onprem. Default: sagemaker.",
)  # fmt: skip
@option("--bucket", help="The bucket of the archives. Default: SageMaker's default bucket of the region.")
@option("--prefix", help="Their prefix in the bucket. Default: tritonforge.")
@option("--plan", "only_plan", is_flag=True, help="Print what would be deleted; change nothing.")
@yes_option
@add_options(AwsOptions, "aws")
@add_options(RemovalOptions, "cluster")
@json_option
def destroy(
    name: str,
    target: Literal["sagemaker", "kserve", "helm"],
    bucket: str | None,
    prefix: str | None,
    only_plan: bool,
    yes: bool,
    aws: AwsOptions,
    cluster: RemovalOptions,
    as_json: bool,
) -> int:
    """Delete the deployment NAME, or the one that the definition NAME describes: resources that carry its tag only.

    Deleted are its endpoint, endpoint configurations, models, scalable targets, alarms and archives. Captured data and
    responses of asynchronous requests are yours, and stay. With --to kserve the InferenceService and the ServingRuntime
    are deleted, and the repository at the storage URI stays; with --to helm the command prints the one that removes the
    chart. If it is interrupted, run it again.
    """
    deployment, settings = _find_deployment(name)
    if target != "sagemaker":
        reject_options("applies to --to sagemaker only", group=SAGEMAKER, names=["bucket", "prefix"])
        return destroy_on_cluster(
            target,
            deployment.name,
            settings.with_settings(namespace=cluster.namespace).namespace,
            cluster,
            only_plan=only_plan,
            as_json=as_json,
            confirm=lambda: confirm_plan(yes=yes, as_json=as_json),
        )
    reject_options("applies to --to kserve and --to helm only", group=KUBERNETES)
    deployment = deployment.with_settings(bucket=bucket, prefix=prefix, region=aws.region)
    arguments = {**aws.session_arguments, "region_name": deployment.region}
    with (
        steps() as progress,
        Session(**arguments) as session,
        EndpointRemoval(deployment, session, progress=progress) as removal,
    ):
        plan = removal.plan()
        progress.end()
        if as_json and (only_plan or not plan.steps):
            echo_json(to_json(plan))
        elif not as_json and (plan.steps or plan.notes):
            _print_plan(plan)
        elif not as_json:
            out.print(f"There is nothing of {deployment.name}.", markup=False)
        if only_plan or not plan.steps:
            return 0
        confirm_plan(yes=yes, as_json=as_json)
        removal.submit()
        removal.result()
        progress.end()
        if as_json:
            echo_json({**to_json(plan), "applied": True})
        else:
            out.print(f"{deployment.name} is deleted")
    return 0


def _find_deployment(name: str) -> tuple[Deployment, ClusterSettings]:
    """Return the deployment of a name, or that of the definition there, and the settings of its cluster."""
    path = Path(name)
    if not is_definition(path):
        return Deployment(name=name), ClusterSettings()
    sources = DeploymentSources.load([path])
    deployment = find_deployment(sources.definitions[path], name=None)
    if deployment is None:
        raise click.UsageError(f"{name}: the definition has no deployment; give the deployment's name")
    return deployment, sources.find_value(ClusterSettings) or ClusterSettings()


def _print_plan(plan: Plan) -> None:
    print_plan_lines(render(plan))


def confirm_plan(*, yes: bool, as_json: bool) -> None:
    """Ask whether to apply the plan that was printed.

    Raises:
        click.UsageError: standard input is not a terminal, and ``--yes`` was not given.
        click.Abort: the answer was no.
    """
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise click.UsageError("not a terminal; pass --yes to apply or --plan to preview")
    click.confirm("Apply this plan?", abort=True, err=True)
