"""A digest that changes whenever building a model's file could give another result, computed in milliseconds.

No framework is imported: their versions come from the installed packages' metadata. A function's result depends on the
code that it reaches; data files that it reads are not considered.

Editing one function of a definition must not rebuild the artifacts of the others. The walk starts at the function's
code object and follows the globals and closures that it names, functions and classes among them, and the modules that
it imports, which count as whole files. Code of Python's library and of installed packages counts by its name. Where the
walk cannot follow code (`eval`, an object of a foreign class), every Python file of the directory counts.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import json
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any, Final

from tritonforge.files import hash_file
from tritonforge.repository import download
from tritonforge.repository.definition.models import Dali, Model
from tritonforge.repository.definition.sources import S3, Artifact, Download, File, Function

__all__ = ["fingerprint_artifact", "hash_reached_code", "list_builder_modules", "list_code_files", "list_versions"]


#: Distributions whose version can change what a function makes; DALI's is one of three, by CUDA version.
_FRAMEWORKS: Final = ("keras", "numpy", "nvidia-dali-cuda110", "nvidia-dali-cuda120", "nvidia-dali-cuda130", "onnx",
                      "scikit-learn", "tensorflow", "tensorflow-cpu")  # fmt: skip


#: The modules of this package that build artifacts.
_BUILDER_MODULES: Final = ("artifact_builder", "child_process", "dali_model", "download", "fingerprint",
                           "model_config", "signature_check", "tensorflow_model")  # fmt: skip


def fingerprint_artifact(model: Model, *, base: Path, version: int = 1) -> str:
    """Return the digest (sha256, hex) of one version of a model whose definition is in the directory ``base``."""
    source = model.versions[version]
    state = {
        "model": _describe_model(model),
        "source": _describe_source(source, base),
        "maker": _hash_builder_modules(),
    }
    text = json.dumps(state, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def _describe_model(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": type(model).__name__,
        "platform": model.platform,
        "max_batch_size": model.max_batch_size,
        "filename": model.model_filename,
        "parameters": dict(model.parameters),
        "device": getattr(model, "device", ""),
        "input": [(tensor.name, tensor.data_type, tensor.dims, tensor.reshape) for tensor in model.input],
        "output": [(tensor.name, tensor.data_type, tensor.dims, tensor.reshape) for tensor in model.output],
        "pipeline": isinstance(model, Dali) and model.pipeline is not None,
    }


def _describe_source(source: Artifact | None, base: Path) -> dict[str, Any]:
    if source is None:
        return {"none": True}
    if isinstance(source, Function):
        return {
            "function": _function_name(source.build),
            "seed": source.seed,
            "code": hash_reached_code(source.build, base),
            "with": list_versions(_FRAMEWORKS),
        }
    if isinstance(source, File):
        return {"file": _list_files(base / source.path), "sha256": source.sha256}
    if isinstance(source, Download):
        return {
            "url": source.url,
            "sha256": source.sha256,
            "member": source.member,
            "cached": download.cache_path(source.sha256).is_file(),
            "otherwise": None if source.fallback is None else _describe_source(source.fallback, base),
        }
    assert isinstance(source, S3)
    return {"s3": source.uri, "sha256": source.sha256}


def _function_name(function: Any) -> str:
    if isinstance(function, partial):
        return f"{_function_name(function.func)}{function.args!r}{function.keywords!r}"
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _list_files(path: Path) -> list[tuple[str, int, int, int]]:
    """Return (path, size, mtime_ns, inode) of a file, or of each file below a directory; empty if it is missing."""
    paths = sorted(path.rglob("*")) if path.is_dir() else [path]
    files = [(file, file.stat()) for file in paths if file.is_file()]
    return [(file.as_posix(), status.st_size, status.st_mtime_ns, status.st_ino) for file, status in files]


@lru_cache(maxsize=2)
def list_versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of Python and of those distributions that are installed."""
    installed = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in distributions:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def list_builder_modules() -> list[Path]:
    """Return the files of the modules that build artifacts and of those that read model files."""
    package = Path(__file__).parent
    modules = [package / f"{name}.py" for name in _BUILDER_MODULES]
    return [*modules, *sorted((package.parent / "model_files").glob("*.py"))]


@lru_cache(maxsize=1)
def _hash_builder_modules() -> str:
    """Return the digest of the modules that build artifacts and read them: when they change, their results may."""
    return _hash_bytes(b"".join(path.read_bytes() for path in list_builder_modules()))


#: Names through which code reaches what it does not name.
_DYNAMIC: Final = frozenset({"__import__", "eval", "exec", "globals", "import_module", "locals", "runpy", "vars"})

