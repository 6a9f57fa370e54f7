"""`tritonforge.build`: what the command does, from Python."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

import tritonforge
from tritonforge import BuildProgress, BuildResult
from tritonforge.errors import ArtifactError, DefinitionError

DEFINITION = """
from tritonforge import Python, Input, Output, TYPE_FP32, Download, S3
y = Output("y", TYPE_FP32, [{dims}]{rest})
model = Python("m", artifact={artifact}, input=[Input("x", TYPE_FP32, [1])], output=[y])
"""


def write(folder: Path, *, artifact: str = "'model.py'", dims: int = 3, rest: str = "") -> Path:
    """A definition of one Python model, with its file and labels beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "definition.py").write_text(DEFINITION.format(artifact=artifact, dims=dims, rest=rest))
    (folder / "model.py").write_text("class TritonPythonModel:\n    def execute(self, requests): ...\n")
    (folder / "labels.txt").write_text("a\nb\nc\n\n")
    return folder


def test_a_build_from_python_gives_what_it_did(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files, sizes, digest and what is new; nothing is printed, and the result cannot change."""
    monkeypatch.chdir(tmp_path)
    events: list[BuildProgress] = []
    first = tritonforge.build(write(tmp_path / "d"), "out", on_progress=events.append)
    assert isinstance(first, BuildResult)
    assert (first.repository, first.changed, first.models, first.made) == (tmp_path / "out", True, ("m",), ("m/1",))
    assert list(first.files) == ["m/1/model.py", "m/config.pbtxt"]
    assert first.size == sum((tmp_path / "out" / path).stat().st_size for path in first.files)
    assert first.digest.startswith("sha256:")
    assert [event for event in events if event.kind == "step"] == [BuildProgress("step", "making m/1/model.py")]
    assert ("bytes", 62, 62) in [(event.kind, event.done, event.total) for event in events]
    with pytest.raises((FrozenInstanceError, TypeError)):
        first.digest = ""  # type: ignore[misc]
    with pytest.raises(TypeError):
        first.files["x"] = 1  # type: ignore[index]
    again = tritonforge.build(str(tmp_path / "d" / "definition.py"), tmp_path / "out")
    assert (again.digest, again.changed, again.made) == (first.digest, False, ())
    assert capfd.readouterr() == ("", "")


def test_an_object_in_s3_is_fetched_by_what_is_given(tmp_path: Path) -> None:
    """The address and the path to write to."""
    folder = write(tmp_path / "d", artifact='S3("s3://bucket/model.py")')
    built = tritonforge.build(
        folder, tmp_path / "out", fetch_s3=lambda uri, path: path.write_text(f"# {uri}\n") and None
    )
    assert (built.repository / "m/1/model.py").read_text() == "# s3://bucket/model.py\n"


@pytest.mark.parametrize(
    ("dims", "rest", "reason"),
    [
        (3, ", label_filename='labels.txt'", None),
        (2, ", label_filename='labels.txt'", None),
        (4, ", label_filename='labels.txt'", "labels.txt has 3 labels, the output 'y' has 4 classes"),
        (4, ", label_filename='l', labels=['a', 'b']", "output 'y': labels has 2 labels for 4 classes"),
    ],
)
def test_labels_fewer_than_classes_are_refused(tmp_path: Path, dims: int, rest: str, reason: str | None) -> None:
    """Classes without a name would be answered without one; labels that are too many are a note."""
    folder = write(tmp_path / "d", dims=dims, rest=rest)
    if reason is None:
        notes = tritonforge.build(folder, tmp_path / "out").notes
        assert [note for note in notes if "labels" in note] == (
            [] if dims == 3 else ["m/labels.txt has 3 labels, the output 'y' has 2 classes"]
        )
    else:
        with pytest.raises((ArtifactError, DefinitionError)) as caught:
            tritonforge.build(folder, tmp_path / "out")
        assert reason in str(caught.value)
        assert not (tmp_path / "out").exists()
