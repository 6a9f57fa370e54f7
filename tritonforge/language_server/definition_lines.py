"""The part of a definition.py that a finding on what it declares is about. No I/O: the file is parsed, not run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tritonforge.language_server.positions import Span, TextIndex
from tritonforge.validation.findings import Finding
from tritonforge.validation.python_source import parse_source

__all__ = ["find_definition_span"]

#: The classes that declare a model, and those whose first values have names.
_SERVABLES: Final = frozenset({"Dali", "Ensemble", "Model", "Onnx", "PyTorch", "Python", "TensorFlow", "TensorRT"})
_POSITIONAL: Final[Mapping[str, Sequence[str]]] = {
    **dict.fromkeys(_SERVABLES, ("name",)),
    **dict.fromkeys(("Input", "Output"), ("name", "data_type", "dims")),
}
_PART: Final = re.compile(r"(\w+)(?:\[(\d+)\])?")
#: Fields of a configuration that a definition writes under another name.
_STEP: Final = re.compile(r"ensemble_scheduling\.step\[(\d+)\]")


def find_definition_span(text: str, finding: Finding, steps: Sequence[str] = ()) -> Span:
    """Return the part of a definition that a finding on one of its models is about; the first line where none is.

    ``steps`` are the models of the steps, in their order, where the finding's model is an ensemble.
    """
    index = TextIndex(text, "utf-8")
    first = Span(0, index.find_offset(0, 1 << 30))
    parsed = parse_source(text.encode("utf-8", "surrogatepass"))
    if parsed is None:
        return first
    nodes = parsed[1]
    model = finding.path.partition("/")[0]
    call = next(_list_declarations(nodes, model), None)
    if call is None:
        return first
    step = _STEP.match(finding.field)
    if step is not None:
        used = _find_step(nodes, steps, int(step[1]))
        return _measure(index, used) if used is not None else _measure(index, call.func)
    node = _descend(call, finding.field)
    return _measure(index, call.func if node is call else node)


def _list_declarations(nodes: Sequence[ast.AST], model: str) -> Iterator[ast.Call]:
    for node in nodes:
        if isinstance(node, ast.Call) and _name_called(node) in _SERVABLES:
            named = _find_argument(node, "name")
            if isinstance(named, ast.Constant) and named.value == model:
                yield node


def _name_called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _find_argument(call: ast.Call, name: str) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    positions = _POSITIONAL.get(_name_called(call), ())
    index = positions.index(name) if name in positions else len(call.args)
    return call.args[index] if index < len(call.args) else None


def _find_step(nodes: Sequence[ast.AST], steps: Sequence[str], index: int) -> ast.AST | None:
    """Return the call of a step's model on tensors, such as ``network(pixels)``."""
    if index >= len(steps):
        return None
    model = steps[index]
    declared = {id(call) for call in _list_declarations(nodes, model)}
    variables = {
        target.id
        for node in nodes
        if isinstance(node, ast.Assign) and id(node.value) in declared
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    calls = [
        node
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in variables
    ]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    occurrence = steps[:index].count(model)
    return calls[occurrence] if occurrence < len(calls) else None


def _descend(node: ast.expr, field: str) -> ast.expr:
    """Return the value of a field, such as ``input[0].dims``, or the innermost one that the text has."""
    for name, position in _PART.findall(field):
        inner = _find_argument(node, name) if isinstance(node, ast.Call) else None
        if inner is None:
            return node
        node = inner
        if position and isinstance(node, ast.List | ast.Tuple) and int(position) < len(node.elts):
            node = node.elts[int(position)]
    return node


def _measure(index: TextIndex, node: ast.AST) -> Span:
    """Return the place of a node; of one that has several lines, the first line."""
    line, column = getattr(node, "lineno", 1) - 1, getattr(node, "col_offset", 0)
    last, end = getattr(node, "end_lineno", None), getattr(node, "end_col_offset", None)
    start = index.find_offset(line, column)
    is_one_line = last == line + 1 and end is not None
    return Span(start, index.find_offset(line, end if is_one_line and end is not None else 1 << 30))
