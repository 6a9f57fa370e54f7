"""Tests of `tritonforge.repository.fingerprint`: what changes it, and what does not."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tritonforge
from tritonforge.repository.definition import S3, Dali, Download, File, Function, Input, Onnx, Output, TensorFlow
from tritonforge.repository.definition.loading import load
from tritonforge.repository.fingerprint import fingerprint_artifact, hash_reached_code


def build(scale: float = 1.0) -> None:
    """A function of a definition; it is never called here."""


def other(scale: float = 1.0) -> None:
    """Another one."""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A definition's folder with a module, a file and a SavedModel; an empty cache."""
    monkeypatch.setenv("TRITONFORGE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "repo"
    (folder / "saved").mkdir(parents=True)
    (folder / "definition.py").write_text("a = 1\n")
    (folder / "model.onnx").write_bytes(b"model")
    (folder / "saved" / "saved_model.pb").write_bytes(b"saved")
    return folder


FUNCTION = TensorFlow("net", max_batch_size=4, input=[Input("x", "TYPE_FP32", [3])], artifact=Function(build=build))


@pytest.mark.parametrize(
    "changed",
    [
        replace(FUNCTION, name="other"),
        replace(FUNCTION, max_batch_size=8),
        replace(FUNCTION, input=[Input("x", "TYPE_FP32", [4])]),
        replace(FUNCTION, output=[Output("y")]),
        replace(FUNCTION, platform="tensorflow_graphdef"),
        replace(FUNCTION, default_model_filename="net.savedmodel"),
        replace(FUNCTION, artifact=Function(build=build, seed=1)),
        replace(FUNCTION, artifact=Function(build=other)),
        replace(FUNCTION, artifact=Function(build=partial(build, 2.0))),
    ],
)
def test_what_the_result_depends_on_changes_it(base: Path, changed: TensorFlow) -> None:
    """The model's tensors and batching, its file's name, the function and the seed."""
    assert fingerprint_artifact(changed, base=base) != fingerprint_artifact(FUNCTION, base=base)


MODULES = {
    "definition": """
from network import layer
import sizes
from tritonforge import *

SCALE = [2.0, {"a": (1, 2)}]
NAMES = ("x", "y")

class Net:
    width = 3
    def call(self):
        return SCALE

def first():
    return layer(Net().call())

def second():
    import late
    from parts.deep import block
    return sizes.SIDE + late.f() + block()

def third(text="a"):
    return eval(text)

models = [Onnx(name, artifact=Function(globals()[name])) for name in ("first", "second", "third")]
""",
    "network": "def layer(x):\n    return inner(x)\n\ndef inner(x):\n    return x + 1\n\ndef unused():\n    return 1\n",
    "sizes": "SIDE = 4\n",
    "late": "import later\ndef f():\n    return later.NUMBER\n",
    "later": "NUMBER = 5\n",
    "parts/__init__": "",
    "parts/deep": "def block():\n    return 1\n",
    "parts/other": "x = 1\n",
    ".venv/hidden": "",
}

#: What is edited, and which of the three functions reach it; the third may reach everything.
EDITS = {
    "nothing": ("definition", "NAMES", "NAMES", ""),
    "a comment": ("definition", "\ndef first", "\n# first\n\ndef first", ""),
    "a name that no function reads": ("definition", '("x", "y")', '("x", "z")', ""),
    "a global": ("definition", '"a": (1, 2)', '"a": (1, 3)', "first"),
    "an attribute of a class": ("definition", "width = 3", "width = 4", "first"),
    "a method": ("definition", "return SCALE", "return SCALE[0]", "first"),
    "a function itself": ("definition", "return sizes.SIDE", "return 1 + sizes.SIDE", "second"),
    "a default": ("definition", 'text="a"', 'text="b"', ""),
    "a function of a function of another file": ("network", "return x + 1", "return x + 2", "first"),
    "another function of that file": ("network", "return 1\n", "return 2\n", ""),
    "a module": ("sizes", "SIDE = 4", "SIDE = 5", "second"),
    "an import in a function": ("late", "def f", "a = 1\ndef f", "second"),
    "an import of an import": ("later", "5", "6", "second"),
    "a module of a package": ("parts/deep", "return 1", "return 2", "second"),
    "a package": ("parts/__init__", "", "a = 1\n", "second"),
    "another module of the package": ("parts/other", "x = 1", "x = 2", ""),
    "a hidden folder": (".venv/hidden", "", "x = 1\n", None),
}


def prints(folder: Path) -> dict[str, str]:
    """The fingerprint of each model of the definition in a folder."""
    models = {name: model for name, model in load(folder).models.items() if isinstance(model, Onnx)}
    return {name: fingerprint_artifact(model, base=folder) for name, model in models.items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The modules above in a folder, and their fingerprints."""
    folder = tmp_path_factory.mktemp("code")
    for name, text in MODULES.items():
        (folder / f"{name}.py").parent.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
    return folder, prints(folder)


@pytest.mark.parametrize("case", EDITS)
def test_an_edit_counts_for_the_functions_that_reach_it(written: tuple[Path, dict[str, str]], case: str) -> None:
    """What they call, read and import, and nothing else of the definition's folder."""
    folder, before = written
    name, old, new, reached = EDITS[case]
    file = folder / f"{name}.py"
    text = file.read_text()
    assert old in text
    try:
        file.write_text(text.replace(old, new, 1))
        importlib.invalidate_caches()
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        shutil.rmtree(folder / "parts" / "__pycache__", ignore_errors=True)
        changed = {model for model, digest in prints(folder).items() if digest != before[model]}
    finally:
        file.write_text(text)
    # eval() may reach any file, so each edit of one counts.
    anywhere = set() if old == new or reached is None else {"third"}
    assert changed == anywhere | ({reached} if reached else set())


@pytest.mark.process
def test_it_is_the_same_in_another_folder_and_process(written: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Neither the path of the folder nor the process counts for a function, and no framework is loaded."""
    folder, before = written
    shutil.copytree(folder, tmp_path / "elsewhere")
    program = (
        "import json, sys; from pathlib import Path\n"
        "from tritonforge.repository.fingerprint import fingerprint_artifact\n"
        "from tritonforge.repository.definition.loading import load\n"
        "base = Path(sys.argv[1])\n"
        "prints = {name: fingerprint_artifact(model, base=base) for name, model in load(base).models.items()}\n"
        "frameworks = [m for m in ('tensorflow', 'keras', 'nvidia.dali', 'onnx', 'numpy') if m in sys.modules]\n"
        "print(json.dumps([prints, frameworks]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(tritonforge.__file__).parents[1])}
    command = [sys.executable, "-c", program, str(tmp_path / "elsewhere")]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == [before, []]


class Layer:
    """A class of this file."""

    def __init__(self, size: int) -> None:
        self.size = size

    def build(self) -> int:
        """Be a bound method."""
        return self.size


def kept_in_a_closure(size: int) -> Callable[[], int]:
    """A function that a decorator of a library wraps."""

    @contextmanager
    def made() -> Iterator[int]:
        yield size * 2

    return made  # type: ignore[return-value]  # it is only looked at


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Layer(1).build, Layer(2).build),
        (kept_in_a_closure(1), kept_in_a_closure(2)),
        (lambda: np.float32, lambda: np.float64),
        (cache(lambda: 1), cache(lambda: 2)),
        (partial(int, "1"), partial(int, "2")),
    ],
)
def test_values_that_a_function_carries_count(base: Path, one: Callable[[], Any], other: Callable[[], Any]) -> None:
    """Those of its object, its closure, its wrapper, its arguments."""
    assert hash_reached_code(one, base) == hash_reached_code(one, base)
    assert hash_reached_code(one, base) != hash_reached_code(other, base)


@pytest.mark.parametrize("path", ["model.onnx", "saved"])
def test_a_file_counts_by_size_time_and_place(base: Path, path: str) -> None:
    """Files are not read: their size, time stamp and inode are compared."""
    model = Onnx("net", artifact=File(path=path))
    before = fingerprint_artifact(model, base=base)
    assert fingerprint_artifact(model, base=base) == before
    file = base / path if path != "saved" else base / path / "saved_model.pb"
    os.utime(file, ns=(1, 1))
    assert fingerprint_artifact(model, base=base) != before
    assert fingerprint_artifact(replace(model, artifact=File(path=path, sha256="0" * 64)), base=base) != before


def test_a_download_counts_by_digest_and_whether_it_is_there(base: Path, tmp_path: Path) -> None:
    """When the file comes into the cache, what was built without it is built anew."""
    source = Download(url="https://host/a", sha256="0" * 64, fallback=Function(build=build))
    before = fingerprint_artifact(Onnx("net", artifact=source), base=base)
    assert fingerprint_artifact(Onnx("net", artifact=replace(source, sha256="1" * 64)), base=base) != before
    assert (
        fingerprint_artifact(Onnx("net", artifact=replace(source, fallback=Function(build=other))), base=base) != before
    )
    (tmp_path / "cache" / "downloads").mkdir(parents=True)
    (tmp_path / "cache" / "downloads" / ("0" * 64)).write_bytes(b"")
    assert fingerprint_artifact(Onnx("net", artifact=source), base=base) != before


def test_an_object_in_s3_counts_by_address_and_digest(base: Path) -> None:
    """Another address or another digest is another file."""
    digests = {
        fingerprint_artifact(Onnx("net", artifact=S3(uri=uri, sha256=sha256)), base=base)
        for uri in ("s3://b/a", "s3://b/c")
        for sha256 in (None, "0" * 64)
    }
    assert len(digests) == 4


def test_a_pipeline_counts_by_its_device_and_threads(base: Path) -> None:
    """The device and num_threads are stored in model.dali."""
    model = Dali("pre", pipeline=build)
    before = fingerprint_artifact(model, base=base)
    assert fingerprint_artifact(replace(model, device="cpu"), base=base) != before
    assert fingerprint_artifact(replace(model, parameters={"num_threads": 3}), base=base) != before
    assert fingerprint_artifact(replace(model, pipeline=other), base=base) != before
