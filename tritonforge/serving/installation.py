"""The installation: tritonserver in the nvidia-pytriton wheel, and the folder and environment that it needs to run here.

pytriton itself is never imported; the wheel is a carrier of files (facts of its layout: version 0.7.0).
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonforge.errors import LaunchError, MissingExtraError
from tritonforge.serving import loopback

__all__ = ["BACKENDS", "Installation", "environment", "find", "prepare"]

#: The backends that tritonforge brings; each is a folder with a model.py (Triton's "python-based backends").
BACKENDS: Final = ("dali", "onnxruntime", "tensorflow")

#: Frameworks that write pages of notices to the log unless they are told not to.
_QUIET: Final[Mapping[str, str]] = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1"}


@dataclass(frozen=True, slots=True)
class Installation:
    """The files of the wheel: the program, its python backend, the stub for the running Python, its libraries."""

    program: Path
    python_backend: Path
    stub: Path
    caches: Path
    libraries: Path


def find() -> Installation:
    """The tritonserver of the installed nvidia-pytriton.

    Raises:
        MissingExtraError: the wheel is not installed.
        LaunchError: it cannot run on this machine or with this Python.
    """
    if platform.system() != "Linux" or platform.machine() != loopback.MACHINE:
        raise LaunchError(
            f"tritonserver comes for Linux on {loopback.MACHINE} only; this machine is {platform.system()} on "
            f"{platform.machine()}: serve in a container or a virtual machine"
        )
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("nvidia-pytriton", extra="local")
    package = Path(spec.submodule_search_locations[0])
    root = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = Installation(
        program=root / "bin" / "tritonserver",
        python_backend=root / "backends" / "python",
        stub=root / "python_backend_stubs" / version / "triton_python_backend_stub",
        caches=root / "caches",
        libraries=package.parent / "nvidia_pytriton.libs",
    )
    if not found.stub.is_file():
        raise LaunchError(f"{root}: this nvidia-pytriton has no stub for Python {version}; use Python 3.10 to 3.12")
    for path in (found.program, found.python_backend, found.libraries):
        if not path.exists():
            raise LaunchError(f"{path} is missing; run: pip install --force-reinstall nvidia-pytriton==0.7.0")
    return found


def prepare(installation: Installation, folder: Path) -> Path:
    """Lay out the backend directory and the loopback object inside ``folder``; gives the backend directory."""
    (folder / loopback.NAME).write_bytes(loopback.shared_object())
    backends = folder / "backends"
    python = backends / "python"
    python.mkdir(parents=True)
    for file in installation.python_backend.iterdir():
        if file.is_file():
            shutil.copy2(file, python / file.name)  # not a link: Triton refuses a library that leads elsewhere
    (python / installation.stub.name).symlink_to(installation.stub)
    own = Path(__file__).parent / "backends"
    for name in BACKENDS:
        (backends / name).symlink_to(own / name)
    return backends


def environment(installation: Installation, folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of tritonserver and its stubs, from the one ``given``.

    The stub embeds the running Python: it finds libpython by LD_LIBRARY_PATH, the standard library by PYTHONHOME and
    the packages by PYTHONPATH, which also leads to tritonforge for the backends.
    """
    kept = {name: value for name, value in given.items() if not name.startswith(("SAGEMAKER_", "PYTHON", "AIP_"))}
    packages = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    tritonforge = str(Path(__file__).resolve().parents[2])
    if tritonforge not in packages:
        packages.append(tritonforge)  # last: beside it may lie folders of any name
    libraries = [str(folder), str(installation.libraries)]
    for name in ("LIBDIR", "LIBPL"):
        if value := sysconfig.get_config_var(name):
            libraries.append(str(value))
    libraries += [entry for entry in given.get("LD_LIBRARY_PATH", "").split(":") if entry]
    preloaded = [entry for entry in given.get("LD_PRELOAD", "").split(":") if entry]
    return {
        **{name: given.get(name, value) for name, value in _QUIET.items()},
        **kept,
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "LD_PRELOAD": os.pathsep.join([loopback.NAME, *preloaded]),
        "PYTHONHOME": os.pathsep.join(dict.fromkeys((sys.base_prefix, sys.base_exec_prefix))),
        "PYTHONPATH": os.pathsep.join(packages),
        "PYTHONUNBUFFERED": "1",
    }
