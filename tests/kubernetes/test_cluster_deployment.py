"""The deployment to a cluster: plan, submit, watch, result; against the stand-in, and a real server if there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from tests.support.cluster_services import GROUP, READY, SETTINGS, WAITING, control
from tests.support.command import tritonforge
from tests.support.kubernetes_server import write_kubeconfig
from tritonforge.errors import ConnectError, DefinitionError, DeploymentError
from tritonforge.kubernetes import render_plan
from tritonforge.kubernetes.cluster import Cluster, ClusterError
from tritonforge.kubernetes.cluster_deployment import ClusterDeployment
from tritonforge.kubernetes.inference_service import REVISION

IMAGE = "spec.containers[kserve-container].image"


def test_a_plan_changes_nothing_and_a_second_one_has_nothing_to_do(deploy: Callable[..., ClusterDeployment]) -> None:
    assert [step.action for step in deploy().plan().steps] == ["create", "create"]
    first = deploy()
    assert [step.action for step in first.plan().steps] == ["create", "create"]
    first.submit()
    second = deploy().plan()
    assert [step.action for step in second.steps] == ["none", "none"]
    assert "Nothing to do" in render_plan(second)[-1]


def test_a_change_is_shown_by_field_and_applied(deploy: Callable[..., ClusterDeployment]) -> None:
    deploy().submit()
    changed = deploy("24.10", SETTINGS.with_settings(shared_memory="128Mi"))
    runtime, service = changed.plan().steps
    fields = {change.field: (change.old, change.new) for change in runtime.changes}
    assert fields == {
        IMAGE: ("nvcr.io/nvidia/tritonserver:24.09-py3", "nvcr.io/nvidia/tritonserver:24.10-py3"),
        "spec.volumes[shared-memory].emptyDir.sizeLimit": ("64Mi", "128Mi"),
    }
    assert [change.field for change in service.changes] == [f"spec.predictor.annotations.{REVISION}"]
    changed.submit()
    assert not deploy("24.10", SETTINGS.with_settings(shared_memory="128Mi")).plan().has_changes


def test_a_setting_that_is_left_out_is_removed(deploy: Callable[..., ClusterDeployment]) -> None:
    deploy(settings=SETTINGS.with_settings(service_account="reader")).submit()
    changes = {change.field: change.new for change in deploy().plan().steps[1].changes}
    assert changes["spec.predictor.serviceAccountName"] is None
    deploy().submit()
    assert not deploy().plan().has_changes


def test_fields_of_another_manager_are_a_conflict_until_they_are_taken_over(
    deploy: Callable[..., ClusterDeployment], cluster: Cluster, client: Any
) -> None:
    first = deploy(settings=SETTINGS.with_settings(min_replicas=1))
    first.submit()
    manifest = first.plan().manifests[-1]
    scaled = {name: manifest[name] for name in ("apiVersion", "kind")}
    scaled |= {"metadata": {"name": manifest["metadata"]["name"]}, "spec": {"predictor": {"minReplicas": 5}}}
    client.set_default_header("Content-Type", "application/apply-patch+yaml")
    kubernetes.client.CustomObjectsApi(client).patch_namespaced_custom_object(
        **GROUP, name=manifest["metadata"]["name"], body=scaled, field_manager="scaler", force=True,
    )  # fmt: skip
    assert deploy().plan().steps[1].action == "none"  # what this deployment does not set stays the other's
    with pytest.raises(ClusterError, match=r"409: Apply failed with 1 conflict: .*scaler(.|\n)*--force-conflicts"):
        deploy(settings=SETTINGS.with_settings(min_replicas=2)).plan()
    forced = deploy(settings=SETTINGS.with_settings(min_replicas=2), force_conflicts=True)
    assert {change.field: change.old for change in forced.plan().steps[1].changes} == {"spec.predictor.minReplicas": 5}


def test_a_service_of_another_program_is_refused_until_it_is_taken_over(
    deploy: Callable[..., ClusterDeployment], client: Any
) -> None:
    name = deploy().deployment.name
    theirs = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": name},
              "spec": {"predictor": {"minReplicas": 1}}}  # fmt: skip
    client.set_default_header("Content-Type", "application/apply-patch+yaml")
    kubernetes.client.CustomObjectsApi(client).patch_namespaced_custom_object(
        **GROUP, name=name, body=theirs, field_manager="kubectl"
    )
    with pytest.raises(
        DefinitionError, match=rf"InferenceService {name}: it exists, and tritonforge did not create it"
    ):
        deploy().plan()
    deploy(force_conflicts=True).submit()
    assert not deploy().plan().has_changes


def test_the_dry_run_refuses_an_invalid_object(cluster: Cluster, deploy: Callable[..., ClusterDeployment]) -> None:
    manifest = dict(deploy().plan().manifests[-1])
    manifest["spec"] = {"predictor": {"minReplicas": "two"}}
    with pytest.raises(
        ClusterError, match=r"InferenceService t\d+: the API server answered \d+: .*minReplicas"
    ) as raised:
        cluster.apply(manifest, dry_run=True)
    assert raised.value.status in (422, 500)
    assert cluster.read(manifest) is None


def test_the_result_waits_for_a_pod_of_the_revision_that_was_applied(
    deploy: Callable[..., ClusterDeployment], client: Any
) -> None:
    """A service that is ready may still be the one before the change: its status does not name the revision."""
    deployment = deploy()
    deployment.submit()
    controller = control(deployment, client)
    address = "http://digits.example"
    steps = iter(
        [
            lambda: controller.write_status(
                conditions=[READY], url=address, modelStatus={"transitionStatus": "UpToDate"}
            ),
            lambda: controller.create_pod(**WAITING),
            lambda: controller.update_pod(conditions=[READY]),
        ]
    )
    details: list[str] = []
    deployment.progress.detail = details.append  # type: ignore[method-assign]  # what is shown
    deployment._sleep = lambda _: next(steps)()
    assert deployment.result().url == address
    assert details == [
        "KServe has not written a status",
        "no pod of this revision is ready",
        "kserve-container: ImagePullBackOff: back-off",
    ]


def test_a_failure_names_the_reason_of_kserve(deploy: Callable[..., ClusterDeployment], client: Any) -> None:
    deployment = deploy()
    deployment.submit()
    failure = {"reason": "ModelLoadFailed", "message": "failed to load 'm'", "exitCode": 1}
    control(deployment, client).write_status(
        conditions=[{"type": "PredictorReady", "status": "False", "reason": "Crashed"}],
        modelStatus={"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": failure},
    )
    with pytest.raises(
        DeploymentError,
        match=r"ModelLoadFailed: failed to load 'm' \(exit code 1\)\. Its state: PredictorReady: Crashed",
    ):
        deployment.watch()


def test_the_time_until_it_is_ready_is_bounded(deploy: Callable[..., ClusterDeployment]) -> None:
    times = iter(range(0, 10**6, 100))
    deployment = deploy(ready_timeout=300, clock=lambda: float(next(times)))
    deployment.submit()
    with pytest.raises(DeploymentError, match=r"not ready after 300 seconds: KServe has not written a status"):
        deployment.watch()


def test_the_command_applies_and_reports_the_address(
    deploy: Callable[..., ClusterDeployment], cluster: Cluster, client: Any, repository: Path
) -> None:
    deployment = deploy()
    deployment.submit()
    controller = control(deployment, client)
    controller.write_status(
        conditions=[READY], url="http://digits.example", modelStatus={"transitionStatus": "UpToDate"}
    )
    controller.create_pod(conditions=[READY])
    command = ("deploy", str(repository), "--to", "kserve", "--image", "24.09", "--name", controller.name,
               "--storage-uri", "pvc://models/digits", "--memory", "4Gi", "--apply")  # fmt: skip
    assert "Nothing to do: the cluster has everything." in tritonforge(*command, "--yes").stdout
    done = tritonforge(*command, "--replicas", "1", "--plan", "--detailed-exitcode")
    assert done.returncode == 3
    assert "spec.predictor.minReplicas: (none) -> 1" in done.stdout
    done = tritonforge(*command, "--replicas", "1", "--yes")
    assert done.returncode == 0, done.stderr
    assert f"{controller.name} is ready in namespace default" in done.stdout
    assert "http://digits.example" in done.stdout


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_kubeconfig(tmp_path / "config", "http://127.0.0.1:1")
    monkeypatch.setenv("KUBECONFIG", str(config))
    manifest = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
                "metadata": {"name": "a", "namespace": "default"}}  # fmt: skip
    with pytest.raises(ConnectError, match=r"no answer from http://127\.0\.0\.1:1"):
        Cluster().read(manifest)
    with pytest.raises(DefinitionError, match=r"kubeconfig: .*other"):
        Cluster("other")


def test_a_cluster_without_kserve_is_named(cluster: Cluster) -> None:
    manifest = {"apiVersion": "serving.kserve.io/v9", "kind": "InferenceService",
                "metadata": {"name": "a", "namespace": "default"}}  # fmt: skip
    with pytest.raises(ClusterError, match=r"404: .*Install KServe in the cluster"):
        cluster.read(manifest)
