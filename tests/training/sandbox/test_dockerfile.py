"""The Dockerfile without a Docker engine: linted, its sources there, its lock files whole, its entry points run."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from tests.support.checkout import ROOT
from tests.support.sandbox_containers import run_container
from tritonforge.training.sandbox import Bind

DOCKERFILE = ROOT / "Dockerfile"


@dataclass
class Stage:
    """One image of the Dockerfile: its base, and its instructions in order."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def given(self, instruction: str) -> list[str]:
        """The arguments of an instruction, time by time."""
        return [arguments for name, arguments in self.steps if name == instruction]

    def copies(self) -> list[tuple[str, str]]:
        """Each source with its target; what lies in a folder goes into the target's, a file to it or into it."""
        found = []
        for arguments in self.given("COPY"):
            if arguments.startswith("--from="):  # from another stage
                continue
            *sources, target = arguments.split()
            for source in sources:
                inside = target.endswith("/") and not (ROOT / source).is_dir()
                found.append((source, target + Path(source).name if inside else target))
        return found


def stages() -> dict[str, Stage]:
    """The Dockerfile's images by their target; the last one's is empty: it is the default."""
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", DOCKERFILE.read_text()))
    found: dict[str, Stage] = {}
    current = Stage("")
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            base, _, name = arguments.partition(" AS ")
            current = found[name.strip()] = Stage(base)
        else:
            current.steps.append((instruction, arguments.strip()))
    return found


STAGES = stages()


def lint(text: str) -> tuple[int, list[str]]:
    """The exit status and the findings of hadolint."""
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, "-"], input=text, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.mark.process
def test_hadolint_finds_nothing() -> None:
    """No finding; and hadolint does find what was put there to be found."""
    text = DOCKERFILE.read_text()
    assert lint(text) == (0, [])
    status, findings = lint(text.replace('ENTRYPOINT ["tritonforge"]', "ENTRYPOINT tritonforge"))
    assert status != 0
    assert "DL3025" in findings[0]


def test_what_is_ignored_is_explained() -> None:
    """The line before an ignored finding says why."""
    lines = DOCKERFILE.read_text().splitlines()
    ignored = [number for number, line in enumerate(lines) if "hadolint ignore" in line]
    assert ignored
    for number in ignored:
        assert lines[number - 1].startswith("# ")


def test_the_default_image_is_the_command_line() -> None:
    """`docker build .` without a target makes tritonforge's command line, as it always did."""
    assert list(STAGES) == ["sagemaker-tensorflow", "train", "serve", "wheel", ""]
    assert STAGES[""].given("ENTRYPOINT") == ['["tritonforge"]']


@pytest.mark.process
@pytest.mark.parametrize("name", STAGES)
def test_what_is_copied_is_there(name: str) -> None:
    """Every source of a COPY exists, is committed, and is not left out by .dockerignore."""
    left_out = (ROOT / ".dockerignore").read_text().split()
    for source, _ in STAGES[name].copies():
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] not in left_out
        if (ROOT / ".git").exists():
            known = subprocess.run(["git", "ls-files", source], capture_output=True, text=True, check=True, cwd=ROOT)
            assert known.stdout, source


@pytest.mark.parametrize("name", ["train", "serve"])
def test_the_entry_points_are_programs(name: str) -> None:
    """Exec form throughout; the command is an executable script in the first folder of the PATH; root runs it."""
    stage = STAGES[name]
    assert json.loads(stage.given("ENTRYPOINT")[0]) == ["/usr/bin/env"]
    assert json.loads(stage.given("CMD")[0]) == [name]
    assert ("repos/detector", "/opt/program") in stage.copies()
    assert "PATH=/opt/program:${PATH}" in stage.given("ENV")[0]
    assert stage.given("USER") == []
    program = ROOT / "repos" / "detector" / name
    assert program.stat().st_mode & 0o111 == 0o111
    assert program.read_text().startswith("#!/usr/bin/env python3\n")
    for arguments in stage.given("RUN"):
        assert "--require-hashes" in json.loads(arguments)


@pytest.mark.process
@pytest.mark.parametrize("name", ["train", "serve"])
def test_docker_run_reaches_the_program(name: str, tmp_path: Path) -> None:
    """`docker run IMAGE train` and `... serve`, with the image's files where COPY puts them, and an empty /opt/ml.

    What pip installs is this machine's here. Both programs say in a sentence what they miss.
    """
    copied = [
        Bind(ROOT / source, target, read_only=True)
        for source, target in STAGES[name].copies()
        if not source.endswith(".txt")
    ]
    folders = [Bind(tmp_path, "/opt/ml/output")] if name == "train" else []
    status, lines = run_container(
        *json.loads(STAGES[name].given("ENTRYPOINT")[0]),
        name,
        binds=[*copied, *folders],
        environment={"PYTHONPATH": "/opt/tritonforge"},
    )
    assert status in (1, 2), lines
    assert "/opt/ml/" in lines[-1]
    assert not any("Traceback" in line for line in lines)
    if name == "train":
        assert (tmp_path / "failure").read_text() in lines[-1]


def make_requirements() -> ModuleType:
    """The program that writes the lock files."""
    path = ROOT / "tests" / "fixtures" / "make_requirements.py"
    spec = importlib.util.spec_from_file_location("make_requirements", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def locked(name: str) -> dict[str, str]:
    """The packages of a lock file with their versions; every line is one of the two kinds that it may hold."""
    text = (ROOT / "repos" / "detector" / "requirements" / f"{name}.txt").read_text()
    pins = re.findall(r"(?m)^([a-z0-9.-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", text)
    rest = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(rest) == 2 * len(pins)
    assert "://" not in text
    return dict(pins)


def test_the_lock_files_hold_what_pyproject_asks_for() -> None:
    """Every requirement of an image is pinned within its bounds, and the two images agree."""
    needed = make_requirements()
    for name in ("train", "serve"):
        pins = locked(name)
        for requirement in map(Requirement, needed.bounds(name)):
            assert requirement.specifier.contains(pins[requirement.name.lower()]), requirement
    train, serve = locked("train"), locked("serve")
    assert "nvidia-pytriton" in serve
    assert "nvidia-pytriton" not in train
    assert {requirement: serve.get(requirement) for requirement in train} == train
