"""The code of a Python model, read and never run: its syntax, and whether it may complete a configuration. No I/O.

Source: python_backend pb_stub.cc ModelContext::StubSetup, Stub::AutoCompleteModelConfig.
"""

from __future__ import annotations

import ast
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from tritonforge.validation.tree import Tree

__all__ = [
    "GRAMMAR",
    "MAXIMAL_SOURCE",
    "SourceError",
    "find_source_error",
    "list_nodes",
    "may_complete",
    "parse_source",
]  # fmt: skip

#: Bytes of a Python file that are judged.
MAXIMAL_SOURCE: Final = 256 * 1024

#: The Python whose grammar is known here: the newest with a node of its own in the syntax tree.
GRAMMAR: Final = next(
    (3, minor)
    for minor, node in ((14, "TemplateStr"), (12, "TypeAlias"), (11, "TryStar"), (10, "Match"))
    if hasattr(ast, node)
)

#: Bytes, nodes and levels of the syntax tree of a file that is looked into: walks over it are then short, and recursion
#: is safe.
_MAXIMAL_LOOKED_INTO: Final = 256 * 1024
_MAXIMAL_NODES: Final = 50_000
_MAXIMAL_DEPTH: Final = 100
#: Dots of a line with an import: CPython joins the names in quadratic time.
_MAXIMAL_DOTS: Final = 200
#: Syntax trees that are kept.
_MAXIMAL_TREES: Final = 64

#: The class that the backend makes an object of, and the function of it that completes a configuration.
_CLASS: Final = "TritonPythonModel"
_COMPLETES: Final = b"auto_complete_config"
#: Files that are followed in search of a base class.
_MAXIMAL_FILES: Final = 50

_Binding: TypeAlias = "ast.ClassDef | ast.ImportFrom | ast.Import | ast.stmt"


@dataclass(frozen=True, slots=True)
class SourceError:
    """Why Python does not take a file: the exception's name, its message, and the place, counted from 1."""

    name: str
    message: str
    line: int
    column: int | None


def find_source_error(content: bytes, *, version: tuple[int, int] | None = None) -> SourceError | None:
    """Return the error that Python raises when it imports this file, before it runs a line; None if it raises none.

    ``version`` is a Python older than this one, of which only the grammar is known (`ast.parse`).
    """
    if _has_long_import(content):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if version is None:
                compile(content, "model.py", "exec", dont_inherit=True)
            else:
                return _find_newer_syntax(ast.parse(content, feature_version=version), content, version)
    except SyntaxError as error:
        return SourceError(type(error).__name__, error.msg, error.lineno or 1, error.offset or None)
    except (ValueError, OverflowError) as error:  # a null byte
        return SourceError("SyntaxError", str(error), 1, None)
    except (RecursionError, MemoryError) as error:
        return SourceError(type(error).__name__, "it is nested too deeply", 1, None)
    return None


def _find_newer_syntax(module: ast.Module, content: bytes, version: tuple[int, int]) -> SourceError | None:
    """Return the syntax that an older Python does not take and `ast.parse` does, whatever its ``feature_version``."""
    if version < (3, 11):
        lines = content.splitlines()
        for node in ast.walk(module):
            if isinstance(node, ast.arguments) and node.vararg and isinstance(node.vararg.annotation, ast.Starred):
                star = node.vararg.annotation
                return SourceError("SyntaxError", "invalid syntax", star.lineno, star.col_offset + 1)
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
                stars = [item for item in node.slice.elts if isinstance(item, ast.Starred)]
                line = lines[node.slice.lineno - 1] if node.slice.lineno <= len(lines) else b""
                if stars and line[node.slice.col_offset : node.slice.col_offset + 1] != b"(":
                    return SourceError("SyntaxError", "invalid syntax", stars[0].lineno, stars[0].col_offset + 1)
    return _find_newer_string(content) if version < (3, 12) <= GRAMMAR else None


def _find_newer_string(content: bytes) -> SourceError | None:
    """Return the first f-string that only Python 3.12 and later take (PEP 701); needs the tokenizer of one of these."""
    start, end = (getattr(tokenize, name, None) for name in ("FSTRING_START", "FSTRING_END"))
    quotes: list[str] = []
    try:
        for token in tokenize.tokenize(iter(content.splitlines(keepends=True)).__next__):
            text = token.string
            reason = ""
            if quotes and token.type in (tokenize.STRING, start) and text.lstrip("rRbBfFuU").startswith(quotes[-1][0]):
                opening = text.lstrip("rRbBfFuU")
                reason = "f-string: expecting '}'" if len(quotes[-1]) == 1 or opening.startswith(quotes[-1]) else ""
            elif quotes and token.type == tokenize.COMMENT:
                reason = "f-string expression part cannot include '#'"
            if quotes and not reason and token.type == tokenize.STRING and "\\" in text:
                reason = "f-string expression part cannot include a backslash"
            if reason:
                return SourceError("SyntaxError", reason, token.start[0], token.start[1] + 1)
            if token.type == start:
                quotes.append(text.lstrip("rRbBfFuUtT"))
            elif token.type == end and quotes:
                quotes.pop()
    except (tokenize.TokenError, SyntaxError, ValueError, IndexError):
        return None
    return None


