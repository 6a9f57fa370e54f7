"""The check of a plan that ends in a job, before its first call. An edge: it reads botocore's service model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from tritonforge.errors import RequestError
from tritonforge.sagemaker import service_model, shapes
from tritonforge.sagemaker.endpoints.limits import Limit
from tritonforge.sagemaker.jobs.kinds import Kind
from tritonforge.sagemaker.plans.checking import check as check_plan
from tritonforge.sagemaker.plans.steps import Plan

__all__ = ["check"]

_SERVICE: Final = "sagemaker"


def check(plan: Plan, kind: Kind, exceeded: Callable[[str, Mapping[str, Any]], Iterable[Limit]]) -> None:
    """Hold every request of a plan against what AWS takes; ``exceeded`` has the documented limits. Calls nothing.

    Raises:
        RequestError: with everything that AWS would refuse, one a line.
        MissingExtraError: botocore, which carries the service models, is not installed.
    """
    lines: list[str] = []
    for step in plan.steps:
        if step.operation == kind.create:
            found = shapes.problems(service_model.operation(_SERVICE, kind.create).input_shape, step.request)
            lines += shapes.summary(found).splitlines() if found else []
            lines += [f"{each.place}: {each.sentence}" for each in exceeded(kind.create, step.request)]
    if lines:
        raise RequestError(f"AWS would refuse this {kind.noun.split()[-1]}:\n" + "\n".join(lines))
    check_plan(plan)
