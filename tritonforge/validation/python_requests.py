"""The tensors and requests that a Python model's code names: constants only, and where they are certainly used. No I/O.

Source: python_backend triton_python_backend_utils.py, pb_stub.cc (the classes of ``c_python_backend_utils``).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tritonforge.validation.python_models import MODEL_CLASS, UTILITIES, PythonModel
from tritonforge.validation.python_module import (
    Function,
    PythonModule,
    find_assigned,
    list_function_nodes,
    list_members,
    read_module,
)
from tritonforge.validation.python_source import list_children
from tritonforge.validation.tree import Entry, Tree

__all__ = ["ModelRequest", "NamedTensor", "find_unsupported_array", "list_input_names", "list_output_names",
           "read_requests"]  # fmt: skip

_REQUEST: Final = f"{UTILITIES}.InferenceRequest"
_RESPONSE: Final = f"{UTILITIES}.InferenceResponse"
_TENSOR: Final = f"{UTILITIES}.Tensor"
_GET_INPUT: Final = f"{UTILITIES}.get_input_tensor_by_name"
#: The parameters of InferenceRequest, in the order of their positions.
_PARAMETERS: Final = ("request_id", "correlation_id", "inputs", "requested_output_names", "model_name")
#: Calls of one kind that are looked at.
_MAXIMAL_CALLS: Final = 200
_STRING_TYPES: Final = frozenset({"numpy.str_", "numpy.unicode_"})
_LEAVING: Final = (ast.Return, ast.Raise, ast.Break, ast.Continue, ast.Yield, ast.YieldFrom)


@dataclass(frozen=True, slots=True)
class NamedTensor:
    """A tensor's name in the code, with its place."""

    name: str
    path: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request to another model (BLS).

    ``inputs`` and ``outputs`` are the names that are constants. ``is_decoupled`` is what ``exec`` is given, None where
    that is unknown. ``is_certain`` is True if every execution of the model sends the request.
    """

    model: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    is_decoupled: bool | None
    is_certain: bool
    path: str
    line: int
    column: int


def list_input_names(code: PythonModel) -> Iterator[NamedTensor]:
    """Yield the inputs that every execution reads by name and then uses as a tensor, which None is not."""
    function = _find_execute(code)
    if function is None:
        return
    requests = _find_requests(function)
    nodes = _list_certain_nodes(function.body, requests)
    used = {node.value for node in nodes if isinstance(node, ast.Attribute)}
    calls = [node for node in nodes if isinstance(node, ast.Call) and code.module.resolve_name(node.func) == _GET_INPUT]
    for node in calls[:_MAXIMAL_CALLS]:
        name = code.module.find_string(node.args[1]) if len(node.args) == 2 else None
        if name is None or not _is_request(function, node.args[0], requests):
            continue
        if node in used or _is_used_as_tensor(function, node, nodes, used):
            yield NamedTensor(name, code.module.path, node.lineno, node.col_offset + 1)


def list_output_names(code: PythonModel) -> Iterator[NamedTensor]:
    """Yield the outputs of the responses that every execution makes."""
    function = _find_execute(code)
    if function is None:
        return
    for node in _list_certain_nodes(function.body, _find_requests(function)):
        if isinstance(node, ast.Call) and code.module.resolve_name(node.func) == _RESPONSE:
            tensors = _get_argument(node, ("output_tensors",), "output_tensors")
            for name, place in _list_tensors(code.module, function, tensors):
                yield NamedTensor(name, code.module.path, place.lineno, place.col_offset + 1)


def _list_requests(code: PythonModel) -> list[ModelRequest]:
    """Return the requests to models that the file names by constants."""
    execute = _find_execute(code)
    certain = set(_list_certain_nodes(execute.body, _find_requests(execute))) if execute is not None else set()
    listed: list[ModelRequest] = []
    functions: list[Function] = [
        node for node in code.module.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    seen: set[ast.AST] = set()
    for function in reversed(functions):  # the innermost function first
        for node in list_function_nodes(function):
            if node in seen or not isinstance(node, ast.Call) or code.module.resolve_name(node.func) != _REQUEST:
                continue
            if len(seen) >= _MAXIMAL_CALLS:
                return listed
            seen.add(node)
            model = code.module.find_string(_get_argument(node, _PARAMETERS, "model_name"))
            if not model:
                continue
            inputs = _get_argument(node, _PARAMETERS, "inputs")
            outputs = _get_argument(node, _PARAMETERS, "requested_output_names")
            sent = _find_execution(function, node)
            listed.append(
                ModelRequest(
                    model,
                    tuple(name for name, _ in _list_tensors(code.module, function, inputs)),
                    tuple(_list_strings(code.module, outputs)),
                    _read_decoupled(sent),
                    node in certain and sent in certain,
                    code.module.path,
                    node.lineno,
                    node.col_offset + 1,
                )
            )
    return listed


def read_requests(tree: Tree, path: str) -> tuple[Sequence[ModelRequest], bool]:
    """Return the requests to models that the file at a path names, and whether it may load models itself."""
    entry = tree.entry(path)
    if entry is None or entry.content is None or b"InferenceRequest" not in entry.content:
        return (), False
    return _read_requests(path, entry.content)


@lru_cache(maxsize=4096)
def _read_requests(path: str, content: bytes) -> tuple[Sequence[ModelRequest], bool]:
    """Keep the few requests of a file: syntax trees are too large to be kept for many."""
    tree = Tree({path: Entry("file", len(content), content=content)})
    module = read_module(tree, path)
    if module is None:
        return (), False
    members, is_whole = list_members(tree, module, MODEL_CLASS, ())
    code = PythonModel(0, path, module, (), members, is_whole)
    return tuple(_list_requests(code)), _loads_models(code)


def _loads_models(code: PythonModel) -> bool:
    """Return True if the file may load models itself: it calls ``load_model``."""
    return any(
        (isinstance(node, ast.Attribute) and node.attr == "load_model")
        or (isinstance(node, ast.alias) and node.name == "load_model")
        for node in code.module.nodes
    )


def find_unsupported_array(code: PythonModel) -> Iterator[tuple[NamedTensor, bool]]:
    """Yield the tensors that are made of an array of str, or (True) of what is not an array at all."""
    calls = {
        node
        for node in code.module.nodes
        if isinstance(node, ast.Call) and len(node.args) == 2 and code.module.resolve_name(node.func) == _TENSOR
    }
    for function in code.module.nodes if calls else ():
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in list_function_nodes(function):
            if not isinstance(node, ast.Call) or node not in calls:
                continue
            value: ast.expr | None = node.args[1]
            if isinstance(value, ast.Name):
                value = find_assigned(function, value.id)
            is_other = isinstance(value, ast.List | ast.ListComp | ast.Tuple | ast.Constant | ast.Dict | ast.JoinedStr)
            if is_other or (isinstance(value, ast.Call) and _is_string_array(code.module, value)):
                name = code.module.find_string(node.args[0]) or ""
                yield NamedTensor(name, code.module.path, node.lineno, node.col_offset + 1), is_other


def _find_execute(code: PythonModel) -> Function | None:
    member = code.members.get("execute")
    is_own = member is not None and member.module is code.module and member.binding == "method"
    return member.function if member is not None and is_own else None


def _find_requests(function: Function) -> str:
    arguments = [*function.args.posonlyargs, *function.args.args]
    return arguments[1].arg if len(arguments) == 2 else ""


def _is_request(function: Function, expression: ast.expr, requests: str) -> bool:
    """Return True if an expression is one of the requests that execute is given."""
    if isinstance(expression, ast.Subscript):
        return isinstance(expression.value, ast.Name) and expression.value.id == requests
    if not isinstance(expression, ast.Name):
        return False
    loops = [
        node
        for node in list_function_nodes(function)
        if isinstance(node, ast.For | ast.comprehension) and _binds(node.target, expression.id)
    ]
    return bool(loops) and all(_is_over_requests(loop.iter, requests) for loop in loops)


def _binds(target: ast.expr, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(target))


def _is_over_requests(iterated: ast.expr, requests: str) -> bool:
    """Return True for ``requests`` and ``enumerate(requests)``."""
    if isinstance(iterated, ast.Call) and isinstance(iterated.func, ast.Name) and iterated.func.id == "enumerate":
        iterated = iterated.args[0] if iterated.args else iterated
    return isinstance(iterated, ast.Name) and iterated.id == requests


def _is_used_as_tensor(
    function: Function, call: ast.Call, nodes: Sequence[ast.AST], used: AbstractSet[ast.AST]
) -> bool:
    """Return True if the call's value is assigned to a name of which nothing but attributes is used, one certainly.

    ``used`` are the nodes of which an attribute is certainly used.
    """
    for node in nodes:
        if isinstance(node, ast.Assign) and node.value is call and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if find_assigned(function, name) is not call:
                return False
            loads, bases = _list_loads(function)
            return loads[name] <= bases and bool(loads[name] & used) if name in loads else False
    return False


@lru_cache(maxsize=64)
def _list_loads(function: Function) -> tuple[Mapping[str, AbstractSet[ast.AST]], AbstractSet[ast.AST]]:
    """Return the places that read each name, and all nodes of which an attribute is used."""
    loads: dict[str, set[ast.AST]] = {}
    bases: set[ast.AST] = set()
    for node in list_function_nodes(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            loads.setdefault(node.id, set()).add(node)
        elif isinstance(node, ast.Attribute):
            bases.add(node.value)
    return loads, bases


def _list_certain_nodes(body: Sequence[ast.stmt], requests: str) -> list[ast.AST]:
    """Return the nodes that every execution evaluates; the requests are at least one."""
    nodes: list[ast.AST] = []
    _add_certain(body, requests, nodes)
    return nodes


def _add_certain(body: Sequence[ast.stmt], requests: str, nodes: list[ast.AST]) -> bool:
    """Add the nodes of statements; return True if the statements after them are certainly executed, too."""
    for statement in body:
        if isinstance(statement, ast.For | ast.AsyncFor) and _is_over_requests(statement.iter, requests):
            if not _add_certain(statement.body, requests, nodes):
                return False
        elif isinstance(statement, ast.With | ast.AsyncWith):
            for item in statement.items:
                _add_expression(item.context_expr, requests, nodes)
            if not _add_certain(statement.body, requests, nodes):
                return False
        elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr | ast.Return):
            _add_expression(statement, requests, nodes)
            if isinstance(statement, ast.Return):
                return False
        elif any(isinstance(node, _LEAVING) for node in ast.walk(statement)):
            return False
    return True


def _add_expression(root: ast.AST, requests: str, nodes: list[ast.AST]) -> None:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        if isinstance(node, ast.IfExp):
            waiting.append(node.test)
        elif isinstance(node, ast.BoolOp):
            waiting.append(node.values[0])
        elif isinstance(node, ast.ListComp):
            loop = node.generators[0]
            if len(node.generators) == 1 and not loop.ifs and _is_over_requests(loop.iter, requests):
                waiting.append(node.elt)
        elif not isinstance(node, ast.Lambda | ast.GeneratorExp | ast.SetComp | ast.DictComp):
            waiting += list_children(node)


def _get_argument(call: ast.Call, parameters: Sequence[str], name: str) -> ast.expr | None:
    """Return what a call gives for a parameter; None where that cannot be seen."""
    position = parameters.index(name)
    if any(isinstance(argument, ast.Starred) for argument in call.args):
        return None
    if position < len(call.args):
        return call.args[position]
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _list_tensors(
    module: PythonModule, function: Function, expression: ast.expr | None
) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names of the tensors in a list that is written out, each with its place."""
    if isinstance(expression, ast.Name):
        expression = find_assigned(function, expression.id)
    for item in expression.elts if isinstance(expression, ast.List | ast.Tuple) else ():
        call = find_assigned(function, item.id) if isinstance(item, ast.Name) else item
        if isinstance(call, ast.Call) and module.resolve_name(call.func) in (_TENSOR, f"{_TENSOR}.from_dlpack"):
            name = module.find_string(call.args[0]) if call.args else None
            if name:
                yield name, call


