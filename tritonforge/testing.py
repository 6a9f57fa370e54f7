"""For your own tests: SageMaker on localhost as a context manager and a pytest fixture, and Python models.

In a ``conftest.py``::

    pytest_plugins = ["tritonforge.testing"]

and a test that asks for ``sagemaker_emulator`` runs your boto3 code, unchanged, against real tritonservers: no AWS
account, no network, no Docker. `python_model` runs the ``model.py`` of a model in the process of the test, without a
server. An edge.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tritonforge.emulator import Emulator, client_environment
from tritonforge.serving.python_model import PythonModel, Responder

__all__ = ["Emulator", "PythonModel", "emulated", "python_model", "sagemaker_emulator"]

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


def python_model(
    path: str | os.PathLike[str], *, version: int | None = None, models: Mapping[str, Responder] | None = None
) -> PythonModel:
    """Load a model of Triton's python backend in this process; use it as a context manager.

    ``path`` is the model's directory, with ``config.pbtxt`` and numbered versions. ``models`` answers the requests that
    it sends to other models (BLS): a function from arrays by input to arrays by output, by model. The real backend runs
    it in a process of its own; see `PythonModel` for what differs.

    >>> with python_model("build/detector/postprocess") as model:  # doctest: +SKIP
    ...     outputs = model.infer({"boxes": boxes, "scores": scores})

    Raises:
        MissingExtraError: nvidia-pytriton, which has the backend's module, is not installed.
        ArtifactError: the directory has no such version, or no valid configuration.
    """
    return PythonModel(Path(path), version=version, models=models)
