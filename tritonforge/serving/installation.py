"""The installation: tritonserver in the nvidia-pytriton wheel, with the folder and environment it needs to run here.

pytriton itself is never imported; the wheel is a carrier of files (facts of its layout: version 0.7.0).

A stand-in installation replaces every model, whatever its backend, by one that opens no file. Three things keep the
code of a checked repository from being run, each by itself: the server reads a copy without code (`repository_copy`),
stubs start without a shell and on the stand-in's own model, and the kernel lets the server open and execute nothing
but the installation and its own folder (`confinement`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonforge.errors import LaunchError, MissingExtraError
from tritonforge.serving import confinement, loopback
from tritonforge.triton import backends as triton_backends

__all__ = ["BACKENDS", "ENVIRONMENT", "Installation", "build_environment", "confine_command", "find_installation",
           "find_missing_backends", "prepare_folder", "prepare_stand_in"]  # fmt: skip


#: The backends that tritonforge brings; each is a folder with a model.py (Triton's "python-based backends").
BACKENDS: Final = tuple(sorted(name for name, row in triton_backends.BACKENDS.items() if row.is_local))

#: The virtual environment inside the Server's folder; its programs are first on the PATH.
ENVIRONMENT: Final = "python"

#: Without these, frameworks write pages of notices to the log.
_QUIET: Final[Mapping[str, str]] = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1"}

_NONE: Final[Mapping[str, str]] = {}

#: The machines that nvidia-pytriton 0.7.0 has wheels for, as `platform.machine` names them. The wheels have the same
#: files; that for aarch64 was read, but not run.
_MACHINES: Final = ("x86_64", "aarch64")


@dataclass(frozen=True, slots=True)
class Installation:
    """The files of the wheel: the program, its python backend, the stub for the running Python, its libraries."""

    program: Path
    python_backend: Path
    stub: Path
    caches: Path
    libraries: Path


def find_installation() -> Installation:
    """Return the tritonserver of the installed nvidia-pytriton.

    Raises:
        MissingExtraError: the wheel is not installed.
        LaunchError: it cannot run on this machine or with this Python.
    """
    if platform.system() != "Linux" or platform.machine() not in _MACHINES:
        raise LaunchError(
            f"tritonserver comes for Linux on {' and '.join(_MACHINES)} only; this machine is {platform.system()} on "
            f"{platform.machine()}: serve in a container or a virtual machine"
        )
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        if sys.version_info >= (3, 13):
            raise LaunchError(
                f"tritonserver's wheel supports Python 3.10 to 3.12, but this is Python {platform.python_version()}. "
                "Install tritonforge[local] in an environment of Python 3.12."
            )
        raise MissingExtraError("nvidia-pytriton", extra="local")
    package = Path(spec.submodule_search_locations[0])
    root = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    installation = Installation(
        program=root / "bin" / "tritonserver",
        python_backend=root / "backends" / "python",
        stub=root / "python_backend_stubs" / version / "triton_python_backend_stub",
        caches=root / "caches",
        libraries=package.parent / "nvidia_pytriton.libs",
    )
    if not installation.stub.is_file():
        raise LaunchError(f"{root}: this nvidia-pytriton has no stub for Python {version}; use Python 3.10 to 3.12")
    for path in (installation.program, installation.python_backend, installation.libraries):
        if not path.exists():
            raise LaunchError(f"{path} is missing; run: pip install --force-reinstall nvidia-pytriton==0.7.0")
    return installation


def find_missing_backends() -> dict[str, MissingExtraError]:
    """Return the backends of `BACKENDS` whose package is not installed, with the error that names the command."""
    missing = {}
    for name in BACKENDS:
        row = triton_backends.BACKENDS[name]
        try:
            is_installed = importlib.util.find_spec(row.package) is not None
        except ModuleNotFoundError:  # the package that contains it
            is_installed = False
        if not is_installed:
            missing[name] = MissingExtraError(row.package, extra=row.extra)
    return missing


def prepare_folder(
    installation: Installation, folder: Path, *, backends: Sequence[str] = BACKENDS, has_library: bool = True
) -> Path:
    """Write what tritonserver needs into ``folder``, and return the backend directory.

    ``backends`` are those of tritonforge that it has besides Triton's own python backend; ``has_library`` is
    for a server with a SageMaker front end, which needs the library of `loopback`.
    """
    if has_library:
        loopback.install_library(folder)
    directory = folder / "backends"
    python = directory / "python"
    python.mkdir(parents=True)
    for file in installation.python_backend.iterdir():
        if file.is_file():
            shutil.copyfile(file, python / file.name)  # not a link: Triton refuses a library that leads elsewhere
    stub = python / installation.stub.name
    try:
        shutil.copyfile(installation.stub, stub)  # not a link: Triton calls chmod on it, and may not own it
    except PermissionError as error:  # a server that ran it in place left it with mode 0100
        raise LaunchError(
            f"{installation.stub} cannot be read by this user; as its owner run: chmod 755 <it>"
        ) from error
    stub.chmod(0o700)
    own = Path(__file__).parent / "backends"
    for name in backends:
        (directory / name).symlink_to(own / name)
    _make_environment(folder / ENVIRONMENT)
    return directory


def build_environment(
    installation: Installation,
    folder: Path,
    given: Mapping[str, str],
    *,
    added: Mapping[str, str] = _NONE,
    address: str = loopback.HOST,
) -> dict[str, str]:
    """Return the variables of tritonserver and its stubs: the ones ``given``, and those ``added``, which replace them.

    Lists of places are exceptions: what the server needs comes first in LD_LIBRARY_PATH, LD_PRELOAD and PATH, and the
    ``given`` programs stay last in PATH. The SageMaker front end listens on ``address``.
    """
    merged = {**given, **added}
    kept = {name: value for name, value in given.items() if not name.startswith(("SAGEMAKER_", "PYTHON", "AIP_"))}
    libraries = [str(folder), str(installation.libraries)]
    # libpython: some builds of Python record the folder of the machine that built them, so the real one is added.
    libraries += [str(value) for name in ("LIBDIR", "LIBPL") if (value := sysconfig.get_config_var(name))]
    libraries.append(str(Path(sys.base_prefix, "lib")))
    libraries += [entry for entry in merged.get("LD_LIBRARY_PATH", "").split(":") if entry]
    library = [loopback.LIBRARY] if (folder / loopback.LIBRARY).is_file() else []
    programs = [str(folder / ENVIRONMENT / "bin"), *filter(None, [added.get("PATH")]), given.get("PATH", os.defpath)]
    preloaded = [entry for entry in merged.get("LD_PRELOAD", "").split(":") if entry]
    return {
        **_QUIET,
        **kept,
        **added,
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "LD_PRELOAD": os.pathsep.join([*library, *preloaded]),
        loopback.ADDRESS_VARIABLE: address,
        "PATH": os.pathsep.join(programs),
    }


def _make_environment(folder: Path) -> None:
    """Make a virtual environment that leads the stubs to the packages of the running Python.

    A stub embeds Python in its isolated configuration, which reads no PYTHONPATH and no PYTHONHOME, but looks for
    ``python3`` on the PATH and for the ``pyvenv.cfg`` beside it (CPython Modules/getpath.py). So this one is put first
    on the PATH; its only package is a .pth file that adds the folders of the running Python's packages, and the one
    that tritonforge is in.
    """
    executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").symlink_to(executable)
    (folder / "pyvenv.cfg").write_text(f"home = {executable.parent}\ninclude-system-site-packages = false\n")
    added = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    # Last, as folders of any name may lie beside tritonforge. A stub reads no PYTHONDONTWRITEBYTECODE either, and would
    # leave a __pycache__ beside each model.py of the repository.
    lines = [
        "import sys; sys.dont_write_bytecode = True",
        *(f"import site; site.addsitedir({entry!r})" for entry in added),
        str(Path(__file__).resolve().parents[2]),
    ]
    (packages / "tritonforge-serving.pth").write_text("\n".join(lines) + "\n")


#: The backends of NVIDIA's server images that the stand-in replaces (triton server build.py, compose.py).
STAND_IN_BACKENDS: Final = tuple(name for name, row in triton_backends.BACKENDS.items() if row.needs_stand_in)

#: The folders of Python, its packages, and the libraries of the system; /proc and /sys describe the machine.
_SYSTEM_FOLDERS: Final = (
    "/usr",
    "/lib",
    "/lib64",
    "/lib32",
    "/bin",
    "/sbin",
    "/etc",
    "/opt/tritonserver",
    "/proc",
    "/sys",
)
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - POSIX shared memory, no temporary file
#: Where the python backend makes an empty folder at every start (pb_env.cc `EnvironmentManager`).
_ENVIRONMENTS_FOLDER: Final = "/tmp"  # noqa: S108


def prepare_stand_in(installation: Installation, folder: Path, *, prefix: str, backends: Collection[str]) -> Path:
    """Write a stand-in installation into ``folder``, and return the backend directory.

    ``prefix`` begins the names of shared memory regions; ``backends`` are further backends to replace.
    """
    directory = prepare_folder(installation, folder, backends=(), has_library=False)
    source = Path(__file__).parent / "backends" / "stand_in" / "model.py"
    for name in sorted({*STAND_IN_BACKENDS, *backends} - {"python"}):
        (directory / name).mkdir()
        shutil.copyfile(source, directory / name / "model.py")
    model = folder / "stand_in" / "1" / "model.py"
    model.parent.mkdir(parents=True)
    shutil.copyfile(source, model)
    # execvp("bash", ...) finds it first on the PATH.
    launcher = folder / ENVIRONMENT / "bin" / "bash"
    python = folder / ENVIRONMENT / "bin" / "python3"
    launcher.write_text(f"#!{python} -IS\n{Path(confinement.__file__).read_text(encoding='utf-8')}", encoding="utf-8")
    launcher.chmod(0o700)
    stub = directory / "python" / installation.stub.name
    settings = {"stub": str(stub), "model": str(model), "library": str(directory / "python"), "prefix": prefix}
    launcher.with_name("bash.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory


def confine_command(
    program: Sequence[str], installation: Installation, *, libraries: str, folder: Path, copy: Path, log: Path
) -> list[str]:
    """Return the command that runs tritonserver confined to the installation, ``folder``, and the repository's copy.

    ``libraries`` is its LD_LIBRARY_PATH.
    """
    packages = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    own = [
        sys.base_prefix,
        sys.prefix,
        sys.executable,
        str(installation.program.parent.parent),
        str(installation.libraries),
    ]
    rules = {
        "read": [
            str(copy),
            *_SYSTEM_FOLDERS,
            *libraries.split(os.pathsep),
            *own,
            *packages,
            confinement.__file__,
            *(str(Path(entry).resolve()) for entry in own),
        ],
        "write": [str(folder), str(log), _SHARED_MEMORY, *_DEVICES, *map(str, Path("/dev").glob("nvidia*"))],
        "folders": [_ENVIRONMENTS_FOLDER],
    }
    return [sys.executable, "-S", "-I", confinement.__file__, json.dumps(rules), *program]
