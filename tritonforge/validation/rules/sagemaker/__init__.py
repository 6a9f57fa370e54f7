"""What SageMaker refuses: the `serve` script of its Triton images, multi-model endpoints, requests and environments.

`check` judges a repository; `check_environment` the environment that a container is started with. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule
from tritonforge.validation.rules.context import Context
from tritonforge.validation.rules.sagemaker import archive, environment, multi_model
from tritonforge.validation.rules.sagemaker.environment import check_environment

__all__ = ["RULES", "check", "check_environment"]

RULES: Final[tuple[Rule, ...]] = (*archive.RULES, *multi_model.RULES, *environment.RULES)


def check(context: Context) -> Iterator[Finding]:
    """What SageMaker would say of the repository; nothing where the target is another."""
    if context.target == "sagemaker":
        yield from archive.check(context)
        yield from multi_model.check(context)