@lru_cache(maxsize=_MAXIMAL_TREES)
def parse_source(content: bytes) -> tuple[ast.Module, Sequence[ast.AST]] | None:
    """Return the syntax tree of a file and its nodes; None where it has none, is too large or is nested too deeply."""
    if len(content) > _MAXIMAL_LOOKED_INTO or _has_long_import(content):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(content)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return None
    nodes = list_nodes(module)
    return (module, nodes) if nodes else None


def list_nodes(root: ast.AST) -> list[ast.AST]:
    """Return the nodes of a tree, level by level, without contexts; none where they are too many or too deep.

    The walk of a file costs as much as its parsing.
    """
    nodes: list[ast.AST] = []
    level: list[ast.AST] = [root]
    for _ in range(_MAXIMAL_DEPTH):
        nodes += level
        if not level:
            return nodes
        if len(nodes) > _MAXIMAL_NODES:
            return []
        below: list[ast.AST] = []
        for node in level:
            below += list_children(node)
        level = below
    return []


def list_children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes directly below a node, without contexts: `ast.iter_child_nodes` at half of its cost."""
    children: list[ast.AST] = []
    for value in node.__dict__.values():
        if isinstance(value, list):
            children += [item for item in value if isinstance(item, ast.AST)]
        elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
            children.append(value)
    return children


def _has_long_import(content: bytes) -> bool:
    """Return True if a line, with those that continue it, imports a name of very many parts."""
    if content.count(b".") <= _MAXIMAL_DOTS:
        return False
    lines = content.replace(b"\\\r\n", b"").replace(b"\\\n", b"").splitlines()
    return any(line.count(b".") > _MAXIMAL_DOTS and b"import" in line for line in lines)


def may_complete(tree: Tree, directory: str, path: str) -> bool:
    """Return True if the model in a file may have ``auto_complete_config``, of its own or from a base class.

    ``directory`` is the version's. A base class of a file that is not in the repository may have it.
    """
    return _Search(tree, (directory, directory.rpartition("/")[0])).search_class(path, _CLASS)


class _Search:
    """A search through the base classes of a model."""

    def __init__(self, tree: Tree, places: Sequence[str]) -> None:
        """``places`` are the directories that modules are imported from."""
        self._tree = tree
        self._places = places
        self._seen: set[tuple[str, str]] = set()

    def search_class(self, path: str, name: str) -> bool:
        """Return True if a class of a file may have the function."""
        if (path, name) in self._seen:
            return False
        self._seen.add((path, name))
        entry = self._tree.entry(path)
        if entry is None or entry.content is None or len(self._seen) > _MAXIMAL_FILES:
            return entry is not None or self._tree.leaves(path)
        if _COMPLETES in entry.content:
            return True
        parsed = parse_source(entry.content)
        if parsed is None:
            return len(entry.content) <= MAXIMAL_SOURCE and find_source_error(entry.content) is None
        module, _ = parsed
        bound = dict(_list_bindings(module.body))
        if name in bound:
            return self._search_binding(path, name, bound)
        return any(self._search_module(path, star, name) for key, star in bound.items() if key.startswith("*"))

    def _search_binding(self, path: str, name: str, bound: dict[str, _Binding]) -> bool:
        statement = bound[name]
        if isinstance(statement, ast.ImportFrom):
            original = next(alias.name for alias in statement.names if (alias.asname or alias.name) == name)
            return self._search_module(path, statement, original)
        if not isinstance(statement, ast.ClassDef) or statement.decorator_list or statement.keywords:
            return True
        return any(self._search_base(path, base, bound) for base in statement.bases)

    def _search_base(self, path: str, base: ast.expr, bound: dict[str, _Binding]) -> bool:
        if isinstance(base, ast.Name):
            if base.id in bound:
                return self.search_class(path, base.id)
            stars = [statement for key, statement in bound.items() if key.startswith("*")]
            return any(self._search_module(path, star, base.id) for star in stars)
        if isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name):
            statement = bound.get(base.value.id)
            if isinstance(statement, ast.Import):
                return self._search_file(statement.names[0].name, base.attr, self._places)
        return True

    def _search_module(self, path: str, statement: _Binding, name: str) -> bool:
        """Return True if a name that is imported from a module may have the function."""
        assert isinstance(statement, ast.ImportFrom)
        if not statement.level:
            return self._search_file(statement.module or "", name, self._places)
        folder = path
        for _ in range(statement.level):
            folder = folder.rpartition("/")[0]
        return self._search_file(statement.module or "", name, (folder,))

    def _search_file(self, module: str, name: str, places: Sequence[str]) -> bool:
        for place in places:
            stem = f"{place}/{module.replace('.', '/')}".rstrip("/")
            for path in (f"{stem}/__init__.py", f"{stem}.py"):
                if self._tree.kind(path) != "missing" or self._tree.leaves(path):
                    return self.search_class(path, name)
        return True


def _list_bindings(body: Sequence[ast.stmt]) -> Iterator[tuple[str, _Binding]]:
    """Yield the names that statements bind, each with the statement; ``*`` and a line number for a star import."""
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement.name, statement
        elif isinstance(statement, ast.ImportFrom | ast.Import):
            for alias in statement.names:
                key = f"*{statement.lineno}" if alias.name == "*" else alias.asname or alias.name.partition(".")[0]
                yield key, statement
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            inner = [*statement.body, *getattr(statement, "orelse", ()), *getattr(statement, "finalbody", ())]
            for handler in getattr(statement, "handlers", ()):
                inner += handler.body
            yield from _list_bindings(inner)
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement
