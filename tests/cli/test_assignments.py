"""Options of the form NAME=VALUE, and data with attributes: one spelling in every command."""

from __future__ import annotations

import click
import pytest

from tritonforge.cli.assignments import assigned, attributed


def test_the_last_value_of_a_name_holds() -> None:
    """A value may be empty, and have signs of its own."""
    assert assigned(["a=1", "b=", "a=x=y"], "--env") == {"a": "x=y", "b": ""}


@pytest.mark.parametrize("text", ["a", "=1", ""])
def test_what_is_no_assignment_is_one_sentence(text: str) -> None:
    """With the option that it was given to."""
    with pytest.raises(click.UsageError, match=r"--env .*: write NAME=VALUE"):
        assigned([text], "--env")


@pytest.mark.parametrize(
    ("text", "address", "attributes"),
    [
        ("s3://b/train/", "s3://b/train/", ()),
        ("s3://b/m.manifest:source-ref,label", "s3://b/m.manifest", ("source-ref", "label")),
        ("data/m.manifest:source-ref", "data/m.manifest", ("source-ref",)),
        ("data/12:30/pictures", "data/12:30/pictures", ()),
        ("m:", "m", ()),
    ],
)
def test_attributes_stand_after_the_last_colon(text: str, address: str, attributes: tuple[str, ...]) -> None:
    """A colon of an address, or inside of a path, is none of these."""
    assert attributed(text) == (address, attributes)
