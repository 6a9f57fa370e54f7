"""Build the sdist and the wheels into build/package, and try them as users do; run by ``make package``.

The wheels are one for any platform, and one for Linux with the compiled library. The checks: twine; ``uvx`` on every
Python from 3.10 to 3.14 that this machine has, with the installed size; the library of the Linux wheel; the hooks
through pre-commit; the files for GitHub and GitLab against the schemas of those, and their scripts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["ROOT", "VERSIONS"]

ROOT: Final = Path(__file__).parents[1]
OUTPUT: Final = ROOT / "build" / "package"
TOOLS: Final = Path(sys.executable).parent
VERSIONS: Final = ("3.10", "3.11", "3.12", "3.13", "3.14")

#: Megabytes (10^6 bytes) that `uvx tritonforge` may put on the disk.
MAXIMAL_SIZE: Final = 40

_MODEL: Final = """backend: "python" max_batch_size: {size}
input [{{name: "x" data_type: TYPE_FP32 dims: [1]}}] output [{{name: "y" data_type: TYPE_FP32 dims: [1]}}]
"""

#: What is checked against which schema of check-jsonschema.
_SCHEMAS: Final = (
    ("vendor.github-actions", "action.yml"),
    ("vendor.github-workflows", ".github/workflows/ci.yml"),
    ("vendor.gitlab-ci", "docs/ci/gitlab.yml"),
)


def run(*command: str | Path, code: int = 0, folder: Path = ROOT, **environment: str) -> str:
    """Run a command and return its standard output; end the program if its exit code is another one."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode != code:
        sys.exit(
            f"{' '.join(map(str, command))}: exit code {done.returncode}, expected {code}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def list_requirements() -> list[str]:
    """Return the extra ``package`` of pyproject.toml, before a package that reads TOML is installed."""
    text = (ROOT / "pyproject.toml").read_text()
    return re.findall(r'^ +"([^"]+)",', re.split(r"^package = \[$", text, flags=re.MULTILINE)[1].split("\n]")[0], re.M)


def build() -> tuple[Path, Path]:
    """Build into `OUTPUT`; return the wheel for any platform and the one for this machine's Linux."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        # The wheels are built from the sdist, as those that install from it build them.
        run(TOOLS / "python", "-m", "build", "--installer=uv", "--outdir", folder, TRITONFORGE_PURE_WHEEL="1")
        sdist, portable = next(Path(folder).glob("*.tar.gz")), next(Path(folder).glob("*-py3-none-any.whl"))
        shutil.unpack_archive(sdist, folder)
        source = Path(folder, sdist.name.removesuffix(".tar.gz"))
        run(TOOLS / "python", "-m", "build", "--installer=uv", "--wheel", "--outdir", folder, folder=source)
        compiled = next(Path(folder).glob("*-py3-none-linux_*.whl"))
        run(TOOLS / "auditwheel", "repair", "--wheel-dir", OUTPUT, compiled, PATH=f"{TOOLS}:{os.environ['PATH']}")
        shutil.copy(sdist, OUTPUT)
        shutil.copy(portable, OUTPUT)
    run(TOOLS / "twine", "check", "--strict", *sorted(OUTPUT.iterdir()))
    for file in sorted(OUTPUT.iterdir()):
        print(f"{file.stat().st_size / 1e6:5.1f} MB  {file.relative_to(ROOT)}")
    return OUTPUT / portable.name, next(OUTPUT.glob("*manylinux*.whl"))


def find_pythons() -> Iterator[tuple[str, Path]]:
    """Yield the interpreters of `VERSIONS` on the search path, and those of pyenv."""
    roots = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")]
    for version in VERSIONS:
        candidates = [Path(path) for path in (shutil.which(f"python{version}"),) if path]
        candidates += [path for root in roots for path in sorted(root.glob(f"{version}.*/bin/python"))]
        for path in candidates:
            program = "import sys; print(*sys.version_info[:2], sep='.')"
            done = subprocess.run([path, "-c", program], capture_output=True, text=True, check=False)
            if done.stdout.strip() == version:
                yield version, path
                break
        else:
            print(f"Python {version}: not on this machine, not tried")


def write_repositories(folder: Path) -> tuple[Path, Path]:
    """Write a repository that loads and one that Triton refuses."""
    repositories = (folder / "good", folder / "bad")
    for repository, size in zip(repositories, (2, -1), strict=True):
        (repository / "m" / "1").mkdir(parents=True)
        (repository / "m" / "1" / "model.py").touch()
        (repository / "m" / "config.pbtxt").write_text(_MODEL.format(size=size))
    return repositories


def check_with_uvx(wheel: Path, folder: Path) -> None:
    """Run the commands of the base package with ``uvx`` on each Python, and measure what it installs."""
    good, bad = write_repositories(folder)
    pythons = list(find_pythons())
    for version, python in pythons:
        uvx = (TOOLS / "uvx", "--quiet", "--no-python-downloads", "--python", python, "--from", wheel, "tritonforge")
        assert "Triton loads it; 1 model, no findings" in run(*uvx, "validate", "--no-cache", good)
        assert '"code": "E213"' in run(*uvx, "validate", "--no-cache", "--format", "json", bad, code=1)
        if version in (pythons[0][0], pythons[-1][0]):
            assert "ValidateModelConfig" in run(*uvx, "explain", "E213")
            assert "flowchart" in run(*uvx, "graph", "--format", "mermaid", good)
            run(*uvx, "import", good, "-o", folder / f"definition-{version}.py")
            run(*uvx, "build", "--check", "repos/digits")
        target = folder / f"size-{version}"
        run(TOOLS / "uv", "pip", "install", "--quiet", "--python", python, "--target", target, wheel)
        size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) / 1e6
        packages = sorted(path.name.split("-")[0] for path in target.glob("*.dist-info"))
        print(f"Python {version}: uvx tritonforge works; {size:.1f} MB installed ({', '.join(packages)})")
        if size > MAXIMAL_SIZE:
            sys.exit(f"expected at most {MAXIMAL_SIZE} MB")


def check_library(wheel: Path, folder: Path) -> None:
    """Check that the wheel for Linux has the library, and that it is used where there is no C compiler."""
    environment = folder / "linux"
    run(TOOLS / "uv", "venv", "--quiet", "--python", sys.executable, environment)
    python = environment / "bin" / "python"
    run(TOOLS / "uv", "pip", "install", "--quiet", "--python", python, wheel)
    (folder / "library").mkdir()
    program = """import ctypes, pathlib, sys
from tritonforge.serving.loopback import install_library
ctypes.CDLL(str(install_library(pathlib.Path(sys.argv[1])))).bind
"""
    run(python, "-c", program, folder / "library", CC="no-compiler")
    print(f"{wheel.name}: its library loads, without a C compiler")


def check_hooks(folder: Path) -> None:
    """Run the hook through pre-commit in a repository with a model that Triton refuses, and again without it."""
    repository = folder / "repository"
    good, bad = write_repositories(repository)
    run("git", "init", "--quiet", repository)
    run("git", "add", "--all", folder=repository)
    for hook, directory, code, text in (
        ("tritonforge-validate", good.name, 0, "Passed"),
        ("tritonforge-validate", bad.name, 1, "E213"),
    ):
        (repository / ".pre-commit-config.yaml").write_text(
            f"repos:\n- repo: {ROOT}\n  rev: {run('git', 'rev-parse', 'HEAD').strip()}\n"
            f"  hooks:\n  - {{id: {hook}, args: [{directory}]}}\n"
        )
        output = run(TOOLS / "pre-commit", "run", "--all-files", code=code, folder=repository,
                     PRE_COMMIT_HOME=str(folder / "hooks"), TRITONFORGE_PURE_WHEEL="1")  # fmt: skip
        assert text in output, output
    print("pre-commit: the hook tritonforge-validate passes and fails as it should")


def check_ci_scripts(wheel: Path, folder: Path) -> None:
    """Run all steps of the Action, and the script of the GitLab job, on a repository that is refused."""
    import yaml

    sys.path.insert(0, str(ROOT))
    from tests.support.composite_action import run_action

    folder.mkdir()
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    job = yaml.safe_load((ROOT / "docs" / "ci" / "gitlab.yml").read_text())["tritonforge-validate"]
    environment = folder / "python"
    run(TOOLS / "uv", "venv", "--quiet", "--seed", "--python", sys.executable, environment)
    path = f"{environment / 'bin'}:{os.environ['PATH']}"
    good, bad = write_repositories(folder)
    inputs = {"path": f"{good.name}\n{bad.name}", "image": "24.09"}
    ended = run_action(action, folder, inputs, GITHUB_ACTION_PATH=str(ROOT), PATH=path)
    assert ended.code == 1, f"{ended.stdout}{ended.stderr}"
    assert "::error file=bad/m/config.pbtxt" in ended.stdout, ended.stdout
    variables = {**job["variables"], "TRITONFORGE_PACKAGE": str(wheel), "TRITONFORGE_PATH": bad.name}
    run("bash", "-eo", "pipefail", "-c", "\n".join(job["script"]), code=1, folder=folder, PATH=path, **variables)
    print("action.yml and docs/ci/gitlab.yml: they install tritonforge, and end with its exit code")


def main() -> None:
    """Build and check everything."""
    portable, compiled = build()
    for schema, path in _SCHEMAS:
        transform = ("--data-transform", "gitlab-ci") if "gitlab" in schema else ()
        run(TOOLS / "check-jsonschema", "--builtin-schema", schema, *transform, path)
        print(f"{path}: valid ({schema})")
    run(TOOLS / "pre-commit", "validate-manifest", ".pre-commit-hooks.yaml")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check_with_uvx(portable, folder)
        check_library(compiled, folder)
        check_hooks(folder)
        check_ci_scripts(portable, folder / "ci")


if __name__ == "__main__":
    if sys.argv[1:] == ["--requirements"]:
        print("\n".join(list_requirements()))
    else:
        main()
