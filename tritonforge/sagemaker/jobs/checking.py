"""The check of a plan that ends in a job, before its first call. An edge: it reads botocore's service model."""

from __future__ import annotations

from typing import Final

from tritonforge.errors import RequestError
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.jobs.kinds import Kind
from tritonforge.sagemaker.limits import check_limits
from tritonforge.sagemaker.plans.executor import check_plan as check_plan
from tritonforge.sagemaker.plans.plan import CheckedPlan, Plan

__all__ = ["check"]

_SERVICE: Final = "sagemaker"


def check(plan: Plan, kind: Kind) -> CheckedPlan:
    """Check every request of a plan against the service model and the documented limits; calls nothing.

    Raises:
        RequestError: with everything that AWS would refuse, one a line.
        MissingExtraError: botocore, which carries the service models, is not installed.
    """
    lines: list[str] = []
    for step in plan.steps:
        if step.operation == kind.create:
            found = service_model.check_shape(
                service_model.find_operation(_SERVICE, kind.create).input_shape, step.request
            )
            lines += service_model.describe_violations(found).splitlines() if found else []
            lines += [f"{each.place}: {each.sentence}" for each in check_limits(kind.create, step.request)]
    if lines:
        raise RequestError(f"AWS would refuse this {kind.noun.split()[-1]}:\n" + "\n".join(lines))
    return check_plan(plan)
