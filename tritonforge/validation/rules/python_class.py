"""The class of a Python model: it is there, and its functions can be called as the backend calls them. No I/O.

Source: python_backend pb_stub.cc ModelContext::StubSetup, Stub::AutoCompleteModelConfig, Stub::Initialize,
Stub::ProcessRequests; the messages of the real backend (2.51).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from tritonforge.triton import changes
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.python_completion import complete_config
from tritonforge.validation.python_models import (
    MODEL_CLASS,
    UTILITIES,
    PythonModel,
    list_python_paths,
    read_python_models,
)
from tritonforge.validation.python_module import Function, Member, explain_call, find_assigned, walk_function
from tritonforge.validation.registry import Rule, Stage, define_advice, define_error, register_check

_STUB: Final = "python_backend pb_stub.cc"

# fmt: off
E830 = define_error("E830", "AttributeError: module '<v>.model' has no attribute 'TritonPythonModel'",
    source=f"{_STUB} Stub::Initialize",
    why="The backend makes an object of this class when it loads the model.",
    bad="class Model:\n    def execute(self, requests): ...",
    good="class TritonPythonModel:\n    def execute(self, requests): ...")
E831 = define_error("E831", "Model name must end with '.py'. Model name is \"<file>\".",
    source=f"{_STUB} ModelContext::StubSetup",
    why="The backend imports the file as a module of the package that the version's directory is: <v>.<name>.",
    bad='default_model_filename: "model.txt"', good='default_model_filename: "model.py"')
E832 = define_error("E832", "TypeError: TritonPythonModel.<function>() <what>",
    source=f"{_STUB} Stub::AutoCompleteModelConfig, Stub::Initialize",
    why="The backend calls TritonPythonModel(), then initialize(args) of the object, and before them "
        "TritonPythonModel.auto_complete_config(config) of the class.",
    bad="def initialize(self): ...", good="def initialize(self, args): ...")
E833 = define_error("E833", "auto_complete_config function in model '<m>' must return a valid pb.ModelConfig object.",
    source=f"{_STUB} Stub::AutoCompleteModelConfig",
    why="What the function returns is the model's configuration; a function without return returns None.",
    bad="def auto_complete_config(config): config.set_max_batch_size(0)",
    good="def auto_complete_config(config):\n    config.set_max_batch_size(0)\n    return config")
E834 = define_error("E834", "ValueError: <what auto_complete_config adds and the configuration states otherwise>",
    source="python_backend triton_python_backend_utils.py ModelConfig",
    why="The function completes a configuration; it may not change what config.pbtxt states.",
    bad='input [{ name: "A" data_type: TYPE_FP32 dims: [4] }] and '
        'config.add_input({"name": "A", "data_type": "TYPE_INT32", "dims": [4]})',
    good='config.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": [4]})')
E835 = define_error("E835", "Python model <path> does not implement `execute` method.",
    refused_by=None, source=f"{_STUB} Stub::ProcessRequests",
    why="The model loads, and every request to it fails.",
    bad="class TritonPythonModel:\n    def predict(self, requests): ...",
    good="class TritonPythonModel:\n    def execute(self, requests): ...")
E836 = define_error("E836", "TypeError: TritonPythonModel.execute() <what>",
    refused_by=None, source=f"{_STUB} Stub::ProcessRequests",
    why="The backend calls execute with a list of requests. The model loads, and every request to it fails.",
    bad="def execute(requests): ...", good="def execute(self, requests): ...")
E837 = define_error("E837", "Expected a list in the execute return, found type '<type>'.",
    refused_by=None, source=f"{_STUB} Stub::ProcessReturnedResponses",
    why="execute returns a list with a response for every request; a decoupled model sends its responses and returns "
        "None. The model loads, and its requests fail.",
    bad="return pb_utils.InferenceResponse(output_tensors)",
    good="return [pb_utils.InferenceResponse(output_tensors) for request in requests]")
W830 = define_advice("W830", "<function> is a coroutine function, and the backend never awaits it",
    source=f"{_STUB} Stub::Initialize, Stub::Finalize",
    why="Only execute may be a coroutine function. The body of another one does not run.",
    bad="async def initialize(self, args): ...", good="def initialize(self, args): ...")
# fmt: on

#: How the backend calls the functions of the class: what it is bound to, and the arguments by position.
_CALLED: Final = {"__init__": 0, "auto_complete_config": 1, "initialize": 1, "execute": 1}
_ADVICE: Final = {
    "__init__": "the backend gives no arguments; read them in initialize(self, args)",
    "auto_complete_config": "write @staticmethod and def auto_complete_config(auto_complete_model_config):",
    "initialize": "write def initialize(self, args):",
    "execute": "write def execute(self, requests):",
}
_LITERALS: Final = {
    ast.Dict: "dict", ast.DictComp: "dict", ast.Tuple: "tuple", ast.Set: "set", ast.SetComp: "set",
    ast.JoinedStr: "str",
}  # fmt: skip


@register_check(Stage.FILES, E831)
def check_file_name(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check that the backend can import a file of this name."""
    for version, path in list_python_paths(context, model):
        name = path.rpartition("/")[2]
        node, advice = model.document.one("default_model_filename"), "name the file model.py"
        if name[-1] not in ".py":
            yield E831.report_in(model, f"Model name must end with '.py'. Model name is \"{name}\".", node, advice)
        elif "." in (stem := name[:-3]):
            message = f"ModuleNotFoundError: No module named '{version}.{stem.partition('.')[0]}'"
            if context.tree.kind(f"{path.rpartition('/')[0]}/{stem.partition('.')[0]}") == "missing":
                yield E831.report_in(model, message, node, advice)
        return


