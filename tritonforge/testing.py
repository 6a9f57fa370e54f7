"""SageMaker on localhost for your own tests: a context manager, and a pytest fixture.

In a ``conftest.py``::

    pytest_plugins = ["tritonforge.testing"]

and a test that asks for ``sagemaker_emulator`` runs your boto3 code, unchanged, against real tritonservers: no AWS
account, no network, no Docker. An edge.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tritonforge.sagemaker.emulator import Emulator

__all__ = ["Emulator", "emulated", "sagemaker_emulator"]

#: A test waits for a model to load, not for AWS's pauses.
_SPEED = 1000.0


@contextmanager
def emulated(
    *, state: Path | None = None, speed: float = _SPEED, images: Mapping[str, str | os.PathLike[str]] | None = None
) -> Iterator[Emulator]:
    """SageMaker on a free loopback port for a block, and this process's AWS variables set to it.

    ``state``, ``speed`` and ``images`` are those of `Emulator`. What AWS_PROFILE and the like were before is put back.
    """
    with Emulator(state=state, speed=speed, images=images or {}) as emulator:
        ours = dict(emulator.environment)
        # A profile would win over the variables, and name a real account.
        before = {name: os.environ.get(name) for name in (*ours, "AWS_PROFILE")}
        os.environ.update(ours)
        os.environ.pop("AWS_PROFILE", None)
        try:
            yield emulator
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


@pytest.fixture(scope="session")
def sagemaker_emulator() -> Iterator[Emulator]:
    """SageMaker on localhost for the whole run; boto3 clients made while it runs find it by themselves."""
    with emulated() as emulator:
        yield emulator
