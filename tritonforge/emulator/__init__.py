"""SageMaker on localhost: one address for S3, IAM, STS and the like (moto) and for SageMaker and its runtime (ours).

>>> from tritonforge.emulator import Emulator
>>> with Emulator() as aws:                                                   # doctest: +SKIP
...     os.environ.update(aws.environment)          # all that unmodified boto3 code needs

`front` answers HTTP, `control` holds models, configurations and endpoints, `hosting` runs their containers, `runtime`
executes inference requests. Importing the package loads none of them before the name `Emulator` is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tritonforge.emulator.emulator import Emulator

__all__ = ["Emulator"]


def __getattr__(name: str) -> Any:
    """Import the emulator at the first use of its name: moto takes a second to import."""
    if name == "Emulator":
        from tritonforge.emulator.emulator import Emulator

        return Emulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
