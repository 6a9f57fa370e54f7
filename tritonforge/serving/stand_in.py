"""The stand-in: an installation in which every model, whatever its backend, is one that opens no file.

Three things keep the code of a judged repository from being run, each by itself: it reads a copy without code
(`repository_copy`), stubs are started without a shell and on the stand-in's own model (`stub_launcher`), and the
kernel lets the server open and execute nothing but the installation and its own folder (`confinement`).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from tritonforge.serving import confinement, installation, stub_launcher

__all__ = ["command", "prepare"]

#: The backends of NVIDIA's server images that the stand-in takes the place of (triton server build.py, compose.py).
BACKENDS: Final = ("dali", "fil", "onnxruntime", "openvino", "pytorch", "tensorflow", "tensorrt", "tensorrtllm", "vllm")

#: Where Python, its packages, and the libraries of the system lie; /proc and /sys tell tritonserver of the machine.
_SYSTEM: Final = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc", "/opt/tritonserver", "/proc", "/sys")
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - POSIX shared memory, no temporary file
#: Where the python backend makes an empty folder at every start (pb_env.cc `EnvironmentManager`).
_ENVIRONMENTS: Final = "/tmp"  # noqa: S108


def prepare(found: installation.Installation, folder: Path, *, prefix: str, backends: Collection[str]) -> Path:
    """Lay out the stand-in inside ``folder``; gives the backend directory.

    ``prefix`` begins the names of shared memory regions; ``backends`` are further backends to stand in for.
    """
    directory = installation.prepare(found, folder, backends=())
    source = Path(__file__).parent / "backends" / "standin" / "model.py"
    for name in sorted({*BACKENDS, *backends} - {"python"}):
        (directory / name).mkdir()
        shutil.copyfile(source, directory / name / "model.py")
    model = folder / "stand_in" / "1" / "model.py"
    model.parent.mkdir(parents=True)
    shutil.copyfile(source, model)
    # execvp("bash", ...) finds it first on the PATH.
    launcher = folder / installation.ENVIRONMENT / "bin" / "bash"
    python = folder / installation.ENVIRONMENT / "bin" / "python3"
    launcher.write_text(f"#!{python} -IS\n{Path(stub_launcher.__file__).read_text(encoding='utf-8')}", encoding="utf-8")
    launcher.chmod(0o700)
    stub = directory / "python" / found.stub.name
    settings = {"stub": str(stub), "model": str(model), "library": str(directory / "python"), "prefix": prefix}
    launcher.with_name("bash.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory


def command(
    program: Sequence[str], found: installation.Installation, *, libraries: str, folder: Path, copy: Path, log: Path
) -> list[str]:
    """The command line that runs tritonserver confined to the installation, ``folder``, and the repository's copy.

    ``libraries`` is the LD_LIBRARY_PATH that it gets.
    """
    packages = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    own = [sys.base_prefix, sys.prefix, sys.executable, str(found.program.parent.parent), str(found.libraries)]
    rules = {
        "read": [
            str(copy),
            *_SYSTEM,
            *libraries.split(os.pathsep),
            *own,
            *packages,
            confinement.__file__,
            *(str(Path(entry).resolve()) for entry in own),
        ],
        "write": [str(folder), str(log), _SHARED_MEMORY, *_DEVICES, *map(str, Path("/dev").glob("nvidia*"))],
        "folders": [_ENVIRONMENTS],
    }
    return [sys.executable, "-S", "-I", confinement.__file__, json.dumps(rules), *program]
