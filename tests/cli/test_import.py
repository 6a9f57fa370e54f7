"""`tritonforge import`: a hand-written repository becomes a definition that builds the same repository."""

import json
from pathlib import Path

import pytest

from tests.support.command import tritonforge
from tritonforge.repository.definition.loading import load
from tritonforge.repository.model_config import parse_config

CONFIG = """
backend: "python"
max_batch_size: 8  # as the client sends
input [{ name: "A" data_type: TYPE_FP32 dims: [ 4 ] }]
output [{ name: "B" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" }]
optimization { priority: PRIORITY_MAX }
"""
MODEL = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
ENSEMBLE = """
platform: "ensemble"
max_batch_size: 8
input [{ name: "I" data_type: TYPE_FP32 dims: [ 4 ] }]
output [{ name: "O" data_type: TYPE_FP32 dims: [ 2 ] }]
ensemble_scheduling { step [{
  model_name: "m" model_version: -1
  input_map { key: "A" value: "I" } output_map { key: "B" value: "O" }
}] }
"""
FILES = {
    "m/config.pbtxt": CONFIG,
    "m/1/model.py": MODEL,
    "m/1/part.py": "VALUE = 1\n",
    "m/3/model.py": MODEL,
    "m/labels.txt": "a\nb\n",
    "e/config.pbtxt": ENSEMBLE,
    "e/1/.gitkeep": "",
}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python model of two versions and an ensemble, below the current directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model_repository"
    for path, text in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def read_files(folder: Path) -> dict[str, object]:
    """Return the files of a repository by path; a configuration as its message, with the name that Triton fills in.

    A .gitkeep has no content here: builds write a line into it.
    """
    files: dict[str, object] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".tritonforge.json"):
        files[path.relative_to(folder).as_posix()] = b"" if path.name == ".gitkeep" else path.read_bytes()
        if path.name == "config.pbtxt":
            config = parse_config(path.read_text())
            config.name = config.name or path.parent.name  # type: ignore[attr-defined]  # protobuf's classes
            files[path.relative_to(folder).as_posix()] = config
    return files


@pytest.mark.parametrize("options", [(), ("--copy",)])
def test_the_build_of_the_definition_is_the_same_repository(repository: Path, options: tuple[str, ...]) -> None:
    done = tritonforge("import", "model_repository", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "wrote definition.py  2 models\n"
    wanted = read_files(repository)
    if options:
        repository.rename(repository.with_name("gone"))
    built = tritonforge("build", "definition.py", "-o", "built")
    assert built.returncode == 0, built.stderr
    assert read_files(Path("built")) == wanted


def test_a_definition_in_another_directory_refers_to_the_files(repository: Path) -> None:
    Path("definitions").mkdir()
    assert tritonforge("import", str(repository), "-o", "definitions/definition.py").returncode == 0
    assert 'File("../model_repository/m/labels.txt")' in Path("definitions/definition.py").read_text()
    assert tritonforge("build", "definitions", "-o", "built").returncode == 0


def test_the_json_report_has_the_notes(repository: Path) -> None:
    (repository / "m" / "labels.txt").unlink()
    done = tritonforge("import", "model_repository", "--format", "json")
    assert json.loads(done.stdout) == {
        "definition": "definition.py",
        "models": ["m", "e"],
        "notes": ["m: labels.txt not found; the build needs it"],
    }


def test_an_existing_definition_is_not_replaced(repository: Path) -> None:
    Path("definition.py").write_text("mine")
    done = tritonforge("import", "model_repository")
    assert done.returncode == 2
    assert done.stderr == "error: definition.py: it already exists; give another file, or --force to replace it\n"
    assert tritonforge("import", "model_repository", "--force").returncode == 0
    Path("models").mkdir()
    done = tritonforge("import", "model_repository", "--force", "--copy")
    assert done.stderr == "error: models: it already exists; remove it, or leave --copy out\n"


def test_a_copy_that_fails_leaves_nothing(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "models/m/1/model.py")

    monkeypatch.setattr("shutil.copyfile", fail)
    done = tritonforge("import", "model_repository", "--copy")
    assert (done.returncode, done.stderr) == (1, "error: models/m/1/model.py: cannot write: No space left on device\n")
    assert [path.name for path in Path().iterdir()] == ["model_repository"]


def test_broken_repositories_give_a_sentence_each(repository: Path) -> None:
    """Nothing is written, and no file outside of the repository is read."""
    (repository / "m" / "config.pbtxt").write_text("max_batch_size: x")
    (repository / "e" / "1" / "secret").symlink_to("/etc/passwd")
    done = tritonforge("import", "model_repository", "--copy")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: model_repository: m/config.pbtxt:1:17: Expected integer, got: x",
        "model_repository: e/1/secret: the link leads out of the repository. Put the file or directory there itself.",
    ]
    assert [path.name for path in Path().iterdir()] == ["model_repository"]
    assert tritonforge("import", "nowhere").returncode == 2
    Path("empty").mkdir()
    assert tritonforge("import", "empty").stderr.startswith("error: empty: no models found (expected directories")


def test_a_package_for_tensorflow_serving_is_imported_with_its_handlers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("pack/net/12/saved_model.pb", "pack/net/12/variables/variables.index", "pack/code/inference.py"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"")
    done = tritonforge("import", "pack", "--copy")
    assert done.returncode == 0, done.stderr
    assert (
        Path("definition.py")
        .read_text()
        .endswith(
            """
net = TensorFlow(
    "net",
    artifact={12: File("models/net/12")},
)

package = TensorFlowServing([net], code="models/code")
"""
        )
    )
    package = load("definition.py").package
    assert package is not None
    assert Path("models/code/inference.py").is_file()
    Path("pack/net/12/secret").symlink_to("/etc/passwd")
    done = tritonforge("import", "pack", "--force")
    assert done.stderr.startswith("error: pack: net/12/secret: the link leads out of the package.")


@pytest.mark.framework
@pytest.mark.process
def test_a_built_repository_is_built_again_from_its_import(digits: Path, tmp_path: Path) -> None:
    """DALI, TensorFlow, labels and an ensemble: the same bytes in every file."""
    definition = tmp_path / "definition.py"
    assert tritonforge("import", str(digits), "-o", str(definition)).returncode == 0
    built = tritonforge("build", str(definition), "-o", str(tmp_path / "built"))
    assert built.returncode == 0, built.stderr
    assert read_files(tmp_path / "built") == read_files(digits)


def test_a_definition_inside_of_the_repository_names_files_below_it(repository: Path) -> None:
    assert tritonforge("import", "model_repository", "-o", "model_repository/definition.py").returncode == 0
    assert 'File("m/labels.txt")' in (repository / "definition.py").read_text()
    assert tritonforge("build", "model_repository", "-o", "built").returncode == 0
