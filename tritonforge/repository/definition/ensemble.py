"""Ensembles: their steps, in order, and the names and shapes that follow. This module does no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tritonforge.errors import DefinitionError
from tritonforge.field_types import check_fields, describe_value, set_field
from tritonforge.repository.definition.models import check_labels, check_max_batch_size, check_name, check_paths
from tritonforge.repository.definition.settings import VersionPolicy
from tritonforge.repository.definition.sources import File, as_file
from tritonforge.repository.definition.tensors import Input, Output, Servable, Step, Tensor, Tensors, wire_model

if TYPE_CHECKING:
    from tritonforge.validation.tree import Tree

__all__ = ["Ensemble", "EnsembleStep", "list_steps", "rebind_models"]


@dataclass(frozen=True, slots=True)
class EnsembleStep:
    """A step of config.pbtxt: model inputs and outputs mapped to the names of ensemble tensors."""

    model: Servable
    model_version: int
    input_map: Mapping[str, str]
    output_map: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ensemble:
    """An ensemble of models, defined by its output tensors.

    Examples:
        >>> from tritonforge import TYPE_UINT8, Dali, Ensemble, Input, Output, Tensor
        >>> jpeg, rgb = Input("jpeg", TYPE_UINT8, [-1]), Output("rgb", TYPE_UINT8, [8, 8, 3])
        >>> decode = Dali("decode", input=[jpeg], output=[rgb])
        >>> Ensemble("show", outputs=[decode(Tensor("INPUT"), to="OUTPUT")]).output
        (Output(name='OUTPUT', data_type='TYPE_UINT8', dims=(8, 8, 3), ...

    ``outputs`` are tensors, or a mapping that names them. ``inputs`` fixes the order of the inputs and must have them
    all; by default they come in the order in which the steps read them. ``step_order`` fixes the order of the steps, by
    what their calls returned. The default of ``max_batch_size`` is the largest batch of every step: 0 if one does not
    batch. ``input`` and ``output`` replace the derived declarations, where config.pbtxt states more or other dims.
    ``files`` adds files to the ensemble's directory, by their path in it.

    Attributes:
        input: the inputs, as stated or derived from the steps.
        output: the outputs, as stated or derived from the steps.
        steps: the steps in an order in which they can run, with the names of their tensors.

    Raises:
        DefinitionError: an output that is not a tensor, two tensors of one name; ``inputs``, ``step_order``, ``input``,
            ``output`` or a ``max_batch_size`` that the steps contradict.
    """

    name: str
    _: KW_ONLY
    outputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor] = field(repr=False)
    inputs: Sequence[Tensor] | None = field(default=None, repr=False)
    max_batch_size: int = -1
    version_policy: VersionPolicy | None = None
    response_cache: bool | None = None
    max_inflight_requests: int = 0
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    step_order: Sequence[Tensor | Tensors] | None = field(default=None, repr=False)
    files: Mapping[str, File | bytes] = field(default_factory=dict, repr=False)
    override: str = ""
    input: Sequence[Input] = ()
    output: Sequence[Output] = ()
    steps: Sequence[EnsembleStep] = field(init=False, repr=False)
    #: Those of ``input`` and ``output`` that the definition states.
    stated: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.files, Mapping):
            set_field(self, "files", {path: as_file(content) for path, content in self.files.items()})
        check_fields(self)
        check_name(self.name, "Ensemble")
        check_paths(self.files, self.name)
        check_labels(self.output, self.name)
        set_field(self, "stated", frozenset(kind for kind in ("input", "output") if getattr(self, kind)))
        leaving = self._list_leaving()
        order = self._order_steps(list(list_steps(leaving.values())))
        entering = self._list_entering(order, leaving)
        names = _name_tensors(self.name, entering, order, leaving)
        if self.max_batch_size == -1:
            batches = [tensor.resolved_spec[2] or 0 for tensor in [*entering, *leaving.values()]]
            set_field(self, "max_batch_size", min(batches))
        else:
            check_max_batch_size(self.max_batch_size, self.name)
            _check_batch(self.name, self.max_batch_size, [*entering, *leaving.values()])
        declared = [self._declare(Input, tensor.name, tensor) for tensor in entering]
        requirements = self._list_requirements(order, leaving)
        optional = [self._is_optional(tensor, requirements) for tensor in entering]
        derived = [replace(entry, optional=may) for entry, may in zip(declared, optional, strict=True)]
        self._set_tensors("input", derived)
        self._set_tensors("output", [self._declare(Output, name, tensor) for name, tensor in leaving.items()])
        set_field(self, "steps", tuple(_build_steps(order, leaving, names)))

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the graph of the ensemble, and the findings on it as a table."""
        from tritonforge.graph.notebook import show_html

        return show_html(self._read_tree, self.name)

    def _repr_svg_(self) -> str | None:
        """Return the graph as SVG, for viewers that show no HTML."""
        from tritonforge.graph.notebook import show_svg

        return show_svg(self._read_tree, self.name)

    def _read_tree(self) -> Tree:
        from tritonforge.repository.resolve import resolve  # it imports this module

        return resolve({self.name: self}).tree()

    def __call__(
        self,
        *tensors: Tensor | Mapping[str, Tensor],
        to: str | Sequence[str] | Mapping[str, str] | None = None,
        version: int = -1,
        **named: Tensor,
    ) -> Any:  # a Tensor where the ensemble has one output, else Tensors; types cannot express which
        """Wire this ensemble as a step of another one."""
        return wire_model(self, tensors, named, to=to, version=version)

    def _list_leaving(self) -> dict[str, Tensor]:
        """Return the ensemble's outputs by name; unnamed ones have the name of the model's output."""
        if isinstance(self.outputs, Mapping):
            named = dict(self.outputs)
        else:
            given = [self.outputs] if isinstance(self.outputs, Tensor) else list(self.outputs)
            _check_tensors(self.name, given)
            named = {}
            for tensor in given:
                name = tensor.name or tensor.output
                if name in named:
                    raise DefinitionError(f'ensemble "{self.name}" has two outputs of the name "{name}"')
                named[name] = tensor
        _check_tensors(self.name, list(named.values()))
        for name, tensor in named.items():
            if tensor.name and tensor.name != name:
                raise DefinitionError(f'ensemble "{self.name}": output "{name}" is {tensor}, which has a name already')
        if not named:
            raise DefinitionError(f'ensemble "{self.name}" has no outputs')
        set_field(self, "outputs", MappingProxyType(named))
        return named

    def _order_steps(self, derived: Sequence[Step]) -> list[Step]:
        """Return the steps in the stated order, else in the derived one."""
        if self.step_order is None:
            return list(derived)
        first = [result[0] if isinstance(result, Tensors) else result for result in self.step_order]
        _check_tensors(self.name, first)
        order = [tensor.step for tensor in first if tensor.step is not None]
        if len(order) != len(first) or {id(step) for step in order} != {id(step) for step in derived}:
            names = ", ".join(step.model.name for step in derived)
            raise DefinitionError(
                f'ensemble "{self.name}": step_order is not one result of every step (expected those of {names})'
            )
        if len(order) != len(derived):
            raise DefinitionError(f'ensemble "{self.name}": step_order has a step twice')
        return order

    def _set_tensors(self, kind: str, derived: Sequence[Input | Output]) -> None:
        """Set the inputs or outputs: those stated, which agree with the derived ones, else the derived ones."""
        stated = getattr(self, kind)
        if not stated:
            set_field(self, kind, tuple(derived))
            return
        by_name = {tensor.name: tensor for tensor in derived}
        names = [tensor.name for tensor in stated]
        if sorted(names) != sorted(by_name):
            raise DefinitionError(
                f'ensemble "{self.name}": {kind} states {", ".join(names)}, but the steps give it {", ".join(by_name)}'
            )
        for tensor in stated:
            other = by_name[tensor.name]
            if None not in (tensor.data_type, other.data_type) and tensor.data_type != other.data_type:
                raise DefinitionError(
                    f'ensemble "{self.name}": {kind} "{tensor.name}" is stated as {tensor.data_type}, but the steps '
                    f"give it {other.data_type}"
                )

    def _list_entering(self, order: Sequence[Step], leaving: Mapping[str, Tensor]) -> list[Tensor]:
        read = [tensor for step in order for tensor in step.inputs.values()] + list(leaving.values())
        entering = list({id(tensor): tensor for tensor in read if tensor.step is None}.values())
        if self.inputs is None:
            return entering
        _check_tensors(self.name, list(self.inputs))
        for tensor in self.inputs:
            if not any(tensor is other for other in entering):
                raise DefinitionError(f'ensemble "{self.name}": {tensor} is not used')
        for tensor in entering:
            if not any(tensor is other for other in self.inputs):
                raise DefinitionError(f'ensemble "{self.name}": {tensor} is read by a step and is not among inputs')
        return list(self.inputs)

    def _list_requirements(self, order: Sequence[Step], leaving: Mapping[str, Tensor]) -> dict[int, str]:
        """Return why a request may not leave an input out, by the identity of its tensor: the first reason.

        A step that requires it, or an output that is the input itself, fails at request time (2.51: "expected 2 inputs
        but got 1 inputs for model ...").
        """
        reasons: dict[int, str] = {}
        for name, tensor in leaving.items():
            reasons.setdefault(id(tensor), f"output {name!r} is that input itself")
        for step in order:
            declared = {target.name: target for target in step.model.input}
            for name, tensor in step.inputs.items():
                if not declared[name].optional:
                    reasons.setdefault(id(tensor), f'input "{name}" of model "{step.model.name}" requires it')
        return reasons

    def _is_optional(self, tensor: Tensor, requirements: Mapping[int, str]) -> bool:
        """Return True if a request may leave an input out."""
        reason = requirements.get(id(tensor))
        if tensor.optional and reason is not None:
            raise DefinitionError(f'ensemble "{self.name}": {tensor} cannot be optional: {reason}')
        return reason is None if tensor.optional is None else tensor.optional

    def _declare(self, kind: Any, name: str, tensor: Tensor) -> Any:
        data_type, dims, batch = tensor.resolved_spec
        if dims is not None and batch and self.max_batch_size == 0:
            dims = (-1, *dims)
        elif dims is not None and batch == 0 and self.max_batch_size > 0:
            if dims[0] != -1:
                raise DefinitionError(
                    f'ensemble "{self.name}" has max_batch_size {self.max_batch_size}, but {tensor} has dims '
                    f"{list(dims)} and no batch"
                )
            dims = dims[1:]
        return kind(name, data_type, dims)


def rebind_models(ensemble: Ensemble, models: Mapping[str, Servable]) -> Ensemble:
    """Return the ensemble with other models of the same names, tensor of its lines checked again.

    Raises:
        DefinitionError: as wiring does, with the models' completed inputs and outputs.
    """
    assert isinstance(ensemble.outputs, Mapping)
    inputs: dict[int, Tensor] = {}
    outputs: dict[tuple[int, str], Tensor] = {}

    def rebind(tensor: Tensor) -> Tensor:
        if tensor.step is not None:
            return outputs[id(tensor.step), tensor.output]
        if id(tensor) not in inputs:
            inputs[id(tensor)] = Tensor(
                tensor.name,
                tensor.data_type,
                tensor.dims,
                max_batch_size=tensor.max_batch_size,
                optional=tensor.optional,
            )
        return inputs[id(tensor)]

    named = {
        (id(tensor.step), tensor.output): tensor.name
        for tensor in _list_tensors(ensemble.outputs.values())
        if tensor.step
    }
    for step in list_steps(ensemble.outputs.values()):
        model = models.get(step.model.name, step.model)
        wanted = [output.name for output in model.output]
        to = {name: named[id(step), name] for name in wanted if named.get((id(step), name))}
        results = wire_model(
            model,
            [{name: rebind(tensor) for name, tensor in step.inputs.items()}],
            {},
            to=to,
            version=step.model_version,
        )
        for result in results if isinstance(results, Tensors) else [results]:
            outputs[id(step), result.output] = result
    first = [result[0] if isinstance(result, Tensors) else result for result in ensemble.step_order or ()]
    return replace(
        ensemble,
        outputs={name: rebind(tensor) for name, tensor in ensemble.outputs.items()},
        inputs=None if ensemble.inputs is None else [rebind(tensor) for tensor in ensemble.inputs],
        step_order=[rebind(tensor) for tensor in first] or None,
        input=ensemble.input if "input" in ensemble.stated else (),
        output=ensemble.output if "output" in ensemble.stated else (),
    )


def _list_tensors(leaving: Any) -> Iterator[Tensor]:
    yield from leaving
    for step in list_steps(leaving):
        yield from step.inputs.values()


def list_steps(leaving: Any) -> Iterator[Step]:
    """Yield every step that leads to these tensors, after the steps that it reads from."""
    seen: set[int] = set()
    stack: list[tuple[Step, bool]] = [
        (tensor.step, False) for tensor in reversed(list(leaving)) if tensor.step is not None
    ]
    while stack:
        step, ready = stack.pop()
        if ready:
            yield step
            continue
        if id(step) in seen:
            continue
        seen.add(id(step))
        stack.append((step, True))
        stack += [(tensor.step, False) for tensor in reversed(list(step.inputs.values())) if tensor.step is not None]


def _name_tensors(
    ensemble: str, entering: Sequence[Tensor], order: Sequence[Step], leaving: Mapping[str, Tensor]
) -> dict[tuple[int, str], str]:
    """Return the ensemble tensor of every output that is read, by (step, output); names are unique."""
    taken: dict[str, str] = {}

    def take(name: str, what: str) -> str:
        if name in taken:
            raise DefinitionError(f'ensemble "{ensemble}": two tensors are named "{name}": {taken[name]} and {what}')
        taken[name] = what
        return name

    for tensor in entering:
        take(tensor.name, str(tensor))
    names: dict[tuple[int, str], str] = {}
    for name, tensor in leaving.items():
        if tensor.step is not None:
            if (id(tensor.step), tensor.output) in names:
                raise DefinitionError(f'ensemble "{ensemble}": {tensor} leaves it under two names')
            names[id(tensor.step), tensor.output] = take(name, str(tensor))
    read = [tensor for step in order for tensor in step.inputs.values() if tensor.step is not None]
    for tensor in read:
        if tensor.name and (id(tensor.step), tensor.output) not in names:
            names[id(tensor.step), tensor.output] = take(tensor.name, str(tensor))
    for tensor in read:
        if (id(tensor.step), tensor.output) not in names:
            assert tensor.step is not None
            stem = f"{tensor.step.model.name}.{tensor.output}"
            tries = (stem if count == 1 else f"{stem}.{count}" for count in range(1, len(taken) + 2))
            names[id(tensor.step), tensor.output] = take(next(name for name in tries if name not in taken), str(tensor))
    return names


def _build_steps(
    order: Sequence[Step], leaving: Mapping[str, Tensor], names: Mapping[tuple[int, str], str]
) -> Iterator[EnsembleStep]:
    for step in order:
        yield EnsembleStep(
            model=step.model,
            model_version=step.model_version,
            input_map=MappingProxyType(
                {
                    name: tensor.name if tensor.step is None else names[id(tensor.step), tensor.output]
                    for name, tensor in step.inputs.items()
                }
            ),
            # Outputs that no step reads stay unmapped: the server rejects an ensemble with an unused tensor.
            output_map=MappingProxyType(
                {out.name: names[id(step), out.name] for out in step.model.output if (id(step), out.name) in names}
            ),
        )


def _check_batch(ensemble: str, max_batch_size: int, tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        batch = tensor.resolved_spec[2] or 0
        if 0 < batch < max_batch_size:
            raise DefinitionError(
                f'ensemble "{ensemble}" allows a maximum batch size of {max_batch_size}, but {tensor} has at most '
                f"{batch}"
            )


def _check_tensors(ensemble: str, tensors: Sequence[object]) -> None:
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise DefinitionError(
                f'ensemble "{ensemble}": {describe_value(tensor)} is not a tensor; outputs are results of models'
            )
