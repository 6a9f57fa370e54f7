"""Building to disk: atomic, deterministic, incremental, and careful with what is there."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tritonforge import TYPE_FP32, Input, Output, TensorFlow
from tritonforge.errors import ArtifactError, DefinitionError, ValidationError
from tritonforge.repository import build_tree
from tritonforge.repository.build_tree import MANIFEST, BuildManifest, FileEntry, hash_tree
from tritonforge.repository.builder import BuiltRepository, build_repository
from tritonforge.repository.definition.loading import Definitions, load
from tritonforge.repository.definition.models import Model
from tritonforge.repository.download import BuildProgress, ProgressCallback, no_progress
from tritonforge.validation.tree import GITKEEP_TEXT

DEFINITION = """
from tritonforge import *

first = Python(
    "first",
    max_batch_size=4,
    input=[Input("x", TYPE_FP32, [2])],
    output=[Output("y", TYPE_FP32, [2], label_filename="labels.txt", labels=["one", "two"])],
    artifact={1: File(path="a.py"), 3: File(path="b.py")},
    version_policy=All(),
    model_warmup=[Warmup("w", {"x": WarmupInput(TYPE_FP32, [2], input_data_file="x.bin", data=b"12345678")})],
    files={"extra/words.txt": File(path="words.txt")},
)
whole = Ensemble("whole", outputs={"OUT": first(Tensor("IN"))})
"""


class FileBuilder:
    """A builder without frameworks: it copies the artifact's file, and lists what it built."""

    def __init__(self, *, size: int = 0) -> None:
        self.built: list[str] = []
        self.size = size

    def fingerprint(self, model: Model, version: int, *, base: Path) -> str:
        """Return the file's content."""
        return (base / model.versions[version].path).read_text()  # type: ignore[union-attr]  # every artifact here is a File

    def build(
        self,
        definitions: Definitions,
        model: Model,
        version: int,
        *,
        destination: Path,
        on_progress: ProgressCallback = no_progress,
    ) -> Any:
        """Copy the file; report a note and bytes."""
        self.built.append(f"{model.name}/{version}")
        content = self.fingerprint(model, version, base=definitions.folder)
        if "broken" in content:
            raise ArtifactError("the file is broken")
        (destination / "model.py").write_text(content)
        if self.size:
            with (destination / "weights").open("wb") as file:
                file.truncate(self.size)
        on_progress(BuildProgress("note", f"made {version}"))
        on_progress(BuildProgress("bytes", done=len(content)))
        return {"version": version}

    def complete(self, model: Model, signature: Any) -> Model:
        """Return the model: it leaves nothing out."""
        assert signature["version"] in (1, 3)
        return model


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    """A definition with its files."""
    folder = tmp_path / "definitions"
    folder.mkdir()
    (folder / "definition.py").write_text(DEFINITION)
    (folder / "a.py").write_text("# a\n")
    (folder / "b.py").write_text("# b\n")
    (folder / "words.txt").write_text("w\n")
    return folder


def run(definition: Path, destination: Path, builder: FileBuilder | None = None) -> BuiltRepository:
    """Build with the builder above."""
    return build_repository(load(definition), destination, builder=builder or FileBuilder())


def tree(path: Path) -> dict[str, bytes]:
    """Every file below a directory except the manifest."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }


def test_a_build_writes_every_file_of_the_repository(definition: Path, tmp_path: Path) -> None:
    """Versions, configurations, labels, warm-up data, extra files, and the ensemble's kept version directory."""
    built = run(definition, tmp_path / "out")
    found = tree(tmp_path / "out")
    assert sorted(found) == [
        "first/1/model.py",
        "first/3/model.py",
        "first/config.pbtxt",
        "first/extra/words.txt",
        "first/labels.txt",
        "first/warmup/x.bin",
        "whole/1/.gitkeep",
        "whole/config.pbtxt",
    ]
    assert found["first/labels.txt"] == b"one\ntwo\n"
    assert found["first/warmup/x.bin"] == b"12345678"
    assert dict(built.files) == {path: len(content) for path, content in found.items()}
    assert built.changed
    assert built.rebuilt == ("first/1", "first/3")
    assert built.notes == ("made 1", "made 3")


def test_two_builds_in_two_folders_have_one_digest(definition: Path, tmp_path: Path) -> None:
    """The digest is of sorted paths and contents, not of places and times."""
    one = run(definition, tmp_path / "one")
    two = run(definition, tmp_path / "elsewhere" / "two")
    assert one.digest == two.digest
    assert tree(tmp_path / "one") == tree(tmp_path / "elsewhere" / "two")


