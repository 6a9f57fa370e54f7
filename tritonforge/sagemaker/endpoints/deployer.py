r"""The deployment and the removal of an endpoint: plan, submit, watch, result. The command line asks and prints.

    sources = DeploymentSources.load([Path("build/digits")])
    wanted = sources.describe_deployment(name="digits").with_settings(
        image="24.09", instance_type="ml.g4dn.xlarge", execution_role_arn="TritonForgeExecutionRole"
    )
    with Session() as session, EndpointDeployment(wanted, sources, session) as deployment:
        print("\n".join(render(deployment.plan())))
        deployment.submit()
        print(deployment.result().url)

The methods are those of a job (`tritonforge.sagemaker.jobs.lifecycle.SageMakerJob`).
`tests/sagemaker/endpoints/test_deployer.py` runs such programs against the emulator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.endpoints.deployment import Deployment
from tritonforge.sagemaker.endpoints.local_repository import DeploymentSources, LocalRepository, check_repositories
from tritonforge.sagemaker.endpoints.observation import find_role_arn, observe, read_endpoint
from tritonforge.sagemaker.endpoints.planning import plan_deployment, plan_removal
from tritonforge.sagemaker.endpoints.resources import IN_TRANSITION, Observed, ObservedEndpoint
from tritonforge.sagemaker.plans.executor import check_plan, execute, wait_for_config, wait_until_settled
from tritonforge.sagemaker.plans.plan import CheckedPlan, Plan, Progress, SilentProgress
from tritonforge.validation.findings import Finding

__all__ = ["DeployedEndpoint", "EndpointDeployment", "EndpointRemoval"]

_Change = TypeVar("_Change", bound="_EndpointChange")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedEndpoint:
    """An endpoint that is in service: its name and region, and the endpoint configuration that it runs."""

    name: str
    region: str
    config: str

    @property
    def url(self) -> str:
        """The address that `tritonforge.inference.client.Client` takes."""
        return f"sagemaker://{self.name}"


class _EndpointChange(ABC):
    """A change of an endpoint; a context manager that keeps local files open between its plan and its submission."""

    def __init__(self, deployment: Deployment, session: Session, *, progress: Progress | None = None) -> None:
        self.deployment = deployment
        self.session = session
        self.progress: Progress = SilentProgress() if progress is None else progress
        self._files = ExitStack()
        self._plan: CheckedPlan | None = None

    def __enter__(self: _Change) -> _Change:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._files.close()

    def plan(self) -> CheckedPlan:
        """Compare what AWS has with what is desired, and return the checked requests; changes nothing on AWS.

        The plan is made once.

        Raises:
            DefinitionError, PackageError, ValidationError: the deployment or a repository is invalid.
            RequestError: AWS would reject a request.
            DeploymentError, ConnectError: AWS rejected a call that reads its state.
            MissingExtraError: boto3 is not installed.
        """
        if self._plan is None:
            self._plan = check_plan(self._build_plan())
        return self._plan

    def submit(self) -> None:
        """Carry out the plan, with its waits for the endpoint; an empty plan sends nothing.

        Stopped at any point, also by an error, it leaves a state from which the next plan continues.

        Raises:
            DeploymentError, ConnectError: AWS rejected a call or the endpoint failed; what was done before it stays.
        """
        execute(self.plan(), self.session, repositories=self._list_repositories(), progress=self.progress)

    def status(self) -> ObservedEndpoint | None:
        """Return the endpoint as AWS reports it now; None if it does not exist."""
        return read_endpoint(self.session, self.deployment.name)

    @abstractmethod
    def _build_plan(self) -> Plan: ...

    def _list_repositories(self) -> Mapping[str, LocalRepository]:
        return {}

    def _observe(self) -> Observed:
        deployment = self.deployment
        self.progress.begin("read what AWS has")
        return observe(self.session, name=deployment.name, bucket=deployment.bucket, folder=deployment.folder)


class EndpointDeployment(_EndpointChange):
    """The deployment of repositories to an endpoint.

    Args:
        deployment: the desired endpoint.
        sources: its repositories: paths on this disk. Definitions among them are built for the plan.
        session: the credentials and the region of the calls.
        keep: remove all old generations but this number of the newest; None keeps all.
        is_preview: the plan is not submitted, so it does not wait until AWS has finished an earlier change.
        progress: shows the steps.
    """

    def __init__(
        self,
        deployment: Deployment,
        sources: DeploymentSources,
        session: Session,
        *,
        keep: int | None = None,
        is_preview: bool = False,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(deployment, session, progress=progress)
        self._sources, self._keep, self._is_preview = sources, keep, is_preview
        self._opened: Mapping[str, LocalRepository] | None = None
        #: What the rules report about the repositories, after `plan`; errors are raised by it.
        self.findings: Sequence[Finding] = ()

    def watch(self) -> None:
        """Wait until the endpoint is in service with the plan's configuration.

        Raises:
            DeploymentError, ConnectError: the endpoint failed or was rolled back, or AWS does not return its status.
        """
        wait_for_config(self.session, self.deployment.name, self.plan().config, self.progress)

    def result(self) -> DeployedEndpoint:
        """Return the endpoint that is in service; wait for it if it is not. Raises as `watch` does."""
        self.watch()
        plan = self.plan()
        return DeployedEndpoint(name=plan.name, region=plan.region, config=plan.config)

    def _list_repositories(self) -> Mapping[str, LocalRepository]:
        if self._opened is None:
            opened = self._sources.open_repositories(self.deployment, progress=self.progress)
            self._opened = self._files.enter_context(opened)
        return self._opened

    def _build_plan(self) -> Plan:
        repositories = self._list_repositories()
        self.progress.begin("check the repository for the image")
        self.findings = check_repositories(self.deployment, repositories, region=self.session.region)
        contents = {name: repository.content for name, repository in repositories.items()}
        role = find_role_arn(self.session, self.deployment.execution_role_arn or "")
        desired = self.deployment.with_settings(execution_role_arn=role or None)
        observed = self._observe()
        endpoint = observed.endpoint
        if not self._is_preview and endpoint is not None and endpoint.status in IN_TRANSITION:
            plan_deployment(desired, contents, observed)  # raises if the endpoint belongs to another deployment
            self.progress.begin(f"wait for endpoint {desired.name}: it is {endpoint.status}")
            wait_until_settled(self.session, desired.name, self.progress)
            observed = self._observe()
        return plan_deployment(desired, contents, observed, prune=self._keep)


class EndpointRemoval(_EndpointChange):
    """The removal of everything that belongs to a deployment; of ``deployment`` name, bucket and prefix count."""

    def watch(self) -> None:
        """Return at once: `submit` has waited until the endpoint is deleted."""

    def result(self) -> None:
        """Check that the endpoint no longer exists.

        Raises:
            DeploymentError: an endpoint of the name exists; it was not removed, or it belongs to another deployment.
        """
        if any(step.operation == "DeleteEndpoint" for step in self.plan().steps) and self.status() is not None:
            raise DeploymentError(f"the endpoint {self.deployment.name} still exists; run it again")

    def _build_plan(self) -> Plan:
        return plan_removal(self.deployment.name, self._observe())
