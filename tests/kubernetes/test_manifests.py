"""The manifests for KServe, held against its CRDs, and the values for NVIDIA's chart."""

from __future__ import annotations

import copy
import tarfile
from dataclasses import fields, replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.kserve_schemas import CHART, KSERVE_VERSIONS, list_violations
from tritonforge.errors import DefinitionError
from tritonforge.kubernetes import ClusterSettings, RepositoryNeeds, build_chart_values, build_manifests, format_yaml
from tritonforge.kubernetes.field_support import MAPPED, REFUSED
from tritonforge.kubernetes.inference_service import REVISION
from tritonforge.sagemaker.endpoints import Deployment

PLAIN = Deployment(name="digits", image="24.09")
FULL = Deployment(
    name="digits", image="24.09", environment={"B": "true", "A": "1"}, initial_instance_count=2,
    container_startup_health_check_timeout_in_seconds=601, tags={"team": "vision"},
)  # fmt: skip
STORED = ClusterSettings(storage_uri="s3://models/digits")
FULL_SETTINGS = ClusterSettings(
    namespace="ml", storage_uri="pvc://models/digits", service_account="reader", cpu="500m", memory="4Gi", gpus=1,
    max_replicas=4, scale_metric="cpu", scale_target=80, deployment_mode="Standard", load_models=("a", "b"),
)  # fmt: skip
NEEDS = RepositoryNeeds(digest=f"sha256:{'0' * 64}")
PYTHON = replace(NEEDS, start_memory=2 << 20, full_memory=200 << 20)
NFS = ClusterSettings(storage_uri="nfs://10.0.0.1/srv/models")


def build(deployment: Deployment, settings: ClusterSettings, needs: RepositoryNeeds = NEEDS) -> tuple[Any, Any]:
    runtime, service = build_manifests(deployment, settings, needs)
    return runtime, service


@pytest.mark.parametrize("version", KSERVE_VERSIONS)
@pytest.mark.parametrize(
    ("deployment", "settings", "needs"),
    [
        (PLAIN, STORED, NEEDS),
        (FULL, FULL_SETTINGS, PYTHON),
        (PLAIN, STORED, replace(PYTHON, is_decoupled=True, has_own_stub=True)),
    ],
)
def test_manifests_follow_the_schemas_of_kserve(
    version: str, deployment: Deployment, settings: ClusterSettings, needs: RepositoryNeeds
) -> None:
    for manifest in build(deployment, settings, needs):
        assert list_violations(version, manifest) == []
        assert yaml.safe_load(format_yaml(manifest)) == manifest


def test_the_schemas_refuse_what_the_api_server_refuses() -> None:
    runtime, service = (copy.deepcopy(manifest) for manifest in build(PLAIN, STORED))
    runtime["spec"]["containers"][0]["livenessProbe"]["httpGet"].pop("port")
    runtime["spec"]["containers"][0]["readinessProbe"]["period"] = 5
    service["spec"]["predictor"]["minReplicas"] = "1"
    assert len(list_violations("v0.20.0", runtime)) == 2
    assert len(list_violations("v0.20.0", service)) == 1


def test_the_container_is_the_validated_release_with_its_probes_and_shared_memory() -> None:
    runtime, service = build(FULL, FULL_SETTINGS, PYTHON)
    (container,) = runtime["spec"]["containers"]
    assert container["image"] == "nvcr.io/nvidia/tritonserver:24.09-py3"
    assert container["args"][-3:] == ["--model-control-mode=explicit", "--load-model=a", "--load-model=b"]
    assert container["startupProbe"]["failureThreshold"] == 61  # times 10 s: not less than 601 s
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "true"}]
    assert runtime["spec"]["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "448Mi"}
    assert container["volumeMounts"][0]["mountPath"] == "/dev/shm"
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 4)
    assert predictor["model"]["resources"]["limits"] == {"cpu": "500m", "memory": "4Gi", "nvidia.com/gpu": "1"}
    assert service["metadata"]["labels"]["team"] == "vision"
    assert "volumes" not in build(PLAIN, STORED)[0]["spec"]


def test_a_decoupled_model_is_routed_over_grpc() -> None:
    runtime, service = build(PLAIN, STORED, replace(NEEDS, is_decoupled=True))
    assert runtime["spec"]["containers"][0]["ports"] == [{"name": "h2c", "containerPort": 9000, "protocol": "TCP"}]
    assert service["spec"]["predictor"]["model"]["protocolVersion"] == "grpc-v2"


def test_pods_are_replaced_when_the_repository_or_a_setting_changes_and_not_when_it_scales() -> None:
    def revision(deployment: Deployment, settings: ClusterSettings, needs: RepositoryNeeds = NEEDS) -> Any:
        return build(deployment, settings, needs)[1]["spec"]["predictor"]["annotations"][REVISION]

    first = revision(PLAIN, STORED)
    assert first == revision(PLAIN.with_settings(initial_instance_count=3), STORED)
    assert len({
        first,
        revision(PLAIN, STORED, replace(NEEDS, digest="sha256:1")),
        revision(PLAIN.with_settings(image="24.10"), STORED),
        revision(PLAIN, STORED.with_settings(memory="4Gi")),
    }) == 4  # fmt: skip


