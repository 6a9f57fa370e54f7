"""The parameters of a runtime request, which are headers, held against AWS's own service model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tritonforge.sagemaker import service_model

__all__ = ["parameters", "problems"]


def parameters(operation: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The values of the operation's members that are headers, by the member's name; ``headers`` have small names."""
    members = _members(operation)
    return {members[name][0]: value for name, value in headers.items() if name in members}


@lru_cache(maxsize=1024)
def problems(operation: str, values: tuple[tuple[str, str], ...]) -> str:
    """AWS's sentence about values that the model does not allow; "" when it allows all of them."""
    given = service_model.find_operation("sagemaker-runtime", operation).input_shape.members
    found: list[service_model.Violation] = []
    for name, value in values:
        shape = given[name]
        typed: Any = value
        if shape.type_name in ("integer", "long"):
            typed = int(value) if re.fullmatch(r"[+-]?[0-9]{1,18}", value) else value
        found += service_model.check_shape(shape, typed, path=(name,))
    return service_model.format_service_message(found) if found else ""


@lru_cache(maxsize=8)
def _members(operation: str) -> dict[str, tuple[str, Any]]:
    shape = service_model.find_operation("sagemaker-runtime", operation).input_shape
    return {
        member.serialization["name"].lower(): (name, member)
        for name, member in shape.members.items()
        if member.serialization.get("location") == "header"
    }
