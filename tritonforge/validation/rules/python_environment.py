"""The Python environment that a model names: an archive of conda-pack, or a directory. No I/O.

Source: python_backend pb_env.cc ExtractTarFile, stub_launcher.cc StubLauncher::GetPythonEnvironment; README.md, "Using
Custom Python Execution Environments".
"""

from __future__ import annotations

from collections.abc import Iterator

from tritonforge.model_files.python_environment import PythonEnvironment, describe_environment
from tritonforge.triton.python_packages import MISSING_PACKAGES
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.python_imports import list_imports
from tritonforge.validation.python_models import read_python_models
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check
from tritonforge.validation.rules.named_files import (
    ENVIRONMENT_PARAMETER,
    MODEL_DIRECTORY_VARIABLE,
    find_parameter,
)
from tritonforge.validation.rules.python_imports import has_known_packages

# fmt: off
E842 = define_error("E842", "ModuleNotFoundError: No module named '<x>', which neither the environment nor the image "
                            "has",
    source="python_backend README.md, Using Custom Python Execution Environments",
    why="A model with an environment of its own imports from the environment's packages; Triton's images have neither "
        "PyTorch nor the other packages that this rule names.",
    bad="import torch with an env.tar.gz without lib/python3.10/site-packages/torch",
    good="conda install pytorch, and conda-pack again")
E843 = define_error("E843", "Path <env>/bin/activate does not exist. The Python environment should contain an "
                            "'activate' script.",
    source="python_backend stub_launcher.cc StubLauncher::GetPythonEnvironment",
    why="The backend runs this script before the model's Python. conda-pack puts it at the top of the archive.",
    bad="tar czf env.tar.gz myenv   (myenv/bin/activate)", good="conda-pack -n myenv -o env.tar.gz   (bin/activate)")
E844 = define_error("E844", "archive_read_open_filename() failed.",
    source="python_backend pb_env.cc ExtractTarFile",
    why="The backend extracts tar archives, plain or compressed by gzip.",
    bad="env.tar.bz2, env.zip", good="env.tar.gz")
W845 = define_advice("W845", "the environment has Python <a>, the stub of <image> is one of Python <b>",
    source="python_backend README.md, Building Custom Python Backend Stub",
    why="The stub is linked with one version of Python and finds the packages of that version only. Another version "
        "needs a stub of its own beside the model: triton_python_backend_stub.",
    bad="env.tar.gz with lib/python3.9   --image 24.09", good="env.tar.gz with lib/python3.10   --image 24.09")
# fmt: on


@register_check(Stage.PARAMETERS, E842, E843, E844, W845)
def check_environment(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check what is in the environment that a model names by a path in its own directory."""
    parameter = find_parameter(model, ENVIRONMENT_PARAMETER) if model.backend == "python" and model.versions else None
    if parameter is None or not parameter[0].startswith(f"{MODEL_DIRECTORY_VARIABLE}/"):
        return
    path, node = f"{model.name}{parameter[0].removeprefix(MODEL_DIRECTORY_VARIABLE)}", parameter[1]
    environment = _find_environment(context, path)
    if environment is None:
        return
    if environment.problem:
        message = f"archive_read_open_filename() failed. ({path}: {environment.problem})"
        advice = "make it with conda-pack, or with tar czf in the environment's directory"
        yield E844.report_in(model, message, node, advice)
        return
    if not environment.has_activate and environment.is_complete:
        message = (
            "Path <env>/bin/activate does not exist. The Python environment should contain an 'activate' script. "
            f"({path})"
        )
        yield E843.report_in(model, message, node, "put bin/activate at the top of the archive or directory")
    if context.tree.kind(f"{model.name}/triton_python_backend_stub") != "missing":
        return
    image = context.image
    if image is None or image.python is None or not environment.versions:
        return
    major, _, minor = image.python.partition(".")
    if (int(major), int(minor)) not in environment.versions:
        listed = ", ".join(f"{version[0]}.{version[1]}" for version in sorted(environment.versions)[:3])
        message = (
            f"the environment has Python {listed}, the stub of the image {image.tag} is one of Python {image.python}"
        )
        advice = f"make the environment with Python {image.python}, or put a stub of its Python into {model.name}/"
        yield W845.report_in(model, message, node, advice)
    elif environment.is_complete and not environment.has_other_paths:
        yield from _check_imports(context, model, environment)


def _find_environment(context: Context, path: str) -> PythonEnvironment | None:
    """Return what is known of an environment: of an archive that was read, or of a directory of the repository."""
    tree = context.tree
    entry = tree.entry(path)
    if entry is None or entry.kind == "file":
        return entry.environment if entry is not None else None
    real = tree.real(path)
    if entry.kind != "directory" or real is None:
        return None
    prefix = f"{real}/"
    names = [name.removeprefix(prefix) for name in tree.entries if name.startswith(prefix)]
    return describe_environment(names, is_complete=not tree.truncated and not tree.leaves(f"{path}/bin/activate"))


def _check_imports(context: Context, model: ModelView, environment: PythonEnvironment) -> Iterator[Finding]:
    if not has_known_packages(context):
        return
    for code in read_python_models(context, model):
        for item in list_imports(context.tree, code):
            first = item.module.partition(".")[0]
            if first in MISSING_PACKAGES and not item.problem and first not in environment.packages:
                message = (
                    f"ModuleNotFoundError: No module named '{first}', which neither the environment nor the image has"
                )
                advice = f"add {MISSING_PACKAGES[first]} to the environment, and pack it again"
                yield E842.report(message, path=item.path, line=item.line, column=1, help=advice)
