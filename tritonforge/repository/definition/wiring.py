"""Tensors of an ensemble and the steps that make them: what happens on the line that wires a model.

A step's inputs are held against the tensors that reach them by Triton's own rule for ensembles
(triton core ensemble_utils.cc `ValidateTensorConsistency`): the element types are equal, and the extents agree with or
without the batch dimension, where -1 agrees with anything. Three things that the server accepts and that fail later are
errors here: each pair is compared, not only the first with each; a batched tensor reaches an unbatched model only as a
whole batch; a step takes as large a batch as its tensors carry. This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from tritonforge.datatypes import BY_CONFIG
from tritonforge.errors import DefinitionError
from tritonforge.field_types import check_fields, describe
from tritonforge.model_files.signature import shapes_agree
from tritonforge.repository.definition.tensors import Input, Output, check_dims, describe_data_type, frozen

__all__ = ["Servable", "Step", "Tensor", "Tensors", "call"]


class Servable(Protocol):
    """What can be a step: a model, or an ensemble of models."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def max_batch_size(self) -> int:
        """The largest batch that it takes; 0 when it takes none."""

    @property
    def input(self) -> Sequence[Input]:
        """What it takes."""

    @property
    def output(self) -> Sequence[Output]:
        """What it gives."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A model at work in an ensemble: ``inputs`` maps its input names to the tensors that reach them."""

    model: Servable
    inputs: Mapping[str, Tensor]
    model_version: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A reference to an ensemble tensor: made by name as an ensemble's input, or by calling a model.

    ``dims`` are without the batch dimension where ``max_batch_size``, the largest batch that the tensor carries, is
    above 0. What an ensemble's input leaves out it takes from the first model that reads it. ``optional`` says whether
    requests may leave an ensemble's input out; None is whether each input that reads it is optional.
    """

    name: str = ""
    data_type: str | None = None
    dims: Sequence[int] | None = None
    max_batch_size: int | None = field(default=None, kw_only=True)
    optional: bool | None = field(default=None, kw_only=True)
    step: Step | None = field(default=None, kw_only=True, repr=False)
    output: str = field(default="", kw_only=True)
    # The first reader of an ensemble's input, once there is one. The only thing here that changes: two later lines that
    # read the same input can be held against each other only where the first is remembered.
    first_reader: list[tuple[Servable, Input]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.step is None and not self.name:
            raise DefinitionError("a tensor that enters an ensemble needs a name")
        if self.data_type is not None and self.data_type not in BY_CONFIG:
            raise DefinitionError(f"tensor {self.name!r}: {describe_data_type(self.data_type)}")
        if self.dims is not None:
            frozen(self, "dims", check_dims(self.dims, f"tensor {self.name!r}: dims"))

    def typed(self) -> tuple[str | None, tuple[int, ...] | None, int | None]:
        """(data_type, dims, max_batch_size) as known so far: stated, or taken from the first reader."""
        data_type, dims, batch = self.data_type, self.dims, self.max_batch_size
        if self.first_reader:
            model, tensor = self.first_reader[0]
            data_type = tensor.data_type if data_type is None else data_type
            batch = model.max_batch_size if batch is None else batch
            dims = _dims_for(batch, model, tensor) if dims is None else dims
        return data_type, None if dims is None else tuple(dims), batch

    def __str__(self) -> str:
        if self.step is None:
            reader = ""
            if self.first_reader and self.data_type is None:
                reader = f', typed by input "{self.first_reader[0][1].name}" of model "{self.first_reader[0][0].name}"'
            return f'ensemble input "{self.name}"{reader}'
        origin = f'output "{self.output}" of model "{self.step.model.name}"'
        return f'ensemble tensor "{self.name}" ({origin})' if self.name else origin


class Tensors(Sequence[Tensor]):
    """What a model with several outputs gives: in the order of its outputs, or by output name."""

    __slots__ = ("_by_name",)

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._by_name = MappingProxyType({each.output: each for each in tensors})

    def __getitem__(self, key: int | str | slice) -> Tensor:  # type: ignore[override]  # names are keys too
        if isinstance(key, str):
            if key not in self._by_name:
                raise DefinitionError(f'there is no output "{key}"; there are {_quoted(self._by_name)}')
            return self._by_name[key]
        if isinstance(key, slice):
            raise DefinitionError("outputs are taken one by one, by position or by name")
        return list(self._by_name.values())[key]

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._by_name.values())

    def __repr__(self) -> str:
        return f"Tensors({', '.join(self._by_name)})"


def call(
    model: Servable,
    positional: Sequence[Tensor | Mapping[str, Tensor]],
    named: Mapping[str, Tensor],
    *,
    to: str | Sequence[str] | Mapping[str, str] | None = None,
    version: int = -1,
) -> Tensor | Tensors:
    """Wire a model: hold its inputs against the tensors that reach them, and give references to its outputs.

    Tensors come in the order of the model's inputs, as keywords, or as one mapping where input names are no Python
    names. ``to`` names the resulting ensemble tensors: one name, names in the order of the outputs, or by output name.
    ``version`` is the model version of the step; -1 is the latest.

    Raises:
        DefinitionError: an input that the model has not, a required one missing, an argument that is not a tensor, or a
            tensor that can never fit.
    """
    _check_arguments(model, positional, named, to, version)
    inputs = _named_inputs(model, positional, named)
    declared = {each.name: each for each in model.input}
    for name, tensor in inputs.items():
        _check_edge(tensor, model, declared[name])
    for name, tensor in inputs.items():
        if tensor.step is None and not tensor.first_reader:
            tensor.first_reader.append((model, declared[name]))
    if not model.output:
        raise DefinitionError(f'model "{model.name}" states no outputs; list them to wire it')
    step = Step(model=model, inputs=MappingProxyType(inputs), model_version=version)
    names = _output_names(model, to)
    batch = _carried(model, inputs.values())
    tensors = [
        Tensor(names.get(each.name, ""), each.data_type, each.dims, max_batch_size=batch, step=step, output=each.name)
        for each in model.output
    ]
    return tensors[0] if len(tensors) == 1 else Tensors(tensors)


def _check_arguments(
    model: Servable, positional: Sequence[object], named: Mapping[str, object], to: object, version: object
) -> None:
    """Check the types of what a model is called with, which may be anything."""
    declared = [each.name for each in model.input]
    names_by_place = [*declared, *(str(place) for place in range(len(positional)))]
    given: dict[str, object] = dict(zip(names_by_place, positional, strict=False))
    if len(positional) == 1 and isinstance(positional[0], Mapping):
        given = {str(name): tensor for name, tensor in positional[0].items()}
    for name, tensor in {**given, **named}.items():
        if not isinstance(tensor, Tensor):
            advice = f". Write Tensor({tensor!r})." if isinstance(tensor, str) else ""
            if isinstance(tensor, Tensors):
                advice = f". Choose one of its outputs: {_quoted(tensor)}."
            raise DefinitionError(
                f'input "{name}" of model "{model.name}" is given {describe(tensor)}, not a tensor of this ensemble'
                f"{advice}"
            )
    names = list(to.values()) if isinstance(to, Mapping) else [to] if isinstance(to, str) else to
    if names is not None and not (
        isinstance(names, list | tuple) and all(isinstance(name, str) and name for name in names)
    ):
        raise DefinitionError(
            f'model "{model.name}": to is {describe(to)} (expected a name, a list of names, or a mapping of outputs to '
            "names)"
        )
    if isinstance(version, bool) or not isinstance(version, int):
        raise DefinitionError(f'model "{model.name}": version is {describe(version)} (expected int)')


def _named_inputs(
    model: Servable, positional: Sequence[Tensor | Mapping[str, Tensor]], named: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    declared = [each.name for each in model.input]
    if not declared:
        raise DefinitionError(f'model "{model.name}" states no inputs; list them to wire it')
    pairs: list[tuple[str, Tensor]] = []
    if len(positional) == 1 and isinstance(positional[0], Mapping):
        pairs += positional[0].items()
    else:
        if len(positional) > len(declared):
            raise DefinitionError(
                f'model "{model.name}" has {len(declared)} inputs ({_quoted(declared)}) and is given {len(positional)}'
            )
        pairs += zip(declared, positional, strict=False)  # type: ignore[arg-type]  # call() checks each is a Tensor
    pairs += named.items()
    inputs: dict[str, Tensor] = {}
    for name, tensor in pairs:
        if name not in declared:
            raise DefinitionError(
                f'model "{model.name}" has no input "{name}" for {tensor}; its inputs are {_quoted(declared)}'
            )
        if name in inputs:
            raise DefinitionError(f'input "{name}" of model "{model.name}" is given twice: {inputs[name]} and {tensor}')
        inputs[name] = tensor
    missing = [each.name for each in model.input if each.name not in inputs and not each.optional]
    if missing:
        raise DefinitionError(
            f'input "{missing[0]}" of model "{model.name}" is not mapped to any ensemble tensor; it is given '
            f"{', '.join(f'{tensor} as input {chr(34)}{name}{chr(34)}' for name, tensor in inputs.items()) or 'none'}"
        )
    return {name: inputs[name] for name in declared if name in inputs}


def _check_edge(tensor: Tensor, model: Servable, target: Input) -> None:
    data_type, dims, batch = tensor.typed()
    where = f'input "{target.name}" of model "{model.name}"'
    if data_type is not None and target.data_type is not None and data_type != target.data_type:
        raise DefinitionError(f"{tensor} is {data_type}, but {where} is {target.data_type}")
    if batch is None:
        batch = model.max_batch_size
    if 0 < model.max_batch_size < batch:
        raise DefinitionError(
            f"{tensor} carries batches of up to {batch}, but {where} takes at most {model.max_batch_size}: "
            f'raise the max_batch_size of "{model.name}", or state a smaller one on the ensemble\'s input'
        )
    if dims is None or target.dims is None:
        return
    read = tuple(target.dims)
    full = _full(dims, batch)
    full_read = _full(read, model.max_batch_size)
    if not shapes_agree(dims, read) and not shapes_agree(full, full_read):
        raise DefinitionError(f"{tensor} has dims {list(full)}, but {where} has dims {list(full_read)}{_note(batch)}")
    if batch > 0 and model.max_batch_size == 0 and not (shapes_agree(full, read) and read[0] == -1):
        raise DefinitionError(
            f"{tensor} is batched (max_batch_size {batch}, dims {list(dims)}), but {where} is not (max_batch_size 0, "
            f'dims {list(read)}): it would answer one image and fail on two; give "{model.name}" a max_batch_size, or '
            f"dims {[-1, *dims]}"
        )


def _dims_for(batch: int, model: Servable, tensor: Input) -> tuple[int, ...] | None:
    if tensor.dims is None:
        return None
    dims = tuple(tensor.dims)
    if batch == 0 and model.max_batch_size > 0:
        return (-1, *dims)
    if batch > 0 and model.max_batch_size == 0:
        return dims[1:]
    return dims


def _carried(model: Servable, tensors: Iterable[Tensor]) -> int:
    if model.max_batch_size == 0:
        return 0
    batches = [batch for each in tensors if (batch := each.typed()[2])]
    return min([model.max_batch_size, *batches])


def _full(dims: tuple[int, ...], batch: int) -> tuple[int, ...]:
    return (-1, *dims) if batch > 0 else dims


def _note(batch: int) -> str:
    return " (the first is the batch)" if batch > 0 else ""


def _output_names(model: Servable, to: str | Sequence[str] | Mapping[str, str] | None) -> dict[str, str]:
    outputs = [each.name for each in model.output]
    if to is None:
        return {}
    if isinstance(to, Mapping):
        unknown = [name for name in to if name not in outputs]
        if unknown:
            raise DefinitionError(
                f'model "{model.name}" has no output "{unknown[0]}"; its outputs are {_quoted(outputs)}'
            )
        return dict(to)
    names = [to] if isinstance(to, str) else list(to)
    if len(names) != len(outputs):
        raise DefinitionError(
            f'model "{model.name}" has {len(outputs)} outputs ({_quoted(outputs)}); to names {len(names)} tensors'
        )
    return dict(zip(outputs, names, strict=True))


def _quoted(names: Sequence[str] | Mapping[str, object] | Tensors) -> str:
    names = [each.output for each in names] if isinstance(names, Tensors) else names
    return ", ".join(f'"{name}"' for name in names)
