"""Writes settings of models into the Python source of their definition. This module does no I/O.

The source is edited where `ast` places the arguments of a model's constructor; all other characters stay as they are.
An argument is replaced only if it is a literal there: a computed value may have other readers, so it is left alone and
named. Whoever writes the result loads it first and compares the configurations.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeAlias

from tritonforge.repository.definition.models import Dali, Model, Onnx, Python, PyTorch, TensorFlow, TensorRT
from tritonforge.repository.source_layout import quote
from tritonforge.tuning.search_space import COUNT, DELAY, MAX_BATCH_SIZE, PREFERRED, Value, format_value

__all__ = ["EditedSource", "ModelSettings", "edit_definition"]

#: The values of settings by model and name, as `SearchSpace.read` returns them.
ModelSettings = Mapping[tuple[str, str], Value]

_KINDS: Final = {kind.__name__: kind for kind in (Dali, Model, Onnx, Python, PyTorch, TensorFlow, TensorRT)}
_BATCHING: Final = (DELAY, PREFERRED)

#: What has a position.
_Located: TypeAlias = ast.expr | ast.keyword | ast.alias


@dataclass(frozen=True, slots=True)
class EditedSource:
    """The new source, and a sentence for every setting to set by hand."""

    text: str
    manual: tuple[str, ...] = ()


def edit_definition(source: str, settings: ModelSettings) -> EditedSource:
    """Return the source with these settings of its models; the others keep what they have.

    Raises:
        SyntaxError: the source is not Python.
    """
    editor = _Editor(source)
    manual: list[str] = []
    for model in dict.fromkeys(model for model, _ in settings):
        values = {name: value for (owner, name), value in settings.items() if owner == model}
        manual += editor.edit_model(model, values)
    return EditedSource(editor.finish(), tuple(manual))


class _ManualError(Exception):
    """A setting cannot be edited; the message is the reason."""


@dataclass(slots=True)
class _Edit:
    """Bytes from ``start`` to ``end`` that ``text`` replaces."""

    start: int
    end: int
    text: str


@dataclass(slots=True)
class _Editor:
    """One source, its tree, and the edits so far; positions are offsets in its UTF-8 bytes."""

    source: str
    data: bytes = field(init=False)
    tree: ast.Module = field(init=False)
    starts: list[int] = field(init=False)
    edits: list[_Edit] = field(init=False)
    imported: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.data = self.source.encode()
        self.tree = ast.parse(self.source)
        self.starts = [0, *(match.end() for match in re.finditer(rb"\r\n|\r|\n", self.data))]
        self.edits, self.imported = [], set()

    def edit_model(self, model: str, values: Mapping[str, Value]) -> list[str]:
        """Edit the constructor of a model; return sentences on what cannot be edited."""
        manual = []
        before = list(self.edits)
        try:
            call = self._find_call(model)
        except _ManualError as error:
            return [f"{model}: {error}. Set {_describe(values)}."]
        # In the order of the fields; an argument is edited once, with all settings of its message.
        groups = [
            *([name] for name in (MAX_BATCH_SIZE, COUNT) if name in values),
            [name for name in values if name in _BATCHING],
            [name for name in values if name not in (*_BATCHING, MAX_BATCH_SIZE, COUNT)],
        ]
        for names in groups:
            part = {name: values[name] for name in names}
            try:
                self._edit_argument(call, part)
                before = list(self.edits)
            except _ManualError as error:
                self.edits = list(before)
                manual.append(f"{model}: {error}. Set {_describe(part)}.")
        return manual

    def finish(self) -> str:
        """Return the edited source, with imports of what it uses."""
        for name in sorted(self.imported):
            self._import(name)
        data = self.data
        # From the end, so that positions stay; of two insertions at one place the first one made comes first.
        for _, edit in sorted(enumerate(self.edits), key=lambda item: (item[1].start, item[0]), reverse=True):
            data = data[: edit.start] + edit.text.encode() + data[edit.end :]
        return data.decode()

    def _find_call(self, model: str) -> ast.Call:
        calls = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Call) and self._find_class(node) in _KINDS and _read_name(node) == model
        ]
        if not calls:
            raise _ManualError("this file has no call with its name as a literal")
        if len(calls) > 1:
            raise _ManualError(f"this file has {len(calls)} calls with its name")
        if any(keyword.arg is None for keyword in calls[0].keywords):
            raise _ManualError(f"line {calls[0].lineno}: its arguments are computed (**)")
        return calls[0]

    def _find_class(self, node: ast.expr) -> str:
        """Return the name in tritonforge of the class that a call is of, "" for another call."""
        if not isinstance(node, ast.Call):
            return ""
        function = node.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            return function.attr if function.value.id in self._list_modules() else ""
        if isinstance(function, ast.Name):
            return self._list_names().get(function.id, "")
        return ""

    def _list_modules(self) -> set[str]:
        return {
            alias.asname or alias.name
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "tritonforge"
        }

    def _list_names(self) -> dict[str, str]:
        """Return the names that are imported from tritonforge, by the name that this file gives them."""
        names: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tritonforge":
                for alias in node.names:
                    if alias.name == "*":
                        names |= {name: name for name in (*_KINDS, "DynamicBatching", "InstanceGroup")}
                    else:
                        names[alias.asname or alias.name] = alias.name
        return names

    def _write_name(self, name: str) -> str:
        """Return how this file calls a class of tritonforge; it is imported where it is not yet."""
        for given, known in self._list_names().items():
            if known == name:
                return given
        modules = self._list_modules()
        has_import = any(
            isinstance(node, ast.ImportFrom) and node.module == "tritonforge" for node in ast.walk(self.tree)
        )
        if not has_import and modules:
            return f"{min(modules)}.{name}"
        self.imported.add(name)
        return name

    def _edit_argument(self, call: ast.Call, values: Mapping[str, Value]) -> None:
        if not values:
            return
        if MAX_BATCH_SIZE in values:
            self._set_literal(call, MAX_BATCH_SIZE, str(values[MAX_BATCH_SIZE]), _order_fields(self._find_class(call)))
        elif COUNT in values:
            self._edit_instances(call, values[COUNT])
        elif any(name in _BATCHING for name in values):
            self._edit_batching(call, values)
        else:
            self._edit_parameters(call, values)

    def _edit_batching(self, call: ast.Call, values: Mapping[str, Value]) -> None:
        argument = _find_keyword(call, "dynamic_batching")
        order = _order_fields(self._find_class(call))
        is_off = values.get(DELAY, 0) is None
        is_none = argument is None or _is_constant(argument.value, None)
        if is_off:
            if argument is not None and not is_none:
                if self._find_class(argument.value) != "DynamicBatching":
                    raise _ManualError(f"line {argument.value.lineno}: dynamic_batching is computed")
                self._replace(argument.value, "None")
            return
        inner = {name: value for name, value in values.items() if value not in (0, ())}
        if is_none:
            arguments = ", ".join(f"{name}={format_value(name, value)}" for name, value in inner.items())
            text = f"{self._write_name('DynamicBatching')}({arguments})"
            if argument is not None:
                self._replace(argument.value, text)
            else:
                self._add_argument(call, "dynamic_batching", text, order)
            return
        assert argument is not None
        batching = argument.value
        if not isinstance(batching, ast.Call) or self._find_class(batching) != "DynamicBatching" or batching.args:
            raise _ManualError(f"line {batching.lineno}: dynamic_batching is computed")
        changed = {name: format_value(name, values[name]) for name in (PREFERRED, DELAY) if name in values}
        needed = {name: text for name, text in changed.items() if name in inner or _find_keyword(batching, name)}
        if not batching.keywords and needed:
            _, end = self._locate(batching)
            self.edits.append(_Edit(end - 1, end - 1, ", ".join(f"{name}={text}" for name, text in needed.items())))
            return
        for name, text in needed.items():
            self._set_literal(batching, name, text, (PREFERRED, DELAY))

    def _edit_instances(self, call: ast.Call, count: Value) -> None:
        argument = _find_keyword(call, "instance_group")
        order = _order_fields(self._find_class(call))
        if argument is None:
            text = f"[{self._write_name('InstanceGroup')}(count={count})]"
            self._add_argument(call, "instance_group", text, order)
            return
        groups = argument.value
        if not isinstance(groups, ast.List | ast.Tuple) or len(groups.elts) > 1:
            raise _ManualError(f"line {groups.lineno}: instance_group is computed")
        if not groups.elts:
            self._replace(groups, f"[{self._write_name('InstanceGroup')}(count={count})]")
            return
        group = groups.elts[0]
        if not isinstance(group, ast.Call) or self._find_class(group) != "InstanceGroup" or group.args:
            raise _ManualError(f"line {group.lineno}: instance_group is computed")
        self._set_literal(group, "count", str(count), ("name", "kind", "count"))

    def _edit_parameters(self, call: ast.Call, values: Mapping[str, Value]) -> None:
        argument = _find_keyword(call, "parameters")
        stated = {name: value for name, value in values.items() if value is not None}
        if argument is None:
            entries = ", ".join(f"{quote(name)}: {value}" for name, value in stated.items())
            if stated:
                self._add_argument(call, "parameters", f"{{{entries}}}", _order_fields(self._find_class(call)))
            return
        known = argument.value
        if not isinstance(known, ast.Dict) or any(not isinstance(key, ast.Constant) for key in known.keys):
            raise _ManualError(f"line {known.lineno}: parameters is computed")
        present = {
            key.value: value
            for key, value in zip(known.keys, known.values, strict=True)
            if isinstance(key, ast.Constant)
        }
        for name, value in stated.items():
            if name not in present:
                last = known.values[-1] if known.values else None
                if last is None:
                    start, end = self._locate(known)
                    self.edits.append(_Edit(start + 1, end - 1, f"{quote(name)}: {value}"))
                else:
                    self._insert_after(last, f"{quote(name)}: {value}")
            elif _is_literal(present[name]):
                self._replace(present[name], str(value))
            else:
                raise _ManualError(f"line {present[name].lineno}: parameters[{quote(name)}] is computed")

    def _set_literal(self, call: ast.Call, name: str, text: str, order: Sequence[str]) -> None:
        argument = _find_keyword(call, name)
        if argument is None:
            self._add_argument(call, name, text, order)
        elif _is_literal(argument.value):
            self._replace(argument.value, text)
        else:
            raise _ManualError(f"line {argument.value.lineno}: {name} is computed")

    def _add_argument(self, call: ast.Call, name: str, text: str, order: Sequence[str]) -> None:
        """Add a keyword argument behind those that come before it in the order of the fields."""
        place = order.index(name)
        # The keywords rather than their values, whose ends may be inside parentheses.
        earlier = [keyword for keyword in call.keywords if keyword.arg in order[:place]]
        anchors: Sequence[_Located] = earlier or call.args or call.keywords
        if not anchors:
            _, end = self._locate(call)
            self.edits.append(_Edit(end - 1, end - 1, f"{name}={text}"))
            return
        self._insert_after(max(anchors, key=lambda node: self._locate(node)[1]), f"{name}={text}")

    def _insert_after(self, node: _Located, text: str) -> None:
        """Insert an element behind another one: on a line of its own if that has one, else on its line."""
        start, end = self._locate(node)
        line = max(position for position in self.starts if position <= start)
        rest = re.match(rb"[ \t]*,[ \t]*(?:#[^\r\n]*)?(?=\r\n|\r|\n)", self.data[end:])
        head = re.match(rb"[ \t]*", self.data[line:])
        assert head is not None
        owner = re.fullmatch(rb"[ \t]*(?:\"[^\"\r\n]*\": |'[^'\r\n]*': )?", self.data[line:start])
        if rest is not None and (owner is not None or self._begins_line(node)):
            indent = self._find_indent(node)
            newline = re.match(rb"\r\n|\r|\n", self.data[end + rest.end() :])
            assert newline is not None
            place = end + rest.end()
            self.edits.append(_Edit(place, place, f"{newline[0].decode()}{indent}{text},"))
        else:
            self.edits.append(_Edit(end, end, f", {text}"))

    def _begins_line(self, node: _Located) -> bool:
        start, _ = self._locate(node)
        line = max(position for position in self.starts if position <= start)
        return not self.data[line:start].strip()

    def _find_indent(self, node: _Located) -> str:
        start, _ = self._locate(node)
        line = max(position for position in self.starts if position <= start)
        match = re.match(rb"[ \t]*", self.data[line:])
        return match[0].decode() if match is not None else ""

    def _replace(self, node: ast.expr, text: str) -> None:
        start, end = self._locate(node)
        if self.data[start:end] != text.encode():
            self.edits.append(_Edit(start, end, text))

    def _locate(self, node: _Located) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def _import(self, name: str) -> None:
        """Add a name to the import from tritonforge, in its order; without one, add an import behind the docstring."""
        nodes = [node for node in self.tree.body if isinstance(node, ast.ImportFrom) and node.module == "tritonforge"]
        if not nodes:
            body = self.tree.body
            place = self.starts[body[0].lineno - 1] if body else 0
            self.edits.append(_Edit(place, place, f"from tritonforge import {name}\n"))
            return
        aliases = nodes[0].names
        earlier = [alias for alias in aliases if _sort_key(alias.name) < _sort_key(name)]
        if earlier:
            self._insert_after(earlier[-1], name)
            return
        start, _ = self._locate(aliases[0])
        indent = self._find_indent(aliases[0])
        is_split = self._begins_line(aliases[0])
        self.edits.append(_Edit(start, start, f"{name},\n{indent}" if is_split else f"{name}, "))


def _sort_key(name: str) -> tuple[bool, str]:
    """Return the sort key of an import: constants first, as ruff sorts them."""
    return not name.isupper(), name.lower()


def _order_fields(kind: str) -> tuple[str, ...]:
    return tuple(entry.name for entry in fields(_KINDS[kind]))


def _read_name(call: ast.Call) -> str:
    argument = _find_keyword(call, "name")
    node: Any = call.args[0] if call.args else argument.value if argument is not None else None
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _find_keyword(call: ast.Call, name: str) -> ast.keyword | None:
    return next((keyword for keyword in call.keywords if keyword.arg == name), None)


def _is_constant(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _is_literal(node: ast.expr) -> bool:
    """Return True for a number, a text or a list of them, written there."""
    if isinstance(node, ast.List | ast.Tuple):
        return all(isinstance(element, ast.Constant) for element in node.elts)
    return isinstance(node, ast.Constant)


def _describe(values: Mapping[str, Value]) -> str:
    return ", ".join(_describe_parts(values.items()))


def _describe_parts(items: Iterable[tuple[str, Value]]) -> Iterable[str]:
    for name, value in items:
        if name == DELAY and value is None:
            yield "dynamic_batching to None"
        elif name in _BATCHING:
            yield f"dynamic_batching.{name} to {format_value(name, value)}"
        else:
            known = name in (MAX_BATCH_SIZE, COUNT)
            yield f"{name if known else f'parameters[{quote(name)}]'} to {format_value(name, value)}"
