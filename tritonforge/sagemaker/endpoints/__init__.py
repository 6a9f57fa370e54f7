"""Endpoints on SageMaker: the desired deployment, the observed resources, and the plan from one to the other.

`Deployment` is what a user writes, `Observed` what AWS reports. `plan_deployment` compares both and returns a `Plan`:
exact requests as data, in the order in which `tritonforge.sagemaker.plans.executor` sends them.
"""

from __future__ import annotations

from tritonforge.sagemaker.endpoints.deployment import (
    AsyncInference,
    Content,
    DataCapture,
    Deployment,
    ManagedInstanceScaling,
    Serverless,
    Variant,
    VpcConfig,
)
from tritonforge.sagemaker.endpoints.planning import plan_deployment, plan_removal
from tritonforge.sagemaker.endpoints.policies import Autoscaling, BlueGreen, Rolling, StepScaling, TargetTracking
from tritonforge.sagemaker.endpoints.resources import Observed
from tritonforge.sagemaker.plans.plan import Plan, Step, render, to_json

__all__ = ["AsyncInference", "Autoscaling", "BlueGreen", "Content", "DataCapture", "Deployment",
           "ManagedInstanceScaling", "Observed", "Plan", "Rolling", "Serverless", "Step", "StepScaling",
           "TargetTracking", "Variant", "VpcConfig", "plan_deployment", "plan_removal", "render",
           "to_json"]  # fmt: skip
