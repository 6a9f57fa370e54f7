"""A Python file as far as it can be known without running it: what it binds, its classes and their functions. No I/O.

Everything that the file may change while it runs (``globals()``, ``setattr``, star imports, decorators) makes the part
that it may change unknown.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeAlias

from tritonforge.validation.python_source import list_children, list_nodes, parse_source
from tritonforge.validation.tree import Tree

__all__ = ["Function", "Member", "PythonModule", "explain_call", "find_assigned", "find_module_path", "list_members",
           "read_module", "walk_function"]  # fmt: skip

Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"

#: Names with which a file may bind or delete any other name.
_DYNAMIC: Final = frozenset({"globals", "vars", "exec", "eval", "setattr", "delattr"})
#: Classes that are followed to their bases.
_MAXIMAL_CLASSES: Final = 20


@dataclass(frozen=True, slots=True)
class PythonModule:
    """A parsed file at ``path`` in the tree.

    ``bound`` has the statement that binds each name of the module, None for a name that several or nested statements
    bind. ``is_open`` is True if the file may bind other names, too. ``nodes`` are those of ``syntax``, and
    ``stored_attributes`` the attributes that it assigns or deletes, of any object.
    """

    path: str
    syntax: ast.Module
    bound: Mapping[str, ast.stmt | None]
    is_open: bool
    nodes: Sequence[ast.AST]
    stored_attributes: frozenset[str]

    def find_string(self, expression: ast.expr | None) -> str | None:
        """Return the text that an expression is: a literal, or a name that the module binds once to one."""
        if isinstance(expression, ast.Name):
            statement = self.bound.get(expression.id)
            expression = statement.value if isinstance(statement, ast.Assign) else None
        if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
            return expression.value
        return None

    def resolve_name(self, expression: ast.expr) -> str:
        """Return the dotted name of what an expression refers to, with the imported module's own name; "" if unknown.

        ``pb_utils.Tensor`` is ``triton_python_backend_utils.Tensor`` after
        ``import triton_python_backend_utils as pb_utils``.
        """
        parts: list[str] = []
        while isinstance(expression, ast.Attribute):
            parts.append(expression.attr)
            expression = expression.value
        if not isinstance(expression, ast.Name):
            return ""
        statement = self.bound.get(expression.id)
        if isinstance(statement, ast.Import):
            alias = next(alias for alias in statement.names if _get_bound_name(alias) == expression.id)
            parts.append(alias.name if alias.asname else expression.id)
        elif isinstance(statement, ast.ImportFrom) and not statement.level:
            alias = next(alias for alias in statement.names if (alias.asname or alias.name) == expression.id)
            parts += [alias.name, statement.module or ""]
        else:
            return ""
        return ".".join(reversed(parts))


@dataclass(frozen=True, slots=True)
class Member:
    """What a class has under a name: a function, how it is bound, and the class that defines it.

    ``function`` is None where it is something else, or more than one thing. ``binding`` is "method", "static" or
    "class"; "" where decorators make it unknown.
    """

    function: Function | None
    binding: str
    owner: str
    module: PythonModule


@dataclass(frozen=True, slots=True)
class _ClassSearch:
    """The members that were seen, and whether there may be others."""

    members: dict[str, Member] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)


def read_module(tree: Tree, path: str) -> PythonModule | None:
    """Return the file at a path of the tree; None where it was not read or is not Python that can be looked into."""
    entry = tree.entry(path)
    return _read(path, entry.content) if entry is not None and entry.content is not None else None


@lru_cache(maxsize=64)
def _read(path: str, content: bytes) -> PythonModule | None:
    parsed = parse_source(content)
    if parsed is None:
        return None
    syntax, nodes = parsed
    bound: dict[str, ast.stmt | None] = {}
    is_open = False
    for name, statement in _list_bindings(syntax.body, is_nested=False):
        is_open |= name == "*"
        bound[name] = None if name in bound else statement
    stored = set[str]()
    for node in nodes:
        if isinstance(node, ast.Name):
            is_open |= node.id in _DYNAMIC
        elif isinstance(node, ast.Attribute):
            if not isinstance(node.ctx, ast.Load):
                stored.add(node.attr)
            is_sys = isinstance(node.value, ast.Name) and node.value.id == "sys"
            is_open |= node.attr == "__dict__" or (node.attr == "modules" and is_sys)
        elif isinstance(node, ast.Global):
            bound |= dict.fromkeys(node.names)
    return PythonModule(path, syntax, bound, is_open or "__getattr__" in bound, nodes, frozenset(stored))


def find_module_path(tree: Tree, name: str, places: Sequence[str]) -> str | None:
    """Return the file that Python imports for a dotted name from directories of the tree; None if it is not there.

    "" is something that cannot be looked into: a directory without ``__init__.py``, a compiled module, a link.
    """
    first = name.partition(".")[0]
    for place in places:
        if tree.leaves(place):
            return ""
        stem = f"{place}/{name.replace('.', '/')}"
        for path in (f"{stem}/__init__.py", f"{stem}.py"):
            if tree.is_file(path):
                return path
        for child in tree.children(place):
            if child == first or child.partition(".")[0] == first:
                kind = tree.kind(f"{place}/{child}")
                if kind == "directory" or tree.leaves(f"{place}/{child}") or child.endswith((".so", ".pyc", ".py")):
                    return ""
    return None


def list_members(tree: Tree, module: PythonModule, name: str, places: Sequence[str]) -> tuple[dict[str, Member], bool]:
    """Return the members of a class of a file, those of its bases included, and whether these are all.

    Python's order of bases is followed where each class has one; with several, the order is depth first, and a member
    that two of them have is unknown. ``places`` are the directories that modules are imported from.
    """
    search = _ClassSearch()
    is_whole = _search_class(tree, module, name, places, search)
    return search.members, is_whole


def _search_class(tree: Tree, module: PythonModule, name: str, places: Sequence[str], search: _ClassSearch) -> bool:
    if (module.path, name) in search.seen or len(search.seen) > _MAXIMAL_CLASSES:
        return False
    search.seen.add((module.path, name))
    statement = module.bound.get(name)
    if isinstance(statement, ast.ImportFrom):
        original = next(alias.name for alias in statement.names if (alias.asname or alias.name) == name)
        imported = _import_from(tree, module, statement, places)
        return imported is not None and _search_class(tree, imported, original, places, search)
    if not isinstance(statement, ast.ClassDef) or statement.decorator_list or module.is_open:
        return False
    is_whole = not statement.keywords
    own: dict[str, Member] = {}
    for inner in statement.body:
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
            member = Member(inner, _find_binding(inner), name, module)
            own[inner.name] = Member(None, "", name, module) if inner.name in own else member
        elif isinstance(inner, ast.Assign | ast.AnnAssign | ast.ClassDef | ast.Import | ast.ImportFrom):
            for bound_name, _ in _list_bindings([inner], is_nested=False):
                own[bound_name] = Member(None, "", name, module)
        elif not isinstance(inner, ast.Pass) and not (
            isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant)
        ):
            is_whole = False
            for bound_name, _ in _list_bindings([inner], is_nested=True):
                own[bound_name] = Member(None, "", name, module)
    for attribute in module.stored_attributes:  # self.execute = ..., TritonPythonModel.execute = ...
        own[attribute] = Member(None, "", name, module)
    is_whole &= "__getattr__" not in own and "__getattribute__" not in own
    for key, member in own.items():
        search.members.setdefault(key, member)
    has_several = len(statement.bases) > 1
    for base in statement.bases:
        before = dict(search.members)
        is_whole &= _search_base(tree, module, base, places, search)
        if has_several:
            for key in search.members.keys() - before.keys():
                search.members[key] = Member(None, "", name, module)
    return is_whole


def _search_base(tree: Tree, module: PythonModule, base: ast.expr, places: Sequence[str], search: _ClassSearch) -> bool:
    if isinstance(base, ast.Name):
        if base.id == "object" and "object" not in module.bound:
            return True
        return _search_class(tree, module, base.id, places, search)
    return False


def _import_from(
    tree: Tree, module: PythonModule, statement: ast.ImportFrom, places: Sequence[str]
) -> PythonModule | None:
    """Return the file of the tree that a statement imports from."""
    if statement.level > 1 or not statement.module:
        return None
    where = (module.path.rpartition("/")[0],) if statement.level else places
    path = find_module_path(tree, statement.module, where)
    return read_module(tree, path) if path else None


def _find_binding(function: Function) -> str:
    if function.name in ("__new__", "__init_subclass__", "__class_getitem__"):
        return ""
    if not function.decorator_list:
        return "method"
    names = [decorator.id for decorator in function.decorator_list if isinstance(decorator, ast.Name)]
    if len(function.decorator_list) == 1 and names in (["staticmethod"], ["classmethod"]):
        return names[0].removesuffix("method")
    return ""


def _list_bindings(body: Sequence[ast.stmt], *, is_nested: bool) -> Iterator[tuple[str, ast.stmt | None]]:
    """Yield the names that statements bind, each with the statement; None for one that may not be executed."""
    for statement in body:
        shown = None if is_nested else statement
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement.name, shown
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                yield alias.asname or (alias.name if alias.name == "*" else _get_bound_name(alias)), shown
        elif isinstance(statement, ast.Assign) and all(isinstance(target, ast.Name) for target in statement.targets):
            for target in statement.targets:
                assert isinstance(target, ast.Name)
                yield target.id, shown
        else:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
                    yield node.id, None
                elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
                    if node.name:
                        yield node.name, None
                elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield node.name, None
                elif isinstance(node, ast.Import | ast.ImportFrom):
                    for alias in node.names:
                        yield alias.asname or (alias.name if alias.name == "*" else _get_bound_name(alias)), None


def _get_bound_name(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def explain_call(function: Function, name: str, given: int) -> str:
    """Return the message of Python's TypeError on a call with ``given`` positional arguments; "" where it succeeds.

    ``name`` is the qualified name, such as ``TritonPythonModel.initialize``. Source: CPython ceval.c
    ``too_many_positional``, ``missing_arguments`` (3.10 and later).
    """
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    if given > len(positional) and arguments.vararg is None:
        takes = f"from {required} to {len(positional)}" if arguments.defaults else str(len(positional))
        plural = "" if len(positional) == 1 and not arguments.defaults else "s"
        return f"{name}() takes {takes} positional argument{plural} but {given} {'was' if given == 1 else 'were'} given"
    missing = [argument.arg for argument in positional[given:required]]
    kind = "positional"
    if not missing:
        kind = "keyword-only"
        missing = [
            argument.arg
            for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if default is None
        ]
    if not missing:
        return ""
    quoted = [f"'{argument}'" for argument in missing]
    listed = " and ".join(quoted) if len(quoted) < 3 else f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
    return f"{name}() missing {len(missing)} required {kind} argument{'s' if len(missing) > 1 else ''}: {listed}"


def walk_function(function: Function) -> Iterator[ast.AST]:
    """Yield the nodes of a function's body, without those of functions and classes inside it."""
    waiting: list[ast.AST] = list(reversed(function.body))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(reversed(list_children(node)))


@lru_cache(maxsize=64)
def list_function_nodes(function: Function) -> Sequence[ast.AST]:
    """Return all nodes of a function, itself and those of functions inside it included."""
    return list_nodes(function)


def find_assigned(function: Function, name: str) -> ast.expr | None:
    """Return the expression that a function assigns to a name; None unless it is the only one that binds it."""
    return _index_assigned(function).get(name)


@lru_cache(maxsize=64)
def _index_assigned(function: Function) -> Mapping[str, ast.expr | None]:
    """Return what a function assigns to each name; None for a name that something else, or more than one, binds."""
    assigned: dict[str, ast.expr | None] = {}
    targets: dict[ast.AST, ast.expr] = {}
    nodes = list_function_nodes(function)
    for node in nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            targets[node.targets[0]] = node.value
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            assigned[node.id] = None if node.id in assigned else targets.get(node)
    for node in nodes:
        if isinstance(node, ast.arg):
            assigned[node.arg] = None
        elif isinstance(node, ast.Global | ast.Nonlocal):
            assigned |= dict.fromkeys(node.names)
    return assigned
