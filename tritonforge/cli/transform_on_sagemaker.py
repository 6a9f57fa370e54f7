"""The command transform with --on sagemaker: the model is prepared, then the job is planned, submitted and watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tritonforge.building import build_definitions
from tritonforge.cli import job_monitor
from tritonforge.cli.job_monitor import INTERRUPTED, SubmitOptions, format_state, print_error_line
from tritonforge.cli.options import AwsOptions
from tritonforge.cli.printing import echo_json
from tritonforge.cli.terminal import Steps, escape_markup, out, steps
from tritonforge.cli.transform_options import TransformSageMakerOptions
from tritonforge.repository.definition.loading import load
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Deployment
from tritonforge.sagemaker.endpoints.local_repository import find_deployment, is_definition
from tritonforge.sagemaker.jobs.kinds import build_resource_name
from tritonforge.sagemaker.jobs.transform import INSTANCE_TYPE, TransformRun
from tritonforge.transform import TransformJob

__all__ = ["run_on_sagemaker"]


def run_on_sagemaker(
    job: TransformJob,
    repository: Path | None,
    options: TransformSageMakerOptions,
    submit_options: SubmitOptions,
    aws: AwsOptions,
    *,
    as_json: bool,
) -> int:
    """Run a job on SageMaker and return the exit code; without ``repository`` the options name a model."""
    with steps() as progress, Session(**aws.session_arguments) as session:
        source, deployment = _prepare_model(repository, options, progress)
        transform_run = TransformRun(
            replace(job, name=options.name or ""),
            source,
            session=session,
            deployment=deployment,
            instance_type=options.instance_type or INSTANCE_TYPE,
            instance_count=options.instance_count or 1,
            progress=progress,
        )
        with transform_run:
            if not job_monitor.submit(transform_run, submit_options, progress, as_json=as_json):
                return 0
            if submit_options.no_wait:
                _print_result({"job": transform_run.name, "state": "InProgress"}, as_json=as_json)
                return 0
            result = job_monitor.watch(transform_run, progress)
    if result is None:
        return INTERRUPTED
    document = {
        "job": result.name,
        "state": result.status,
        "arn": result.arn,
        "reason": result.reason,
        "seconds": result.seconds,
        "output": result.output,
    }
    _print_result(document, as_json=as_json)
    return job_monitor.choose_exit_code(document)


def _print_result(document: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo_json(document)
        return
    where = ""
    if "output" in document:
        where = f" -> {escape_markup(document['output'])}  [dim]{document['seconds']:.0f} s per instance[/dim]"
    out.print(f"{format_state(document['state'])}  {escape_markup(document['job'])}{where}")
    if document.get("reason"):
        print_error_line(document["reason"])


def _prepare_model(
    path: Path | None, options: TransformSageMakerOptions, progress: Steps
) -> tuple[Path | str, Deployment | None]:
    """Return the repository or archive of a model with its deployment; a definition is built. Else a model's name."""
    if path is None:
        return options.sagemaker_model or "", None
    repository = path
    deployment: Deployment | None = None
    name = path.resolve().name.removesuffix(".tar.gz")
    if is_definition(path):
        definitions = load(path)
        name = definitions.folder.name
        deployment = find_deployment(definitions, name=None)
        repository = Path("build") / name
        build_definitions(definitions, repository, on_progress=progress.on_build)
    deployment = deployment or Deployment(name=build_resource_name(name))
    return repository, deployment.with_settings(
        image=options.image,
        image_uri=options.image_uri,
        bucket=options.bucket,
        execution_role_arn=options.role,
    )