@register_check(Stage.FILES, E830, E832, E833, E834, E835, E836, E837, W830)
def check_class(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the class of each version."""
    for code in read_python_models(context, model):
        if MODEL_CLASS not in code.module.bound:
            # A file without a statement is one that is not written yet; one that raises has its own message.
            body = code.module.syntax.body
            if body and not code.module.is_open and not any(isinstance(statement, ast.Raise) for statement in body):
                stem = code.path.rpartition("/")[2].removesuffix(".py")
                message = f"AttributeError: module '{code.version}.{stem}' has no attribute '{MODEL_CLASS}'"
                yield E830.report(message, path=code.path, line=1, column=1, help=f"define class {MODEL_CLASS}")
            continue
        for name in _CALLED:
            yield from _check_call(context, code, name)
        yield from _check_completion(context, model, code)
        yield from _check_execute(model, code)
        for name in ("initialize", "finalize"):
            member = code.members.get(name)
            if member is not None and isinstance(member.function, ast.AsyncFunctionDef) and member.binding:
                message = f"{name} is a coroutine function, and the backend never awaits it"
                yield _report_at(W830, message, member, "write def, and run what has to be awaited with asyncio.run")


def _check_call(context: Context, code: PythonModel, name: str) -> Iterator[Finding]:
    member = code.members.get(name)
    if member is None or member.function is None or not member.binding:
        return
    if name == "auto_complete_config" and not _is_completed(context):
        return
    if name == "__init__" and (not code.is_whole or "__new__" in code.members):
        return
    is_bound = member.binding == "class" or (member.binding == "method" and name != "auto_complete_config")
    given = _CALLED[name] + (1 if is_bound else 0)
    problem = explain_call(member.function, f"{member.owner}.{name}", given)
    if problem:
        rule = E836 if name == "execute" else E832
        yield _report_at(rule, f"TypeError: {problem}", member, _ADVICE[name])


def _is_completed(context: Context) -> bool:
    return context.options.auto_complete and context.has(changes.PYTHON_COMPLETION)


def _check_completion(context: Context, model: ModelView, code: PythonModel) -> Iterator[Finding]:
    member = code.members.get("auto_complete_config")
    if member is None or member.function is None or not member.binding or not _is_completed(context):
        return
    is_bound = member.binding == "class"
    if explain_call(member.function, "", 2 if is_bound else 1):
        return
    if _returns_nothing(member.function):
        message = f"auto_complete_config function in model '{model.name}' must return a valid pb.ModelConfig object."
        yield _report_at(E833, message, member, "end it with: return <the argument>")
        return
    completion = complete_config(model, member) if model.completes else None
    if completion is not None and completion.problem and context.has(changes.PYTHON_COMPLETION_OPTIONAL):
        yield E834.report(
            completion.problem,
            path=member.module.path,
            line=completion.line,
            column=1,
            help="state the same in config.pbtxt and in auto_complete_config, or leave it out of one of them",
        )


def _returns_nothing(function: Function) -> bool:
    """Return True if a function returns None, or something else that is not what it was given, whenever it ends."""
    nodes = list(walk_function(function))
    if isinstance(function, ast.AsyncFunctionDef) or any(isinstance(node, ast.Yield | ast.YieldFrom) for node in nodes):
        return True
    if any(isinstance(node, ast.Raise | ast.Call) and _may_not_end(node) for node in nodes):
        return False
    return all(_is_none(node.value) for node in nodes if isinstance(node, ast.Return))


def _may_not_end(node: ast.Raise | ast.Call) -> bool:
    """Return True for what ends the function in another way: an exception, or the end of the process."""
    return isinstance(node, ast.Raise) or (
        isinstance(node.func, ast.Attribute | ast.Name)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id) in ("exit", "_exit", "abort")
    )


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def _check_execute(model: ModelView, code: PythonModel) -> Iterator[Finding]:
    member = code.members.get("execute")
    if member is None:
        if code.is_whole:
            message = f"Python model <repo>/{code.path} does not implement `execute` method."
            statement = code.module.bound.get(MODEL_CLASS)
            line = statement.lineno if statement is not None else 1
            yield E835.report(message, path=code.path, line=line, column=1, help="define execute(self, requests)")
        return
    if member.function is None or not member.binding:
        return
    nodes = list(walk_function(member.function))
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in nodes):
        return  # up to Python 3.11, the backend takes a generator for a coroutine
    policy = model.document.message("model_transaction_policy")
    is_decoupled = policy is not None and policy.flag("decoupled")
    for node in member.function.body:  # one in a condition may be meant for another configuration
        if isinstance(node, ast.Return) and node.value is not None:
            name = _name_type(member, node.value)
            if name and (name != "list" or is_decoupled):
                yield _report_return(model, member, node, name, is_decoupled=is_decoupled)


def _report_return(model: ModelView, member: Member, node: ast.Return, name: str, *, is_decoupled: bool) -> Finding:
    message = f"Expected a list in the execute return, found type '<class '{name}'>'."
    advice = "return a list with one InferenceResponse for every request"
    if is_decoupled:
        message = f"Python model '{model.name}' is using the decoupled mode and the execute function must return None."
        advice = "send the responses with request.get_response_sender(), and return None"
    return E837.report(message, path=member.module.path, line=node.lineno, column=node.col_offset + 1, help=advice)


def _name_type(member: Member, value: ast.expr) -> str:
    """Return the type of what a return statement returns, as Python names it; "" where that is not certain."""
    if isinstance(value, ast.Call):
        name = member.module.resolve_name(value.func)
        return "c_python_backend_utils.InferenceResponse" if name == f"{UTILITIES}.InferenceResponse" else ""
    if isinstance(value, ast.List | ast.ListComp):
        return "list"
    if isinstance(value, ast.Constant):
        return type(value.value).__name__ if value.value is not None else ""
    if isinstance(value, ast.Name) and member.function is not None:
        assigned = find_assigned(member.function, value.id)
        return _name_type(member, assigned) if assigned is not None and not isinstance(assigned, ast.Name) else ""
    return _LITERALS.get(type(value), "")


def _report_at(rule: Rule, message: str, member: Member, advice: str) -> Finding:
    function = member.function
    line, column = (function.lineno, function.col_offset + 1) if function is not None else (1, 1)
    return rule.report(message, path=member.module.path, line=line, column=column, help=advice)
