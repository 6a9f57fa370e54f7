"""The real server's judgement of a repository, without its weights: load it with backends that open no model file.

What Triton's core checks is judged in full: names, versions, configurations, labels, warm-up files, ensembles. What a
backend checks when it opens a model file is not, nor what it would fill in.
"""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonforge import temporary
from tritonforge.errors import LaunchError
from tritonforge.serving import view
from tritonforge.serving.server import Server

__all__ = ["Judgement", "judge"]

_MODEL = re.compile(r"^model '(?P<model>.+?)' did not load: (?P<reason>.+)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What tritonserver said: ``messages`` are its own sentences, none when it loads; ``seconds`` how long it took."""

    loads: bool
    messages: tuple[str, ...]
    seconds: float


def judge(repository: Path, *, auto_complete: bool = True, timeout: float = 60.0) -> Judgement:
    """Load the repository on a real tritonserver with stand-in backends, and stop it again.

    ``auto_complete`` off is ``--disable-auto-complete-config``. The models' Python code is not run.

    Raises:
        MissingExtraError: nvidia-pytriton is not installed.
    """
    began = time.monotonic()
    with temporary.folder("judge") as folder:
        shown = Path(folder) / "repository"
        _without_code(repository, shown)
        try:
            server = Server(
                shown,
                sagemaker_port=None,
                http_port=0,
                grpc_port=None,
                metrics_port=None,
                stand_in=True,
                arguments=() if auto_complete else ("--disable-auto-complete-config",),
                startup_timeout=timeout,
            )
        except LaunchError as error:
            lines = [line.replace(str(shown), "<repo>") for line in str(error).splitlines()]
            messages = tuple(found["reason"] if (found := _MODEL.match(line)) else line for line in lines)
            return Judgement(False, messages, time.monotonic() - began)
        server.stop()
    return Judgement(True, (), time.monotonic() - began)


def _without_code(repository: Path, shown: Path) -> None:
    """A folder of links to the repository in which each Python model's own code is the stand-in's."""
    stand_in = Path(__file__).parent / "backends" / "standin" / "model.py"
    shown.mkdir()
    configs = view.configs(repository)
    for entry in repository.iterdir():
        files = _python_files(entry, configs.get(entry.name))
        if not files:
            (shown / entry.name).symlink_to(entry.absolute())
            continue
        for path in sorted(entry.rglob("*")):
            target = shown / entry.name / path.relative_to(entry)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                if path in files:
                    shutil.copyfile(stand_in, target)
                else:
                    target.symlink_to(path.absolute())


def _python_files(model: Path, config: Any | None) -> set[Path]:
    """The code of a Python model, in every version; empty for models of another backend."""
    if config is None or not model.is_dir():
        return set()
    backend, name = config.backend, config.default_model_filename or "model.py"
    if backend not in ("", "python") or not name.endswith(".py"):
        return set()
    return {path for path in model.glob(f"*/{name}") if path.is_file()}
