"""Tests of `tritonforge.repository.artifacts.fingerprint`: what changes it, and what does not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import tritonforge
from tritonforge.repository.artifacts import fingerprint
from tritonforge.repository.definition import S3, Dali, Download, File, Function, Input, Onnx, Output, TensorFlow


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
    assert fingerprint(changed, base=base) != fingerprint(FUNCTION, base=base)


def test_the_code_of_the_folder_changes_it(base: Path) -> None:
    """Any Python file of the definition's folder counts, in sub-folders too; hidden folders do not."""
    before = fingerprint(FUNCTION, base=base)
    (base / ".venv").mkdir()
    (base / ".venv" / "hidden.py").write_text("")
    assert fingerprint(FUNCTION, base=base) == before
    (base / "parts").mkdir()
    (base / "parts" / "layer.py").write_text("b = 1\n")
    with_part = fingerprint(FUNCTION, base=base)
    assert with_part != before
    (base / "parts" / "layer.py").write_text("b = 2\n")
    assert fingerprint(FUNCTION, base=base) != with_part


def test_it_is_the_same_in_another_folder_and_process(base: Path, tmp_path: Path) -> None:
    """Neither the path of the folder nor the process counts for a function."""
    program = (
        "from pathlib import Path; from tritonforge.repository.artifacts import fingerprint;"
        "from tritonforge.repository.definition import Function, TensorFlow; import sys;"
        "build = lambda: None; build.__qualname__ = 'build';"
        "print(fingerprint(TensorFlow('net', artifact=Function(build=build)), base=Path(sys.argv[1])));"
        "print([m for m in ('tensorflow', 'keras', 'nvidia.dali', 'onnx', 'numpy') if m in sys.modules])"
    )
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    (copy / "definition.py").write_text("a = 1\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(tritonforge.__file__).parents[1])}
    said = [
        subprocess.run(
            [sys.executable, "-c", program, folder], env=environment, check=True, capture_output=True, text=True
        ).stdout.split("\n")
        for folder in (base, copy)
    ]
    assert said[0][0] == said[1][0]
    assert said[0][0] == fingerprint(TensorFlow("net", artifact=Function(build=build)), base=base)
    assert said[0][1] == "[]", "a framework was imported"


@pytest.mark.parametrize("path", ["model.onnx", "saved"])
def test_a_file_counts_by_size_time_and_place(base: Path, path: str) -> None:
    """Files are not read: their size, time stamp and inode tell."""
    model = Onnx("net", artifact=File(path=path))
    before = fingerprint(model, base=base)
    assert fingerprint(model, base=base) == before
    file = base / path if path != "saved" else base / path / "saved_model.pb"
    os.utime(file, ns=(1, 1))
    assert fingerprint(model, base=base) != before
    assert fingerprint(replace(model, artifact=File(path=path, sha256="0" * 64)), base=base) != before


def test_a_download_counts_by_digest_and_whether_it_is_there(base: Path, tmp_path: Path) -> None:
    """When the file comes into the cache, what was built without it is built anew."""
    source = Download(url="https://host/a", sha256="0" * 64, otherwise=Function(build=build))
    before = fingerprint(Onnx("net", artifact=source), base=base)
    assert fingerprint(Onnx("net", artifact=replace(source, sha256="1" * 64)), base=base) != before
    assert fingerprint(Onnx("net", artifact=replace(source, otherwise=Function(build=other))), base=base) != before
    (tmp_path / "cache" / "downloads").mkdir(parents=True)
    (tmp_path / "cache" / "downloads" / ("0" * 64)).write_bytes(b"")
    assert fingerprint(Onnx("net", artifact=source), base=base) != before


def test_an_object_in_s3_counts_by_address_and_digest(base: Path) -> None:
    """Another address or another digest is another file."""
    digests = {
        fingerprint(Onnx("net", artifact=S3(uri=uri, sha256=sha256)), base=base)
        for uri in ("s3://b/a", "s3://b/c")
        for sha256 in (None, "0" * 64)
    }
    assert len(digests) == 4


def test_a_pipeline_counts_by_its_device_and_threads(base: Path) -> None:
    """The device and num_threads are stored in model.dali."""
    model = Dali("pre", pipeline=build)
    before = fingerprint(model, base=base)
    assert fingerprint(replace(model, device="cpu"), base=base) != before
    assert fingerprint(replace(model, parameters={"num_threads": 3}), base=base) != before
    assert fingerprint(replace(model, pipeline=other), base=base) != before
