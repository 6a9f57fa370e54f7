"""The architecture, checked by reading every import: who may import whom, which modules are pure, how long they are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tritonforge"

#: The packages from the top down. A package imports itself and those below it; those of the last row are equal.
PACKAGES = (
    ("cli",),
    ("emulator",),
    ("sagemaker",),
    ("training",),
    ("transform",),
    ("inference",),
    ("serving",),
    ("repository",),
    ("validation",),
    ("model_files", "records", "pbtxt", "triton"),
)
LEVELS = {name: level for level, names in enumerate(PACKAGES) for name in names}

#: Modules that touch the machine: files, processes, sockets, frameworks. Every other module is pure.
EDGES = (
    "tritonforge.building",
    "tritonforge.files",
    "tritonforge.cli",
    "tritonforge.module_loader",
    "tritonforge.serving",
    "tritonforge.temporary",
    "tritonforge.tf_memory",
    "tritonforge.inference.client",
    "tritonforge.transform",
    "tritonforge.sagemaker.endpoints.apply",
    "tritonforge.sagemaker.client",
    "tritonforge.emulator",
    "tritonforge.sagemaker.jobs.checking",
    "tritonforge.sagemaker.jobs.log_tail",
    "tritonforge.sagemaker.jobs.polling",
    "tritonforge.sagemaker.jobs.creation",
    "tritonforge.sagemaker.jobs.training.lifecycle",
    "tritonforge.sagemaker.jobs.training.local_data",
    "tritonforge.sagemaker.jobs.training.observation",
    "tritonforge.sagemaker.jobs.training.uploading",
    "tritonforge.sagemaker.package",
    "tritonforge.sagemaker.jobs.marketplace.lifecycle",
    "tritonforge.sagemaker.service_model",
    "tritonforge.sagemaker.jobs.transform",
    "tritonforge.repository.conversion",
    "tritonforge.repository.build",
    "tritonforge.repository.artifacts",
    "tritonforge.repository.definition.loading",
    "tritonforge.validation.report",
    "tritonforge.validation.autofix_writer",
    "tritonforge.validation.tree_reader",
    "tritonforge.model_files.introspection",
    "tritonforge.sagemaker.plans.executor",
    "tritonforge.sagemaker.endpoints.local_sources",
    "tritonforge.training.contact_sheet",
    "tritonforge.triton.schema",
    "tritonforge.training.job.checkpoints",
    "tritonforge.training.job.contents",
    "tritonforge.training.job.copying",
    "tritonforge.training.job.engine",
    "tritonforge.training.job.entries",
    "tritonforge.training.job.epochs",
    "tritonforge.training.job.feeding",
    "tritonforge.training.job.folders",
    "tritonforge.training.job.places",
    "tritonforge.training.job.preparing",
    "tritonforge.training.job.uploading",
    "tritonforge.testing",
    "tritonforge.training.sandbox",
    "tritonforge.training.algorithm.channels",
    "tritonforge.training.algorithm.checkpoints",
    "tritonforge.training.algorithm.container",
    "tritonforge.training.algorithm.failure_file",
    "tritonforge.training.algorithm.loading",
    "tritonforge.training.algorithm.program",
    "tritonforge.training.algorithm.serving",
    "tritonforge.training.algorithm.stopping",
)

#: Public modules that import from the packages and belong to none.
PUBLIC = ("tritonforge", "tritonforge.building", "tritonforge.testing")

IMPURE = {
    "boto3", "botocore", "ctypes", "http", "io", "keras", "logging", "moto", "nvidia", "onnx", "onnxruntime",
    "os", "pathlib", "requests", "rich", "shutil", "signal", "socket", "subprocess", "sys", "tempfile",
    "tensorflow", "threading", "time", "urllib", "urllib3",
}  # fmt: skip

FORBIDDEN_NAMES = {"utils", "helpers", "common", "manager", "base", "handler"}


def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text())
    return found


MODULES = modules()


def imports(tree: ast.Module) -> set[str]:
    """Every module that is imported anywhere in a tree, except for type checking only."""
    found: set[str] = set()
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped |= {id(each) for each in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def level(module: str) -> int:
    """Return the level of a module's package; modules outside the packages are at the bottom."""
    return LEVELS.get(module.split(".")[1], len(PACKAGES)) if "." in module else len(PACKAGES)


@pytest.mark.parametrize("name", [name for name in MODULES if name not in PUBLIC])
def test_imports_run_downwards(name: str) -> None:
    """A module imports its own package and those below."""
    imported = {
        each for each in imports(MODULES[name]) if each.split(".")[0] == "tritonforge" and each != "tritonforge"
    }
    assert not {each for each in imported if level(each) < level(name)}


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith(EDGES)])
def test_pure_modules_touch_nothing(name: str) -> None:
    """A module that is not an edge imports no file system, process, socket, clock or framework."""
    assert not {each.split(".")[0] for each in imports(MODULES[name])} & IMPURE


def test_boto3_is_imported_in_one_module() -> None:
    """Only tritonforge.sagemaker.client.session knows boto3."""
    found = {name for name, tree in MODULES.items() if any(each.split(".")[0] == "boto3" for each in imports(tree))}
    assert found <= {"tritonforge.sagemaker.client.session"}


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_short_and_named_by_a_noun(name: str) -> None:
    """A module has at most about 400 lines and none of the names that say nothing."""
    path = PACKAGE.parent / Path(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    assert len(file.read_text().splitlines()) <= 400
    assert path.stem not in FORBIDDEN_NAMES


def test_importing_tritonforge_loads_no_framework() -> None:
    """`import tritonforge` and its help load neither a framework nor numpy nor grpc."""
    script = (
        "import sys, tritonforge, tritonforge.cli.main\n"
        "heavy = {'tensorflow', 'nvidia', 'onnxruntime', 'boto3', 'grpc', 'numpy', 'google', 'rich', 'urllib3'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_module_imports_without_a_framework() -> None:
    """No module loads TensorFlow, DALI, ONNX Runtime, boto3 or grpc when it is imported: in one process, one by one."""
    names = [name for name in MODULES if "backends" not in name and not name.endswith("__main__")]
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'tensorflow', 'nvidia.dali', 'onnxruntime', 'boto3', 'grpc'} & set(sys.modules)\n"
        "    if heavy:\n"
        "        sys.exit(f'{name} loads {sorted(heavy)}')"
    )
    done = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
