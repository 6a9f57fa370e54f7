"""The imports that Python makes when it loads a model's file, followed through the files beside it. No I/O.

Only imports that are certainly made are listed: statements of a file itself, not those in functions, conditions or
``try``; and none after a statement that may change where modules are looked for. Source: python_backend pb_stub.cc
ModelContext::StubSetup; importlib of CPython.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tritonforge.triton.python_packages import is_standard_module
from tritonforge.validation.python_models import UTILITIES, PythonModel
from tritonforge.validation.python_module import PythonModule, find_module_path, read_module
from tritonforge.validation.tree import Tree

__all__ = ["Import", "list_imports"]

#: Files that are followed.
_MAXIMAL_FILES: Final = 50
#: Packages that an image may have, which are then found before a file of the model with their name.
_INSTALLED: Final = frozenset(
    {
        "cupy", "fastapi", "google", "httpx", "numpy", "nvidia", "openai", "pip", "pydantic", "requests", "scipy",
        "setuptools", "starlette", "test", "tests", "tritonfrontend", "tritonserver", "virtualenv", "wheel", "yaml",
    }
)  # fmt: skip
#: Names whose use may change where modules are looked for, install some, or end the process.
_DISTURBING: Final = frozenset(
    {
        "Popen", "__import__", "__path__", "addsitedir", "call", "check_call", "check_output", "eval", "exec", "execv",
        "exit", "import_module", "main", "meta_path", "modules", "path_hooks", "pip", "popen", "putenv", "run", "spawn",
        "subprocess", "system",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Import:
    """One import at a line of a file.

    ``module`` is what is imported, ``name`` the name that is taken from it ("" for the module itself). ``problem`` is
    Python's message where the files of the repository alone decide that the import fails, else "".
    """

    path: str
    line: int
    module: str
    name: str = ""
    problem: str = ""


@dataclass(slots=True)
class _Trace:
    """A walk through the imports; ``is_open`` is True once nothing about further imports is certain."""

    tree: Tree
    code: PythonModel
    seen: set[str] = field(default_factory=set)
    is_open: bool = False


def list_imports(tree: Tree, code: PythonModel) -> Iterator[Import]:
    """Yield the imports of modules that are not beside the model, and those of the repository's files that fail."""
    trace = _Trace(tree, code)
    directory = code.places[0]
    initial = read_module(tree, f"{directory}/__init__.py") if tree.is_file(f"{directory}/__init__.py") else None
    if initial is not None:
        yield from _trace_module(trace, initial, (directory,))
    yield from _trace_module(trace, code.module, (directory,))


def _trace_module(trace: _Trace, module: PythonModule, packages: tuple[str, ...]) -> Iterator[Import]:
    """Follow a file; ``packages`` are the directories of the packages that it is in, the innermost first."""
    if module.path in trace.seen or len(trace.seen) > _MAXIMAL_FILES:
        return
    trace.seen.add(module.path)
    for statement in module.syntax.body:
        if trace.is_open:
            return
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield from _trace_absolute(trace, module, statement, alias.name, "")
        elif isinstance(statement, ast.ImportFrom) and not statement.level:
            for alias in statement.names:
                yield from _trace_absolute(trace, module, statement, statement.module or "", alias.name)
        elif isinstance(statement, ast.ImportFrom):
            yield from _trace_relative(trace, module, statement, packages)
        else:
            trace.is_open |= _may_disturb(module, statement)


def _trace_absolute(
    trace: _Trace, module: PythonModule, statement: ast.Import | ast.ImportFrom, name: str, taken: str
) -> Iterator[Import]:
    first = name.partition(".")[0]
    if first in ("__future__", UTILITIES):
        return
    path = find_module_path(trace.tree, name, trace.code.places)
    if is_standard_module(first) or path is None:
        yield Import(module.path, statement.lineno, name, taken)
        return
    local = read_module(trace.tree, path) if path else None
    if local is None or "." in name or path.endswith("__init__.py") or name in _INSTALLED:
        trace.is_open = True
        return
    yield from _trace_module(trace, local, ())
    if not trace.is_open and _lacks_name(local, taken):
        problem = f"ImportError: cannot import name '{taken}' from '{name}' (<repo>/{path})"
        yield Import(module.path, statement.lineno, name, taken, problem)


def _trace_relative(
    trace: _Trace, module: PythonModule, statement: ast.ImportFrom, packages: tuple[str, ...]
) -> Iterator[Import]:
    def report(problem: str) -> Import:
        return Import(module.path, statement.lineno, "." * statement.level + (statement.module or ""), "", problem)

    if statement.level > len(packages):
        reason = "beyond top-level package" if packages else "with no known parent package"
        yield report(f"ImportError: attempted relative import {reason}")
        trace.is_open = True
        return
    directory = packages[statement.level - 1]
    package = directory.rpartition("/")[2]
    if statement.module is None:
        for alias in statement.names:
            path = find_module_path(trace.tree, alias.name, (directory,))
            if path is None and alias.name != "*" and not trace.tree.is_file(f"{directory}/__init__.py"):
                yield report(f"ImportError: cannot import name '{alias.name}' from '{package}' (unknown location)")
        trace.is_open = True
        return
    path = find_module_path(trace.tree, statement.module, (directory,))
    first = statement.module.partition(".")[0]
    if path is None:
        yield report(f"ModuleNotFoundError: No module named '{package}.{first}'")
        trace.is_open = True
        return
    local = read_module(trace.tree, path) if path else None
    if local is None or "." in statement.module or path.endswith("__init__.py"):
        trace.is_open = True
        return
    yield from _trace_module(trace, local, packages)
    for alias in statement.names:
        if not trace.is_open and _lacks_name(local, alias.name):
            yield report(
                f"ImportError: cannot import name '{alias.name}' from '{package}.{statement.module}' (<repo>/{path})"
            )


def _lacks_name(module: PythonModule, name: str) -> bool:
    return bool(name) and name != "*" and not module.is_open and name not in module.bound and not name.startswith("__")


def _may_disturb(module: PythonModule, statement: ast.stmt) -> bool:
    """Return True if a statement may change where modules are looked for, or not be followed by the next one."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += getattr(node, "decorator_list", [])
            continue
        if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom):
            if isinstance(node, ast.Raise) or not _is_standard(node):
                return True
        elif isinstance(node, ast.Attribute):
            is_sys = isinstance(node.value, ast.Name) and node.value.id == "sys"
            if node.attr in _DISTURBING or (is_sys and node.attr == "path"):
                return True
        elif isinstance(node, ast.Name) and (node.id in _DISTURBING or node.id == "path"):
            return True
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in module.bound:
            binding = module.bound[node.func.id]
            if not isinstance(binding, ast.ImportFrom) or not _is_standard(binding):
                return True  # a function of the file, or of one beside it
        waiting += ast.iter_child_nodes(node)
    return False


def _is_standard(statement: ast.Import | ast.ImportFrom) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return not statement.level and is_standard_module((statement.module or "").partition(".")[0])
    return all(is_standard_module(alias.name.partition(".")[0]) for alias in statement.names)
