"""`tritonforge build`: what a user sees, and what CI gets."""

import json
from pathlib import Path

import pytest

from tests.support.command import tritonforge

DEFINITION = """
from tritonforge import *
model = Python(
    "model", input=[Input("x", TYPE_FP32, [1])], output=[Output("y", TYPE_FP32, [1])], artifact=File(path="model.py")
)
"""


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    """A definition that needs no framework."""
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "definition.py").write_text(DEFINITION)
    (folder / "model.py").write_text("# nothing\n")
    return folder


def test_the_report_names_files_sizes_and_the_digest(definition: Path, tmp_path: Path) -> None:
    """A person sees each file and its size, and whether anything changed."""
    first = tritonforge("build", str(definition), "-o", str(tmp_path / "out"))
    assert first.returncode == 0, first.stderr
    assert "model/1/model.py  10 B" in first.stdout
    assert first.stdout.splitlines()[-1].startswith(f"built {tmp_path / 'out'}  ")
    again = tritonforge("build", str(definition), "-o", str(tmp_path / "out"))
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1].replace("built", "unchanged")


def test_the_json_report_holds_the_same(definition: Path, tmp_path: Path) -> None:
    """Machines get one document."""
    done = tritonforge("build", str(definition), "-o", str(tmp_path / "out"), "--format", "json")
    document = json.loads(done.stdout)
    assert document["changed"] is True
    assert document["made"] == ["model/1"]
    assert document["models"] == ["model"]
    assert document["files"]["model/1/model.py"] == 10
    assert document["digest"].startswith("sha256:")


def test_check_compares_the_committed_configurations(definition: Path) -> None:
    """Missing, equal, and edited configurations: exit 1 with a diff, 0, 1 with a diff."""
    missing = tritonforge("build", str(definition), "--check")
    assert (missing.returncode, '+backend: "python"' in missing.stdout) == (1, True)
    assert f"tritonforge build {definition} --write-configs" in missing.stderr
    assert tritonforge("build", str(definition), "--write-configs").returncode == 0
    equal = tritonforge("build", str(definition), "--check")
    assert (equal.returncode, equal.stdout) == (0, "1 config.pbtxt files match the definition\n")
    config = definition / "model" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 0", "max_batch_size: 4"))
    edited = tritonforge("build", str(definition), "--check")
    assert edited.returncode == 1
    assert "-max_batch_size: 4\n+max_batch_size: 0\n" in edited.stdout
    document = json.loads(tritonforge("build", str(definition), "--check", "--format", "json").stdout)
    assert document["equal"] is False
    assert list(document["differing"]) == ["model/config.pbtxt"]


def test_check_reports_a_configuration_of_a_model_that_is_not_defined(definition: Path) -> None:
    assert tritonforge("build", str(definition), "--write-configs").returncode == 0
    (definition / "gone").mkdir()
    (definition / "gone" / "config.pbtxt").write_text('backend: "python"\n')
    for subject in (definition, definition / "definition.py"):
        stale = tritonforge("build", str(subject), "--check")
        assert stale.returncode == 1
        assert '-backend: "python"\n' in stale.stdout
        assert f"{definition / 'gone' / 'config.pbtxt'}: the definition has no model 'gone'. Remove it." in stale.stderr
        assert "--write-configs" not in stale.stderr
    report = json.loads(tritonforge("build", str(definition), "--check", "--format", "json").stdout)
    assert (report["equal"], list(report["differing"])) == (False, ["gone/config.pbtxt"])


def test_check_of_another_file_than_definition_py_ignores_other_models(definition: Path) -> None:
    assert tritonforge("build", str(definition), "--write-configs").returncode == 0
    (definition / "other.py").write_text(DEFINITION.replace('"model",', '"other",'))
    assert tritonforge("build", str(definition / "other.py"), "--write-configs").returncode == 0
    assert tritonforge("build", str(definition / "other.py"), "--check").returncode == 0


WRONG = {
    "missing artifact": ('path="model.py"', 'path="nowhere.py"', "nowhere.py"),
    "wrong sha256": ('path="model.py"', f'path="model.py", sha256="{"0" * 64}"', "sha256"),
    "does not import": ("model = ", "import nothing_like_it\nmodel = ", "definition.py:3: ModuleNotFoundError"),
    "wiring": (
        "model = ",
        "w = Ensemble('w', outputs=[Python('p', input=[Input('x', TYPE_FP32, [1])])(Tensor('I'))])\nmodel = ",
        'definition.py:3: model "p" states no outputs',
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_definition_is_one_sentence(case: str, definition: Path, tmp_path: Path) -> None:
    """Exit code 2, the place, and nothing written."""
    old, new, part = WRONG[case]
    (definition / "definition.py").write_text(DEFINITION.replace(old, new, 1))
    done = tritonforge("build", str(definition), "-o", str(tmp_path / "out"))
    assert done.returncode == 2
    error = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert part in error
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
