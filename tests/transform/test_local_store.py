"""LocalStore as a place: the order of S3, outputs that appear whole, errors as sentences."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tritonforge.transform import LocalStore, StoreError
from tritonforge.transform.object_store import CHUNK

NAMES = ["b", "a/1", "a-1", "a.1", "a/b/c", "Z", "ä", "a b", "a/1.out", "ab", "é"]


def test_files_come_in_the_order_of_s3(tmp_path: Path) -> None:
    """By the bytes of the whole path, in which a slash is a byte as any other."""
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    found = list(LocalStore().list(str(tmp_path)))
    assert [item.uri for item in found] == [f"{tmp_path}/{name}" for name in sorted(NAMES, key=os.fsencode)]
    assert [item.size for item in found] == [len(name.encode()) for name in sorted(NAMES, key=os.fsencode)]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.sets(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20))
)
def test_every_name_is_listed_once(tmp_path: Path, names: set[str]) -> None:
    folder = tmp_path / str(abs(hash(frozenset(names))))
    folder.mkdir(exist_ok=True)
    names = {name for name in names if name not in (".", "..") and len(name.encode()) < 200}
    for name in names:
        (folder / name).write_bytes(name.encode())
    place = LocalStore()
    found = [item.uri for item in place.list(f"{folder}/")]
    assert found == [f"{folder}/{name}" for name in sorted(names, key=os.fsencode)]
    for uri in found:
        assert b"".join(map(bytes, place.open(uri))).decode() == uri.removeprefix(f"{folder}/")
        assert place.find(uri) is not None


def test_names_that_are_no_text_are_files_too(tmp_path: Path) -> None:
    """Linux has names of any bytes."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")).write_bytes(b"x")
    (found,) = LocalStore().list(str(tmp_path))
    assert b"".join(map(bytes, LocalStore().open(found.uri))) == b"x"


def test_a_link_that_leads_back_ends(tmp_path: Path) -> None:
    """Each folder is walked once."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1")
    (tmp_path / "a" / "back").symlink_to(tmp_path / "a")
    (tmp_path / "file").symlink_to(tmp_path / "a" / "x")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    assert [Path(item.uri).name for item in LocalStore().list(str(tmp_path))][-1] == "file"
    assert len(list(LocalStore().list(str(tmp_path)))) <= 3


def test_one_file_is_a_prefix_of_itself(tmp_path: Path) -> None:
    """A job may have one object."""
    (tmp_path / "a").write_bytes(b"123")
    (found,) = LocalStore().list(str(tmp_path / "a"))
    assert (found.uri, found.size) == (str(tmp_path / "a"), 3)
    assert LocalStore().find(str(tmp_path / "b")) is None
    assert LocalStore().find(str(tmp_path / "a" / "b")) is None
    with pytest.raises(StoreError, match="no such file or directory"):
        list(LocalStore().list(str(tmp_path / "b")))


def test_content_comes_in_pieces_from_any_byte_on(tmp_path: Path) -> None:
    """Of bounded size, whatever the file's is."""
    content = os.urandom(CHUNK * 2 + 5)
    (tmp_path / "a").write_bytes(content)
    pieces = list(map(bytes, LocalStore().open(str(tmp_path / "a"))))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) == CHUNK
    assert b"".join(map(bytes, LocalStore().open(str(tmp_path / "a"), CHUNK + 1))) == content[CHUNK + 1 :]


def test_the_etag_changes_with_the_content(tmp_path: Path) -> None:
    """Also where the size stays."""
    path = tmp_path / "a"
    path.write_bytes(b"123")
    before = LocalStore().find(str(path))
    path.write_bytes(b"321")
    os.utime(path, ns=(1, 1))
    after = LocalStore().find(str(path))
    assert before is not None
    assert after is not None
    assert before.etag != after.etag


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("as_file", [True, False])
def test_an_output_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partial: bool, as_file: bool
) -> None:
    """When the disk is full in the middle, what was there stays, and nothing else does."""
    out = tmp_path / "out"
    place = LocalStore(tmp_path / "partial" if partial else None)
    place.check(str(out))
    place.put(b"old", f"{out}/a/x.out")
    staged = tmp_path / "staged"
    staged.write_bytes(b"new")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"x\.out: cannot write: No space left") as caught:
            place.put(staged if as_file else b"new", f"{out}/a/x.out")
    assert caught.value.permanent
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["x.out"]
    assert (out / "a" / "x.out").read_bytes() == b"old"
    place.put(staged if as_file else b"new", f"{out}/a/x.out")
    assert (out / "a" / "x.out").read_bytes() == b"new"
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["x.out"]


@pytest.mark.parametrize("as_file", [True, False])
def test_a_file_of_another_file_system_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_file: bool
) -> None:
    """Where it cannot be moved."""
    replace = Path.replace

    def across(self: Path, target: Path) -> Path:
        if self.parent != target.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", across)
    place = LocalStore(tmp_path / "partial")
    place.check(str(tmp_path / "out"))
    staged = tmp_path / "staged"
    staged.write_bytes(b"content" * CHUNK)
    place.put(staged if as_file else b"content" * CHUNK, str(tmp_path / "out" / "x" / "y"))
    assert (tmp_path / "out" / "x" / "y").read_bytes() == b"content" * CHUNK
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["y"]
    assert list((tmp_path / "partial").iterdir()) == []


def test_an_output_stays_inside_of_its_folder(tmp_path: Path) -> None:
    """A key of S3 may have .. in it."""
    with pytest.raises(StoreError, match="outside of the output directory"):
        LocalStore().put(b"x", f"{tmp_path}/out/a/../../../x.out")


def test_a_key_that_is_also_a_folder_is_one_error(tmp_path: Path) -> None:
    """S3 may have both "a.out" and "a.out/b"; the others can still have their outputs."""
    LocalStore().put(b"x", str(tmp_path / "a.out"))
    with pytest.raises(StoreError, match="cannot write") as caught:
        LocalStore().put(b"y", str(tmp_path / "a.out" / "b.out"))
    assert not caught.value.permanent


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    """With the path."""
    with pytest.raises(StoreError, match="a: cannot read: No such file"):
        list(LocalStore().open(str(tmp_path / "a")))


def test_what_a_killed_process_left_half_is_cleared_away(tmp_path: Path) -> None:
    """By the check before the next run."""
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / ".tritonforge-123-4").write_bytes(b"ha")
    (tmp_path / "partial" / "mine").write_bytes(b"a user's own")
    LocalStore(tmp_path / "partial").check(str(tmp_path / "out"))
    assert [path.name for path in (tmp_path / "partial").iterdir()] == ["mine"]
    assert list((tmp_path / "out").iterdir()) == []
