"""SageMaker on localhost for your own tests: a context manager, and a pytest fixture.

In a ``conftest.py``::

    pytest_plugins = ["tritonforge.testing"]

and a test that asks for ``sagemaker_emulator`` runs your boto3 code, unchanged, against real tritonservers: no AWS
account, no network, no Docker. An edge.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tritonforge.emulator import Emulator, client_environment

__all__ = ["Emulator", "emulated", "sagemaker_emulator"]

#: A test waits for a model to load, not for AWS's pauses.
_SPEED = 1000.0


@contextmanager
def emulated(
    *,
    state: Path | None = None,
    speed: float = _SPEED,
    images: Mapping[str, str | os.PathLike[str]] | None = None,
    proxy: bool = False,
) -> Iterator[Emulator]:
    """Run SageMaker on a free loopback port for a block, with this process's AWS variables set to it.

    ``state``, ``speed`` and ``images`` are those of `Emulator`. With ``proxy``, requests to every address of AWS are
    answered there, and HTTPS requests of this process to other hosts are refused. The variables have their old values
    again afterwards.
    """
    with Emulator(state=state, speed=speed, images=images or {}, proxy_port=0 if proxy else None) as emulator:
        before = dict(os.environ)
        # A profile would win over the variables, and name a real account.
        ours = client_environment.merge_environment(before, emulator.proxy_environment)
        changed = {name for name in {*before, *ours} if before.get(name) != ours.get(name)}
        _set(changed, ours)
        try:
            yield emulator
        finally:
            _set(changed, before)


def _set(names: Iterable[str], values: Mapping[str, str]) -> None:
    """Give variables of this process their values, and remove those without one."""
    for name in names:
        if name in values:
            os.environ[name] = values[name]
        else:
            os.environ.pop(name, None)


@pytest.fixture(scope="session")
def sagemaker_emulator() -> Iterator[Emulator]:
    """Run SageMaker on localhost for all tests; boto3 clients made while it runs find it by themselves."""
    with emulated() as emulator:
        yield emulator
