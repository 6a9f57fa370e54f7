"""The file of `serve --trace`, with the numbered files that a server writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.triton_traces import write_request
from tritonforge.errors import TritonForgeError
from tritonforge.profiling.trace_collector import TraceCollector
from tritonforge.profiling.trace_file import TraceFiles


def read_target(arguments: Sequence[str]) -> Path:
    """Return the file of the arguments, without the number that the server adds."""
    return Path(next(text for text in arguments if "file=" in text).rpartition("file=")[2])


def test_requests_of_several_servers_are_one_valid_file_in_order(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text("of an earlier run")
    with TraceCollector(path, rate=3) as collector:
        assert json.loads(path.read_text()) == []
        first = read_target(collector.prepare_server())
        for number in (10, 9, 2):  # in the order of numbers, not of names
            first.with_name(f"trace.{number}").write_text(f"[{write_request(3 * number, request_id=f'r{number}')}]")
        arguments = collector.prepare_server()
        assert "--trace-config=rate=3" in arguments
        second = read_target(arguments)
        assert second != first
        second.with_name("trace.0").write_text("[" + write_request(1, request_id='a "quoted"\nid') + "]")
    assert not first.parents[1].exists()
    assert collector.count == 4
    json.loads(path.read_text())  # request ids are escaped
    requests = list(TraceFiles([path]))
    assert [request.request_id for request in requests] == ["r2", "r9", "r10", 'a "quoted"\nid']
    assert all(len(request.executions) == 3 for request in requests)


def test_a_file_that_the_server_still_writes_is_left_until_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with TraceCollector(path) as collector:
        target = read_target(collector.prepare_server())
        text = f"[{write_request()}]"
        target.with_name("trace.0").write_text(text[:200])
        collector.collect()
        assert json.loads(path.read_text()) == []
        target.with_name("trace.0").write_text(text)
        collector.collect()
        assert len(json.loads(path.read_text())) > 20
        assert list(target.parent.iterdir()) == []
        target.with_name("trace.1").write_text("")  # the server was killed
    assert len(list(TraceFiles([path]))) == 1


def test_a_full_disk_keeps_the_file_valid_and_is_an_error_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trace.json"
    collector = TraceCollector(path).__enter__()
    target = read_target(collector.prepare_server())
    target.with_name("trace.0").write_text(f"[{write_request(1)}]")
    collector.collect()
    monkeypatch.setattr(collector, "_file", _FullFile(collector._file))
    target.with_name("trace.1").write_text(f"[{write_request(4)}]")
    collector.collect()
    assert list(target.parent.iterdir()) == []  # what cannot be kept does not fill the disk further
    with pytest.raises(TritonForgeError, match=r"trace.json: cannot write: .*; the file has the first 1 traces"):
        collector.__exit__(None, None, None)
    assert len(list(TraceFiles([path]))) == 1
    json.loads(path.read_text())


class _FullFile:
    """A file on a disk that takes 100 more bytes of a write."""

    def __init__(self, file: object) -> None:
        self._file = file

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def write(self, data: bytes) -> object:
        return self._file.write(data[:100])  # type: ignore[attr-defined]


def test_a_file_that_cannot_be_written_is_an_error_before_a_server_starts(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(TritonForgeError, match="cannot write"), TraceCollector(tmp_path / "folder"):
        pass
