"""A real tritonserver under the engine: it dies and comes back, and no one sees it in the outputs."""

from __future__ import annotations

import os
import random
import signal
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.folder_transforms import FRAMES, Folder
from tests.support.forked_scripts import Forks
from tests.support.killed_transforms import Tool, outputs
from tritonforge.errors import LaunchError, ModelChoiceError
from tritonforge.inference.wire import SAGEMAKER_BINARY_JSON, decode_response, encode_request, find_header_length
from tritonforge.transform import RAW, LocalStore, Outcome, local_server, run
from tritonforge.transform.local_server import LocalServer

pytestmark = pytest.mark.server

#: A model that says a text backwards, slowly; one text ends its server.
MODEL = """
    import os
    import time
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            answers = []
            for request in requests:
                texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
                if any(text == b"poison" for text in texts.reshape(-1)):
                    os.kill(os.getppid(), 9)
                time.sleep(float(os.environ.get("PAUSE", "0.0")))
                turned = np.array([[text[::-1]] for text in texts.reshape(-1)], dtype=object)
                sizes = np.array([[len(text)] for text in texts.reshape(-1)], dtype=np.int64)
                if any(text == b"bad" for text in texts.reshape(-1)):
                    error = pb_utils.TritonError("this text is bad")
                    answers.append(pb_utils.InferenceResponse(error=error))
                    continue
                tensors = [pb_utils.Tensor("TURNED", turned), pb_utils.Tensor("SIZE", sizes)]
                answers.append(pb_utils.InferenceResponse(tensors))
            return answers
"""

CONFIG = """
    name: "turn"
    backend: "python"
    max_batch_size: 16
    input [ { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] } ]
    output [
      { name: "TURNED" data_type: TYPE_STRING dims: [ 1 ] },
      { name: "SIZE" data_type: TYPE_INT64 dims: [ 1 ] }
    ]
    """


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the one model."""
    folder = tmp_path_factory.mktemp("turning")
    (folder / "turn" / "1").mkdir(parents=True)
    (folder / "turn" / "config.pbtxt").write_text(textwrap.dedent(CONFIG))
    (folder / "turn" / "1" / "model.py").write_text(textwrap.dedent(MODEL))
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[LocalServer]:
    """The model, served."""
    with LocalServer(repository, environment={"PAUSE": "0.002"}) as found:
        yield found


def stub(server: int) -> int:
    """The process of the model."""
    (pid,) = [pid for task in Path(f"/proc/{server}/task").iterdir() for pid in (task / "children").read_text().split()]
    return int(pid)


RECORDS = [b"text %04d" % number for number in range(300)]
FIELDS: dict[str, Any] = {
    "content_type": RAW,
    "split_type": "TFRecord",
    "batch_strategy": "SingleRecord",
    "assemble_with": "Line",
    "max_payload_in_mb": 1,
}


def turn(folder: Folder, server: LocalServer, *, gather: bool = False, **fields: Any) -> Outcome:
    """Run the job."""
    options = {"coalescer": server.probe_coalescer() if gather else None}
    return folder.run(server, options=options, **{**FIELDS, **fields})


def texts(output: bytes) -> list[tuple[bytes, int]]:
    """The lines of an output."""
    found = []
    rest = output
    while rest:
        line, _, rest = rest.partition(b"\n{")
        rest = b"{" + rest if rest else b""
        line = line.removesuffix(b"\n") if not rest else line
        response = decode_response(line, header_length=find_header_length(line))
        found.append((response["TURNED"][0, 0], int(response["SIZE"][0, 0])))
    return found


def test_outputs_are_the_servers_answers_in_order(folder: Folder, server: LocalServer) -> None:
    """One at a time, eight at once and gathered: the very same bytes, and the right ones."""
    folder.write({"a": b"".join(map(FRAMES["TFRecord"], RECORDS)), "b/c": FRAMES["TFRecord"](b"ab")})
    assert turn(folder, server, max_concurrent_transforms=1).state == "Completed"
    expected = folder.outputs()
    assert texts(expected["a.out"]) == [(record[::-1], len(record)) for record in RECORDS]
    for concurrent, gather in ((8, False), (1, True), (4, True)):
        outcome = turn(folder, server, max_concurrent_transforms=concurrent, gather=gather)
        assert (outcome.state, outcome.notes) == ("Completed", ())
        assert folder.outputs() == expected


def test_a_repository_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelChoiceError, match="no models found") as caught:
        LocalServer(tmp_path)
    assert caught.value.exit_code == 2


def test_a_repository_of_several_models_needs_a_default_model(tmp_path: Path) -> None:
    """Before anything is loaded, with the names and the option."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.pbtxt").write_text('backend: "python"')
    with pytest.raises(LaunchError, match=r"contains several models: a, b\. Choose one with --model"):
        LocalServer(tmp_path)


