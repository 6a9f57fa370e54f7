"""What is to run on SageMaker, what runs there now, and the plan that leads from one to the other. No I/O.

`Deployment` is what a user writes, `Observed` what AWS answered, `plan` compares the two and gives a `Plan`: exact
requests as data, in the order in which they are to be sent. `tritonforge.sagemaker.endpoints.apply` sends them.
"""

from __future__ import annotations

from tritonforge.sagemaker.endpoints.content import Content
from tritonforge.sagemaker.endpoints.deployment import Deployment, Variant
from tritonforge.sagemaker.endpoints.observed import Observed
from tritonforge.sagemaker.endpoints.planning import plan
from tritonforge.sagemaker.endpoints.policies import BlueGreen, Rolling
from tritonforge.sagemaker.endpoints.removal import plan_removal
from tritonforge.sagemaker.endpoints.scaling import Autoscaling, StepScaling, TargetTracking
from tritonforge.sagemaker.endpoints.settings import (
    AsyncInference,
    DataCapture,
    ManagedInstanceScaling,
    Serverless,
    VpcConfig,
)
from tritonforge.sagemaker.plans.rendering import render, to_json
from tritonforge.sagemaker.plans.steps import Plan, Step

__all__ = [
    "AsyncInference",
    "Autoscaling",
    "BlueGreen",
    "Content",
    "DataCapture",
    "Deployment",
    "ManagedInstanceScaling",
    "Observed",
    "Plan",
    "Rolling",
    "Serverless",
    "Step",
    "StepScaling",
    "TargetTracking",
    "Variant",
    "VpcConfig",
    "plan",
    "plan_removal",
    "render",
    "to_json",
]
