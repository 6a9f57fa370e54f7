"""The deployment and the removal of an endpoint from Python, without the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.deployments import everything
from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Deployment, render
from tritonforge.sagemaker.endpoints.deployer import EndpointDeployment, EndpointRemoval
from tritonforge.sagemaker.endpoints.local_repository import DeploymentSources
from tritonforge.sagemaker.plans import executor
from tritonforge.sagemaker.plans.plan import CheckedPlan, Plan

pytestmark = pytest.mark.process


def test_plan_submit_watch_result(session: Session, wanted: Deployment, repository: Path) -> None:
    sources = DeploymentSources.load([repository])
    with EndpointDeployment(wanted, sources, session) as deployment:
        assert deployment.status() is None
        plan = deployment.plan()
        assert isinstance(plan, CheckedPlan)
        assert "+ endpoint" in "\n".join(render(plan))
        assert not any(everything(session, wanted.name).values())
        deployment.submit()
        deployment.watch()
        endpoint = deployment.result()
    assert (endpoint.url, endpoint.config) == (f"sagemaker://{wanted.name}", plan.config)
    with EndpointDeployment(wanted, sources, session) as again:
        assert again.plan().steps == ()
        again.submit()
        assert again.result() == endpoint
        status = again.status()
    assert status is not None
    assert status.status == "InService"
    with EndpointRemoval(wanted, session) as removal:
        with pytest.raises(DeploymentError, match="still exists"):
            removal.result()
        removal.submit()
        removal.watch()
        removal.result()
    assert not any(everything(session, wanted.name).values())


def test_a_plan_is_made_and_checked_once(
    session: Session, wanted: Deployment, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Plan] = []
    check_plan = executor.check_plan

    def check(plan: Plan) -> CheckedPlan:
        checked.append(plan)
        return check_plan(plan)

    monkeypatch.setattr("tritonforge.sagemaker.endpoints.deployer.check_plan", check)
    monkeypatch.setattr(executor, "check_plan", check)
    with EndpointDeployment(wanted, DeploymentSources.load([repository]), session) as deployment:
        assert deployment.plan() is deployment.plan()
        deployment.submit()
    assert len(checked) == 1


def test_the_deployment_is_named_after_its_path(repository: Path) -> None:
    assert DeploymentSources.load([repository]).describe_deployment().name == "repository"
    assert DeploymentSources.load([repository]).describe_deployment(name="digits").name == "digits"