def test_a_gitkeep_of_an_earlier_build_gets_its_text_and_the_digest_stays(definition: Path, tmp_path: Path) -> None:
    """An ensemble's .gitkeep was empty; KServe downloads no empty files. An endpoint with the digest is up to date."""
    digest = run(definition, tmp_path / "out").digest
    keeper = tmp_path / "out/whole/1/.gitkeep"
    keeper.write_bytes(b"")
    record = BuildManifest.read(tmp_path / "out")
    assert record is not None
    earlier = {**record.files, "whole/1/.gitkeep": FileEntry.read(keeper)}
    BuildManifest(hash_tree(earlier), earlier, record.versions).write(tmp_path / "out")
    assert hash_tree(earlier) == digest
    assert run(definition, tmp_path / "out").digest == digest
    assert keeper.read_bytes() == GITKEEP_TEXT


def test_an_unchanged_definition_makes_nothing_and_leaves_the_tree(definition: Path, tmp_path: Path) -> None:
    """A second build touches no file, and still says what the first one notes."""
    out = tmp_path / "out"
    run(definition, out)
    before = {path: (out / path).stat().st_ino for path in tree(out)}
    builder = FileBuilder()
    built = run(definition, out, builder)
    assert not built.changed
    assert builder.built == []
    assert built.notes == ("made 1", "made 3")
    assert {path: (out / path).stat().st_ino for path in tree(out)} == before


def test_only_what_changed_is_made_and_the_rest_is_linked(definition: Path, tmp_path: Path) -> None:
    """The unchanged version keeps its inode: it was linked, not copied."""
    out = tmp_path / "out"
    first = run(definition, out)
    kept = (out / "first/1/model.py").stat().st_ino
    (definition / "b.py").write_text("# other\n")
    builder = FileBuilder()
    built = run(definition, out, builder)
    assert builder.built == ["first/3"]
    assert built.digest != first.digest
    assert (out / "first/1/model.py").stat().st_ino == kept
    assert (out / "first/3/model.py").read_text() == "# other\n"


def test_a_file_that_was_touched_is_made_again(definition: Path, tmp_path: Path) -> None:
    """A tree that was edited is restored to what the definition states."""
    out = tmp_path / "out"
    first = run(definition, out)
    (out / "first/1/model.py").write_text("# edited by hand\n")
    (out / "first/stray").write_text("x")
    built = run(definition, out)
    assert built.digest == first.digest
    assert (out / "first/1/model.py").read_text() == "# a\n"
    assert not (out / "first/stray").exists()


def test_an_edit_that_keeps_the_size_is_noticed(definition: Path, tmp_path: Path) -> None:
    """A made file and a text of the same length as before, but written later, are brought back too."""
    out = tmp_path / "out"
    first = run(definition, out)
    for path in ("first/1/model.py", "first/labels.txt"):
        edited = out / path
        before = edited.stat()
        edited.write_bytes(bytes(before.st_size))
        os.utime(edited, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert run(definition, out).digest == first.digest
    assert (out / "first/1/model.py").read_text() == "# a\n"
    assert (out / "first/labels.txt").read_text() == "one\ntwo\n"


def test_a_model_that_left_the_definition_leaves_the_tree(definition: Path, tmp_path: Path) -> None:
    """The tree holds what the definition says and nothing more."""
    out = tmp_path / "out"
    run(definition, out)
    (definition / "definition.py").write_text(DEFINITION.rsplit("whole =", 1)[0])
    run(definition, out)
    assert not (out / "whole").exists()


def test_a_failing_build_leaves_the_old_tree_whole(definition: Path, tmp_path: Path) -> None:
    """An error in the middle changes nothing and leaves nothing beside."""
    out = tmp_path / "out"
    run(definition, out)
    before = tree(out)
    (definition / "b.py").write_text("# broken\n")
    with pytest.raises(ArtifactError, match="the file is broken"):
        run(definition, out)
    assert tree(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["definitions", "out"]


@pytest.mark.process
def test_a_killed_build_leaves_the_old_tree_whole(definition: Path, tmp_path: Path) -> None:
    """A build killed while it makes an artifact changes nothing, and the next one cleans up after it."""
    out = tmp_path / "out"
    first = run(definition, out)
    before = tree(out)
    (definition / "b.py").write_text("# new\n")
    script = textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_disk
        class Slow(test_disk.FileBuilder):
            def build(self, *arguments, **named):
                super().build(*arguments, **named)
                print("in the middle", flush=True)
                time.sleep(60)
        test_disk.run(test_disk.Path({str(definition)!r}), test_disk.Path({str(out)!r}), Slow())
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in the middle\n"
        process.send_signal(signal.SIGKILL)
    assert tree(out) == before
    assert (tmp_path / ".out.partial").exists()
    assert run(definition, out).digest != first.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["definitions", "out"]


def test_two_builds_of_one_destination_do_not_meet(definition: Path, tmp_path: Path) -> None:
    """The second of two builds at once is refused in one sentence."""
    with build_tree.stage_tree(tmp_path / "out"), pytest.raises(DefinitionError, match="another build is writing it"):
        run(definition, tmp_path / "out")


BUILDER = """
import os, sys, time
from tritonforge.errors import DefinitionError
from tritonforge.repository.build_tree import *
from pathlib import Path
destination, inside = Path(sys.argv[1]), sys.argv[2]
end, entered = time.monotonic() + 1.5, 0
while time.monotonic() < end:
    try:
        with stage_tree(destination):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # FileExistsError: another builder is inside
            entered += 1
            os.unlink(inside)
    except DefinitionError as error:
        assert "another build is writing it" in str(error)
print(entered)
"""


@pytest.mark.process
def test_at_most_one_of_three_builders_is_inside(tmp_path: Path) -> None:
    """The lock file is removed at the end of each build, while others have it open and wait for its lock."""
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "out"), str(tmp_path / "inside")]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    results = [builder.communicate() for builder in builders]
    assert [errors for _, errors in results] == ["", "", ""]
    assert sum(int(entered) for entered, _ in results) > 100
    assert list(tmp_path.iterdir()) == []


