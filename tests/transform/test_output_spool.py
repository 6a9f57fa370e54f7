"""A stage continues behind what the journal has of, whatever a crash left after it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tritonforge.transform.object_progress import OutputSpool, SpoolError


def test_what_came_after_the_last_row_is_cut_off(tmp_path: Path) -> None:
    first = OutputSpool(tmp_path, "a")
    first.append([b"known "])
    length = first.sync()
    first.append([b"not yet known"])
    first.sync()
    first.close()
    second = OutputSpool(tmp_path, "a")
    assert second.resume(length)
    second.append([b"again"])
    second.sync()
    content = second.finish()
    assert isinstance(content, Path)
    assert content.read_bytes() == b"known again"


@pytest.mark.parametrize("left", [None, b"", b"shor"])
def test_a_stage_that_is_not_there_is_begun_anew(tmp_path: Path, left: bytes | None) -> None:
    """Or one that is shorter than it should be, after a crash of the machine."""
    stage = OutputSpool(tmp_path, "a")
    if left is not None:
        stage.path.write_bytes(left)
    assert not stage.resume(5)
    assert not stage.path.exists()
    stage.append([b"anew"])
    assert stage.finish() == b"anew"


def test_small_outputs_stay_in_memory(tmp_path: Path) -> None:
    """And large ones do not."""
    small, large = (OutputSpool(tmp_path, name, in_memory=10) for name in ("small", "large"))
    small.append([b"12345", b"67890"])
    assert list(tmp_path.iterdir()) == []
    assert small.finish() == b"1234567890"
    large.append([b"12345", b"67890"])
    large.append([b"x"])
    assert [path.name for path in tmp_path.iterdir()] == [large.path.name]
    content = large.finish()
    assert isinstance(content, Path)
    assert content.read_bytes() == b"1234567890x"
    large.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the work folder is full."""
    import os

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    stage = OutputSpool(tmp_path, "a")
    stage.append([b"x"])
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SpoolError, match="cannot write: No space left on device"):
        stage.sync()
    stage.discard()
