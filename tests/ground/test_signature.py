"""Tests of `tritonforge.model_files.signature`: the comparison of a configuration with a model file."""

from __future__ import annotations

import pytest

from tritonforge.model_files.signature import Signature, TensorSpec, compare_signatures

FP32, INT8 = "TYPE_FP32", "TYPE_INT8"


def kinds(
    stated: list[TensorSpec], found: list[TensorSpec], *, batched: bool = True, exact: set[str] | None = None
) -> list[str]:
    """The kinds of the differences between inputs."""
    signatures = Signature(stated, ()), Signature(found, ())
    return [difference.kind for difference in compare_signatures(*signatures, batched=batched, exact=exact)]


@pytest.mark.parametrize(
    ("stated", "found", "batched", "expected"),
    [
        (TensorSpec("x", FP32, (-1, 3)), TensorSpec("x", FP32, (-1, 3)), True, []),
        (TensorSpec("x", FP32, (-1, 3)), TensorSpec("y", FP32, (-1, 3)), True, ["unknown", "missing"]),
        (TensorSpec("x", FP32, (-1, 3)), TensorSpec("x", INT8, (-1, 4)), True, ["data_type", "shape"]),
        (TensorSpec("x", FP32), TensorSpec("x", None, (1, 3)), True, ["batch"]),
        (TensorSpec("x", FP32), TensorSpec("x", None, (1, 3)), False, []),
        (TensorSpec("x", FP32, (1,)), TensorSpec("x", FP32, ()), False, []),
        (TensorSpec("x", FP32, (-1, 1)), TensorSpec("x", FP32, ()), True, ["batch"]),
        (TensorSpec("x", FP32, (-1, 3)), TensorSpec("x", FP32), True, []),
    ],
)
def test_differences_of_one_tensor(stated: TensorSpec, found: TensorSpec, batched: bool, expected: list[str]) -> None:
    assert kinds([stated], [found], batched=batched) == expected


@pytest.mark.parametrize(
    ("stated", "found", "default", "loaded", "exact"),
    [
        ((-1, 3), (-1, -1), [], [], ["shape"]),
        ((-1, -1), (-1, 3), [], ["shape"], ["shape"]),
        ((-1, 4), (-1, 3), ["shape"], ["shape"], ["shape"]),
        ((-1, 3), (-1, 3), [], [], []),
    ],
)
def test_extents_are_compared_as_strictly_as_asked(
    stated: tuple[int, ...], found: tuple[int, ...], default: list[str], loaded: list[str], exact: list[str]
) -> None:
    """By default -1 on either side agrees; a backend takes its own -1 only, or for an output none."""
    tensors = [TensorSpec("x", FP32, stated)], [TensorSpec("x", FP32, found)]
    assert kinds(*tensors) == default
    assert kinds(*tensors, exact=set()) == loaded
    assert kinds(*tensors, exact={"x"}) == exact


def test_positional_outputs_are_compared_by_order_if_their_number_is_equal() -> None:
    found = Signature((), [TensorSpec("a", FP32), TensorSpec("b", INT8)], positional_outputs=True)
    stated = Signature((), [TensorSpec("one", FP32), TensorSpec("two", FP32)])
    (difference,) = compare_signatures(stated, found, batched=False)
    assert (difference.kind, difference.stated, difference.found) == ("data_type", stated.outputs[1], found.outputs[1])
    (difference,) = compare_signatures(Signature((), stated.outputs[:1]), found, batched=False)
    assert (difference.kind, difference.direction) == ("count", "output")