def test_without_an_exchange_of_names_a_build_still_arrives(
    definition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that cannot exchange names, two renames do; killed between them, the next build recovers."""
    monkeypatch.setattr(build_tree, "_exchange", lambda left, right: False)
    out = tmp_path / "out"
    run(definition, out)
    (definition / "b.py").write_text("# new\n")
    run(definition, out)
    assert (out / "first/3/model.py").read_text() == "# new\n"
    out.rename(tmp_path / ".out.old")
    builder = FileBuilder()
    assert not run(definition, out, builder).changed
    assert builder.built == []


def test_files_are_copied_where_links_cannot_be_made(
    definition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without hard links costs a copy and nothing else."""
    link = os.link

    def refuse(source: Path, target: Path, **options: Any) -> None:
        if not options:  # else a new file gets its name, see `files.replace_file`
            raise OSError(errno.EPERM, "not here")
        link(source, target, **options)

    out = tmp_path / "out"
    run(definition, out)
    monkeypatch.setattr(os, "link", refuse)
    (definition / "b.py").write_text("# new\n")
    builder = FileBuilder()
    run(definition, out, builder)
    assert builder.built == ["first/3"]
    assert not run(definition, out).changed


def test_a_folder_of_something_else_is_never_replaced(definition: Path, tmp_path: Path) -> None:
    """A destination that no build wrote is refused and left alone."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    with pytest.raises(DefinitionError, match="no tritonforge build wrote"):
        run(definition, tmp_path / "home")
    assert tree(tmp_path / "home") == {"letter": b"dear"}


def test_a_missing_file_beside_the_definition_is_named(definition: Path, tmp_path: Path) -> None:
    """The error names the file and what it is for."""
    (definition / "words.txt").unlink()
    with pytest.raises(ArtifactError, match=r"words.txt: no such file.*first/extra/words.txt"):
        run(definition, tmp_path / "out")


def test_a_model_without_an_artifact_is_refused(tmp_path: Path) -> None:
    """There is nothing to serve without a model file."""
    model = TensorFlow("m", input=[Input("x", TYPE_FP32, [1])], output=[Output("y", TYPE_FP32, [1])])
    definitions = Definitions(tmp_path / "definition.py", {"m": model})
    with pytest.raises(ArtifactError, match="m: it has no model file"):
        build_repository(definitions, tmp_path / "out", builder=FileBuilder())


def test_what_triton_would_refuse_is_not_written(definition: Path, tmp_path: Path) -> None:
    """The tree is validated before it replaces the old one: an error is reported, and the old tree stays."""
    out = tmp_path / "out"
    run(definition, out)
    before = tree(out)
    text = DEFINITION.replace('x.bin", data=b"12345678")', 'x.bin", data=b"1234")')
    (definition / "definition.py").write_text(text)
    with pytest.raises(ValidationError, match=r"(?s)Triton would refuse this repository.*expects 8 bytes") as raised:
        run(definition, out)
    assert {finding.path for finding in raised.value.findings} == {"first/config.pbtxt", "whole/config.pbtxt"}  # type: ignore[attr-defined]  # findings
    assert tree(out) == before


def test_unchanged_weights_are_never_read_again(
    definition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebuilding does not read a made file whose size and time are as they were, however large it is."""
    out = tmp_path / "out"
    first = run(definition, out, FileBuilder(size=2 << 20))
    (definition / "words.txt").write_text("other\n")
    read: list[Path] = []
    monkeypatch.setattr(build_tree, "hash_file", lambda path: read.append(path) or "0" * 64)
    assert run(definition, out, FileBuilder(size=2 << 20)).digest != first.digest
    assert [path.name for path in read] == ["words.txt"]
