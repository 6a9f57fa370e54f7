"""Python environments of models: what is read of them, and a model that imports what only its environment has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3

from tests.support.model_zoo import add, tensor
from tests.support.tensor_client import FREE, Asker
from tests.support.throwaway_server import ThrowawayServer
from tritonforge.errors import LaunchError
from tritonforge.serving.execution_environments import STUB, find_python_version, list_stubs
from tritonforge.serving.repository_overlay import parse_config
from tritonforge.serving.server import Server

VERSION = "{}.{}".format(*sys.version_info)
IO = tensor("input", "x", "FP32", "[ 1 ]") + tensor("output", "y", "STRING", "[ 3 ]")
MODEL = """
import sys
import numpy as np
import only_in_this_environment
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        texts = [only_in_this_environment.WORD, sys.prefix, "%d.%d" % sys.version_info[:2]]
        array = np.array([text.encode() for text in texts], dtype=object)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", array)]) for _ in requests]
"""
#: As conda-pack's, it finds its environment by its own path.
ACTIVATE = 'PATH="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/bin:$PATH"\nexport PATH\n'


def refer(path: str) -> str:
    """A configuration of a Python model with an environment."""
    parameter = f'parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "{path}" }} }}'
    return f'backend: "python" {IO} {parameter}'


def make_environment(folder: Path, *, program: Path, version: str, packages: str, libraries: str = "") -> Path:
    """Write an environment in the layout of conda-pack; links take the place of the program and of numpy."""
    site = folder / "lib" / f"python{version}" / "site-packages"
    site.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "activate").write_text(ACTIVATE)
    (folder / "bin" / "python3").symlink_to(program)
    (folder / "pyvenv.cfg").write_text(f"home = {program.parent}\ninclude-system-site-packages = false\n")
    (site / "only_in_this_environment.py").write_text('WORD = "found"\n')
    (site / "numpy.pth").write_text(packages + "\n")
    for library in Path(libraries).glob(f"libpython{version}.so*") if libraries else ():
        (folder / "lib" / library.name).symlink_to(library)
    return folder


def pack(folder: Path, archive: Path) -> None:
    """Write an environment as conda-pack does: the entries of the folder, without the folder."""
    with tarfile.open(archive, "w:gz") as tar:
        for entry in sorted(folder.iterdir()):
            tar.add(entry, entry.name)


def make_own_environment(folder: Path) -> Path:
    """An environment of this Python."""
    program = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    return make_environment(folder, program=program, version=VERSION, packages=sysconfig.get_paths()["purelib"])


def ask(server: Server, model: str) -> list[str]:
    """The texts that a model answers."""
    with urllib3.PoolManager() as pool:
        reply = Asker(str(server.http_url), pool).infer(model, {"x": np.zeros(1, "f4")})
    assert reply.error == ""
    return [text.decode() for text in reply.outputs["y"]]


def find_other_python() -> Mapping[str, Any] | None:
    """Another Python on this machine, with its shared library and numpy 1: the arguments of `make_environment`."""
    code = (
        "import sys, sysconfig, numpy; assert numpy.__version__ < '2'; print(sys._base_executable, "
        "'%d.%d' % sys.version_info[:2], sysconfig.get_paths()['purelib'], sysconfig.get_config_var('LIBDIR'))"
    )
    for minor in range(8, 14):
        if (program := shutil.which(f"python3.{minor}")) and minor != sys.version_info.minor:
            done = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False)
            if not done.returncode:
                path, version, packages, libraries = done.stdout.split()
                if any(Path(libraries).glob(f"libpython{version}.so*")):
                    place = Path(os.path.realpath(path))
                    return {"program": place, "version": version, "packages": packages, "libraries": libraries}
    return None


@pytest.mark.server
def test_a_model_imports_what_only_its_environment_has(tmp_path: Path) -> None:
    """From a directory and from an archive beside the model, each unpacked by Triton itself."""
    repository = tmp_path / "repository"
    for name, file in (("directory", "env"), ("archive", "env.tar.gz")):
        (add(repository, name, refer(f"$$TRITON_MODEL_DIRECTORY/{file}")) / "model.py").write_text(MODEL)
    environment = make_own_environment(repository / "directory" / "env")
    pack(environment, repository / "archive" / "env.tar.gz")
    with ThrowawayServer(repository, **{**FREE, "sagemaker_port": None}) as server:
        assert server.warnings == ()
        assert ask(server, "directory") == ["found", str(environment), VERSION]
        word, prefix, version = ask(server, "archive")
        assert (word, version) == ("found", VERSION)
        assert prefix.startswith("/tmp/python_env_")


@pytest.mark.server
def test_an_environment_of_another_python_gets_its_stub(tmp_path: Path) -> None:
    other = find_other_python()
    if other is None:
        pytest.skip("there is no other Python with a shared library and numpy 1 on this machine")
    (add(tmp_path, "other", refer("$$TRITON_MODEL_DIRECTORY/env.tar.gz")) / "model.py").write_text(MODEL)
    pack(make_environment(tmp_path / "env", **other), tmp_path / "other" / "env.tar.gz")
    shutil.rmtree(tmp_path / "env")
    with ThrowawayServer(tmp_path, **{**FREE, "sagemaker_port": None}) as server:
        assert ask(server, "other")[2] == other["version"]
        (warning,) = server.warnings
    assert f"model 'other': its environment has Python {other['version']}; the stub for it comes from" in warning
    assert not (tmp_path / "other" / STUB).exists()


@pytest.mark.parametrize("version", ["3.8", "3.12"])
def test_the_version_of_an_environment_is_that_of_its_library(tmp_path: Path, version: str) -> None:
    folder = make_environment(tmp_path / "env", program=Path("/usr/bin/python3"), version=version, packages="/")
    assert find_python_version(folder) == version
    pack(folder, tmp_path / "env.tar.gz")
    assert find_python_version(tmp_path / "env.tar.gz") == version


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\0\0\0\0\0\0\0garbage"])
def test_the_version_of_a_damaged_archive_is_unknown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "env.tar.gz").write_bytes(content)
    assert find_python_version(tmp_path / "env.tar.gz") is None
    assert find_python_version(tmp_path / "missing") is None


def test_stubs_are_chosen_by_the_version_of_the_environment(tmp_path: Path) -> None:
    for version in ("3.9", "3.12"):
        (tmp_path / "stubs" / version).mkdir(parents=True)
        (tmp_path / "stubs" / version / STUB).touch()
    repository = tmp_path / "repository"
    versions = {"older": "3.9", "same": "3.11", "own": "3.9"}
    for name, version in versions.items():
        (repository / name / "env" / "lib" / f"python{version}").mkdir(parents=True)
    (repository / "own" / STUB).touch()
    text = refer("$$TRITON_MODEL_DIRECTORY/env")
    config = parse_config(text.encode())
    assert config is not None
    plain = parse_config(b'backend: "python"')
    assert plain is not None
    configs = {**dict.fromkeys(versions, config), "missing": config, "plain": plain}
    stubs = list_stubs(repository, configs, tmp_path / "stubs", version="3.11")
    assert {name: (stub.version, stub.path) for name, stub in stubs.items()} == {
        "older": ("3.9", tmp_path / "stubs" / "3.9" / STUB)
    }
    (repository / "older" / "env" / "lib" / "python3.9").rename(repository / "older" / "env" / "lib" / "python3.7")
    with pytest.raises(LaunchError, match=r"older/env: no stub for .* \(expected one of 3.9, 3.12, got 3.7\)"):
        list_stubs(repository, configs, tmp_path / "stubs", version="3.11")
