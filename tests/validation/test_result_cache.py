"""The cache of results: the same report for a directory that has not changed, none for any other."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tritonforge.validation.context import Options
from tritonforge.validation.findings import ValidationReport
from tritonforge.validation.report import run
from tritonforge.validation.result_cache import ResultCache

CONFIG = """name: "model"
backend: "identity"
max_batch_size: 8
input [ { name: "A" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "B" data_type: TYPE_FP32 dims: [ 1 ] label_filename: "labels.txt" } ]
parameters { key: "EXTERNAL" value { string_value: "%s" } }
"""


def write_repository(folder: Path) -> Path:
    """Write one model with a label file, a link, and the path of a file outside of the repository."""
    (folder / "outside").write_text("1")
    repository = folder / "repository"
    (repository / "model" / "1").mkdir(parents=True)
    (repository / "model" / "config.pbtxt").write_text(CONFIG % (folder / "outside"))
    (repository / "model" / "labels.txt").write_text("cat\ndog\n")
    (repository / "model" / "1" / "weights").symlink_to(folder / "outside")
    return repository


def read_later_time() -> float:
    """Return the time a minute from now, for which no file is too new."""
    return time.time() + 60


@pytest.fixture
def cache(tmp_path: Path) -> ResultCache:
    """An empty cache that takes results of new files too."""
    return ResultCache(tmp_path / "cache", clock=read_later_time)


def find_file(tmp_path: Path) -> Path:
    """Return the only file of the cache."""
    [file] = (tmp_path / "cache").iterdir()
    return file


def test_unchanged_directory_gives_the_same_report(tmp_path: Path, cache: ResultCache) -> None:
    repository = write_repository(tmp_path)
    (repository / "model" / "config.pbtxt").write_text('backend: "identity" max_batchsize: 8\n')
    first = run(repository, cache=cache)
    assert {finding.code for finding in first.findings} >= {"E200", "E202"}
    assert "max_batchsize" in first.texts["model/config.pbtxt"]
    stored = cache.find(repository, Options())
    assert stored == ValidationReport(first.findings, ("model",), first.texts)
    assert run(repository, cache=cache) == stored


def edit_without_a_trace(repository: Path) -> None:
    """Replace a byte, and set the time of the last change to what it was."""
    file = repository / "model" / "config.pbtxt"
    status = file.stat()
    file.write_text(file.read_text().replace("FP32", "FP64"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_a_link(repository: Path) -> None:
    link = repository / "model" / "1" / "weights"
    link.unlink()
    link.symlink_to("missing")


CHANGES: list[Callable[[Path], object]] = [
    edit_without_a_trace,
    replace_a_link,
    lambda repository: (repository / "model" / "labels.txt").unlink(),
    lambda repository: (repository / "model" / "labels.txt").chmod(0o600),
    lambda repository: (repository / "second").mkdir(),
    lambda repository: (repository / "model" / "1").rename(repository / "model" / "2"),
    lambda repository: (repository.parent / "outside").write_text("2"),
    lambda repository: (repository.parent / "outside").unlink(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_the_directory_is_validated_again(
    tmp_path: Path, cache: ResultCache, change: Callable[[Path], object]
) -> None:
    repository = write_repository(tmp_path)
    run(repository, cache=cache)
    assert cache.find(repository, Options()) is not None
    change(repository)
    assert cache.find(repository, Options()) is None
    assert run(repository, cache=cache) == run(repository)


def test_result_holds_for_its_options_and_its_directory_only(tmp_path: Path, cache: ResultCache) -> None:
    repository = write_repository(tmp_path)
    run(repository, cache=cache)
    assert cache.find(repository, Options(gpus=1)) is None
    assert cache.find(repository / "model", Options()) is None
    assert cache.find(tmp_path / "missing", Options()) is None


def test_directory_that_changed_a_moment_ago_is_not_stored(tmp_path: Path) -> None:
    repository = write_repository(tmp_path)
    cache = ResultCache(tmp_path / "cache")
    run(repository, cache=cache)
    assert not (tmp_path / "cache").exists()


def test_damaged_result_is_not_used(tmp_path: Path, cache: ResultCache) -> None:
    repository = write_repository(tmp_path)
    run(repository, cache=cache)
    file = find_file(tmp_path)
    content = file.read_bytes()
    flipped = content[:-10] + bytes([content[-10] ^ 1]) + content[-9:]
    renamed = content.replace(b'"models": ["model"]', b'"models": ["modem"]')  # still valid JSON
    assert renamed != content
    for damaged in (renamed, b"", b"{}", bytes(100), content[:-1], flipped, b"\n" + content):
        file.write_bytes(damaged)
        assert cache.find(repository, Options()) is None
    file.write_bytes(content)
    assert cache.find(repository, Options()) is not None


@pytest.mark.parametrize("document", [b"{}", b"[]", b"0", b'{"stamps": 1, "external": [1]}', b"\xff"])
def test_result_of_another_release_is_not_used(tmp_path: Path, cache: ResultCache, document: bytes) -> None:
    repository = write_repository(tmp_path)
    run(repository, cache=cache)
    find_file(tmp_path).write_bytes(hashlib.sha256(document).hexdigest().encode() + b"\n" + document)
    assert cache.find(repository, Options()) is None
    assert run(repository, cache=cache) == run(repository)


def test_cache_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    repository = write_repository(tmp_path)
    (tmp_path / "file").write_text("")
    cache = ResultCache(tmp_path / "file" / "cache", clock=read_later_time)
    assert run(repository, cache=cache) == run(repository)


def test_oldest_results_are_removed(tmp_path: Path, cache: ResultCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tritonforge.validation.result_cache._MAXIMAL_RESULTS", 2)
    repository = write_repository(tmp_path)
    for gpus in range(4):
        run(repository, Options(gpus=gpus), cache=cache)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert cache.find(repository, Options(gpus=0)) is None
    assert cache.find(repository, Options(gpus=3)) is not None


def test_cache_is_readable_by_its_owner_only(tmp_path: Path, cache: ResultCache) -> None:
    run(write_repository(tmp_path), cache=cache)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert find_file(tmp_path).stat().st_mode & 0o777 == 0o600
