"""What SageMaker lays out for a program, in a folder of a test; and programs that are run in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["environment", "laid_out", "program", "start_program", "until", "whole"]


def laid_out(
    base: Path,
    *,
    hyperparameters: Mapping[str, str] | None = None,
    channels: Mapping[str, Mapping[str, Any]] | None = None,
    resources: Mapping[str, Any] | None = None,
) -> Path:
    """The config files of a job below ``base``."""
    config = base / "input" / "config"
    config.mkdir(parents=True, exist_ok=True)
    (base / "input" / "data").mkdir(exist_ok=True)
    (config / "hyperparameters.json").write_text(json.dumps(hyperparameters or {}))
    (config / "inputdataconfig.json").write_text(json.dumps(channels or {}))
    machines = resources or {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
    (config / "resourceconfig.json").write_text(json.dumps(machines))
    return base


def program(folder: Path, text: str) -> Path:
    """A Python program that ends with what is written here, all words of the contract imported."""
    file = folder / "train.py"
    file.write_text("from tritonforge.training.algorithm import *\n" + textwrap.dedent(text))
    return file


def environment(base: Path, **more: str) -> dict[str, str]:
    """The settings of a program."""
    here = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**here, "SAGEMAKER_BASE_DIR": str(base), "TRAINING_JOB_NAME": "job-1", **more}


def start_program(file: Path, base: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """A program under way."""
    return subprocess.Popen(
        [sys.executable, file, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(base, **more),
    )


def whole(file: Path, base: Path, *arguments: str) -> tuple[int, str, str]:
    """A program run to its end: its exit code, stdout and stderr."""
    with start_program(file, base, *arguments) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def until(holds: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
