"""The tensors of a definition: inputs and outputs of models, and tensors of an ensemble with the steps that make them.

A step's inputs are compared with the tensors that feed them on the line that wires the model, by Triton's own rule for
ensembles (triton core ensemble_utils.cc `ValidateTensorConsistency`): the element types are equal, and the extents
agree with or without the batch dimension, where -1 agrees with any. Three things that the server accepts and that fail
later are errors here: each pair is compared, not only the first with each; a batched tensor feeds an unbatched model
only as a whole batch; a step supports batches as large as its tensors have. This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Literal, Protocol

from tritonforge.datatypes import BY_CONFIG, describe_unknown
from tritonforge.errors import DefinitionError
from tritonforge.field_types import check_fields, describe_value, set_field
from tritonforge.model_files.signature import shapes_agree

__all__ = ["Input", "Output", "Servable", "Step", "Tensor", "Tensors", "check_dims", "wire_model"]


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model (`ModelInput`).

    ``dims`` are without the batch dimension when the model's ``max_batch_size`` is above 0; -1 is a variable extent.
    ``data_type`` (``TYPE_FP32`` ...) and ``dims`` may be left out: the build reads them from the model file.
    ``reshape`` is the shape that the backend receives instead of ``dims``.

    Raises:
        DefinitionError: no name, an unknown ``data_type``, an extent that is neither >= 1 nor -1.
    """

    name: str
    data_type: str | None = None
    dims: Sequence[int] | None = None
    format: Literal["", "FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"] = field(default="", kw_only=True)
    reshape: Sequence[int] | None = field(default=None, kw_only=True)
    is_shape_tensor: bool = field(default=False, kw_only=True)
    allow_ragged_batch: bool = field(default=False, kw_only=True)
    optional: bool = field(default=False, kw_only=True)
    is_non_linear_format_io: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _check_tensor(self)


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a model (`ModelOutput`).

    ``dims``, ``data_type`` and ``reshape`` as for `Input`. ``label_filename`` names the label file in the model's
    directory. Its lines are ``labels``, one a class; without ``labels`` the file of that name beside the definition.

    Raises:
        DefinitionError: as for `Input`; labels without a ``label_filename``.
    """

    name: str
    data_type: str | None = None
    dims: Sequence[int] | None = None
    reshape: Sequence[int] | None = field(default=None, kw_only=True)
    label_filename: str = field(default="", kw_only=True)
    labels: Sequence[str] | None = field(default=None, kw_only=True, repr=False)
    is_shape_tensor: bool = field(default=False, kw_only=True)
    is_non_linear_format_io: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _check_tensor(self)
        if self.labels is not None:
            if not self.label_filename:
                raise DefinitionError(f"output {self.name!r}: labels need a label_filename to be written to")
            bad = [label for label in self.labels if "\n" in label or "\r" in label]
            if bad:
                raise DefinitionError(f"output {self.name!r}: the label {bad[0]!r} holds a line break")
            classes = prod(self.dims) if self.dims is not None and min(self.dims) > 0 else 0
            if len(self.labels) < classes:
                raise DefinitionError(
                    f"output {self.name!r}: labels has {len(self.labels)} labels for {classes} classes (dims "
                    f"{list(self.dims or ())}). Name every class."
                )


def check_dims(dims: Sequence[int], where: str) -> tuple[int, ...]:
    """Return extents as a tuple; each is >= 1, or -1 if it varies (model_config_utils.cc `ValidateIOShape`)."""
    checked = tuple(dims)
    for extent in checked:
        if isinstance(extent, bool) or not isinstance(extent, int) or extent == 0 or extent < -1:
            raise DefinitionError(f"{where} is {list(checked)}: an extent must be >= 1, or -1 when it varies")
    return checked


def _check_tensor(tensor: Input | Output) -> None:
    check_fields(tensor)
    kind = type(tensor).__name__.lower()
    if not tensor.name:
        raise DefinitionError(f"an {kind} has no name")
    if tensor.data_type is not None and tensor.data_type not in BY_CONFIG:
        raise DefinitionError(f"{kind} {tensor.name!r}: {describe_unknown(tensor.data_type)}")
    if tensor.dims is not None:
        dims = check_dims(tensor.dims, f"{kind} {tensor.name!r}: dims")
        if not dims:
            raise DefinitionError(f"{kind} {tensor.name!r}: dims is empty; a scalar is dims [1] with reshape []")
        set_field(tensor, "dims", dims)
    if tensor.reshape is not None:
        set_field(tensor, "reshape", check_dims(tensor.reshape, f"{kind} {tensor.name!r}: reshape"))


class Servable(Protocol):
    """A step of an ensemble: a model, or another ensemble."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def max_batch_size(self) -> int:
        """The largest batch; 0 for a model that does not batch."""

    @property
    def input(self) -> Sequence[Input]:
        """The inputs."""

    @property
    def output(self) -> Sequence[Output]:
        """The outputs."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One call of a model in an ensemble: ``inputs`` maps its input names to the tensors that feed them."""

    model: Servable
    inputs: Mapping[str, Tensor]
    model_version: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A reference to an ensemble tensor: an ensemble's input by name, or the result of calling a model.

    ``dims`` are without the batch dimension where ``max_batch_size``, the largest batch of the tensor, is above 0. What
    an ensemble's input leaves out comes from the first model that reads it. ``optional``: requests may leave an
    ensemble's input out; None: if each input that reads it is optional.
    """

    name: str = ""
    data_type: str | None = None
    dims: Sequence[int] | None = None
    max_batch_size: int | None = field(default=None, kw_only=True)
    optional: bool | None = field(default=None, kw_only=True)
    step: Step | None = field(default=None, kw_only=True, repr=False)
    output: str = field(default="", kw_only=True)
    # The first reader of an ensemble's input. The only mutable field: two later lines that read the same input can be
    # compared only if the first is stored.
    first_reader: list[tuple[Servable, Input]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.step is None and not self.name:
            raise DefinitionError("a tensor that enters an ensemble needs a name")
        if self.data_type is not None and self.data_type not in BY_CONFIG:
            raise DefinitionError(f"tensor {self.name!r}: {describe_unknown(self.data_type)}")
        if self.dims is not None:
            set_field(self, "dims", check_dims(self.dims, f"tensor {self.name!r}: dims"))

    @property
    def resolved_spec(self) -> tuple[str | None, tuple[int, ...] | None, int | None]:
        """(data_type, dims, max_batch_size): as stated, or else those of the first reader."""
        data_type, dims, batch = self.data_type, self.dims, self.max_batch_size
        if self.first_reader:
            model, tensor = self.first_reader[0]
            data_type = tensor.data_type if data_type is None else data_type
            batch = model.max_batch_size if batch is None else batch
            dims = _convert_dims(batch, model, tensor) if dims is None else dims
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
    """The outputs of a model with several: in the order of its outputs, or by name."""

    __slots__ = ("_by_name",)

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._by_name = MappingProxyType({tensor.output: tensor for tensor in tensors})

    def __getitem__(self, key: int | str | slice) -> Tensor:  # type: ignore[override]  # names are keys too
        if isinstance(key, str):
            if key not in self._by_name:
                raise DefinitionError(f'output "{key}" not found; the outputs are {_quote_names(self._by_name)}')
            return self._by_name[key]
        if isinstance(key, slice):
            raise DefinitionError("a slice of outputs is not supported; take each by position or by name")
        return list(self._by_name.values())[key]

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._by_name.values())

    def __repr__(self) -> str:
        return f"Tensors({', '.join(self._by_name)})"


def wire_model(
    model: Servable,
    positional: Sequence[Tensor | Mapping[str, Tensor]],
    named: Mapping[str, Tensor],
    *,
    to: str | Sequence[str] | Mapping[str, str] | None = None,
    version: int = -1,
) -> Tensor | Tensors:
    """Wire a model: compare its inputs with the tensors that feed them, and return references to its outputs.

    Tensors come in the order of the model's inputs, as keywords, or as one mapping where input names are not valid
    Python names. ``to`` names the resulting ensemble tensors: one name, names in the order of the outputs, or by output
    name. ``version`` is the model version of the step; -1 is the latest.

    Raises:
        DefinitionError: an unknown input, a required one missing, an argument that is not a tensor, or a tensor of
            another type or shape.
    """
    _check_arguments(model, positional, named, to, version)
    inputs = _match_inputs(model, positional, named)
    declared = {target.name: target for target in model.input}
    for name, tensor in inputs.items():
        _check_edge(tensor, model, declared[name])
    for name, tensor in inputs.items():
        if tensor.step is None and not tensor.first_reader:
            tensor.first_reader.append((model, declared[name]))
    if not model.output:
        raise DefinitionError(f'model "{model.name}" states no outputs; list them to wire it')
    step = Step(model=model, inputs=MappingProxyType(inputs), model_version=version)
    names = _name_outputs(model, to)
    batch = _find_batch_size(model, inputs.values())
    tensors = [
        Tensor(
            names.get(output.name, ""),
            output.data_type,
            output.dims,
            max_batch_size=batch,
            step=step,
            output=output.name,
        )
        for output in model.output
    ]
    return tensors[0] if len(tensors) == 1 else Tensors(tensors)


def _check_arguments(
    model: Servable, positional: Sequence[object], named: Mapping[str, object], to: object, version: object
) -> None:
    """Check the types of a call's arguments, which may be anything."""
    declared = [target.name for target in model.input]
    names_by_place = [*declared, *(str(place) for place in range(len(positional)))]
    given: dict[str, object] = dict(zip(names_by_place, positional, strict=False))
    if len(positional) == 1 and isinstance(positional[0], Mapping):
        given = {str(name): tensor for name, tensor in positional[0].items()}
    for name, tensor in {**given, **named}.items():
        if not isinstance(tensor, Tensor):
            advice = f". Write Tensor({tensor!r})." if isinstance(tensor, str) else ""
            if isinstance(tensor, Tensors):
                advice = f". Choose one of its outputs: {_quote_names(tensor)}."
            raise DefinitionError(
                f'input "{name}" of model "{model.name}" is given {describe_value(tensor)}, not a tensor of this '
                f"ensemble{advice}"
            )
    names = list(to.values()) if isinstance(to, Mapping) else [to] if isinstance(to, str) else to
    if names is not None and not (
        isinstance(names, list | tuple) and all(isinstance(name, str) and name for name in names)
    ):
        raise DefinitionError(
            f'model "{model.name}": to is {describe_value(to)} (expected a name, a list of names, or a mapping of '
            "outputs to names)"
        )
    if isinstance(version, bool) or not isinstance(version, int):
        raise DefinitionError(f'model "{model.name}": version is {describe_value(version)} (expected int)')