#: Attributes that Python itself adds to classes, which do not depend on their code.
_OF_EVERY_CLASS: Final = frozenset(
    f"__{name}__"
    for name in (
        *("abstractmethods", "annotate", "annotate_func", "annotations", "annotations_cache", "dataclass_fields"),
        *("dataclass_params", "dict", "doc", "firstlineno", "match_args", "module", "orig_bases", "parameters"),
        *("static_attributes", "weakref"),
    )
) | {"_abc_impl"}

_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented))

#: Directories of code that is not the user's.
_INSTALLED: Final = tuple(
    str(Path(path).resolve()) for name, path in sysconfig.get_paths().items() if name.endswith(("stdlib", "lib"))
)
_PACKAGE: Final = str(Path(__file__).resolve().parents[1])


class _OpaqueCodeError(Exception):
    """The walk met something whose code it cannot follow."""


def hash_reached_code(function: Callable[..., Any], base: Path) -> str:
    """Return the digest (sha256, hex) of what a function reaches; ``base`` is the folder of its definition."""
    walk = _Walk(base.resolve())
    try:
        walk.visit(function)
    except (_OpaqueCodeError, RecursionError, SyntaxError, ValueError):
        return _hash_text(repr(list_code_files(base)))
    return _hash_text("\n".join([*walk.lines, *(f"file {path} {sha}" for path, sha in sorted(walk.files.items()))]))


def list_code_files(base: Path) -> list[tuple[str, str]]:
    """Return every Python file below a directory with its digest, without hidden directories and caches."""
    files = []
    for path in sorted(base.rglob("*.py")):
        relative = path.relative_to(base)
        if not any(part.startswith(".") or part == "__pycache__" for part in relative.parts):
            files.append((relative.as_posix(), hash_file(path)))
    return files


