"""API servers with KServe's CRDs, a repository, and its deployment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from tests.support.cluster_services import SETTINGS
from tests.support.kube_apiserver import serve_apiserver
from tests.support.kubernetes_server import serve_stand_in, write_kubeconfig
from tritonforge.kubernetes import ClusterSettings
from tritonforge.kubernetes.cluster import Cluster
from tritonforge.kubernetes.cluster_deployment import ClusterDeployment
from tritonforge.sagemaker.endpoints import Deployment
from tritonforge.sagemaker.endpoints.local_repository import DeploymentSources

MODEL = """backend: "python" max_batch_size: 2 instance_group [{ kind: KIND_CPU }]
input [{name: "x" data_type: TYPE_FP32 dims: [1]}] output [{name: "y" data_type: TYPE_FP32 dims: [1]}]"""
CODE = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"


@pytest.fixture(scope="session", params=["stand-in", pytest.param("kube-apiserver", marks=pytest.mark.process)])
def kubeconfig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kubeconfig of a server that has KServe's CRDs."""
    folder = tmp_path_factory.mktemp("cluster")
    if request.param == "stand-in":
        with serve_stand_in() as (address, _):
            yield write_kubeconfig(folder / "config", address)
        return
    program, etcd = os.environ.get("KUBE_APISERVER"), os.environ.get("ETCD")
    if not program or not etcd:
        pytest.skip("KUBE_APISERVER and ETCD name no programs: make test-kubernetes")
    with serve_apiserver(program, etcd, folder) as (address, token, certificate):
        yield write_kubeconfig(folder / "config", address, token, certificate)


@pytest.fixture
def cluster(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture
def client(cluster: Cluster, kubeconfig: Path) -> Iterator[Any]:
    """The client of another program, such as KServe's controller."""
    with kubernetes.config.new_client_from_config(str(kubeconfig)) as client:
        yield client


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "repository/m/1").mkdir(parents=True)
    (tmp_path / "repository/m/config.pbtxt").write_text(MODEL)
    (tmp_path / "repository/m/1/model.py").write_text(CODE)
    return tmp_path / "repository"


@pytest.fixture
def deploy(cluster: Cluster, repository: Path, request: pytest.FixtureRequest) -> Callable[..., ClusterDeployment]:
    """Return the deployment of the repository under a name that no other test has."""
    name = f"t{abs(hash(request.node.nodeid)) % 10**8}"

    def build(image: str = "24.09", settings: ClusterSettings = SETTINGS, **options: Any) -> ClusterDeployment:
        deployment = Deployment(name=name, image=image)
        return ClusterDeployment(
            deployment, settings, DeploymentSources.load([repository]), cluster=cluster, sleep=lambda _: None, **options
        )

    return build
