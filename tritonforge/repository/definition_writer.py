"""The Python source of a definition from its models and ensembles. This module does no I/O.

Values in, text out: nothing of a repository becomes code. Names of variables are derived from an allow list of
characters, and texts become literals (`source_layout.quote`).
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Final, TypeAlias

import tritonforge
from tritonforge.datatypes import BY_CONFIG
from tritonforge.pbtxt.comments import Comment
from tritonforge.repository.definition.ensemble import Ensemble, list_steps
from tritonforge.repository.definition.models import Model
from tritonforge.repository.definition.tensors import Input, Output, Step, Tensor, Tensors
from tritonforge.repository.source_layout import (
    LINE_LENGTH,
    Atom,
    Group,
    Item,
    Node,
    format_comment,
    join_blocks,
    layout,
    list_items,
    quote,
    quote_block,
    quote_docstring,
)

__all__ = ["CommentedModel", "VariableNames", "write_definition", "write_package"]

Servable: TypeAlias = Model | Ensemble

#: Fields of a model that come last, and those of an ensemble that its calls give.
_LAST: Final = ("artifact", "files", "override")
_WIRED: Final = frozenset({"outputs", "inputs", "step_order"})
#: Arguments that a call takes by position, also where they have a default.
_POSITIONAL: Final = {Input: ("name", "data_type", "dims"), Output: ("name", "data_type", "dims")}
#: Outputs of a step that are unpacked, and inputs that are passed by position, on one line.
_MOST_NAMES: Final = 4
_MOST_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class CommentedModel:
    """A model or an ensemble, the comments of its configuration, and a sentence on what was not carried over."""

    model: Servable
    comments: Sequence[Comment] = ()
    note: str = ""


def write_definition(models: Sequence[CommentedModel], *, title: str) -> str:
    """Return the source of a definition of these models; each comes after those that it uses.

    ``title`` is the first line of the file's docstring.
    """
    writer = _Writer()
    blocks = [block for entry in models for block in writer.write_model(entry)]
    return join_blocks([[quote_docstring(title)], _write_imports(writer.imported), *blocks])


def write_package(models: Sequence[Model], *, code: str | None, title: str) -> str:
    """Return the source of a package for TensorFlow Serving of these models; ``code`` is its directory of handlers."""
    writer = _Writer()
    blocks = [block for model in models for block in writer.write_model(CommentedModel(model))]
    writer.imported.add("TensorFlowServing")
    items = [Item(Group("[", [Item(Atom(writer.variables[model.name])) for model in models], "]"))]
    items += [] if code is None else [Item(Atom(quote(code)), "code=")]
    variable = writer.names.take("package", default="package")
    call = layout(Group("TensorFlowServing(", items, ")"), prefix=f"{variable} = ")
    return join_blocks([[quote_docstring(title)], _write_imports(writer.imported), *blocks, call])


def _write_imports(names: Iterable[str]) -> list[str]:
    ordered = sorted(names, key=lambda name: (not name.isupper(), name.lower()))
    line = f"from tritonforge import {', '.join(ordered)}"
    if len(line) <= LINE_LENGTH:
        return [line]
    return ["from tritonforge import (", *(f"    {name}," for name in ordered), ")"]


class VariableNames:
    """Variables of a module: valid, unique, and none of Python's or tritonforge's own names."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken = {*reserved, *keyword.kwlist, *keyword.softkwlist, *dir(builtins), *tritonforge.__all__}

    def take(self, text: str, *, default: str) -> str:
        """Return a new variable named after a text."""
        stem = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:60].rstrip("_").lower()
        if not stem or stem[0].isdigit():
            stem = f"{default}_{stem}".rstrip("_")
        if stem in self._taken and f"{stem}_{default}" not in self._taken:
            stem = f"{stem}_{default}"
        name, count = stem, 1
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name


