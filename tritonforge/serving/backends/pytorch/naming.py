"""Which tensor of a configuration is which argument or result of a TorchScript module. This module does no I/O.

The conventions of pytorch_backend (r24.10, src/libtorch.cc `GetNamingConvention`, `ValidateInputs`): inputs have the
names of the arguments of ``forward``, or all tensors of a direction are called ``<name>__<index>``, or the order of the
configuration counts. States of sequences need the second one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tritonforge.errors import ArtifactError
from tritonforge.serving.backends.configuration import Configuration

__all__ = ["Argument", "Names", "assign_names"]


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of ``forward``: its name, the kind of its type (``TensorType``), and the type as text."""

    name: str
    kind: str
    type: str


@dataclass(frozen=True, slots=True)
class Names:
    """The places of inputs and outputs by their names.

    With ``is_dictionary`` the module has one argument, a dictionary of tensors. ``warnings`` are for the log.
    """

    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    is_dictionary: bool = False
    warnings: tuple[str, ...] = ()

    def sort_inputs(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values in the order of the module's arguments."""
        return [values[name] for name in sorted(values, key=lambda name: self.inputs[name])]


def assign_names(config: Configuration, arguments: Sequence[Argument]) -> Names:
    """Return the places of a configuration's tensors.

    Raises:
        ArtifactError: the module has arguments that Triton cannot pass, or another number of them, or names break the
            convention that sequences need.
    """
    if arguments and arguments[0].kind == "ClassType":  # self
        arguments = arguments[1:]
    is_dictionary = len(arguments) == 1 and arguments[0].kind == "DictType"
    allowed = [] if is_dictionary else [argument.name for argument in arguments]
    for tensor in config.controls:
        if _find_index(tensor.name) is None:
            raise ArtifactError(f"input '{tensor.name}' does not follow <name>__<index> naming convention.")
    if not is_dictionary:
        _check_arguments(config, arguments)
    for direction, tensors in (("input", config.inputs), ("output", config.outputs)):
        if not tensors:
            raise ArtifactError(f"model configuration must contain at least one {direction}, none were specified.")
    inputs, warnings = _place(config, "input", [tensor.name for tensor in config.inputs], allowed)
    outputs, more = _place(config, "output", [tensor.name for tensor in config.outputs], [])
    for state in config.states:
        for places, name in ((inputs, state.input.name), (outputs, state.output.name)):
            places[name] = _require_index(config, name)
    inputs.update({tensor.name: _find_index(tensor.name) or 0 for tensor in config.controls})
    if allowed:
        _check_places(inputs, len(allowed))
    return Names(inputs, outputs, is_dictionary, (*warnings, *more))


def _check_arguments(config: Configuration, arguments: Sequence[Argument]) -> None:
    if any(argument.kind == "DictType" for argument in arguments[1:]):
        raise ArtifactError(
            "Multiple inputs of kind DictType were detected. Only a single input of type Dict(str, Tensor) is "
            "supported."
        )
    for argument in arguments:
        if argument.kind not in ("TensorType", "ListType"):
            raise ArtifactError(
                f"An input of type '{argument.type}' was detected in the model. Only a single input of type "
                "Dict(str, Tensor) or input(s) of type Tensor are supported."
            )
    if arguments and len(arguments) != len(config.all_inputs):
        raise ArtifactError(
            f"unable to load model '{config.name}', configuration expects {len(config.all_inputs)} inputs, model "
            f"provides {len(arguments)}"
        )


def _check_places(inputs: Mapping[str, int], count: int) -> None:
    """Raise ArtifactError for places without an argument, where the upstream backend writes outside of its memory."""
    for name, place in inputs.items():
        if place >= count:
            raise ArtifactError(
                f"The input {name} in the model configuration refers to an input index which doesn't exist. This model "
                f"has {count} inputs"
            )
        if other := next((other for other, same in inputs.items() if same == place and other != name), None):
            raise ArtifactError(
                f"The inputs {name} and {other} in the model configuration refer to the same input index"
            )


def _place(
    config: Configuration, direction: str, names: Sequence[str], allowed: Sequence[str]
) -> tuple[dict[str, int], list[str]]:
    """Return the places of inputs or outputs, and warnings; ``allowed`` are names of arguments."""
    indices = [_find_index(name) for name in names]
    if allowed and set(names) <= {*allowed}:
        places = {name: allowed.index(name) for name in names}
    elif None not in indices:
        return {name: index for name, index in zip(names, indices, strict=True) if index is not None}, []
    else:
        places = {name: place for place, name in enumerate(names)}
    if config.states:
        raise ArtifactError(
            f"PyTorch model '{config.name}' is using sequence batching with state but not all inputs and outputs "
            "follow the <name>__<index> naming convention. "
        )
    first = names[indices.index(None)] if None in indices else ""
    if "__" not in first or {*names} <= {*allowed}:
        return places, []
    what = (
        f"input '{first}' or previous input(s) are neither an input argument to the model '{config.name}' nor do they"
        if direction == "input"
        else f"output '{first}' or previous output(s) of the model '{config.name}' do not"
    )
    fallback = "Falling back to enforcing strict ordering from model configuration."
    return places, [f"{what} follow the <name>__<index> naming convention. {fallback}"]


def _require_index(config: Configuration, name: str) -> int:
    index = _find_index(name)
    if index is None:
        raise ArtifactError(
            f"PyTorch model '{config.name}' is using sequence batching with state but state '{name}' does not follow "
            "the <name>__<index> naming convention. "
        )
    return index


def _find_index(name: str) -> int | None:
    """Return the index in ``<name>__<index>``; None where the name has none."""
    _, separator, index = name.partition("__")
    if not separator or not all("0" <= character <= "9" for character in index):
        return None
    return int(index or "0")  # atoi of nothing