class _Walk:
    """A walk over code: ``lines`` describe values in the order of the walk, ``files`` are whole modules."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.lines: list[str] = []
        self.files: dict[str, str] = {}
        self._seen: dict[int, int] = {}
        self._alive: list[object] = []  # so that no id is used twice

    def visit(self, value: Any) -> None:
        """Describe a value, or refer to its first description."""
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
            self._visit_function(value)
        elif isinstance(value, type):
            self._visit_class(value)
        elif isinstance(value, types.ModuleType):
            self._visit_module(value)
        elif isinstance(value, types.MethodType):
            self._visit_parts("method", value.__func__, value.__self__)
        elif isinstance(value, functools.partial):
            self._visit_parts("partial", value.func, value.args, value.keywords)
        elif isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType):
            self.lines.append(f"builtin {value.__qualname__}")
        elif isinstance(value, staticmethod | classmethod):
            self._visit_parts(type(value).__name__, value.__func__)
        elif isinstance(value, property):
            self._visit_parts("property", value.fget, value.fset, value.fdel)
        elif isinstance(value, Enum):
            self.lines.append(f"enum {type(value).__qualname__}.{value.name}")
        elif isinstance(value, PurePath):
            inside = value.is_absolute() and value.is_relative_to(self.base)
            self.lines.append(f"path {value.relative_to(self.base) if inside else value}")
        elif isinstance(value, Mapping):
            self._visit_parts("mapping", *(part for pair in value.items() for part in pair))
        elif isinstance(value, set | frozenset):
            self.lines.append(f"set {sorted(map(repr, value))}")
        elif isinstance(value, list | tuple | range):
            self._visit_parts(type(value).__name__, *value)
        elif hasattr(value, "__wrapped__"):  # functools.cache and similar wrappers
            self._visit_parts("wrapper", value.__wrapped__)
        elif type(value).__module__ == "numpy" and hasattr(value, "tobytes") and value.dtype != object:
            self.lines.append(f"array {value.dtype} {value.shape} {_hash_bytes(value.tobytes())}")
        elif type(value).__module__ == "numpy" and callable(value):
            self.lines.append(f"numpy {value!r}")
        else:
            self._visit_instance(value)

    def _visit_parts(self, kind: str, *parts: Any) -> None:
        self.lines.append(f"{kind} {len(parts)}")
        for part in parts:
            self.visit(part)

    def _visit_function(self, function: types.FunctionType) -> None:
        if not self._is_own(function.__code__.co_filename):
            self.lines.append(f"function {function.__module__}.{function.__qualname__}")
            # A library's decorator keeps the user's function in its closure.
            contents = [_read_cell(cell) for cell in function.__closure__ or ()]
            self._visit_parts("around", *(inner for inner in contents if isinstance(inner, types.FunctionType)))
            return
        self.lines.append(f"function {function.__qualname__}")
        self._visit_code(function.__code__, function.__globals__)
        self._visit_parts("defaults", function.__defaults__, function.__kwdefaults__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self.lines.append(f"closure {name}")
            self.visit(_read_cell(cell))

    def _visit_code(self, code: types.CodeType, names: Mapping[str, Any]) -> None:
        if _DYNAMIC.intersection(code.co_names):
            raise _OpaqueCodeError
        table = getattr(code, "co_exceptiontable", b"").hex()
        self.lines.append(f"code {code.co_code.hex()} {table} {code.co_names} {code.co_varnames} {code.co_flags}")
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._visit_code(constant, names)
            else:
                self.visit(constant)
        for instruction in dis.get_instructions(code):
            if instruction.opname == "IMPORT_NAME":
                self._visit_import(str(instruction.argval), code.co_names)
        for name in code.co_names:
            if name in names:
                self.lines.append(f"global {name}")
                self.visit(names[name])

    def _visit_class(self, cls: type) -> None:
        if not self._is_own(_find_class_file(cls)):
            self.lines.append(f"class {cls.__module__}.{cls.__qualname__}")
            return
        self.lines.append(f"class {cls.__qualname__}")
        self._visit_parts("bases", *cls.__bases__)
        for name, value in sorted(vars(cls).items()):
            if name not in _OF_EVERY_CLASS:
                self.lines.append(f"attribute {name}")
                self._visit_attribute(value)

    def _visit_attribute(self, value: Any) -> None:
        if isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
            self.lines.append(f"slot {value.__name__}")
        else:
            self.visit(value)

    def _visit_instance(self, value: Any) -> None:
        cls = type(value)
        if is_dataclass(cls):
            self.lines.append(f"value of {cls.__module__}.{cls.__qualname__}")
            for field in fields(cls):
                self.visit(getattr(value, field.name))
        elif self._is_own(_find_class_file(cls)) and hasattr(value, "__dict__"):
            self._visit_parts("instance", cls, vars(value))
        else:
            raise _OpaqueCodeError

    def _visit_module(self, module: types.ModuleType) -> None:
        self.lines.append(f"module {module.__name__}")
        file = getattr(module, "__file__", None)
        if file is not None and self._is_own(file):
            self._add_file(Path(file))

    def _visit_import(self, name: str, members: tuple[str, ...]) -> None:
        """Add the files in the definition's directory that an import names."""
        self.lines.append(f"import {name}")
        for path in _list_module_files(self.base, name, members):
            self._add_file(path)

    def _add_file(self, path: Path) -> None:
        resolved = path.resolve()
        inside = resolved.is_relative_to(self.base)
        key = resolved.relative_to(self.base).as_posix() if inside else resolved.as_posix()
        if key in self.files:
            return
        content = resolved.read_bytes()
        self.files[key] = _hash_bytes(content)
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.ImportFrom) and node.level:
                raise _OpaqueCodeError  # relative to a package, which is not followed
            wanted: list[tuple[str, tuple[str, ...]]] = []
            if isinstance(node, ast.Import):
                wanted = [(alias.name, ()) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                wanted = [(node.module or "", tuple(alias.name for alias in node.names))]
            for name, members in wanted:
                for file in _list_module_files(self.base, name, members):
                    self._add_file(file)

    def _is_own(self, file: str | None) -> bool:
        """Return True for the user's code: not Python's, an installed package's or tritonforge's."""
        if file is None:
            return False
        if file.startswith("<"):
            return not file.startswith("<frozen")
        path = Path(file).resolve()
        if path.is_relative_to(self.base):
            return True
        return not any(path.is_relative_to(folder) for folder in (*_INSTALLED, _PACKAGE))


def _list_module_files(base: Path, name: str, members: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files of a module below a directory: its packages, itself, and members of it that are modules."""
    parts = name.split(".") if name else []
    candidates = [base.joinpath(*parts[: count + 1]) for count in range(len(parts))]
    candidates += [base.joinpath(*parts, member) for member in members if member.isidentifier()]
    for candidate in candidates:
        for path in (candidate.with_name(f"{candidate.name}.py"), candidate / "__init__.py"):
            if path.is_file():
                yield path


def _find_class_file(cls: type) -> str | None:
    """Return the file of a class from one of its methods: its module may be removed from sys.modules."""
    for value in vars(cls).values():
        function = getattr(value, "__func__", value)
        if isinstance(function, types.FunctionType) and function.__module__ == cls.__module__:
            return function.__code__.co_filename
    import sys

    module = sys.modules.get(cls.__module__)
    return getattr(module, "__file__", None) if module is not None else "<gone>"


def _read_cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _hash_text(text: str) -> str:
    return _hash_bytes(text.encode(errors="surrogatepass"))


def _hash_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