@dataclass(slots=True)
class _Writer:
    """Writes the statements of one module."""

    names: VariableNames = field(default_factory=VariableNames)
    imported: set[str] = field(default_factory=set)
    variables: dict[str, str] = field(default_factory=dict)
    headings: set[tuple[str, ...]] = field(default_factory=set)

    def write_model(self, entry: CommentedModel) -> Iterator[list[str]]:
        """Yield the statements that define a model or an ensemble."""
        heading = tuple(comment.text for comment in entry.comments if comment.is_heading)
        if heading and heading not in self.headings:
            yield [format_comment(text) for text in heading]
        self.headings.add(heading)
        comments = [comment for comment in entry.comments if not comment.is_heading]
        if isinstance(entry.model, Ensemble):
            yield _EnsembleWriter(self, entry.model).write(entry, comments)
            return
        call = self.write_call(entry.model)
        variable = self.variables[entry.model.name] = self.names.take(entry.model.name, default="model")
        rest = place_comments(list_items(call), comments)
        lines = [format_comment(text) for text in [*([entry.note] if entry.note else []), *rest]]
        yield [*lines, *layout(call, prefix=f"{variable} = ", is_split=True)]

    def write_call(self, model: Servable) -> Group:
        call = self.write_value(model, "", "")
        assert isinstance(call, Group)
        return call

    def write_value(self, value: Any, name: str, place: str) -> Node:
        """Return a value of a definition's field as source; ``place`` is the field of the configuration."""
        if is_dataclass(value):
            return self._write_dataclass(value, place)
        if isinstance(value, str):
            if name == "data_type" and value in BY_CONFIG:
                self.imported.add(value)
                return Atom(value)
            return Atom(quote_block(value) if name == "override" and "\n" in value else quote(value))
        if isinstance(value, bytes):
            return Atom(f"b{quote(value.decode('latin-1'))}" if value.isascii() else repr(value))
        if isinstance(value, Mapping):
            items = [
                Item(self.write_value(content, "", f"{place}[{index}]"), f"{_write_key(key)}: ", f"{place}[{index}]")
                for index, (key, content) in enumerate(value.items())
            ]
            return Group("{", items, "}")
        if isinstance(value, (list, tuple)):
            items = [
                Item(
                    self.write_value(content, "", f"{place}[{index}]"),
                    place=f"{place}[{index}]" if is_dataclass(content) else "",
                )
                for index, content in enumerate(value)
            ]
            return Group("[", items, "]")
        if isinstance(value, float) and str(value).strip("-") in ("inf", "nan"):
            return Atom(f'float("{value}")')
        return Atom(repr(value))  # None, a boolean or a number

    def _write_dataclass(self, value: Any, place: str) -> Group:
        self.imported.add(type(value).__name__)
        positional = _POSITIONAL.get(type(value), ())
        entries = [entry for entry in fields(value) if entry.init and not entry.name.startswith("__")]
        entries = [entry for entry in entries if entry.name != "_"]
        entries.sort(key=lambda entry: entry.name in _LAST)
        items, is_open = [], True
        for entry in entries:
            content = getattr(value, entry.name)
            if isinstance(value, Ensemble) and (entry.name in _WIRED or _is_derived(value, entry.name)):
                continue
            if _is_default(entry, content):
                is_open = False
                continue
            is_open = is_open and not entry.kw_only and (entry.default is MISSING or entry.name in positional)
            is_open = is_open and (entry.default_factory is MISSING)
            inner = entry.name.rstrip("_") if not place else f"{place}.{entry.name.rstrip('_')}"
            node = self.write_value(content, entry.name, inner)
            items.append(Item(node) if is_open else Item(node, f"{entry.name}=", inner))
        return Group(f"{type(value).__name__}(", items, ")")


def _is_default(entry: Any, content: Any) -> bool:
    if entry.default_factory is not MISSING:
        return not content
    return entry.default is not MISSING and entry.default == content and type(entry.default) is type(content)