def test_the_repository_says_how_records_are_gathered(server: LocalServer) -> None:
    """The model's one input, and its max_batch_size."""
    gathering = server.probe_coalescer()
    assert gathering is not None
    assert (gathering.name, gathering.datatype, gathering.max_batch) == ("TEXT", "BYTES", 16)
    assert server.fetch_parameters() is None


def test_a_bad_record_among_gathered_ones_fails_alone(folder: Folder, server: LocalServer) -> None:
    """Triton refuses the whole request; the others are asked again by themselves."""
    folder.write({f"{number:03}": b"bad" if number == 7 else b"good %d" % number for number in range(60)})
    outcome = turn(folder, server, gather=True, split_type="None", max_concurrent_transforms=4, retries=0)
    assert [Path(failure.uri).name for failure in outcome.failures] == ["007"]
    assert "this text is bad" in outcome.failures[0].reason
    assert len(folder.outputs()) == 59


def test_records_with_a_padded_header_are_requests_of_their_own(folder: Folder, server: LocalServer) -> None:
    """For models of several inputs: one content type serves all, since every header has the same size."""
    requests = [
        encode_request({"TEXT": [[record]]}, header_size=400, outputs=["SIZE", "TURNED"]).body
        for record in RECORDS[:50]
    ]
    folder.write({"a": b"".join(map(FRAMES["RecordIO"], requests))})
    content_type = f"{SAGEMAKER_BINARY_JSON}400"
    outcome = turn(folder, server, split_type="RecordIO", content_type=content_type, max_concurrent_transforms=4)
    assert outcome.state == "Completed", outcome.reason
    assert texts(folder.outputs()["a.out"]) == [(record[::-1], len(record)) for record in RECORDS[:50]]


def test_json_requests_are_lines(folder: Folder, server: LocalServer) -> None:
    """KServe's JSON, a request a line, answered by a line of JSON each."""
    bodies = [encode_request({"TEXT": [[record]]}, binary=False).body for record in RECORDS[:20]]
    folder.write({"a.jsonl": b"\n".join(bodies)})
    outcome = turn(folder, server, split_type="Line", content_type="application/json", max_concurrent_transforms=4)
    assert outcome.state == "Completed", outcome.reason
    assert [text for text, _ in texts(folder.outputs()["a.jsonl.out"])] == [record[::-1] for record in RECORDS[:20]]


def test_a_payload_in_chunks_reaches_the_model(folder: Folder, server: LocalServer) -> None:
    """Triton's front end takes HTTP's chunked encoding."""
    content = b"large " * 200_000
    folder.write({"a": content})
    outcome = turn(folder, server, split_type="None", assemble_with="None", max_payload_in_mb=0)
    assert outcome.state == "Completed", outcome.reason
    assert texts(folder.outputs()["a.out"]) == [(content[::-1], len(content))]


