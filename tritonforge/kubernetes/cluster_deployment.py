r"""The deployment of a repository to a cluster: plan, submit, watch, result. The command line asks and prints.

    with ClusterDeployment(wanted, settings, sources, cluster=Cluster()) as deployment:
        print("\n".join(render_plan(deployment.plan())))
        deployment.submit()
        print(deployment.result().url)

The methods are those of `tritonforge.sagemaker.endpoints.deployer.EndpointDeployment`. Without a cluster `plan` returns
the manifests, and there is nothing to submit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from tritonforge.errors import DefinitionError, DeploymentError, ValidationError
from tritonforge.kubernetes.chart_values import build_chart_values, list_chart_notes
from tritonforge.kubernetes.cluster import Cluster
from tritonforge.kubernetes.cluster_plan import ClusterPlan, ManifestStep, compare_manifests
from tritonforge.kubernetes.field_support import ClusterTarget
from tritonforge.kubernetes.inference_service import REVISION, build_manifests, list_notes
from tritonforge.kubernetes.readiness import find_failure, read_readiness
from tritonforge.kubernetes.repository_needs import RepositoryNeeds, measure_repository
from tritonforge.kubernetes.repository_upload import RepositoryUpload
from tritonforge.kubernetes.serving_runtime import MANAGED_BY, is_managed, read_labels
from tritonforge.kubernetes.settings import ClusterSettings
from tritonforge.sagemaker.endpoints.deployment import Deployment
from tritonforge.sagemaker.endpoints.local_repository import DeploymentSources, LocalRepository
from tritonforge.sagemaker.plans.plan import Progress, SilentProgress
from tritonforge.validation.context import Options
from tritonforge.validation.findings import Finding
from tritonforge.validation.model_views import build_context
from tritonforge.validation.report import run
from tritonforge.validation.tree_reader import read_tree

__all__ = ["ClusterDeployment", "DeployedService"]

#: Seconds between two readings of the status, and during which a failure of an earlier revision may still be shown.
_INTERVAL: Final = 2.0
_SETTLING: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedService:
    """An InferenceService that is ready: its name and namespace, and the address under which it answers."""

    name: str
    namespace: str
    url: str


class ClusterDeployment:
    """The deployment of one repository to KServe, or as values of NVIDIA's chart.

    A context manager that keeps the repository open between its plan and its upload.

    Args:
        deployment: the desired service.
        settings: where and with what it runs on the cluster.
        sources: its repository: a path on this disk. A definition is built for the plan.
        target: ``kserve`` or ``helm``.
        cluster: the cluster that is read and changed; None for the manifests alone.
        upload: puts the repository at the storageUri before the manifests are applied; None where it is there already.
        force_conflicts: take over fields that another program manages.
        ready_timeout: seconds until a service that is not ready is an error.
        progress: shows the steps.
    """

    def __init__(
        self,
        deployment: Deployment,
        settings: ClusterSettings,
        sources: DeploymentSources,
        *,
        target: ClusterTarget = "kserve",
        cluster: Cluster | None = None,
        upload: RepositoryUpload | None = None,
        force_conflicts: bool = False,
        ready_timeout: float = 900,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.deployment, self.settings = deployment, settings
        self._sources, self._target, self._cluster = sources, target, cluster
        self._upload, self._force, self._timeout = upload, force_conflicts, ready_timeout
        self.progress: Progress = SilentProgress() if progress is None else progress
        self._clock, self._sleep = clock, sleep
        self._files = ExitStack()
        self._repository: LocalRepository | None = None
        self._plan: ClusterPlan | None = None
        self._earlier_failure = ""
        #: What the rules report about the repository, after `plan`; errors are raised by it.
        self.findings: Sequence[Finding] = ()

    def __enter__(self) -> ClusterDeployment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._files.close()

    def plan(self) -> ClusterPlan:
        """Validate the repository, and return the manifests with what they would change; changes nothing.

        The plan is made once. The API server and KServe's webhooks see every manifest in a dry run.

        Raises:
            DefinitionError, PackageError, ValidationError: the deployment or its repository is invalid, or an object of
                the name belongs to another program.
            ClusterError, DeploymentError, ConnectError: the API server refused a manifest, or S3 a call, or did not
                answer.
        """
        if self._plan is None:
            self._plan = self._build_plan()
        return self._plan

    def submit(self) -> None:
        """Upload what the storageUri lacks, and apply the manifests that change something, in their order.

        Raises:
            DefinitionError: no cluster is given.
            ClusterError, DeploymentError, ConnectError: the API server refused a manifest, or S3 an upload; what was
                done before it stays.
        """
        cluster, plan = self._need_cluster(), self.plan()
        if self._upload is not None and plan.upload is not None and plan.upload.has_changes:
            self.progress.begin(f"upload the repository to {plan.upload.uri}")
            folder = self._open_repository().folder
            self._upload.submit(folder, plan.upload, plan.digest, progress=self.progress)
        for step in plan.steps:
            if step.action != "none":
                self.progress.begin(f"apply {step.kind} {step.name}")
                cluster.apply(step.manifest, dry_run=False, force=self._force)

    def watch(self) -> None:
        """Wait until the service is ready with the plan's revision.

        Raises:
            DeploymentError: KServe could not start it, or the time is over; the message has the reasons.
            ClusterError, ConnectError: its status cannot be read.
        """
        self._wait()

    def result(self) -> DeployedService:
        """Return the service that is ready; wait for it if it is not. Raises as `watch` does."""
        plan = self.plan()
        return DeployedService(name=plan.name, namespace=plan.namespace, url=self._wait())

    def _wait(self) -> str:
        cluster, manifest = self._need_cluster(), self.plan().manifests[-1]
        name = manifest["metadata"]["name"]
        revision = manifest["spec"]["predictor"]["annotations"][REVISION]
        self.progress.begin(f"wait until {name} is ready")
        start = self._clock()
        while True:
            service = cluster.read(manifest)
            if service is None:
                raise DeploymentError(f"InferenceService {name}: it was deleted while it started")
            state = read_readiness(service, cluster.list_pods(manifest), revision)
            waited = self._clock() - start
            if state.is_ready:
                return state.url
            if state.failure and (state.failure != self._earlier_failure or waited > _SETTLING):
                raise DeploymentError(f"InferenceService {name}: {state.failure}. {_list_reasons(state.reasons)}")
            if waited > self._timeout:
                raise DeploymentError(
                    f"InferenceService {name}: not ready after {self._timeout:.0f} seconds: {state.describe()}. It may "
                    "still become ready; see kubectl describe inferenceservice, or give a longer --ready-timeout"
                )
            self.progress.detail(state.describe())
            self._sleep(_INTERVAL)

    def _need_cluster(self) -> Cluster:
        if self._cluster is None:
            raise DefinitionError(f"deployment {self.deployment.name}: no cluster is given to apply the manifests to")
        return self._cluster

    def _build_plan(self) -> ClusterPlan:
        self._build_manifests(RepositoryNeeds(digest=""))  # reject invalid settings before a definition is built
        repository = self._open_repository()
        self.progress.begin("check the repository for the image")
        needs = self._check_repository(repository)
        notes = (list_notes if self._target == "kserve" else list_chart_notes)(self.settings, needs)
        upload = None
        if self._upload is not None:
            self.progress.begin(f"compare the repository with {self._upload.uri}")
            upload = self._upload.plan(repository.folder)
        return ClusterPlan(
            target=self._target,
            name=self.deployment.name,
            namespace=self.settings.namespace,
            digest=needs.digest,
            steps=[self._compare(manifest) for manifest in self._build_manifests(needs)],
            server=None if self._cluster is None else self._cluster.server,
            upload=upload,
            notes=notes,
        )

    def _open_repository(self) -> LocalRepository:
        if self._repository is None:
            opened = self._sources.open_repositories(self.deployment, progress=self.progress)
            self._repository = self._files.enter_context(opened)[""]
        return self._repository

    def _build_manifests(self, needs: RepositoryNeeds) -> Sequence[Mapping[str, Any]]:
        if self._target == "helm":
            return [build_chart_values(self.deployment, self.settings, needs)]
        return build_manifests(self.deployment, self.settings, needs)

    def _compare(self, manifest: Mapping[str, Any]) -> ManifestStep:
        if self._cluster is None:
            return ManifestStep("write", manifest)
        where = f"{manifest['kind']} {manifest['metadata']['name']}"
        self.progress.begin(f"compare {where}")
        stored = self._cluster.read(manifest)
        if stored is not None and not self._force and not is_managed(stored):
            raise DefinitionError(
                f"{where}: it exists, and tritonforge did not create it (its label {MANAGED_BY} is "
                f"{read_labels(stored).get(MANAGED_BY)!r}). Give another --name, or take it over with --force-conflicts"
            )
        applied = self._cluster.apply(manifest, dry_run=True, force=self._force)
        if stored is None:
            return ManifestStep("create", manifest)
        self._earlier_failure = find_failure(stored)
        changes = compare_manifests(stored, applied)
        return ManifestStep("update" if changes else "none", manifest, changes)

    def _check_repository(self, repository: LocalRepository) -> RepositoryNeeds:
        """Validate the repository for the target and return what it needs.

        /dev/shm is the plan's own, so the rules about its default size do not hold.
        """
        settings = self.settings
        is_kserve = self._target == "kserve"
        options = Options(
            image=self.deployment.image,
            target="kserve" if is_kserve else "triton",
            target_version=settings.version if is_kserve else None,
            storage_uri=settings.storage_uri if is_kserve else None,
            load_models=tuple(settings.load_models) or None,
            gpus=settings.gpus,
            exempt=("W454", "W455", "W471", "W472"),
        )
        tree = read_tree(repository.folder)
        report = run(tree, options)
        self.findings = report.findings
        errors = [finding for finding in report.findings if finding.severity == "error"]
        if errors:
            listed = "\n".join(f"  {error.code} {error.path}: {error.message}" for error in errors)
            raise ValidationError(
                f"the repository would not run there ({len(errors)} errors); see tritonforge explain CODE:\n{listed}",
                findings=list(report.findings),
            )
        return measure_repository(build_context(tree, options), repository.content.digest)


def _list_reasons(reasons: Sequence[str]) -> str:
    return f"Its state: {'; '.join(reasons)}" if reasons else "See the log of its pods"
