"""Wrong types in the declaration of an algorithm: every field refuses them in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest

from tritonforge.errors import DefinitionError
from tritonforge.training import algorithm

#: The constructors that users write, and what their required fields are given.
REQUIRED: Mapping[str, Mapping[str, Any]] = {
    "Algorithm": {"name": "adder"},
    "Channel": {"name": "training"},
    "HyperParameter": {"name": "epochs", "type": "Integer"},
    "Metric": {"name": "loss", "regex": "loss=(.*)"},
    "Objective": {"metric": "loss", "type": "Minimize"},
}
FIELDS = [(name, field.name) for name in REQUIRED for field in fields(getattr(algorithm, name)) if field.init]


@pytest.mark.parametrize(("constructor", "field"), FIELDS, ids=[".".join(pair) for pair in FIELDS])
def test_a_wrong_type_is_one_sentence_that_names_the_field(constructor: str, field: str) -> None:
    """No traceback of another kind."""
    for wrong in (object(), 1j, object, [1j], {1: object()}):
        with pytest.raises(DefinitionError, match=f"{field}.* has the wrong type .expected "):
            getattr(algorithm, constructor)(**{**REQUIRED[constructor], field: wrong})
