"""The imports of a Python model: files beside it, the image's standard library and packages. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from tritonforge.triton.python_packages import MISSING_PACKAGES, is_missing_module, is_missing_name
from tritonforge.triton.registries import is_published
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.python_imports import Import, list_imports
from tritonforge.validation.python_models import has_own_python, read_python_models
from tritonforge.validation.registry import Stage, define_error, register_check

# fmt: off
E840 = define_error("E840", "ModuleNotFoundError: No module named '<x>'",
    source="python_backend pb_stub.cc ModelContext::StubSetup; importlib of CPython",
    why="The backend imports the model's file as <version>.model, with the version's and the model's directory behind "
        "the image's own packages. A relative import stays in the version's directory; the standard library is that of "
        "the image's Python (3.10 up to 24.10, 3.12 since).",
    bad="from .preprocess import resize   (m/preprocess.py)", good="from preprocess import resize   (m/preprocess.py)")
E841 = define_error("E841", "ModuleNotFoundError: No module named '<x>', which the image does not have",
    source="server build.py dockerfile_prepare_container_linux; server issues 4302, 2532, 6621",
    why="Triton's images have numpy and little else for Python models; PyTorch, TensorFlow, transformers, Pillow and "
        "others come with an environment of the model's own, or with an image made from Triton's.",
    bad="import torch   --image 24.09",
    good='import torch and parameters { key: "EXECUTION_ENV_PATH" value { string_value: '
         '"$$TRITON_MODEL_DIRECTORY/env.tar.gz" } }')
# fmt: on


@register_check(Stage.FILES, E840, E841)
def check_imports(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the imports that are made when the backend loads the model's file."""
    own_python = has_own_python(context, model)
    for code in read_python_models(context, model):
        for item in list_imports(context.tree, code):
            if item.problem:
                yield E840.report(item.problem, path=item.path, line=item.line, column=1, help=_advise(context, item))
                break
            if not own_python:
                yield from _check_image(context, item)


def _advise(context: Context, item: Import) -> str:
    directory = item.path.rpartition("/")[0]
    return f"{directory} has: {', '.join(context.tree.children(directory)[:20])}"


def _check_image(context: Context, item: Import) -> Iterator[Finding]:
    """Check an import against the Python of the image."""
    image = context.image
    if image is None or image.python is None or image.added:
        return
    major, _, minor = image.python.partition(".")
    python = (int(major), int(minor))
    where = f"the image has Python {image.python}"
    first = item.module.partition(".")[0]
    if is_missing_module(first, python):
        message = f"ModuleNotFoundError: No module named '{first}'"
        yield E840.report(message, path=item.path, line=item.line, column=1, help=where)
    elif item.name and is_missing_name(item.module, item.name, python):
        message = f"ImportError: cannot import name '{item.name}' from '{item.module}'"
        yield E840.report(message, path=item.path, line=item.line, column=1, help=where)
    elif first in MISSING_PACKAGES and has_known_packages(context):
        yield E841.report(
            f"ModuleNotFoundError: No module named '{first}', which the image {image.tag} does not have",
            path=item.path,
            line=item.line,
            column=1,
            help=f"add {MISSING_PACKAGES[first]} to an environment that EXECUTION_ENV_PATH names (conda-pack), or to "
            "an image of yours",
        )


def has_known_packages(context: Context) -> bool:
    """Return True if it is known what the image's Python can import: an image as NVIDIA publishes it.

    What AWS adds to its images for SageMaker is not documented.
    """
    image, options = context.image, context.options
    return (
        image is not None
        and options.image is not None
        and is_published(options.image)
        and options.target != "sagemaker"
        and not (image.variant or image.cpu or image.provisional)
        and "PYTHONPATH" not in (options.environment or {})
    )
