"""`tritonforge destroy --to kserve`: against the stand-in, and a real server if there is one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from tests.support.cluster_services import GROUP, control
from tests.support.command import tritonforge
from tritonforge.errors import DeploymentError
from tritonforge.kubernetes.cluster import Cluster, ClusterError
from tritonforge.kubernetes.cluster_deployment import ClusterDeployment
from tritonforge.kubernetes.cluster_removal import ClusterRemoval

Deploy = Callable[..., ClusterDeployment]


def test_the_command_deletes_what_deploy_created_and_a_second_run_has_nothing_to_do(deploy: Deploy) -> None:
    deployment = deploy()
    deployment.submit()
    command = ("destroy", deployment.deployment.name, "--to", "kserve")
    shown = tritonforge(*command, "--plan").stdout
    assert "- InferenceService" in shown
    assert "- ServingRuntime" in shown
    assert "note: the repository at pvc://models/digits stays" in shown
    assert "Plan: 0 to create, 0 to change, 2 to delete." in shown
    assert not deploy().plan().has_changes
    done = tritonforge(*command, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [(step["action"], step["kind"]) for step in document["steps"]] == [
        ("delete", "InferenceService"),
        ("delete", "ServingRuntime"),
    ]
    assert document["applied"]
    assert [step.action for step in deploy().plan().steps] == ["create", "create"]
    again = tritonforge(*command, "--yes")
    assert (again.returncode, again.stdout) == (0, f"There is nothing of {command[1]} in namespace default.\n")


def test_what_another_program_created_stays(deploy: Deploy, cluster: Cluster, client: Any) -> None:
    name = deploy().deployment.name
    theirs = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": name},
              "spec": {"predictor": {"minReplicas": 1}}}  # fmt: skip
    client.set_default_header("Content-Type", "application/apply-patch+yaml")
    kubernetes.client.CustomObjectsApi(client).patch_namespaced_custom_object(
        **GROUP, name=name, body=theirs, field_manager="kubectl"
    )
    done = tritonforge("destroy", name, "--to", "kserve", "--yes")
    assert done.returncode == 0, done.stderr
    assert f"note: InferenceService {name} stays: tritonforge did not create it" in done.stdout
    assert cluster.read({**theirs, "metadata": {"name": name, "namespace": "default"}}) is not None


def test_an_object_that_was_created_anew_since_the_plan_is_not_deleted(deploy: Deploy, cluster: Cluster) -> None:
    first = deploy()
    first.submit()
    name = first.deployment.name
    removal = ClusterRemoval(name, "default", cluster)
    removal.plan()
    other = ClusterRemoval(name, "default", cluster)
    other.submit()
    removal.submit()  # what is gone already is not an error
    deploy().submit()
    with pytest.raises(ClusterError, match=r"409: .*precondition(.|\n)*Run it again"):
        removal.submit()
    assert not deploy().plan().has_changes


def test_the_removal_waits_for_the_pods(deploy: Deploy, cluster: Cluster, client: Any) -> None:
    deployment = deploy()
    deployment.submit()
    controller = control(deployment, client)
    controller.create_pod(phase="Running")
    details: list[str] = []
    removal = ClusterRemoval(controller.name, "default", cluster, sleep=lambda _: controller.delete_pod())
    removal.progress.detail = details.append  # type: ignore[method-assign]  # what is shown
    removal.submit()
    removal.result()
    (detail,) = details
    assert detail.startswith(f"pod {controller.name}-")


def test_the_time_until_it_is_gone_is_bounded(deploy: Deploy, cluster: Cluster, client: Any) -> None:
    deployment = deploy()
    deployment.submit()
    controller = control(deployment, client)
    controller.create_pod(phase="Running")
    times = iter(range(0, 10**6, 100))
    removal = ClusterRemoval(
        controller.name, "default", cluster, sleep=lambda _: None, clock=lambda: float(next(times))
    )
    removal.submit()
    with pytest.raises(DeploymentError, match=rf"not gone after 300 seconds: pod {controller.name}-"):
        removal.result()
    controller.delete_pod()


def test_the_definition_names_the_service_and_its_namespace(tmp_path: Path) -> None:
    (tmp_path / "definition.py").write_text(
        "from tritonforge import TYPE_FP32, Deployment, File, Input, Output, Python\n"
        "from tritonforge.kubernetes import ClusterSettings\n"
        "m = Python('m', input=[Input('x', TYPE_FP32, [1])], output=[Output('y', TYPE_FP32, [1])],\n"
        "           artifact=File('m.py'))\n"
        "deployment = Deployment(name='digits')\nsettings = ClusterSettings(namespace='ml')\n"
    )
    done = tritonforge("destroy", str(tmp_path), "--to", "helm")
    assert (done.returncode, done.stdout) == (0, "helm uninstall digits --namespace ml\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "kserve", "--bucket", "x"), "--bucket applies to --to sagemaker only"),
        (("--to", "kserve", "--profile", "x"), "--profile applies to --to sagemaker only"),
        (("--to", "helm", "--context", "x"), "--context applies to --to kserve only"),
        (("--namespace", "x"), "--namespace applies to --to kserve and --to helm only"),
    ],
)
def test_options_that_do_not_apply_are_refused(options: tuple[str, ...], message: str) -> None:
    done = tritonforge("destroy", "digits", *options)
    assert done.returncode == 2
    assert message in done.stderr
