"""What a Python model's `auto_complete_config` makes of its configuration, computed without running it. No I/O.

Statements that handle constants, and calls of the configuration's own functions with constants, are evaluated; where
anything else decides, the result is unknown. Source: python_backend triton_python_backend_utils.py `ModelConfig`; its
messages are those of the real backend (2.51).
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tritonforge.datatypes import BY_CONFIG
from tritonforge.validation.context import ModelView, TensorView
from tritonforge.validation.python_module import Member

__all__ = ["CompletedTensor", "Completion", "complete_config"]

#: Statements and expressions that one evaluation looks at.
_MAXIMAL_STEPS: Final = 5000
_PROPERTIES: Final = {"input": ("name", "data_type", "dims", "optional"), "output": ("name", "data_type", "dims")}
_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: lambda a, b: a is b,
    ast.IsNot: lambda a, b: a is not b,
}


@dataclass(frozen=True, slots=True)
class CompletedTensor:
    """An input or output after completion."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool


@dataclass(frozen=True, slots=True)
class Completion:
    """The completed configuration; or ``problem``, the ValueError that ends it at ``line`` of the model's file."""

    inputs: tuple[CompletedTensor, ...] = ()
    outputs: tuple[CompletedTensor, ...] = ()
    max_batch_size: int = 0
    decoupled: bool = False
    dynamic_batching: bool = False
    problem: str = ""
    line: int = 1


class _UnknownError(Exception):
    """Something decides that cannot be known here."""


class _RefusedError(Exception):
    """The function of the configuration raises ValueError with this message."""


@dataclass(frozen=True, slots=True)
class _Returned(Exception):  # noqa: N818 - it ends a function, as return does
    value: Any


_CONFIG: Final = object()


@dataclass(slots=True)
class _Evaluation:
    """The variables of the function, and the configuration that it changes."""

    config: dict[str, Any]
    names: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    line: int = 1


