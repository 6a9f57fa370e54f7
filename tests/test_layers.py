"""The architecture, checked by reading every import: who may import whom, which modules are pure, how long they are."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tritonforge"

#: The packages from the top down. A package imports itself and those below it; those of the last row are equal.
PACKAGES = (
    ("cli",),
    ("language_server",),
    ("web_console",),
    ("tuning",),
    ("profiling",),
    ("golden_tests",),
    ("emulator",),
    ("kubernetes",),
    ("sagemaker",),
    ("training",),
    ("transform",),
    ("inference",),
    ("serving",),
    ("repository",),
    ("graph",),
    ("validation",),
    ("model_files", "records", "pbtxt", "triton"),
)
LEVELS = {name: level for level, names in enumerate(PACKAGES) for name in names}

#: Files that take values and return values, one path per line: they use no file system, process, socket, clock, random
#: numbers or framework.
PURE_FILES = (ROOT / "tests" / "pure_files.txt").read_text().split()

#: Packages whose files are all pure, with the exceptions and why.
PURE_PACKAGES = ("inference/wire", "pbtxt", "repository/definition", "sagemaker/plans", "triton", "validation/rules")
NOT_PURE = {
    "tritonforge/repository/definition/loading.py": "imports the definition of a user",
    "tritonforge/sagemaker/plans/executor.py": "calls AWS and waits",
    "tritonforge/triton/field_documentation.py": "reads a data file of its package",
    "tritonforge/triton/schema.py": "reads the schema, a file of its package",
}

#: Public modules that import from the packages and belong to none.
PUBLIC = ("tritonforge", "tritonforge.__main__", "tritonforge.building", "tritonforge.testing")

IMPURE = {
    "boto3", "botocore", "ctypes", "http", "io", "keras", "kubernetes", "logging", "moto", "nvidia", "onnx",
    "onnxruntime", "openvino", "os", "pathlib", "random", "ray", "requests", "rich", "shutil", "signal", "socket",
    "subprocess", "sys", "tempfile", "tensorflow", "threading", "time", "torch", "treelite", "urllib", "urllib3",
}  # fmt: skip

FORBIDDEN_NAMES = {"utils", "helpers", "common", "manager", "base", "handler"}


def module_name(path: Path) -> str:
    """Return the dotted name of a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


class SourceFile(NamedTuple):
    """What the tests ask of a file: the modules that it imports, its docstring and its number of lines."""

    imports: set[str]
    docstring: str
    lines: int


def read_source(path: Path) -> SourceFile:
    """Read what the tests ask of a file; the imports for a type checker only are left out."""
    text = path.read_text()
    tree = ast.parse(text)
    names: set[str] = set()
    for node in list_statements(tree, has_type_checking="TYPE_CHECKING" in text):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return SourceFile(names, ast.get_docstring(tree) or "", len(text.splitlines()))


def list_statements(node: ast.AST, *, has_type_checking: bool) -> Iterator[ast.AST]:
    """Yield all statements below a node, without those for a type checker only; no expression holds an import."""
    for name in ("body", "handlers", "cases", "orelse", "finalbody"):
        for child in getattr(node, name, ()):
            if has_type_checking and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            yield child
            yield from list_statements(child, has_type_checking=has_type_checking)


@functools.cache
def read_modules() -> dict[str, SourceFile]:
    """Return every module of the package by its dotted name; read once, when the first test needs it."""
    return {module_name(path): read_source(path) for path in sorted(PACKAGE.rglob("*.py"))}


def package_level(module: str) -> int:
    """Return the level of a module's package; modules outside the packages are at the bottom."""
    return LEVELS.get(module.split(".")[1], len(PACKAGES)) if "." in module else len(PACKAGES)


def module_file(name: str) -> Path:
    """Return the file of a module."""
    path = ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.mark.slow
def test_imports_run_downwards() -> None:
    upward = {
        f"{name} imports {imported}"
        for name, module in read_modules().items()
        if name not in PUBLIC
        for imported in module.imports
        if imported.startswith("tritonforge.") and package_level(imported) < package_level(name)
    }
    assert not upward


@pytest.mark.slow
def test_pure_files_import_nothing_impure() -> None:
    impure = {
        f"{path} imports {imported}"
        for path in PURE_FILES
        for imported in read_modules()[module_name(ROOT / path)].imports
        if imported.split(".")[0] in IMPURE
    }
    assert not impure


def test_every_file_of_a_pure_package_is_listed() -> None:
    files = {
        path.relative_to(ROOT).as_posix() for package in PURE_PACKAGES for path in (PACKAGE / package).rglob("*.py")
    }
    assert files - set(PURE_FILES) == NOT_PURE.keys()
    assert sorted(set(PURE_FILES)) == PURE_FILES


def test_every_module_that_states_it_does_no_input_and_output_is_listed() -> None:
    stated = {
        module_file(name).relative_to(ROOT).as_posix()
        for name, module in read_modules().items()
        if not module_file(name).match("__init__.py")  # it speaks for its package
        if re.search(r"\bno I/O\b", module.docstring, re.IGNORECASE)
    }
    assert not stated - set(PURE_FILES)


@pytest.mark.parametrize(
    ("package", "importer"),
    [("boto3", "tritonforge.sagemaker.client.session"), ("ray", "tritonforge.transform.cluster.ray_cluster")],
)
def test_a_service_is_imported_in_one_module(package: str, importer: str) -> None:
    importers = {
        name
        for name, module in read_modules().items()
        if any(imported.split(".")[0] == package for imported in module.imports)
    }
    assert importers <= {importer}


def test_modules_are_short_and_named_by_a_noun() -> None:
    """A module has at most 400 lines and none of the names that say nothing."""
    assert not {name: module.lines for name, module in read_modules().items() if module.lines > 400}
    assert not [name for name in read_modules() if module_file(name).stem in FORBIDDEN_NAMES]


@pytest.mark.slow
def test_tests_import_nothing_from_other_tests() -> None:
    """A test imports tests.support and tests.fixtures only; a benchmark other benchmarks too."""
    imports = {
        f"{path.relative_to(ROOT)} imports {imported}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for imported in read_source(path).imports
        if imported.startswith("tests.")
        and imported.split(".")[1] not in ("support", "fixtures")
        and not (imported.startswith("tests.benchmarks") and path.is_relative_to(ROOT / "tests" / "benchmarks"))
    }
    assert not imports


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a new interpreter."""
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.process
def test_importing_tritonforge_loads_no_framework() -> None:
    """`import tritonforge` and its help load neither a framework nor numpy nor grpc."""
    script = (
        "import sys, tritonforge, tritonforge.cli.main\n"
        "heavy = {'tensorflow', 'nvidia', 'onnxruntime', 'boto3', 'grpc', 'numpy', 'google', 'rich', 'urllib3'}\n"
        "heavy |= {'openvino', 'torch', 'treelite'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert run_python(script).stdout.strip() == "[]"


@pytest.mark.process
def test_every_module_imports_without_a_framework() -> None:
    """No module loads TensorFlow, DALI, ONNX Runtime, boto3 or grpc when it is imported: in one process, one by one."""
    names = [name for name in read_modules() if "backends" not in name and not name.endswith("__main__")]
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'tensorflow', 'nvidia.dali', 'onnxruntime', 'boto3', 'grpc'} & set(sys.modules)\n"
        "    heavy |= {'openvino', 'ray', 'torch', 'treelite'} & set(sys.modules)\n"
        "    if heavy:\n"
        "        sys.exit(f'{name} loads {sorted(heavy)}')"
    )
    done = run_python(script, *names)
    assert done.returncode == 0, done.stderr
