"""Kubernetes: manifests for KServe and values for NVIDIA's chart from a `Deployment`, and their apply.

`ClusterSettings` is what a user adds to a `Deployment`. `build_manifests` and `build_chart_values` are pure;
`ClusterDeployment` validates the repository, compares the manifests with a cluster and applies them.
"""

from __future__ import annotations

from tritonforge.kubernetes.chart_values import build_chart_values
from tritonforge.kubernetes.cluster_plan import ClusterPlan, ManifestStep, render_plan, to_document
from tritonforge.kubernetes.inference_service import build_manifests
from tritonforge.kubernetes.repository_needs import RepositoryNeeds
from tritonforge.kubernetes.settings import ClusterSettings
from tritonforge.kubernetes.yaml_text import format_documents, format_yaml

__all__ = ["ClusterPlan", "ClusterSettings", "ManifestStep", "RepositoryNeeds", "build_chart_values",
           "build_manifests", "format_documents", "format_yaml", "render_plan", "to_document"]  # fmt: skip
