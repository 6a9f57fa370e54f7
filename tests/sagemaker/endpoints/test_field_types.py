"""Wrong types in a deployment: every field refuses them in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest

from tritonforge.errors import DefinitionError
from tritonforge.sagemaker import endpoints as deployment

#: The constructors that users write, and what their required fields are given.
REQUIRED: Mapping[str, Mapping[str, Any]] = {
    "AsyncInference": {},
    "Autoscaling": {"min_capacity": 1, "max_capacity": 2, "policies": [deployment.StepScaling()]},
    "BlueGreen": {},
    "DataCapture": {},
    "Deployment": {"name": "digits"},
    "ManagedInstanceScaling": {"min_instance_count": 1, "max_instance_count": 2},
    "Rolling": {"maximum_batch_size": 1},
    "Serverless": {"memory_size_in_mb": 1024, "max_concurrency": 1},
    "StepScaling": {},
    "TargetTracking": {"target_value": 1.0},
    "Variant": {},
    "VpcConfig": {"security_group_ids": ["sg-1"], "subnets": ["subnet-1"]},
}
FIELDS = [(name, field.name) for name in REQUIRED for field in fields(getattr(deployment, name)) if field.init]


@pytest.mark.parametrize(("constructor", "field"), FIELDS, ids=[".".join(pair) for pair in FIELDS])
def test_a_wrong_type_is_one_sentence_that_names_the_field(constructor: str, field: str) -> None:
    """No traceback of another kind."""
    for wrong in (object(), 1j, object, [1j], {1: object()}):
        with pytest.raises(DefinitionError, match=f"{field}.* has the wrong type .expected "):
            getattr(deployment, constructor)(**{**REQUIRED[constructor], field: wrong})


def test_an_image_is_a_text() -> None:
    """The release 24.09 without its quotes is a number."""
    with pytest.raises(DefinitionError, match=r"image has the wrong type \(expected str or None, got float 24.09\)"):
        deployment.Deployment(name="digits", image=24.09)  # type: ignore[arg-type]
