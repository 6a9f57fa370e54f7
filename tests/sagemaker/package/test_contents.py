"""The digest: of paths and contents, cheap beside a build's record, and right without one."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.model_archives import FILES, lay
from tritonforge.errors import PackageError
from tritonforge.files import hash_file
from tritonforge.repository.build_tree import BuildManifest, FileEntry, hash_tree
from tritonforge.sagemaker.package import list_objects, read_contents, write_package


def recorded(repository: Path) -> BuildManifest:
    """The record that a build would have left in this repository."""
    files = {
        path: FileEntry(
            (repository / path).stat().st_size, (repository / path).stat().st_mtime_ns, hash_file(repository / path)
        )
        for path in FILES
    }
    record = BuildManifest(hash_tree(files), files)
    record.write(repository)
    return record


def test_it_is_the_digest_of_the_build(repository: Path) -> None:
    """With a record and without, as the record says it."""
    without = read_contents(repository).digest
    assert recorded(repository).digest == without == read_contents(repository).digest


@pytest.mark.framework
def test_a_built_repository_keeps_its_digest(digits: Path, tmp_path: Path) -> None:
    """`build`, `read_contents`, the package, and a copy without times all say the same."""
    record = BuildManifest.read(digits)
    assert record is not None
    shutil.copytree(digits, tmp_path / "copy", copy_function=shutil.copyfile)
    packed = write_package(digits, tmp_path / "model.tar.gz")
    assert {read_contents(digits).digest, read_contents(tmp_path / "copy").digest, packed.digest} == {record.digest}


def test_an_unchanged_repository_is_not_read(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a record that fits, no file is opened but the record itself."""
    recorded(repository)
    opened: list[str] = []
    real = Path.open

    def noted(self: Path, *arguments: object, **options: object) -> object:
        opened.append(self.name)
        return real(self, *arguments, **options)  # type: ignore[call-overload]  # as it was called

    monkeypatch.setattr(Path, "open", noted)
    read_contents(repository)
    assert set(opened) <= {".tritonforge.json"}


@pytest.mark.parametrize("change", ["content", "same size", "new", "gone", "renamed", "link"])
def test_a_change_is_noticed_beside_a_record(repository: Path, tmp_path: Path, change: str) -> None:
    """A record that no longer fits is not believed."""
    before = recorded(repository).digest
    file = repository / "leaf/1/model.py"
    match change:
        case "content":
            file.write_text("other and longer")
        case "same size":
            file.write_bytes(bytes(file.stat().st_size))
        case "new":
            lay(repository, {"leaf/labels.txt": "a\n"})
        case "gone":
            (repository / "all/1/.gitkeep").unlink()
        case "renamed":
            file.rename(repository / "leaf/1/other.py")
        case "link":
            status = file.stat()
            shutil.copy2(file, repository / "leaf/elsewhere.py")
            (repository / "leaf/elsewhere.py").write_bytes(bytes(status.st_size))
            os.utime(repository / "leaf/elsewhere.py", ns=(status.st_atime_ns, status.st_mtime_ns))
            file.unlink()
            file.symlink_to("../elsewhere.py")
    after = read_contents(repository).digest
    (repository / ".tritonforge.json").unlink()
    assert after == read_contents(repository).digest != before


def test_a_package_has_the_digest_of_its_own_bytes(repository: Path, tmp_path: Path) -> None:
    """Where a record is fooled (same size, same time), the archive's digest is still of what is in it."""
    recorded(repository)
    file = repository / "leaf/1/model.py"
    status = file.stat()
    file.write_bytes(bytes(status.st_size))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    packed = write_package(repository, tmp_path / "model.tar.gz")
    (repository / ".tritonforge.json").unlink()
    assert packed.digest == read_contents(repository).digest


def test_a_package_of_an_untouched_build_is_not_hashed_again(repository: Path, tmp_path: Path) -> None:
    """What the build hashed is believed, as a wrong record shows; not so once anything about a file changed."""
    record = recorded(repository)
    file = repository / "leaf/1/model.py"
    wrong = {**record.files, "leaf/1/model.py": replace(record.files["leaf/1/model.py"], sha256="0" * 64)}
    time.sleep(0.05)  # ticks of the file system's clock: the record must be younger than the files
    BuildManifest(hash_tree(wrong), wrong).write(repository)
    assert write_package(repository, tmp_path / "model.tar.gz").digest == hash_tree(wrong)
    time.sleep(0.05)
    file.chmod(0o600)
    assert write_package(repository, tmp_path / "model.tar.gz").digest == record.digest


def test_what_is_left_out_does_not_count(repository: Path) -> None:
    """Caches, records and hidden directories do not change the digest."""
    before = read_contents(repository)
    lay(
        repository, {".git/HEAD": "x", "leaf/1/__pycache__/a.pyc": "x", "leaf/1/assets/": "", ".tritonforge.json": "{}"}
    )
    after = read_contents(repository)
    assert (after.digest, after.files, after.hashes) == (before.digest, before.files, before.hashes)
    assert after.left_out == (".git/", ".tritonforge.json", "leaf/1/__pycache__/", "leaf/1/assets/")


def test_progress_of_hashing_ends_at_the_sum(repository: Path) -> None:
    """Bytes of files, reported by one thread at a time."""
    received: list[tuple[int, int]] = []
    size = read_contents(repository, on_progress=lambda *item: received.append(item)).size
    assert received[-1] == (size, size)


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    """The sentence says what to give."""
    with pytest.raises(PackageError, match="nowhere: not a directory; give a built or hand-written"):
        read_contents(tmp_path / "nowhere")


def test_uncompressed_objects_are_the_files(repository: Path) -> None:
    """Keys are the paths below /opt/ml/model; links lead to the real file."""
    (repository / "leaf/2").symlink_to("1")
    lay(repository, {"leaf/1/model.savedmodel/assets/": "", ".git/HEAD": "x"})
    objects = list_objects(repository)
    assert [key for key, _ in objects] == [
        "all/1/.gitkeep",
        "all/config.pbtxt",
        "leaf/1/model.py",
        "leaf/2/model.py",
        "leaf/config.pbtxt",
    ]
    assert all(path.is_file() and not path.is_symlink() for _, path in objects)


def test_an_empty_version_directory_cannot_be_uncompressed(repository: Path) -> None:
    """S3 has no directories, so the ensemble would have no version there."""
    (repository / "all/1/.gitkeep").unlink()
    with pytest.raises(PackageError, match=r"all/1: the directory is empty, and S3 has no .* \.gitkeep into it"):
        list_objects(repository)
