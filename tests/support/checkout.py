"""The checkout: its root, its command run as a program, and its built repositories."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[2]


def run_tritonforge(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    program = Path(sys.executable).with_name("tritonforge")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False)


def build(name: str, folder: Path) -> str:
    """Build `repos/<name>` into a folder of this name; return what the command printed."""
    done = run_tritonforge("build", f"repos/{name}", "-o", str(folder / name))
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


def build_once(name: str, shared: Path) -> Path:
    """`repos/<name>`, built by whichever process asks first."""
    with FileLock(shared / f"{name}.lock"):
        repository = shared / name
        if not _record(repository).exists():
            _record(repository).write_text(build(name, shared))
    return repository


def read_build_log(repository: Path) -> str:
    """Return what the command printed while it built a repository that all tests share."""
    return _record(repository).read_text()


def _record(repository: Path) -> Path:
    return repository.with_name(f"{repository.name}.built")
