"""destroy: everything of a deployment is removed, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tritonforge.cli.deployment.deploying import agreed
from tritonforge.cli.deployment.flags import place_flags
from tritonforge.cli.deployment.subjects import deployment_of, is_definition
from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import out, steps
from tritonforge.repository.definition.loading import load
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Deployment, plan_removal, render, to_json
from tritonforge.sagemaker.endpoints.desired import deployment_folder
from tritonforge.sagemaker.endpoints.observation import observe
from tritonforge.sagemaker.plans.executor import check_plan, execute

__all__ = ["destroy"]


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--bucket", help="The bucket of the archives, where it is not SageMaker's own of the region.")
@click.option("--prefix", help="Where in the bucket; default: tritonforge.")
@click.option("--plan", "only_plan", is_flag=True, help="Show what would be removed; change nothing.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.option("--json", "as_json", is_flag=True, help="As --format json.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to report.")
@place_flags
def destroy(
    name: str,
    bucket: str | None,
    prefix: str | None,
    *,
    only_plan: bool,
    yes: bool,
    as_json: bool,
    form: str,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
) -> int:
    """Remove the deployment NAME, or the one that the definition NAME describes: what carries its tag, nothing else.

    Gone are its endpoint, endpoint configurations, models, scalable targets, alarms and archives; captured data and
    answers of asynchronous requests are yours, and stay. Run it again where it was interrupted.
    """
    json_wanted = as_json or form == "json"
    deployment = _deployment(name).with_settings(bucket=bucket, prefix=prefix, region=region)
    with (
        steps() as progress,
        Session(region_name=deployment.region, profile_name=profile, endpoint_url=endpoint_url) as session,
    ):
        progress.begin("look at what AWS has")
        seen = observe(session, name=deployment.name, bucket=deployment.bucket, folder=deployment_folder(deployment))
        made = plan_removal(deployment.name, seen)
        check_plan(made)
        progress.end()
        if not json_wanted:
            for line in render(made) if made.steps or made.notes else [f"There is nothing of {deployment.name}."]:
                out.print(line, markup=False)
        elif only_plan or not made.steps:
            echo(json.dumps(to_json(made), indent=2))
        if only_plan or not made.steps:
            return 0
        agreed(yes=yes, json_wanted=json_wanted)
        execute(made, session, progress=progress)
        progress.end()
        if json_wanted:
            echo(json.dumps({**to_json(made), "applied": True}, indent=2))
        else:
            out.print(f"{deployment.name} is removed")
    return 0


def _deployment(name: str) -> Deployment:
    path = Path(name)
    if not is_definition(path):
        return Deployment(name=name)
    found = deployment_of(load(path), name=None)
    if found is None:
        raise click.UsageError(f"{name}: the definition describes no deployment; give the deployment's name")
    return found
