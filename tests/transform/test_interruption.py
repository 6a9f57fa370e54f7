"""`kill -9` at random moments: what is there is whole, and the next run continues to the very same outputs."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.folder_transforms import FRAMES, Folder, Model
from tests.support.forked_scripts import Forks
from tests.support.invocation_container import Container
from tests.support.killed_transforms import Tool, outputs

pytestmark = pytest.mark.process

RECORDS = 400


class Slow(Container):
    """Answers after a moment, so that there is time to be killed in."""

    def __init__(self) -> None:
        super().__init__()
        self.pause = 0.01


@pytest.fixture
def container() -> Iterator[Slow]:
    """A container that takes its time."""
    with Slow() as server:
        yield server
        server.shutdown()


def _input(folder: Folder, kind: str) -> list[str]:
    if kind == "objects":
        folder.write({f"{number // 50}/{number:03}": b"%03d" % number * 50 for number in range(RECORDS)})
        return []
    records = [b"%03d" % number * 3000 for number in range(RECORDS)]
    folder.write({f"{part}.tfrecord": b"".join(map(FRAMES["TFRecord"], records[part::2])) for part in range(2)})
    return ["--split-type", "TFRecord", "--batch-strategy", "SingleRecord"]


@pytest.mark.parametrize("kind", ["objects", "records"])
def test_a_job_that_is_killed_three_times_ends_as_if_it_was_not(
    folder: Folder, forks: Forks, container: Slow, kind: str
) -> None:
    """Nothing lost, nothing twice in an output, no partial output at any moment; finished work is not done again."""
    flags = ["--output-format", "container", "--max-concurrent", "4", "--url", container.url, *_input(folder, kind)]
    reference = folder.path / "reference"
    assert Tool(forks, [folder.source, reference, *flags], folder.path / "log").wait(60) == 0
    expected = outputs(reference)
    assert len(expected) == (RECORDS if kind == "objects" else 2)
    container.asked.clear()
    chance = random.Random(kind)
    if kind == "objects":
        requests, seconds = [chance.randint(60, 100) for _ in range(3)], [0.0] * 3
    else:  # within a large object the journal is written once a second
        container.pause = 0.04
        requests, seconds = [1] * 3, [chance.uniform(0.0, 0.3), *(chance.uniform(1.3, 1.5) for _ in range(2))]
    for count, delay in zip(requests, seconds, strict=True):
        tool = Tool(forks, [folder.source, folder.target, *flags], folder.path / "log")
        before = len(container.asked)
        while len(container.asked) < before + count:
            assert not tool.ended, tool.log.read_text()
            time.sleep(0.002)
        time.sleep(delay)
        assert not tool.ended, "it was over before it could be killed"
        tool.kill()
        there = outputs(folder.target)
        assert {key: there[key] == expected.get(key) for key in there} == dict.fromkeys(there, True)
    before = len(container.asked)
    assert Tool(forks, [folder.source, folder.target, *flags], folder.path / "log").wait(60) == 0, tool.log.read_text()
    assert outputs(folder.target) == expected
    # Of a client that was killed the container may have got a part of a body.
    asked = {body for headers, body in container.asked if len(body) == int(headers["content-length"])}
    assert len(asked) == RECORDS
    assert len(container.asked) - before < RECORDS - 100, "the last run began anew"
    assert not [path for path in folder.path.iterdir() if path.name.startswith(".out")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_in_good_order(folder: Folder, forks: Forks, container: Slow, number: signal.Signals) -> None:
    """Exit code 130, a sentence on how to go on, and nothing that was answered is asked again."""
    flags = [
        "--output-format",
        "container",
        "--max-concurrent",
        "2",
        "--url",
        container.url,
        *_input(folder, "records"),
    ]
    tool = Tool(forks, [folder.source, folder.target, *flags], folder.path / "log")
    while len(container.asked) < 30:
        time.sleep(0.002)
    tool.process.send_signal(number)
    assert tool.wait(30) == 130
    assert "the same command continues from here" in tool.log.read_text()
    asked = len(container.asked)
    assert asked < RECORDS
    assert Tool(forks, [folder.source, folder.target, *flags], folder.path / "log").wait(60) == 0
    assert len(container.asked) <= RECORDS + 4
    assert len(outputs(folder.target)) == 2


def test_what_was_done_before_a_crash_is_known_after_it(folder: Folder) -> None:
    folder.write({f"{number:03}": b"%d" % number for number in range(100)})
    order: list[tuple[str, str]] = []
    from tritonforge.transform import LocalStore, run
    from tritonforge.transform.journal import Journal

    class Sink(LocalStore):
        def put(self, content: Path | bytes, uri: str) -> None:
            super().put(content, uri)
            order.append(("put", Path(uri).name))

    with pytest.MonkeyPatch.context() as patch:
        done = Journal.record_output
        lock = threading.Lock()

        def noted(self: Journal, key: str, records: int, size: int, *, at_once: bool = False) -> None:
            with lock:
                order.append(("done", f"{key}.out"))
            done(self, key, records, size, at_once=at_once)

        patch.setattr(Journal, "record_output", noted)
        run(folder.job(max_concurrent_transforms=8), source=LocalStore(), sink=Sink(), client=Model(), work=folder.work)
    places = {entry: index for index, entry in enumerate(order)}
    assert len(places) == 200
    assert all(places["put", name] < places["done", name] for kind, name in order if kind == "done")
