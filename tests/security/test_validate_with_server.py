"""`validate --with-server` runs no code of the repository: attacks that each leave a file behind where they succeed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tritonforge.errors import LaunchError
from tritonforge.serving import confinement, repository_copy
from tritonforge.serving.confinement import build_stub_arguments
from tritonforge.serving.repository_copy import copy_repository
from tritonforge.serving.server_check import check_on_server

pytestmark = pytest.mark.server

IO = 'input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }'
ECHO = "class TritonPythonModel:\n    def execute(self, requests): return []\n"
PARAMETER = 'parameters { key: "%s" value { string_value: "%s" } }'


class Attacker:
    """A repository of attacks; ``mark`` is the command that a successful one runs."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "repository"
        self.marks = folder / "marks"
        self.marks.mkdir()
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()

    def mark(self, name: str) -> str:
        """The shell command that leaves a mark."""
        return f"touch {self.marks}/{name}"

    def model(self, name: str, config: str = "", *, backend: str = "python") -> Path:
        """A model; gives its version's directory."""
        version = self.repository / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(ECHO)
        (version.parent / "config.pbtxt").write_text(f'backend: "{backend}" {IO} {config}')
        return version

    def library(self, path: Path, name: str) -> None:
        """A shared object that leaves a mark when it is loaded."""
        if shutil.which("cc") is None:
            pytest.skip("no compiler makes the library of this attack")
        source = path.with_suffix(".c")
        code = f'#include <stdlib.h>\n__attribute__((constructor)) void run(void) {{ system("{self.mark(name)}"); }}\n'
        source.write_text(code)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(path), str(source)], check=True)


def stub(attacker: Attacker) -> None:
    """Triton prefers the stub in the model's folder to its own."""
    program = attacker.model("stub").parent / "triton_python_backend_stub"
    program.write_text(f"#!/bin/sh\n{attacker.mark('stub')}\nexit 1\n")
    program.chmod(0o755)


def activate(attacker: Attacker) -> None:
    """An environment's activation script is sourced."""
    version = attacker.model("activate", PARAMETER % ("EXECUTION_ENV_PATH", "$$TRITON_MODEL_DIRECTORY/env"))
    script = version.parent / "env" / "bin" / "activate"
    script.parent.mkdir(parents=True)
    script.write_text(attacker.mark("activate"))


def archive(attacker: Attacker) -> None:
    """An environment's archive is unpacked, from anywhere, and its script sourced."""
    script = attacker.elsewhere / "activate"
    script.write_text(attacker.mark("archive"))
    packed = attacker.elsewhere / "env.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(script, "bin/activate")
    attacker.model("archive", PARAMETER % (r"\x45XECUTION_ENV_PATH", packed))


def module(attacker: Attacker) -> None:
    """Triton's own module is imported from beside the model."""
    version = attacker.model("module")
    (version / "triton_python_backend_utils.py").write_text(f"import os\nos.system({attacker.mark('module')!r})\n")


def file_name(attacker: Attacker) -> None:
    """A file name is a part of a shell's command."""
    attacker.model("file_name", f'default_model_filename: "$({attacker.mark("file_name")}).py"')


def group_name(attacker: Attacker) -> None:
    """An instance's name is as well."""
    attacker.model("group_name", f'instance_group {{ name: "`{attacker.mark("group_name")}`" kind: KIND_CPU }}')


def other_backend(attacker: Attacker) -> None:
    """The stand-ins of all backends are started in this way; octal escapes hide the command."""
    command = "".join(f"\\{ord(character):03o}" for character in f"$({attacker.mark('other_backend')})")
    attacker.model("other_backend", f'instance_group {{ name: "{command}" }}', backend="onnxruntime")


def backend_library(attacker: Attacker) -> None:
    """A backend's library is loaded from the version's directory."""
    version = attacker.model("backend_library", backend="mine")
    attacker.library(version / "libtriton_mine.so", "backend_library")


def runtime(attacker: Attacker) -> None:
    """Under any name that the configuration gives it."""
    version = attacker.model("runtime", 'runtime: "any.so"', backend="onnxruntime")
    attacker.library(version / "any.so", "runtime")


def batching(attacker: Attacker) -> None:
    """A batching library is loaded from the version's directory."""
    version = attacker.model("batching", "max_batch_size: 2 dynamic_batching {}")
    attacker.library(version / "batchstrategy.so", "batching")


def strategy(attacker: Attacker) -> None:
    """Or from anywhere."""
    library = attacker.elsewhere / "strategy.so"
    config = f"max_batch_size: 2 dynamic_batching {{}} {PARAMETER % ('TRITON_BATCH_STRATEGY_PATH', library)}"
    attacker.model("strategy", config)
    attacker.library(library, "strategy")