def _list_strings(module: PythonModule, expression: ast.expr | None) -> Iterator[str]:
    for item in expression.elts if isinstance(expression, ast.List | ast.Tuple) else ():
        if text := module.find_string(item):
            yield text


def _find_execution(function: Function, request: ast.Call) -> ast.Call | None:
    """Return the only call of ``exec`` or ``async_exec`` of a request, which may be assigned to a name first."""
    calls = [
        node
        for node in list_function_nodes(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("exec", "async_exec")
    ]
    sent = []
    for call in calls:
        assert isinstance(call.func, ast.Attribute)
        subject = call.func.value
        if subject is request or (isinstance(subject, ast.Name) and find_assigned(function, subject.id) is request):
            sent.append(call)
    return sent[0] if len(sent) == 1 else None


def _read_decoupled(call: ast.Call | None) -> bool | None:
    if call is None:
        return None
    if not call.args and not call.keywords:
        return False
    given = _get_argument(call, ("decoupled",), "decoupled")
    return given.value if isinstance(given, ast.Constant) and isinstance(given.value, bool) else None


def _is_string_array(module: PythonModule, call: ast.Call) -> bool:
    """Return True if a call makes an array of str: of NumPy's type for it, which has no datatype of Triton."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "astype":
        return len(call.args) == 1 and _is_string_type(module, call.args[0])
    if module.resolve_name(call.func) not in ("numpy.array", "numpy.asarray") or not call.args:
        return False
    given = _get_argument(call, ("object", "dtype"), "dtype")
    if given is not None:
        return _is_string_type(module, given)
    if len(call.args) > 1 or any(keyword.arg in (None, "like") for keyword in call.keywords):
        return False
    leaves, waiting = [], [call.args[0]]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.List | ast.Tuple):
            waiting += node.elts
        elif isinstance(node, ast.ListComp):
            waiting.append(node.elt)
        else:
            leaves.append(node)
    return bool(leaves) and all(_is_string(module, leaf) for leaf in leaves)


def _is_string_type(module: PythonModule, expression: ast.expr) -> bool:
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return expression.value.lstrip("<>=|")[:1] == "U" or expression.value in ("str", "unicode")
    if isinstance(expression, ast.Name) and expression.id == "str":
        return "str" not in module.bound
    return module.resolve_name(expression) in _STRING_TYPES


def _is_string(module: PythonModule, expression: ast.expr) -> bool:
    if isinstance(expression, ast.Call):
        return isinstance(expression.func, ast.Name) and expression.func.id == "str" and "str" not in module.bound
    return isinstance(expression, ast.JoinedStr) or (
        isinstance(expression, ast.Constant) and isinstance(expression.value, str)
    )