def test_every_field_of_a_deployment_is_mapped_or_refused() -> None:
    names = {field.name for field in fields(Deployment)}
    assert names == MAPPED.keys() | REFUSED.keys()
    assert not MAPPED.keys() & REFUSED.keys()


@pytest.mark.parametrize(
    ("deployment", "settings", "message"),
    [
        (PLAIN.with_settings(instance_type="ml.g5.xlarge"), STORED, r"instance_type has no meaning .* --gpus"),
        (PLAIN.with_settings(prefix="mine"), STORED, r"prefix has no meaning .* --storage-uri"),
        (PLAIN.with_settings(tags={"a b": "c"}), STORED, r"tag a b=c is not a label"),
        (PLAIN.with_settings(name="Digits"), STORED, r"not a name on Kubernetes"),
        (Deployment(name="digits"), STORED, r"server image is missing"),
        (PLAIN.with_settings(image="26.05+tensorflow"), STORED, r"NVIDIA publishes none with tensorflow"),
        (PLAIN, ClusterSettings(), r"storageUri is missing"),
        (PLAIN, STORED.with_settings(shared_memory="1Mi"), r"take 2097152 bytes when they start"),
        (PLAIN, STORED.with_settings(memory="100Mi"), r"memory of 100Mi: after a full batch"),
    ],
)
def test_what_has_no_meaning_is_refused(deployment: Deployment, settings: ClusterSettings, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        build_manifests(deployment, settings, PYTHON)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory": "4GB"}, "not a quantity"),
        ({"cpu": "two"}, "not a quantity"),
        ({"namespace": "My_Space"}, "not a name"),
        ({"min_replicas": 3, "max_replicas": 2}, "the second number is the most"),
        ({"scale_metric": "rps", "scale_target": 9, "deployment_mode": "Standard"}, "Knative's autoscaler"),
        ({"memory": "1Gi", "shared_memory": "1Gi"}, "leaves nothing"),
    ],
)
def test_settings_that_kubernetes_refuses_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        ClusterSettings(**settings)


def test_the_chart_has_every_value_that_is_written() -> None:
    with tarfile.open(CHART) as chart:
        member = chart.extractfile("k8s-onprem/values.yaml")
        assert member is not None
        defaults = yaml.safe_load(member)
    values = build_chart_values(PLAIN.with_settings(initial_instance_count=2), NFS, NEEDS)
    assert values["image"]["modelRepositoryPath"] == "/srv/models"
    assert values["autoscaling"] == {"minReplicas": 2, "maxReplicas": 2}
    for name, value in values.items():
        assert name in defaults
        assert not isinstance(value, dict) or value.keys() <= defaults[name].keys()


@pytest.mark.parametrize(
    ("deployment", "settings", "needs", "message"),
    [
        (FULL, NFS, NEEDS, "no value for environment"),
        (PLAIN, NFS.with_settings(memory="4Gi"), NEEDS, "no value for memory"),
        (PLAIN, STORED, NEEDS, r"nfs://SERVER/PATH, got s3://models/digits"),
        (PLAIN, NFS, replace(NEEDS, start_memory=65 << 20), r"the chart's pods have 67108864"),
    ],
)
def test_what_the_chart_cannot_do_is_refused(
    deployment: Deployment, settings: ClusterSettings, needs: RepositoryNeeds, message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        build_chart_values(deployment, settings, needs)


def test_the_chart_renders_with_the_values(tmp_path: Any) -> None:
    """Helm itself renders it; it is in a wheel of 75 MB, which `make test-kubernetes` installs."""
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed: make test-kubernetes")
    with tarfile.open(CHART) as chart:
        chart.extractall(tmp_path, filter="data")
    values = build_chart_values(PLAIN, replace(NFS, load_models=("a",), gpus=1), NEEDS)
    rendered = helm.Chart.load(tmp_path / "k8s-onprem").render(values=values, name="digits", namespace="ml")
    (text,) = [text for path, text in rendered.items() if path.endswith("templates/deployment.yaml")]
    deployment = yaml.safe_load(text)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "nvcr.io/nvidia/tritonserver:24.09-py3"


_SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
_KEYS = st.text(max_size=20)  # a key on one line has 1024 characters at most (YAML 1.2, 7.4)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        _KEYS,
        _SCALARS
        | st.lists(_SCALARS | st.dictionaries(_KEYS, _SCALARS, max_size=2), max_size=3)
        | st.dictionaries(_KEYS, _SCALARS | st.lists(_SCALARS, max_size=2), max_size=3),
        min_size=1,
        max_size=3,
    )
)
def test_yaml_is_read_back_as_it_was(document: dict[str, Any]) -> None:
    assert yaml.safe_load(format_yaml(document)) == document