ATTACKS: tuple[Callable[[Attacker], None], ...] = (
    stub, activate, archive, module, file_name, group_name, other_backend, backend_library, runtime, batching, strategy,
)  # fmt: skip


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What was run when one server judged all attacks at once."""
    attacker = Attacker(tmp_path_factory.mktemp("attacks"))
    for attack in ATTACKS:
        attack(attacker)
    before = {path: path.read_bytes() for path in sorted(attacker.repository.rglob("*")) if path.is_file()}
    check_on_server(attacker.repository, timeout=40)
    assert {path: path.read_bytes() for path in sorted(attacker.repository.rglob("*")) if path.is_file()} == before
    return {path.name for path in attacker.marks.iterdir()}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_nothing_of_the_repository_is_run(marks: set[str], attack: Callable[[Attacker], None]) -> None:
    """Whatever lies in it, and its configurations name."""
    assert attack.__name__ not in marks


def test_the_launcher_of_stubs_takes_nothing_from_a_command_but_numbers() -> None:
    """Not the stub, the model's file, a name, or a further command; other commands are refused."""
    settings = {"stub": "/s/stub", "model": "/s/1/model.py", "library": "/s/python", "prefix": "ours_1_"}
    text = " exec /evil/stub /m/$(x) y/1/;x;.py ours_1_ab-12 10 20 33 /s/python 336 `x`_0 DEFAULT; x"
    arguments = [
        "/s/stub",
        "/s/1/model.py",
        "ours_1_ab-12",
        "10",
        "20",
        "33",
        "/s/python",
        "336",
        "stand-in",
        "DEFAULT",
    ]
    assert build_stub_arguments(text, **settings) == arguments
    assert (
        build_stub_arguments("source /evil/bin/activate && exec env LD_LIBRARY_PATH=/evil:$L" + text, **settings)
        == arguments
    )
    assert build_stub_arguments("touch /tmp/x", **settings) is None


def test_a_confined_process_opens_and_runs_nothing_else(tmp_path: Path) -> None:
    """Reading, writing and running are closed for all but the named folders, and for what the process starts."""
    for name in ("open", "closed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run").write_text("#!/bin/sh\necho ran\n")
        (tmp_path / name / "run").chmod(0o755)
    rules = {
        "read": ["/usr", "/lib", "/lib64", "/bin", "/etc", sys.base_prefix],
        "write": ["/dev/null", str(tmp_path / "open")],
    }
    rules["folders"] = []
    script = "for name in open closed; do ./$name/run; cat $name/run >/dev/null && echo read; echo > $name/new; done"
    command = [sys.executable, "-S", "-I", confinement.__file__, json.dumps(rules), "/bin/sh", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.stdout.count("ran") == 2:
        pytest.skip("this kernel has no Landlock; the copy and the launcher hold alone")
    assert done.stdout == "ran\nread\n"
    assert (tmp_path / "open" / "new").exists()
    assert not (tmp_path / "closed" / "new").exists()


def test_a_copy_has_names_and_configurations_and_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipes, devices, sparse files, links out and names of any bytes do no harm; model files are empty."""
    model = tmp_path / "repository" / "m"
    version = model / "1"
    version.mkdir(parents=True)
    (model / "config.pbtxt").write_text('backend: "onnxruntime" output { name: "y" label_filename: "l" }')
    (model / "l").write_text("a\nb\n")
    (version / "model.onnx").write_bytes(b"weights")
    with (version / "sparse").open("wb") as file:
        file.truncate(2**40)
    os.mkfifo(version / "pipe")
    (version / "zero").symlink_to("/dev/zero")
    (version / "out").symlink_to("/etc")
    (version / "self").symlink_to(model)
    (version / "dead").symlink_to("nowhere")
    Path(os.fsdecode(os.fsencode(str(version)) + b"/odd\xff\n")).write_bytes(b"x")
    os.mkfifo(tmp_path / "repository" / "pipe")
    (tmp_path / "repository" / "other").mkdir()
    os.mkfifo(tmp_path / "repository" / "other" / "config.pbtxt")
    copy = copy_repository(tmp_path / "repository", tmp_path / "copy")
    made = tmp_path / "copy" / "m"
    assert (made / "config.pbtxt").read_text().startswith('backend: "onnxruntime"')
    assert (made / "l").read_text() == "a\nb\n"
    assert {path.name for path in (made / "1").iterdir()} == {path.name for path in version.iterdir()}
    assert not [path for path in (made / "1").iterdir() if path.is_file() and path.stat().st_size]
    assert [path.name for path in (made / "1").iterdir() if path.is_symlink()] == ["dead"]
    assert (set(copy.undecided), copy.hidden) == ({"other"}, {"other"})
    monkeypatch.setattr(repository_copy, "_MOST_ENTRIES", 5)
    with pytest.raises(LaunchError, match=r"too large \(expected at most 5 entries"):
        copy_repository(tmp_path / "repository", tmp_path / "again")
