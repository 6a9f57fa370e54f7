"""The check of a plan before its first call: every request against the service model and the documented limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tritonforge.errors import RequestError
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.limits import check_limits
from tritonforge.sagemaker.plans.rendering import SENSITIVE, masked
from tritonforge.sagemaker.plans.steps import Plan, resolved

__all__ = ["check"]


def check(plan: Plan) -> None:
    """Hold every request of a plan against what AWS takes; calls nothing.

    Raises:
        RequestError: with everything that AWS would refuse, one a line.
        MissingExtraError: botocore, which carries the service models, is not installed.
    """
    lines: list[str] = []
    models: dict[str, Mapping[str, Any]] = {
        step.name: step.request for step in plan.steps if step.operation == "CreateModel"
    }
    for step in plan.steps:
        request = resolved(step.request, None)
        shape = service_model.find_operation(step.service, step.operation).input_shape
        found = tuple(_discreet(each, request) for each in service_model.check_shape(shape, request))
        said = service_model.describe_violations(found).splitlines() if found else []
        context = {"models": models} if step.operation == "CreateEndpointConfig" else {}
        said += [f"{each.place}: {each.sentence}" for each in check_limits(step.operation, request, **context)]
        lines += [f"{step.operation} {step.name}: {line}" for line in said]
    if lines:
        raise RequestError("AWS would refuse this:\n" + "\n".join(lines))


def _discreet(problem: service_model.Violation, request: Mapping[str, Any]) -> service_model.Violation:
    """A problem without the value where that is a secret."""
    shown: Any = masked(request)
    for part in problem.path:
        try:
            shown = shown[part]
        except (KeyError, IndexError, TypeError):
            return problem
        if shown == SENSITIVE:
            return replace(problem, value=SENSITIVE)
    return problem
