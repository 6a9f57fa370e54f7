"""Packages for SageMaker's TensorFlow Serving containers: their SavedModels, their code, their environment. No I/O.

`check` judges a package; `check_environment` the environment that its container is started with. A tree is a package
when `tritonforge.triton.tfs_layout.is_package` says so, and no other room's rules are for it then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tritonforge.triton import tfs_container
from tritonforge.triton.tfs_layout import is_package
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule
from tritonforge.validation.rules.context import Context
from tritonforge.validation.rules.tfs import code, definitions, savedmodels
from tritonforge.validation.tree import Tree

__all__ = ["RULES", "check", "check_environment", "is_for", "model_names"]

RULES: Final[tuple[Rule, ...]] = definitions.RULES

_DEFAULT_MODEL: Final = "SAGEMAKER_TFS_DEFAULT_MODEL_NAME"


def is_for(tree: Tree) -> bool:
    """Whether a tree is a package, and not a model repository of Triton's."""
    # Most trees are Triton's, which the first model's configuration tells without a look at every path.
    if any(f"{name}/config.pbtxt" in tree.entries for name in tree.children()):
        return False
    return is_package(savedmodels.paths(tree))


def check(context: Context) -> Iterator[Finding]:
    """What SageMaker's container would say of a package; nothing where the tree is none."""
    if is_for(context.tree):
        yield from savedmodels.check(context.tree)
        yield from code.check(context.tree)


def check_environment(environment: Mapping[str, str], tree: Tree) -> Iterator[Finding]:
    """What the container would say of the environment that it is started with."""
    for name, sentence in tfs_container.find_problems(environment).items():
        yield definitions.E710.finding(sentence, path="", field=f"environment {name}", help="mend the value")
    default = environment.get(_DEFAULT_MODEL, "None")
    known = model_names(tree)
    if default != "None" and known and default not in known:
        yield definitions.E709.finding(
            f"{_DEFAULT_MODEL} is {default!r}, and the package has no such model",
            path="",
            field=f"environment {_DEFAULT_MODEL}",
            help=f"the package has: {', '.join(known)}",
        )


def model_names(tree: Tree) -> tuple[str, ...]:
    """The names of a package's models, each once, sorted."""
    return tuple(sorted({model.name for model in savedmodels.models(tree)}))
