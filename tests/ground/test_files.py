"""Hashing, atomic writes and operating system errors."""

import errno
import hashlib
import io
import os
import stat
from pathlib import Path

import pytest

from tritonforge import files


def test_a_file_and_a_stream_with_the_same_content_have_the_same_hash(tmp_path: Path) -> None:
    content = os.urandom(files.CHUNK + 7)
    (tmp_path / "file").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert files.hash_file(tmp_path / "file") == files.hash_stream(io.BytesIO(content)) == expected


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with files.replace_file(path) as file:
        file.write(b"content")
        assert not path.exists()
    assert path.read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_content_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), files.replace_file(path) as file:
        file.write(b"%d" % (1 // 0))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_mode_that_open_gives_unless_one_is_passed(tmp_path: Path) -> None:
    (tmp_path / "opened").write_bytes(b"")
    files.write_file(tmp_path / "written", b"")
    files.write_file(tmp_path / "private", b"", mode=0o600, sync=False)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["written"] == modes["opened"]
    assert modes["private"] == 0o600


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/path"), "No space left on device"),
        (OSError("read failed"), "read failed"),
        (OSError(), "OSError"),
    ],
)
def test_the_text_of_an_error_has_neither_number_nor_path(error: OSError, text: str) -> None:
    assert files.describe_error(error) == text
