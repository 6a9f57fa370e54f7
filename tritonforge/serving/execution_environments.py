"""The Python environments of models (``EXECUTION_ENV_PATH``), and the stub that each one needs.

Triton's python backend unpacks the archive, sources its ``bin/activate`` and starts the stub in it (python_backend
r24.10, src/pb_env.cc, src/stub_launcher.cc). A stub embeds one version of Python, so an environment of another one
needs another stub: the model's own ``triton_python_backend_stub``, or one of the nvidia-pytriton wheel, which has them
for several versions. The environment must hold numpy, and its ``lib`` the ``libpython`` of its version.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import LaunchError
from tritonforge.triton.backends import BACKENDS
from tritonforge.triton.schema import ModelConfig

__all__ = ["STUB", "EnvironmentStub", "find_python_version", "list_stubs"]

#: The name of a stub, in the python backend's folder and in a model's.
STUB: Final = "triton_python_backend_stub"

_PARAMETER: Final = "EXECUTION_ENV_PATH"
_MODEL_DIRECTORY: Final = "$$TRITON_MODEL_DIRECTORY"
_LIBRARY: Final = re.compile(r"(?:\./)?lib/python(3\.[0-9]+)(?:/|$)")


@dataclass(frozen=True, slots=True)
class EnvironmentStub:
    """The stub for a model whose environment has another Python than this process: its ``version`` and its path."""

    version: str
    path: Path


def list_stubs(
    repository: Path, configs: Mapping[str, ModelConfig], stubs: Path, *, version: str
) -> dict[str, EnvironmentStub]:
    """Return the stubs of models whose environment has not the Python ``version`` (``3.11``), by model.

    ``stubs`` has a folder for each version with its stub. Models with a stub of their own are left out, as are
    environments that cannot be read, which Triton reports.

    Raises:
        LaunchError: no stub has the version of an environment.
    """
    chosen = {}
    for name, config in configs.items():
        path = _find_environment(repository / name, config)
        if path is None or (repository / name / STUB).exists():
            continue
        other = find_python_version(path)
        if other is None or other == version:
            continue
        stub = stubs / other / STUB
        if not stub.is_file():
            known = sorted((folder.name for folder in stubs.iterdir()), key=lambda text: int(text.split(".")[1]))
            raise LaunchError(
                f"{path}: no stub for this environment's Python (expected one of {', '.join(known)}, got {other}). "
                f"Put a {STUB} for it into the directory of model '{name}'."
            )
        chosen[name] = EnvironmentStub(other, stub)
    return chosen


def _find_environment(model: Path, message: ModelConfig) -> Path | None:
    config: Any = message  # protobuf makes the class of ModelConfig at run time
    if config.backend not in ("", BACKENDS["python"].name) or _PARAMETER not in config.parameters:
        return None
    given = config.parameters[_PARAMETER].string_value
    return Path(given.replace(_MODEL_DIRECTORY, str(model))) if given else None


def find_python_version(environment: Path) -> str | None:
    """Return the Python version of an environment, a directory or a .tar.gz archive, as ``3.10``; None if unknown.

    It is that of the folder ``lib/python3.10``. An archive is read up to the first entry below such a folder.
    """
    try:
        names = _list_directory(environment) if environment.is_dir() else _list_archive(environment)
        return next((match[1] for name in names if (match := _LIBRARY.match(name))), None)
    except (OSError, EOFError, tarfile.TarError, zlib.error):
        return None


def _list_directory(environment: Path) -> Iterator[str]:
    return (f"lib/{path.name}" for path in sorted(environment.glob("lib/python3.*")))


def _list_archive(path: Path) -> Iterator[str]:
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            yield member.name
            archive.members = []  # type: ignore[attr-defined]  # a stream keeps every header otherwise
