"""The Python code that a function of a definition reaches, as a digest: what it calls, reads and imports.

Editing one function of a definition must not make the artifacts of the others anew. The walk starts at the function's
code object and follows the globals and closures that it names, functions and classes among them, and the modules that
it imports, which count as whole files. Code of Python's library and of installed packages counts by its name. Where the
walk cannot see what code does (`eval`, an object of a foreign class), every Python file of the folder counts.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, Final

__all__ = ["folder_code", "reached_code"]

#: Names through which code reaches what its own names do not tell.
_DYNAMIC: Final = frozenset({"__import__", "eval", "exec", "globals", "import_module", "locals", "runpy", "vars"})

#: Attributes that Python itself adds to classes, which say nothing about their code.
_OF_EVERY_CLASS: Final = frozenset(
    f"__{name}__"
    for name in (
        *("abstractmethods", "annotate", "annotate_func", "annotations", "annotations_cache", "dataclass_fields"),
        *("dataclass_params", "dict", "doc", "firstlineno", "match_args", "module", "orig_bases", "parameters"),
        *("static_attributes", "weakref"),
    )
) | {"_abc_impl"}

_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented))

#: Folders of code that is not the user's.
_INSTALLED: Final = tuple(
    str(Path(path).resolve()) for name, path in sysconfig.get_paths().items() if name.endswith(("stdlib", "lib"))
)
_PACKAGE: Final = str(Path(__file__).resolve().parents[2])


class _UnknownError(Exception):
    """The walk met something whose code cannot be told."""


def reached_code(function: Callable[..., Any], base: Path) -> str:
    """Return the digest (sha256, hex) of what a function reaches; ``base`` is the folder of its definition."""
    walk = _Walk(base.resolve())
    try:
        walk.visit(function)
    except (_UnknownError, RecursionError, SyntaxError, ValueError):
        return _sha256(repr(folder_code(base)))
    return _sha256("\n".join([*walk.lines, *(f"file {path} {sha}" for path, sha in sorted(walk.files.items()))]))


def folder_code(base: Path) -> list[tuple[str, str]]:
    """Every Python file below a folder with its digest; hidden folders and caches are left out."""
    found = []
    for path in sorted(base.rglob("*.py")):
        relative = path.relative_to(base)
        if not any(part.startswith(".") or part == "__pycache__" for part in relative.parts):
            found.append((relative.as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()))
    return found


class _Walk:
    """What was reached so far: ``lines`` describe values in the order of the walk, ``files`` are whole modules."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.lines: list[str] = []
        self.files: dict[str, str] = {}
        self._seen: dict[int, int] = {}
        self._alive: list[object] = []  # so that no id is used twice

    def visit(self, value: Any) -> None:
        """Describe a value; one that was met before is a reference."""
        if isinstance(value, _PLAIN):
            self.lines.append(repr(value))
            return
        # Equal tuples may be one object or two, depending on how the code was loaded.
        if isinstance(value, tuple | frozenset | range):
            self._visit_new(value)
            return
        if id(value) in self._seen:
            self.lines.append(f"again {self._seen[id(value)]}")
            return
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        self._visit_new(value)

    def _visit_new(self, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.ModuleType):
            self._module(value)
        elif isinstance(value, types.MethodType):
            self._several("method", value.__func__, value.__self__)
        elif isinstance(value, functools.partial):
            self._several("partial", value.func, value.args, value.keywords)
        elif isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType):
            self.lines.append(f"builtin {value.__qualname__}")
        elif isinstance(value, staticmethod | classmethod):
            self._several(type(value).__name__, value.__func__)
        elif isinstance(value, property):
            self._several("property", value.fget, value.fset, value.fdel)
        elif isinstance(value, Enum):
            self.lines.append(f"enum {type(value).__qualname__}.{value.name}")
        elif isinstance(value, PurePath):
            inside = value.is_absolute() and value.is_relative_to(self.base)
            self.lines.append(f"path {value.relative_to(self.base) if inside else value}")
        elif isinstance(value, Mapping):
            self._several("mapping", *(part for pair in value.items() for part in pair))
        elif isinstance(value, set | frozenset):
            self.lines.append(f"set {sorted(map(repr, value))}")
        elif isinstance(value, list | tuple | range):
            self._several(type(value).__name__, *value)
        elif hasattr(value, "__wrapped__"):  # functools.cache and its kin
            self._several("wrapper", value.__wrapped__)
        elif type(value).__module__ == "numpy" and hasattr(value, "tobytes") and value.dtype != object:
            self.lines.append(f"array {value.dtype} {value.shape} {_sha256_of(value.tobytes())}")
        elif type(value).__module__ == "numpy" and callable(value):
            self.lines.append(f"numpy {value!r}")
        else:
            self._instance(value)

    def _several(self, kind: str, *parts: Any) -> None:
        self.lines.append(f"{kind} {len(parts)}")
        for part in parts:
            self.visit(part)

    def _function(self, function: types.FunctionType) -> None:
        if not self._is_own(function.__code__.co_filename):
            self.lines.append(f"function {function.__module__}.{function.__qualname__}")
            # A library's decorator keeps the user's function in its closure.
            contents = [_content(cell) for cell in function.__closure__ or ()]
            self._several("around", *(inner for inner in contents if isinstance(inner, types.FunctionType)))
            return
        self.lines.append(f"function {function.__qualname__}")
        self._code(function.__code__, function.__globals__)
        self._several("defaults", function.__defaults__, function.__kwdefaults__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self.lines.append(f"closure {name}")
            self.visit(_content(cell))

    def _code(self, code: types.CodeType, names: Mapping[str, Any]) -> None:
        if _DYNAMIC.intersection(code.co_names):
            raise _UnknownError
        table = getattr(code, "co_exceptiontable", b"").hex()
        self.lines.append(f"code {code.co_code.hex()} {table} {code.co_names} {code.co_varnames} {code.co_flags}")
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant, names)
            else:
                self.visit(constant)
        for instruction in dis.get_instructions(code):
            if instruction.opname == "IMPORT_NAME":
                self._import(str(instruction.argval), code.co_names)
        for name in code.co_names:
            if name in names:
                self.lines.append(f"global {name}")
                self.visit(names[name])

    def _class(self, cls: type) -> None:
        if not self._is_own(_file_of(cls)):
            self.lines.append(f"class {cls.__module__}.{cls.__qualname__}")
            return
        self.lines.append(f"class {cls.__qualname__}")
        self._several("bases", *cls.__bases__)
        for name, value in sorted(vars(cls).items()):
            if name not in _OF_EVERY_CLASS:
                self.lines.append(f"attribute {name}")
                self._attribute(value)

    def _attribute(self, value: Any) -> None:
        if isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
            self.lines.append(f"slot {value.__name__}")
        else:
            self.visit(value)

    def _instance(self, value: Any) -> None:
        cls = type(value)
        if is_dataclass(cls):
            self.lines.append(f"value of {cls.__module__}.{cls.__qualname__}")
            for field in fields(cls):
                self.visit(getattr(value, field.name))
        elif self._is_own(_file_of(cls)) and hasattr(value, "__dict__"):
            self._several("instance", cls, vars(value))
        else:
            raise _UnknownError

    def _module(self, module: types.ModuleType) -> None:
        self.lines.append(f"module {module.__name__}")
        file = getattr(module, "__file__", None)
        if file is not None and self._is_own(file):
            self._file(Path(file))

    def _import(self, name: str, members: tuple[str, ...]) -> None:
        """Take the files in the definition's folder that an import names, as whole modules."""
        self.lines.append(f"import {name}")
        for path in _module_files(self.base, name, members):
            self._file(path)

    def _file(self, path: Path) -> None:
        resolved = path.resolve()
        inside = resolved.is_relative_to(self.base)
        key = resolved.relative_to(self.base).as_posix() if inside else resolved.as_posix()
        if key in self.files:
            return
        content = resolved.read_bytes()
        self.files[key] = _sha256_of(content)
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.ImportFrom) and node.level:
                raise _UnknownError  # relative to a package, which is not followed
            wanted: list[tuple[str, tuple[str, ...]]] = []
            if isinstance(node, ast.Import):
                wanted = [(alias.name, ()) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                wanted = [(node.module or "", tuple(alias.name for alias in node.names))]
            for name, members in wanted:
                for found in _module_files(self.base, name, members):
                    self._file(found)

    def _is_own(self, file: str | None) -> bool:
        """Whether code is the user's: not Python's, not an installed package's, not tritonforge's own."""
        if file is None:
            return False
        if file.startswith("<"):
            return not file.startswith("<frozen")
        path = Path(file).resolve()
        if path.is_relative_to(self.base):
            return True
        return not any(path.is_relative_to(folder) for folder in (*_INSTALLED, _PACKAGE))


def _module_files(base: Path, name: str, members: tuple[str, ...]) -> Iterator[Path]:
    """The files of a module below a folder: its packages, itself, and members of it that are modules."""
    parts = name.split(".") if name else []
    candidates = [base.joinpath(*parts[: count + 1]) for count in range(len(parts))]
    candidates += [base.joinpath(*parts, member) for member in members if member.isidentifier()]
    for candidate in candidates:
        for path in (candidate.with_name(f"{candidate.name}.py"), candidate / "__init__.py"):
            if path.is_file():
                yield path


def _file_of(cls: type) -> str | None:
    """The file of a class: that of a method of it, since its module may be gone from sys.modules."""
    for value in vars(cls).values():
        function = getattr(value, "__func__", value)
        if isinstance(function, types.FunctionType) and function.__module__ == cls.__module__:
            return function.__code__.co_filename
    import sys

    module = sys.modules.get(cls.__module__)
    return getattr(module, "__file__", None) if module is not None else "<gone>"


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _sha256(text: str) -> str:
    return _sha256_of(text.encode(errors="surrogatepass"))


def _sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