def complete_config(model: ModelView, member: Member) -> Completion | None:
    """Return what ``auto_complete_config`` makes of a configuration; None where that is unknown."""
    function = member.function
    if function is None or not isinstance(function, ast.FunctionDef) or not member.binding or not model.parsed:
        return None
    arguments = [*function.args.posonlyargs, *function.args.args]
    index = 1 if member.binding == "class" else 0
    if len(arguments) != index + 1 or function.args.vararg or function.args.kwarg or function.args.kwonlyargs:
        return None
    evaluation = _Evaluation(_read_config(model), {arguments[index].arg: _CONFIG})
    try:
        _run(evaluation, function.body)
    except _Returned as returned:
        return _build(evaluation) if returned.value is _CONFIG else None
    except _RefusedError as refused:
        return Completion(problem=f"ValueError: {refused}", line=evaluation.line)
    except (_UnknownError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return None


def _read_config(model: ModelView) -> dict[str, Any]:
    """Return the part of the configuration that the server gives to the function and that is known here."""
    policy = model.document.message("model_transaction_policy")
    config: dict[str, Any] = {
        "name": model.configured_name,
        "max_batch_size": model.max_batch_size,
        "input": [{**_read_tensor(tensor), "optional": tensor.optional} for tensor in model.inputs],
        "output": [_read_tensor(tensor) for tensor in model.outputs],
    }
    if policy is not None:
        config["model_transaction_policy"] = {"decoupled": policy.flag("decoupled")}
    for scheduler in ("sequence_batching", "ensemble_scheduling", "dynamic_batching"):
        if model.document.has(scheduler):
            config[scheduler] = {}
    return config


def _read_tensor(tensor: TensorView) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": tensor.data_type, "dims": list(tensor.dims)}


def _build(evaluation: _Evaluation) -> Completion | None:
    config = evaluation.config
    if type(config["max_batch_size"]) is not int:
        return None
    tensors = {kind: [_build_tensor(tensor) for tensor in config[kind]] for kind in ("input", "output")}
    if any(tensor is None for kind in tensors.values() for tensor in kind):
        return None
    return Completion(
        inputs=tuple(tensor for tensor in tensors["input"] if tensor is not None),
        outputs=tuple(tensor for tensor in tensors["output"] if tensor is not None),
        max_batch_size=config["max_batch_size"],
        decoupled=config.get("model_transaction_policy", {}).get("decoupled") is True,
        dynamic_batching="dynamic_batching" in config,
    )


def _build_tensor(tensor: dict[str, Any]) -> CompletedTensor | None:
    name, data_type, dims, optional = (tensor.get(key) for key in ("name", "data_type", "dims", "optional"))
    if not isinstance(name, str) or not isinstance(data_type, str) or data_type not in BY_CONFIG:
        return None
    if not name.isascii() or not name.isprintable():
        return None
    if not isinstance(dims, list | tuple) or not all(type(size) is int for size in dims):
        return None
    return CompletedTensor(name, data_type, tuple(dims), optional is True)


def _run(evaluation: _Evaluation, body: list[ast.stmt]) -> None:
    for statement in body:
        _count(evaluation, statement)
        match statement:
            case ast.Expr(ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(ast.Call() as call):
                _call(evaluation, call)
            case ast.Return(value):
                raise _Returned(None if value is None else _evaluate(evaluation, value))
            case ast.Assign([ast.Name(name)], value):
                evaluation.names[name] = _evaluate(evaluation, value)
            case ast.AnnAssign(ast.Name(name), _, ast.expr() as value):
                evaluation.names[name] = _evaluate(evaluation, value)
            case ast.For(ast.Name(name), items, inner, []):
                for item in _evaluate_list(evaluation, items):
                    evaluation.names[name] = item
                    _run(evaluation, inner)
            case ast.If(test, inner, other):
                _run(evaluation, inner if _evaluate(evaluation, test) else other)
            case _:
                raise _UnknownError


def _count(evaluation: _Evaluation, node: ast.stmt | ast.expr) -> None:
    evaluation.steps += 1
    if evaluation.steps > _MAXIMAL_STEPS:
        raise _UnknownError
    if isinstance(node, ast.stmt):
        evaluation.line = node.lineno


def _evaluate_list(evaluation: _Evaluation, expression: ast.expr) -> list[Any]:
    value = _evaluate(evaluation, expression)
    if not isinstance(value, list | tuple):
        raise _UnknownError
    return list(value)


def _evaluate(evaluation: _Evaluation, expression: ast.expr) -> Any:
    _count(evaluation, expression)
    match expression:
        case ast.Constant(value):
            return value
        case ast.Name(name) if name in evaluation.names:
            return evaluation.names[name]
        case ast.List(items):
            return [_evaluate(evaluation, item) for item in items]
        case ast.Tuple(items):
            return tuple(_evaluate(evaluation, item) for item in items)
        case ast.Dict(keys, values):
            return {
                _evaluate_key(evaluation, key): _evaluate(evaluation, value)
                for key, value in zip(keys, values, strict=True)
            }
        case ast.Call(ast.Name("dict"), [], keywords):
            return {_require(word.arg): _evaluate(evaluation, word.value) for word in keywords}
        case ast.Call() as call:
            return _call(evaluation, call)
        case ast.Subscript(value, key):
            container = _evaluate(evaluation, value)
            if container is evaluation.config and _evaluate(evaluation, key) not in (
                "input",
                "output",
                "max_batch_size",
            ):
                raise _UnknownError
            return container[_evaluate(evaluation, key)]
        case ast.UnaryOp(ast.USub(), operand):
            return -_evaluate(evaluation, operand)
        case ast.UnaryOp(ast.Not(), operand):
            return not _evaluate(evaluation, operand)
        case ast.Compare(left, [operator], [right]) if type(operator) in _COMPARISONS:
            one, two = _evaluate(evaluation, left), _evaluate(evaluation, right)
            if two is evaluation.config or one is evaluation.config:
                raise _UnknownError
            return _COMPARISONS[type(operator)](one, two)
        case ast.ListComp(element, [ast.comprehension(ast.Name(name), items, [], 0)]):
            values = []
            for item in _evaluate_list(evaluation, items):
                evaluation.names[name] = item
                values.append(_evaluate(evaluation, element))
            return values
    raise _UnknownError


def _evaluate_key(evaluation: _Evaluation, key: ast.expr | None) -> Any:
    if key is None:
        raise _UnknownError
    return _evaluate(evaluation, key)


def _require(name: str | None) -> str:
    if name is None:
        raise _UnknownError
    return name


def _call(evaluation: _Evaluation, call: ast.Call) -> Any:
    if not isinstance(call.func, ast.Attribute) or call.keywords or len(call.args) > 1:
        raise _UnknownError
    subject = _evaluate(evaluation, call.func.value)
    arguments = [_evaluate(evaluation, argument) for argument in call.args]
    name, config = call.func.attr, evaluation.config
    is_configs = subject is config["input"] or subject is config["output"]
    if isinstance(subject, list) and name == "append" and arguments and not is_configs:
        subject.append(arguments[0])
        return None
    if subject is not _CONFIG:
        raise _UnknownError
    match name, arguments:
        case "as_dict", []:
            return config
        case "set_max_batch_size", [int() as size]:
            _set_batch_size(config, size)
        case "add_input", [dict() as tensor]:
            _add_tensor(config, "input", tensor)
        case "add_output", [dict() as tensor]:
            _add_tensor(config, "output", tensor)
        case "set_dynamic_batching", []:
            _set_dynamic_batching(config)
        case "set_model_transaction_policy", [dict() as policy]:
            _set_policy(config, policy)
        case _:
            raise _UnknownError
    return None


def _set_batch_size(config: dict[str, Any], size: int) -> None:
    if config["max_batch_size"] > size:
        raise _RefusedError(
            f"configuration specified max_batch_size {config['max_batch_size']}, but in auto-complete-config function "
            f"for model '{config['name']}' specified max_batch_size {size}"
        )
    config["max_batch_size"] = size


def _set_dynamic_batching(config: dict[str, Any]) -> None:
    for scheduler in ("sequence_batching", "ensemble_scheduling"):
        if scheduler in config:
            raise _RefusedError(
                f"Configuration specified scheduling_choice as '{scheduler}', but auto-complete-config function for "
                f"model '{config['name']}' tries to set scheduling_choice as 'dynamic_batching'"
            )
    config.setdefault("dynamic_batching", {})


def _set_policy(config: dict[str, Any], policy: dict[Any, Any]) -> None:
    model = config["name"]
    if any(key != "decoupled" for key in policy):
        raise _RefusedError(
            f"model transaction property in auto-complete-config function for model '{model}' contains property other "
            "than 'decoupled'."
        )
    if "decoupled" not in policy:
        return
    current = config.setdefault("model_transaction_policy", {})
    if "decoupled" in current and current["decoupled"] != policy["decoupled"]:
        raise _RefusedError(
            f"trying to change decoupled property in auto-complete-config for model '{model}', which is already set to "
            f"'{current['decoupled']}'."
        )
    current["decoupled"] = policy["decoupled"]


def _add_tensor(config: dict[str, Any], kind: str, tensor: dict[Any, Any]) -> None:
    model, allowed = config["name"], _PROPERTIES[kind]
    where = f"in auto-complete-config function for model '{model}'"
    if any(key not in allowed for key in tensor):
        if "name" not in tensor:
            raise _UnknownError  # a KeyError
        listed = f"{', '.join(repr(key) for key in allowed[:-1])} and {allowed[-1]!r}"
        raise _RefusedError(f"{kind} '{tensor['name']}' {where} contains property other than {listed}.")
    for key in ("name", "data_type", "dims"):
        if key not in tensor:
            subject = kind if key == "name" else f"{kind} '{tensor['name']}'"
            raise _RefusedError(f"{subject} {where} is missing '{key}' property.")
    name, data_type, dims = tensor["name"], tensor["data_type"], tensor["dims"]
    if not isinstance(name, str) or not isinstance(data_type, str):
        raise _UnknownError
    for current in config[kind]:
        if current["name"] != name:
            continue
        if current["data_type"] not in ("TYPE_INVALID", data_type):
            raise _RefusedError(
                f"unable to load model '{model}', configuration expects datatype {current['data_type']} for {kind} "
                f"'{name}', model provides {data_type}"
            )
        if current["dims"] and current["dims"] != dims:
            raise _RefusedError(
                f"model '{model}', tensor '{name}': the model expects dims {dims} but the model configuration "
                f"specifies dims {current['dims']}"
            )
        if "optional" in current and "optional" in tensor and current["optional"] != tensor["optional"]:
            raise _RefusedError(
                f"model '{model}', tensor '{name}': the model expects optional {tensor['optional']} but the model "
                f"configuration specifies optional {current['optional']}"
            )
        current |= tensor
        return
    config[kind].append(dict(tensor))
