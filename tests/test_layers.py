"""The house's plan, held by reading every import: who may import whom, which modules are pure, how long they are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tritonforge"

#: What each wing may import besides itself and the ground floor.
WINGS = {
    "cli": {"sagemaker", "training", "inference", "serving", "repository"},
    "sagemaker": {"training", "inference", "serving", "repository"},
    "training": {"inference", "serving"},
    "inference": {"serving"},
    "serving": set(),
    "repository": set(),
}

#: Modules that touch the machine: files, processes, sockets, frameworks. Every other module is pure.
EDGES = (
    "tritonforge.building",
    "tritonforge.cli",
    "tritonforge.declarations",
    "tritonforge.serving",
    "tritonforge.temporary",
    "tritonforge.thrift",
    "tritonforge.inference.client",
    "tritonforge.inference.transform",
    "tritonforge.sagemaker.applying",
    "tritonforge.sagemaker.aws",
    "tritonforge.sagemaker.emulator",
    "tritonforge.sagemaker.jobs.checking",
    "tritonforge.sagemaker.jobs.lines",
    "tritonforge.sagemaker.jobs.looking",
    "tritonforge.sagemaker.jobs.sending",
    "tritonforge.sagemaker.learning.course",
    "tritonforge.sagemaker.learning.materials",
    "tritonforge.sagemaker.learning.observation",
    "tritonforge.sagemaker.learning.uploading",
    "tritonforge.sagemaker.package",
    "tritonforge.sagemaker.publishing.course",
    "tritonforge.sagemaker.service_model",
    "tritonforge.sagemaker.transforming",
    "tritonforge.repository.conversion",
    "tritonforge.repository.disk",
    "tritonforge.repository.artifacts",
    "tritonforge.repository.definition.loading",
    "tritonforge.repository.validation",
    "tritonforge.training.contact_sheet",
    "tritonforge.schema",
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
    "tritonforge.training.isolation",
    "tritonforge.training.algorithm.channels",
    "tritonforge.training.algorithm.checkpoints",
    "tritonforge.training.algorithm.container",
    "tritonforge.training.algorithm.failure_file",
    "tritonforge.training.algorithm.loading",
    "tritonforge.training.algorithm.program",
    "tritonforge.training.algorithm.serving",
    "tritonforge.training.algorithm.stopping",
)

#: The doors of the house: they show what lies in its wings, and belong to none.
DOORS = ("tritonforge", "tritonforge.building", "tritonforge.testing")

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


def wing(module: str) -> str:
    """The wing of a module; empty for the ground floor."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in WINGS else ""


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_downwards(name: str) -> None:
    """A wing imports itself, the ground floor, and the wings below it."""
    if name in DOORS:
        return
    for imported in imports(MODULES[name]):
        if imported.split(".")[0] == "tritonforge" and wing(imported) not in ("", wing(name)):
            assert wing(name), f"{name} is on the ground floor and imports {imported}"
            assert wing(imported) in WINGS[wing(name)], f"{name} imports {imported}"


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith(EDGES)])
def test_pure_modules_touch_nothing(name: str) -> None:
    """A module that is not an edge imports no file system, process, socket, clock or framework."""
    assert not {each.split(".")[0] for each in imports(MODULES[name])} & IMPURE


def test_boto3_is_imported_in_one_module() -> None:
    """Only tritonforge.sagemaker.aws.session knows boto3."""
    found = {name for name, tree in MODULES.items() if any(each.split(".")[0] == "boto3" for each in imports(tree))}
    assert found <= {"tritonforge.sagemaker.aws.session"}


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