def _match_inputs(
    model: Servable, positional: Sequence[Tensor | Mapping[str, Tensor]], named: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    declared = [target.name for target in model.input]
    if not declared:
        raise DefinitionError(f'model "{model.name}" states no inputs; list them to wire it')
    pairs: list[tuple[str, Tensor]] = []
    if len(positional) == 1 and isinstance(positional[0], Mapping):
        pairs += positional[0].items()
    else:
        if len(positional) > len(declared):
            names = _quote_names(declared)
            raise DefinitionError(
                f'model "{model.name}" has {len(declared)} inputs ({names}) and is given {len(positional)}'
            )
        pairs += zip(declared, positional, strict=False)  # type: ignore[arg-type]  # wire_model() checks each is a Tensor
    pairs += named.items()
    inputs: dict[str, Tensor] = {}
    for name, tensor in pairs:
        if name not in declared:
            raise DefinitionError(
                f'model "{model.name}" has no input "{name}" for {tensor}; its inputs are {_quote_names(declared)}'
            )
        if name in inputs:
            raise DefinitionError(f'input "{name}" of model "{model.name}" is given twice: {inputs[name]} and {tensor}')
        inputs[name] = tensor
    missing = [target.name for target in model.input if target.name not in inputs and not target.optional]
    if missing:
        raise DefinitionError(
            f'input "{missing[0]}" of model "{model.name}" is not mapped to any ensemble tensor; it is given '
            f"{', '.join(f'{tensor} as input {chr(34)}{name}{chr(34)}' for name, tensor in inputs.items()) or 'none'}"
        )
    return {name: inputs[name] for name in declared if name in inputs}


def _check_edge(tensor: Tensor, model: Servable, target: Input) -> None:
    data_type, dims, batch = tensor.resolved_spec
    where = f'input "{target.name}" of model "{model.name}"'
    if data_type is not None and target.data_type is not None and data_type != target.data_type:
        raise DefinitionError(f"{tensor} is {data_type}, but {where} is {target.data_type}")
    if batch is None:
        batch = model.max_batch_size
    if 0 < model.max_batch_size < batch:
        raise DefinitionError(
            f"{tensor} has batches of up to {batch}, but {where} takes at most {model.max_batch_size}: "
            f'raise the max_batch_size of "{model.name}", or state a smaller one on the ensemble\'s input'
        )
    if dims is None or target.dims is None:
        return
    read = tuple(target.dims)
    full = _add_batch(dims, batch)
    full_read = _add_batch(read, model.max_batch_size)
    if not shapes_agree(dims, read) and not shapes_agree(full, full_read):
        note = " (the first is the batch)" if batch > 0 else ""
        raise DefinitionError(f"{tensor} has dims {list(full)}, but {where} has dims {list(full_read)}{note}")
    if batch > 0 and model.max_batch_size == 0 and not (shapes_agree(full, read) and read[0] == -1):
        raise DefinitionError(
            f"{tensor} is batched (max_batch_size {batch}, dims {list(dims)}), but {where} is not (max_batch_size 0, "
            f'dims {list(read)}): it would answer one image and fail on two; give "{model.name}" a max_batch_size, or '
            f"dims {[-1, *dims]}"
        )


def _convert_dims(batch: int, model: Servable, tensor: Input) -> tuple[int, ...] | None:
    if tensor.dims is None:
        return None
    dims = tuple(tensor.dims)
    if batch == 0 and model.max_batch_size > 0:
        return (-1, *dims)
    if batch > 0 and model.max_batch_size == 0:
        return dims[1:]
    return dims


def _find_batch_size(model: Servable, tensors: Iterable[Tensor]) -> int:
    if model.max_batch_size == 0:
        return 0
    batches = [batch for tensor in tensors if (batch := tensor.resolved_spec[2])]
    return min([model.max_batch_size, *batches])


def _add_batch(dims: tuple[int, ...], batch: int) -> tuple[int, ...]:
    return (-1, *dims) if batch > 0 else dims


def _name_outputs(model: Servable, to: str | Sequence[str] | Mapping[str, str] | None) -> dict[str, str]:
    outputs = [output.name for output in model.output]
    if to is None:
        return {}
    if isinstance(to, Mapping):
        unknown = [name for name in to if name not in outputs]
        if unknown:
            raise DefinitionError(
                f'model "{model.name}" has no output "{unknown[0]}"; its outputs are {_quote_names(outputs)}'
            )
        return dict(to)
    names = [to] if isinstance(to, str) else list(to)
    if len(names) != len(outputs):
        raise DefinitionError(
            f'model "{model.name}" has {len(outputs)} outputs ({_quote_names(outputs)}); to names {len(names)} tensors'
        )
    return dict(zip(outputs, names, strict=True))


def _quote_names(names: Sequence[str] | Mapping[str, object] | Tensors) -> str:
    names = [tensor.output for tensor in names] if isinstance(names, Tensors) else names
    return ", ".join(f'"{name}"' for name in names)
