"""Packages for TensorFlow Serving as definitions: what they may state, what they become, and how they are built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import graphdefs
from tests.support.command import tritonforge
from tritonforge import TYPE_FP32, DynamicBatching, File, Function, Input, Onnx, Output, TensorFlow, TensorFlowServing
from tritonforge import build as tritonforge_build
from tritonforge.errors import ArtifactError, DefinitionError
from tritonforge.model_files.signature import Signature
from tritonforge.repository import artifact_builder
from tritonforge.repository.builder import list_package
from tritonforge.repository.definition.loading import load
from tritonforge.repository.resolve import BuiltArtifact, LocalFolder, resolve
from tritonforge.validation.report import validate
from tritonforge.validation.rules.tfs_package import is_tfs_package

HANDLER = "def handler(data, context):\n    return data.read(), context.accept_header\n"


def model(name: str = "net", **fields: Any) -> TensorFlow:
    """A model with one input and one output, and an artifact beside the definition."""
    stated = {"input": [Input("x", TYPE_FP32, [-1, 2])], "output": [Output("y", TYPE_FP32, [-1, 2])]}
    return TensorFlow(name, **{**stated, "artifact": {3: File(path="saved")}, **fields})


def savedmodel(folder: Path) -> None:
    """A SavedModel with that signature, without TensorFlow: of the fields that are read."""
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(graphdefs.serialize_saved_model({"x": (-1, 2)}, {"y": (-1, 2)}))
    (folder / "assets").mkdir()
    (folder / "assets" / "words.txt").write_text("a\n")


def definition(folder: Path, text: str) -> Path:
    """A definition file with these lines after its imports."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "definition.py").write_text(f"from tritonforge import *\n{text}\n")
    return folder


NET = (
    "net = TensorFlow('net', input=[Input('x', TYPE_FP32, [-1, 2])], output=[Output('y', TYPE_FP32, [-1, 2])],\n"
    "                 artifact={3: File(path='saved')})\n"
)


def test_a_package_becomes_numbered_folders_and_code() -> None:
    """Each version of each model by its number, the folder of the handlers, and no configuration."""
    package = TensorFlowServing([model("b"), model("a", artifact={1: File(path="p"), 20: File(path="q")})], code="my")
    repository = resolve({}, package)
    assert list(repository.files) == ["a/1", "a/20", "b/3", "code"]
    assert repository.files["code"] == LocalFolder("my")
    made = repository.files["a/20"]
    assert isinstance(made, BuiltArtifact)
    assert (made.version, made.model.model_filename) == (20, ".")
    assert repository.configs == {}
    tree = repository.tree()
    assert is_tfs_package(tree)
    assert [finding.code for finding in validate(tree)] == ["W706"]
    assert list(resolve({}, TensorFlowServing([model()])).files) == ["net/3"]


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        ([], "it has no models"),
        ([Onnx("net")], "expected TensorFlow, got Onnx 'net'"),
        ([model(platform="tensorflow_graphdef")], "net is not a SavedModel; give TensorFlow models"),
        ([model(), model()], "two models are named 'net'"),
        ([model("code")], "a model cannot be named 'code'"),
        ([model(dynamic_batching=DynamicBatching())], "net: dynamic_batching is a setting of Triton's"),
        ([model(parameters={"a": "b"})], "net: parameters is a setting of Triton's"),
    ],
)
def test_what_no_package_can_be_is_one_sentence(models: list[Any], sentence: str) -> None:
    """Each on the line that says it."""
    with pytest.raises(DefinitionError, match=sentence):
        TensorFlowServing(models)


def test_a_definition_declares_a_package_or_a_repository(tmp_path: Path) -> None:
    """Its models are the package's; another one beside it, or a second package, is refused."""
    found = load(definition(tmp_path / "one", f"{NET}package = TensorFlowServing([net], code='code')"))
    assert found.package is not None
    assert list(found.models) == ["net"]
    assert found.models["net"] is found.package.models[0]
    inline = load(definition(tmp_path / "inline", "package = TensorFlowServing([TensorFlow('a')])"))
    assert list(inline.models) == ["a"]
    with pytest.raises(DefinitionError, match="'other' is not in the package for TensorFlow Serving"):
        load(definition(tmp_path / "two", f"{NET}other = Python('other')\npackage = TensorFlowServing([net])"))
    with pytest.raises(DefinitionError, match="it declares two packages"):
        load(definition(tmp_path / "three", f"{NET}a = TensorFlowServing([net])\nb = TensorFlowServing([net])"))
    assert load(definition(tmp_path / "four", NET)).package is None


