"""deploy: the plan is shown, agreed to, and carried out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from tritonforge.cli.deployment.flags import deployment_flags, place_flags
from tritonforge.cli.deployment.subjects import Subject, subject
from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import Steps, err, out, steps
from tritonforge.escaping import terminal_line
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Plan, plan_deployment, render, to_json
from tritonforge.sagemaker.endpoints.desired import deployment_folder
from tritonforge.sagemaker.endpoints.local_repository import check_repositories
from tritonforge.sagemaker.endpoints.observation import find_role_arn, observe
from tritonforge.sagemaker.endpoints.resources import IN_TRANSITION
from tritonforge.sagemaker.plans.executor import check_plan, execute, wait_until_settled

__all__ = ["agreed", "deploy"]

#: What `--plan --detailed-exitcode` ends with when there is something to do; 1 and 2 are errors everywhere.
_CHANGES: Final = 3


@click.command()
@click.argument("paths", nargs=-1, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--plan", "only_plan", is_flag=True, help="Show what would be done, with every request; change nothing.")
@click.option("--detailed-exitcode", is_flag=True, help="With --plan: exit 3 when there is something to do.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.option("--prune", is_flag=True, help="Remove old generations afterwards.")
@click.option("--keep", type=click.IntRange(0), default=0, metavar="N", help="With --prune: but for the newest N.")
@click.option("--json", "as_json", is_flag=True, help="As --format json.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to report.")
@deployment_flags
@place_flags
def deploy(
    paths: tuple[Path, ...],
    *,
    only_plan: bool,
    detailed_exitcode: bool,
    yes: bool,
    prune: bool,
    keep: int,
    as_json: bool,
    form: str,
    **flags: Any,
) -> int:
    """Bring PATH to a SageMaker endpoint: a built repository, a model.tar.gz, or a definition, which is built first.

    What is there is compared with what the definition (deployment = Deployment(...)) and the flags ask for; the plan
    is shown, and carried out when you agree. Names carry digests, so a second run does nothing, and one that was
    interrupted goes on.

    Exit codes: 0 done, or nothing to do; 1 AWS or the endpoint refused; 2 invalid input or usage; 3 only with
    --plan --detailed-exitcode: there is something to do.
    """
    if detailed_exitcode and not only_plan:
        raise click.UsageError("--detailed-exitcode goes with --plan")
    if keep and not prune:
        raise click.UsageError("--keep goes with --prune")
    if not paths and not flags["variants"]:
        raise click.UsageError("give a built repository, a model.tar.gz or a definition, or --variant NAME=PATH")
    json_wanted = as_json or form == "json"
    with steps() as progress, subject(paths, flags, progress) as found:
        deployment = found.deployment
        with Session(
            region_name=deployment.region, profile_name=flags["profile"], endpoint_url=flags["endpoint_url"]
        ) as session:
            said = _judged(found, session, progress)
            made = _planned(found, session, progress, wait=not only_plan, prune=keep if prune else None)
            progress.end()
            if not json_wanted:
                _show(made, said)
            elif only_plan or not made.steps:
                echo(json.dumps(to_json(made), indent=2))
            if only_plan:
                return _CHANGES if detailed_exitcode and made.steps else 0
            if not made.steps:
                return 0
            agreed(yes=yes, json_wanted=json_wanted)
            execute(made, session, materials=found.materials, progress=progress)
            progress.end()
            _done(made, json_wanted)
    return 0


def _judged(found: Subject, session: Session, progress: Steps) -> list[str]:
    progress.begin("judge the repository for the image")
    findings = check_repositories(found.deployment, found.materials, region=session.region)
    return [f"{each.code} {each.path}: {each.message}" for each in findings]


def _planned(found: Subject, session: Session, progress: Steps, *, wait: bool, prune: int | None) -> Plan:
    """The plan; where it is to be carried out, what AWS is busy with is waited for first, so that it holds."""
    deployment = found.deployment
    contents = {name: material.content for name, material in found.materials.items()}
    progress.begin("look at what AWS has")
    role = find_role_arn(session, deployment.execution_role_arn or "")
    deployment = deployment.with_settings(execution_role_arn=role or None)
    seen = observe(session, name=deployment.name, bucket=deployment.bucket, folder=deployment_folder(deployment))
    if wait and seen.endpoint is not None and seen.endpoint.status in IN_TRANSITION:
        plan_deployment(deployment, contents, seen)  # somebody else's endpoint is not waited for
        progress.begin(f"wait for endpoint {deployment.name}: it is {seen.endpoint.status}")
        wait_until_settled(session, deployment.name, progress)
        seen = observe(session, name=deployment.name, bucket=deployment.bucket, folder=deployment_folder(deployment))
    made = plan_deployment(deployment, contents, seen, prune=prune)
    check_plan(made)
    return made


def _show(made: Plan, said: list[str]) -> None:
    colours = {"+": "green", "~": "yellow", "-": "red"}
    for line in render(made):
        sign = line[2:3] if line.startswith("  ") and line[3:4] == " " else ""
        out.print(terminal_line(line), markup=False, style=colours.get(sign))
    for each in said:
        err.print(terminal_line(f"finding: {each}"), markup=False)


def agreed(*, yes: bool, json_wanted: bool) -> None:
    """Ask whether the plan that was shown is to be carried out.

    Raises:
        click.UsageError: it cannot be asked, and ``--yes`` was not given.
        click.Abort: the answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty() or json_wanted:
        raise click.UsageError("nobody can be asked here; look at the plan with --plan, and carry it out with --yes")
    click.confirm("Carry this out?", abort=True, err=True)


def _done(made: Plan, json_wanted: bool) -> None:
    if json_wanted:
        echo(json.dumps({**to_json(made), "applied": True}, indent=2))
        return
    out.print(f"{made.name} is in service in {made.region} with {made.config}")
    out.print(f"  tritonforge infer sagemaker://{made.name} ...", style="dim")
    if made.old:
        err.print(f"{len(made.old)} old generations are kept; tritonforge deploy --prune removes them")