@pytest.mark.parametrize(
    ("victim", "kills", "words"),
    [
        ("server", 2, "tritonserver ended (signal 9); restarting it and sending its requests again"),
        (
            "model",
            1,
            "model 'turn': its Python process ended by signal SIGKILL, and tritonserver with it; restarting it",
        ),
    ],
    ids=["server", "model"],
)
def test_a_process_that_dies_is_not_seen_in_the_outputs(
    folder: Folder, repository: Path, victim: str, kills: int, words: str
) -> None:
    """The server is started again, and what it had in hand is sent again: as if nothing had been."""
    folder.write({f"{part}": b"".join(map(FRAMES["TFRecord"], RECORDS[part::3])) for part in range(3)})
    reported: list[str] = []
    with LocalServer(repository, environment={"PAUSE": "0.01"}, on_restart=reported.append) as server:
        assert turn(folder, server, max_concurrent_transforms=8).state == "Completed"
        expected = folder.outputs()
        for path in folder.target.iterdir():
            path.unlink()
        ended = threading.Event()
        chance = random.Random(1)

        def kill() -> None:
            for _ in range(kills):
                pid = server.server.pid
                if ended.wait(chance.uniform(0.1, 0.5)) or pid is None:
                    return
                os.kill(pid if victim == "server" else stub(pid), signal.SIGKILL)
                while server.server.pid in (pid, None) and not ended.is_set():
                    time.sleep(0.02)

        killer = threading.Thread(target=kill)
        killer.start()
        outcome = turn(folder, server, max_concurrent_transforms=8)
        ended.set()
        killer.join()
    assert outcome.state == "Completed", outcome.reason
    assert len(reported) == kills
    assert words in reported[0]
    assert folder.outputs() == expected


def test_a_record_that_kills_its_server_fails_alone(folder: Folder, repository: Path) -> None:
    """After its retries; every other record has its answer, also those that were under way beside it."""
    folder.write({f"{number:02}": b"poison" if number == 5 else b"good %d" % number for number in range(40)})
    with LocalServer(repository, environment={"PAUSE": "0.01"}) as server:
        outcome = turn(folder, server, split_type="None", max_concurrent_transforms=8, retries=1)
    assert [Path(failure.uri).name for failure in outcome.failures] == ["05"]
    assert "ended before it answered (sent 2 times)" in outcome.failures[0].reason
    assert len(folder.outputs()) == 39


def test_a_server_that_only_dies_ends_the_job(
    folder: Folder, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not started for ever; here it may die twice instead of five times."""
    monkeypatch.setattr(local_server, "_MAX_DEATHS", 2)
    folder.write({f"{number:02}": b"poison" for number in range(20)})
    with LocalServer(repository) as server:
        outcome = run(
            folder.job(**{**FIELDS, "split_type": "None", "retries": 0}),
            source=LocalStore(),
            sink=LocalStore(),
            client=server,
        )
    assert outcome.state == "Failed"
    assert "tritonserver ended 3 times without an answer in between" in outcome.reason
    assert outcome.objects == 0


def test_tool_and_server_are_killed_at_random(folder: Folder, forks: Forks, repository: Path) -> None:
    """SIGKILL to the command and to its tritonserver in turn; the outputs are those of an undisturbed run."""
    kills = int(os.environ.get("TRITONFORGE_KILLS", "2"))
    folder.write({f"{part}": b"".join(map(FRAMES["TFRecord"], RECORDS[part::3])) for part in range(3)})
    flags: list[str | Path] = ["--repository", repository, "--split-type", "TFRecord", "--max-concurrent", "2"]
    flags += ["--gather", "never", "--env", "PAUSE=0.02"]
    log = folder.path / "log"
    assert Tool(forks, [folder.source, folder.path / "reference", *flags], log).wait(120) == 0, log.read_text()
    expected = outputs(folder.path / "reference")
    chance = random.Random(2)
    for kill in range(kills):
        tool = Tool(forks, [folder.source, folder.target, *flags], log)
        stages = folder.path / ".out.transform" / "journal.sqlite"
        while not (stages.exists() or tool.ended):
            time.sleep(0.01)
        time.sleep(chance.uniform(0.3, 1.0))
        if kill % 2 == 0 and tool.kill_server():
            time.sleep(chance.uniform(0.2, 3.0))
        tool.kill()
        there = outputs(folder.target) if folder.target.exists() else {}
        assert {key: there[key] == expected[key] for key in there} == dict.fromkeys(there, True)
    assert Tool(forks, [folder.source, folder.target, *flags], log).wait(120) == 0, log.read_text()
    assert outputs(folder.target) == expected
    assert "signal 9" in log.read_text() or kills < 1
