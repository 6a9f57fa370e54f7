"""What is to run on SageMaker, what runs there now, and the plan that leads from one to the other. No I/O.

`Deployment` is what a user writes, `Observed` what AWS answered, `plan` compares the two and gives a `Plan`: exact
requests as data, in the order in which they are to be sent. `tritonforge.sagemaker.applying` sends them.
"""

from __future__ import annotations

from tritonforge.sagemaker.deployment.content import Content
from tritonforge.sagemaker.deployment.deployment import Deployment, Variant
from tritonforge.sagemaker.deployment.observed import Observed
from tritonforge.sagemaker.deployment.planning import plan
from tritonforge.sagemaker.deployment.policies import BlueGreen, Rolling
from tritonforge.sagemaker.deployment.removal import plan_removal
from tritonforge.sagemaker.deployment.rendering import render, to_json
from tritonforge.sagemaker.deployment.scaling import Autoscaling, StepScaling, TargetTracking
from tritonforge.sagemaker.deployment.settings import (
    AsyncInference,
    DataCapture,
    ManagedInstanceScaling,
    Serverless,
    VpcConfig,
)
from tritonforge.sagemaker.deployment.steps import Plan, Step

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
