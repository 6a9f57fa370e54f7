"""What the process imports and reads that emulators are forked from (`forked`): modules, and AWS's service models."""

from __future__ import annotations

import functools
import os
import tempfile

from botocore.loaders import JSONFileLoader

import tritonforge.cli.emulation  # noqa: F401 - for those who run the command
from tests.support.fakes import FakeContainers, FakeTrainer
from tritonforge.emulator import Emulator

for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]

_load = JSONFileLoader.load_file
_read = functools.cache(lambda path: _load(JSONFileLoader(), path))
JSONFileLoader.load_file = lambda self, file_path: _read(file_path)  # type: ignore[method-assign]

with tempfile.TemporaryDirectory() as _folder:
    Emulator(state=_folder, containers=FakeContainers(), trainer=FakeTrainer()).stop()