def test_a_package_is_built_checked_and_found_unchanged(tmp_path: Path) -> None:
    """The SavedModel itself in the folder of its version, the code without leftovers; one digest, a silent check."""
    folder = definition(tmp_path / "definition", f"{NET}package = TensorFlowServing([net], code='handlers')")
    savedmodel(folder / "saved")
    (folder / "handlers" / "lib" / "__pycache__").mkdir(parents=True)
    (folder / "handlers" / "lib" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    (folder / "handlers" / "lib" / "beside.py").write_text("NAME = 1\n")
    (folder / "handlers" / ".hidden").write_text("x")
    (folder / "handlers" / "inference.py").write_text(HANDLER)
    output = tmp_path / "built"
    done = tritonforge("build", str(folder), "-o", str(output), "--format", "json")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert sorted(first["files"]) == [
        "code/inference.py",
        "code/lib/beside.py",
        "net/3/assets/words.txt",
        "net/3/saved_model.pb",
    ]
    assert first["models"] == ["net"]
    again = json.loads(tritonforge("build", str(folder), "-o", str(output), "--format", "json").stdout)
    assert (again["digest"], again["changed"], again["made"]) == (first["digest"], False, [])
    (folder / "handlers" / "inference.py").write_text(f"# changed\n{HANDLER}")
    changed = json.loads(tritonforge("build", str(folder), "-o", str(output), "--format", "json").stdout)
    assert (changed["changed"], changed["made"]) == (True, [])
    assert tritonforge("build", str(folder), "--check").returncode == 0
    assert tritonforge("validate", str(output)).returncode == 0


def test_a_build_serialises_and_checks_a_signature_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = definition(tmp_path / "definition", NET)
    savedmodel(folder / "saved")
    calls: list[str] = []
    check, to_json = artifact_builder.check_signature, Signature.to_json
    monkeypatch.setattr(artifact_builder, "check_signature", lambda *args: calls.append("check") or check(*args))
    monkeypatch.setattr(Signature, "to_json", lambda value: calls.append("to_json") or to_json(value))
    assert tritonforge_build(folder, tmp_path / "built").changed
    assert calls == ["to_json", "check"]


def test_a_package_that_the_container_would_refuse_is_not_written(tmp_path: Path) -> None:
    """Invalid handlers, a missing folder, another signature: reported, and nothing is built."""
    folder = definition(tmp_path / "definition", f"{NET}package = TensorFlowServing([net], code='handlers')")
    savedmodel(folder / "saved")
    output = tmp_path / "built"
    done = tritonforge("build", str(folder), "-o", str(output))
    assert done.returncode == 2
    assert "handlers: no such directory; it becomes code/ in the package" in done.stderr
    (folder / "handlers").mkdir()
    (folder / "handlers" / "inference.py").write_text("def input_handler(data, context): ...\n")
    done = tritonforge("build", str(folder), "-o", str(output))
    assert done.returncode == 1
    assert "SageMaker's TensorFlow Serving container would refuse this repository" in done.stderr
    assert "code/inference.py: E705: Handlers are not implemented correctly in user script." in done.stderr
    (folder / "handlers" / "inference.py").write_text(HANDLER)
    definition(folder, f"{NET.replace('[-1, 2])]', '[-1, 3])]')}package = TensorFlowServing([net], code='handlers')")
    done = tritonforge("build", str(folder), "-o", str(output))
    assert done.returncode == 2
    assert "net: input 'x' is stated with dims [-1, 3], but its file has shape [-1, 2]" in done.stderr
    assert not output.exists()


def test_a_function_becomes_version_1() -> None:
    """A source that names no version is that of the first."""
    package = TensorFlowServing([model(artifact=Function(build=dict))])
    assert list(resolve({}, package).files) == ["net/1"]


def test_folders_that_lie_apart_are_members_of_one_archive(tmp_path: Path) -> None:
    """As AWS's own example packs them: the numbered folder of one place, the code of another."""
    savedmodel(tmp_path / "exported" / "1538687370")
    (tmp_path / "exported" / "notes").mkdir()
    code = tmp_path / "handlers"
    (code / "lib" / "__pycache__").mkdir(parents=True)
    (code / "lib" / "__pycache__" / "x.pyc").write_bytes(b"")
    (code / "inference.py").write_text(HANDLER)
    found = list_package(tmp_path / "exported", code=code)
    assert found == [
        ("1538687370/assets/words.txt", tmp_path / "exported" / "1538687370" / "assets" / "words.txt"),
        ("1538687370/saved_model.pb", tmp_path / "exported" / "1538687370" / "saved_model.pb"),
        ("code/inference.py", code / "inference.py"),
    ]
    one = [path for path, _ in list_package(tmp_path / "exported" / "1538687370", name="net", version=7)]
    assert one == ["net/7/assets/words.txt", "net/7/saved_model.pb"]
    for wrong in ("handlers", "nowhere"):
        with pytest.raises(ArtifactError, match=f"{wrong}: SavedModel not found"):
            list_package(tmp_path / wrong)
    with pytest.raises(ArtifactError, match="nowhere: no such directory"):
        list_package(tmp_path / "exported", code=tmp_path / "nowhere")