def _is_derived(ensemble: Ensemble, name: str) -> bool:
    """Return True if the steps give a field of an ensemble."""
    if name in ("input", "output"):
        return name not in ensemble.stated
    if name == "max_batch_size":
        assert isinstance(ensemble.outputs, Mapping)
        return Ensemble(ensemble.name, outputs=ensemble.outputs).max_batch_size == ensemble.max_batch_size
    return False


def _write_key(key: Any) -> str:
    return quote(key) if isinstance(key, str) else repr(key)


def place_comments(items: Iterable[Item], comments: Sequence[Comment]) -> list[str]:
    """Attach comments to the elements of the fields that they describe; return those without such an element."""
    by_place = {item.place: item for item in items if item.place}
    rest = []
    for comment in comments:
        place = "decoupled" if comment.path.startswith("model_transaction_policy") else comment.path
        while place and place not in by_place:
            place = place[: max(place.rfind("."), place.rfind("["), 0)]
        item = by_place.get(place)
        if item is None and not comment.text:
            continue
        if item is None:
            rest.append(comment.text)
        elif comment.is_trailing and not item.behind:
            item.behind = comment.text
        else:
            item.above.append(comment.text)
    return rest


class _EnsembleWriter:
    """Writes the calls of one ensemble's steps, and the ensemble."""

    def __init__(self, writer: _Writer, ensemble: Ensemble) -> None:
        self._writer, self._ensemble = writer, ensemble
        self._sources: dict[tuple[int, str], str] = {}
        assert isinstance(ensemble.outputs, Mapping)
        self._outputs = ensemble.outputs
        self._steps = list(list_steps(self._outputs.values()))
        self._read = {
            (id(tensor.step), tensor.output): None
            for tensor in [*(t for step in self._steps for t in step.inputs.values()), *self._outputs.values()]
        }
        self._names = {
            (id(tensor.step), tensor.output): tensor.name
            for step in self._steps
            for tensor in step.inputs.values()
            if tensor.step is not None and tensor.name
        }

    def write(self, entry: CommentedModel, comments: Sequence[Comment]) -> list[str]:
        """Return the lines of the block: the inputs that need a variable, the steps, the ensemble."""
        ensemble, writer = self._ensemble, self._writer
        statements: list[tuple[str, Group, str]] = []
        for tensor in self._list_named_inputs():
            variable = writer.names.take(tensor.name, default="tensor")
            statements.append((f"{variable} = ", self._write_input(tensor), ""))
            self._sources[id(tensor), ""] = variable
        order = [id(step) for step in self._list_config_order()]
        places = {step: index for index, step in enumerate(order)}
        statements += [self._write_step(step, f"ensemble_scheduling.step[{places[id(step)]}]") for step in self._steps]
        call = writer.write_call(ensemble)
        outputs = [
            Item(self._write_source(tensor), f"{quote(name)}: ", f"output[{index}]")
            for index, (name, tensor) in enumerate(self._outputs.items())
        ]
        wired = [Item(Group("{", outputs, "}"), "outputs=", "output")]
        if ensemble.inputs is not None:
            items = [Item(self._write_source(tensor)) for tensor in ensemble.inputs]
            wired.append(Item(Group("[", items, "]"), "inputs=", "input"))
        if ensemble.step_order is not None:
            firsts = [result[0] if isinstance(result, Tensors) else result for result in ensemble.step_order]
            items = [Item(self._write_any_source(tensor)) for tensor in firsts]
            wired.append(Item(Group("[", items, "]"), "step_order=", "ensemble_scheduling"))
        call = Group(call.opening, [call.items[0], *wired, *call.items[1:]], call.closing)
        variable = writer.variables[ensemble.name] = writer.names.take(ensemble.name, default="ensemble")
        placed = [Item(group, place=place) for _, group, place in statements]
        rest = place_comments([*(item for item in placed if item.place), *list_items(call)], comments)
        lines = [format_comment(text) for text in [*([entry.note] if entry.note else []), *rest]]
        for item, (prefix, group, _) in zip(placed, statements, strict=True):
            lines += [format_comment(text) for text in [*item.above, *([item.behind] if item.behind else [])]]
            lines += layout(group, prefix=prefix)
        return [*lines, *layout(call, prefix=f"{variable} = ")]

    def _list_config_order(self) -> list[Step]:
        order = self._ensemble.step_order
        if order is None:
            return self._steps
        firsts = [result[0] if isinstance(result, Tensors) else result for result in order]
        return [tensor.step for tensor in firsts if tensor.step is not None]

    def _list_named_inputs(self) -> list[Tensor]:
        """Return the inputs that more than one argument names."""
        uses: dict[int, list[Tensor]] = {}
        for tensor in [
            *(tensor for step in self._steps for tensor in step.inputs.values()),
            *self._outputs.values(),
            *(self._ensemble.inputs or ()),
        ]:
            if tensor.step is None:
                uses.setdefault(id(tensor), []).append(tensor)
        return [tensors[0] for tensors in uses.values() if len(tensors) > 1]

    def _write_input(self, tensor: Tensor) -> Group:
        self._writer.imported.add("Tensor")
        items = [Item(Atom(quote(tensor.name)))]
        for name, content in (("data_type", tensor.data_type), ("dims", tensor.dims)):
            if content is not None:
                items.append(Item(self._writer.write_value(content, name, "")))
        if tensor.max_batch_size is not None:
            items.append(Item(Atom(str(tensor.max_batch_size)), "max_batch_size="))
        return Group("Tensor(", items, ")")

    def _write_source(self, tensor: Tensor) -> Node:
        if tensor.step is None:
            variable = self._sources.get((id(tensor), ""))
            return Atom(variable) if variable else self._write_input(tensor)
        return Atom(self._sources[id(tensor.step), tensor.output])

    def _write_any_source(self, tensor: Tensor) -> Node:
        """Return a result of the tensor's step: this one, or another one that has a variable."""
        step = id(tensor.step)
        return Atom(next(source for (owner, _), source in self._sources.items() if owner == step))

    def _write_step(self, step: Step, place: str) -> tuple[str, Group, str]:
        """Return the statement of a step: its targets, its call, and its place in the configuration."""
        outputs = [output.name for output in step.model.output]
        used = [name for name in outputs if (id(step), name) in self._read]
        named = {name: self._names[id(step), name] for name in used if (id(step), name) in self._names}
        leaving = {(id(t.step), t.output): name for name, t in self._outputs.items() if t.step is not None}
        texts = [named.get(name) or leaving.get((id(step), name)) or name for name in used]
        unpacked = len(used) == len(outputs) <= _MOST_NAMES and sum(map(len, texts)) <= _MOST_CHARACTERS
        if len(outputs) == 1 or unpacked:
            variables = [self._writer.names.take(text, default="tensor") for text in texts]
            self._sources.update({(id(step), name): v for name, v in zip(used, variables, strict=True)})
            target = ", ".join(variables)
        else:
            target = self._writer.names.take(f"{step.model.name}_outputs", default="step")
            self._sources.update({(id(step), name): f"{target}[{quote(name)}]" for name in used})
        items = self._write_arguments(step)
        if named:
            given: Any = named
            if len(outputs) == 1:
                given = named[outputs[0]]
            elif list(named) == outputs and len(outputs) <= _MOST_NAMES:
                given = list(named.values())
            items.append(Item(self._writer.write_value(given, "", ""), "to="))
        if step.model_version != -1:
            items.append(Item(Atom(str(step.model_version)), "version="))
        return f"{target} = ", Group(f"{self._writer.variables[step.model.name]}(", items, ")"), place

    def _write_arguments(self, step: Step) -> list[Item]:
        declared = [target.name for target in step.model.input]
        names = list(step.inputs)
        if names == declared[: len(names)] and len(names) <= _MOST_NAMES:
            return [Item(self._write_source(tensor)) for tensor in step.inputs.values()]
        items = [Item(self._write_source(tensor), f"{quote(name)}: ") for name, tensor in step.inputs.items()]
        return [Item(Group("{", items, "}"))]
