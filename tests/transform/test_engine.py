"""The rules of batch transform, held by the engine against a model in this process."""

from __future__ import annotations

import gzip
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.folder_transforms import (
    AWAY,
    BREAKDOWN,
    FRAMES,
    GONE,
    LATE,
    REFUSAL,
    Folder,
    Model,
    ModelFaults,
    answer_to,
)
from tritonforge.errors import DefinitionError, LaunchError
from tritonforge.transform import DataProcessing, LocalStore, Progress, Reply, StoredObject, StoreError, run
from tritonforge.transform.journal import JournalError

PAYLOADS = [f"record {number:03} ".encode() * (number % 5 + 1) for number in range(50)]


def test_every_object_has_its_output_under_its_key(folder: Folder) -> None:
    files = {f"a/{number}.jpg": bytes([number]) * 9 for number in range(20)} | {"b c/ü.x": b"y", "empty": b""}
    folder.write(files)
    outcome = folder.run(Model(delay=0.0005), max_concurrent_transforms=4)
    assert outcome.state == "Completed"
    assert (outcome.objects, outcome.failed, outcome.records) == (22, 0, 22)
    assert outcome.size == sum(map(len, files.values()))
    assert folder.outputs() == {f"{key}.out": answer_to(content) for key, content in files.items()}


@pytest.mark.parametrize("assemble_with", ["None", "Line"])
@pytest.mark.parametrize("split_type", FRAMES)
@pytest.mark.parametrize("concurrent", [1, 8])
def test_single_records_go_without_their_frame_and_answers_keep_their_order(
    folder: Folder, split_type: str, assemble_with: str, concurrent: int
) -> None:
    """Whatever the order in which answers come."""
    folder.write({f"{name}.rec": b"".join(map(FRAMES[split_type], PAYLOADS)) for name in "ab"})
    model = Model(delay=0.0005)
    outcome = folder.run(
        model,
        split_type=split_type,
        assemble_with=assemble_with,
        batch_strategy="SingleRecord",
        max_concurrent_transforms=concurrent,
    )
    assert outcome.state == "Completed"
    assert outcome.records == 100
    ending = b"\n" if assemble_with == "Line" else b""
    expected = b"".join(answer_to(payload) + ending for payload in PAYLOADS)
    assert folder.outputs() == {"a.rec.out": expected, "b.rec.out": expected}
    assert sorted(model.bodies) == sorted(2 * PAYLOADS)


@pytest.mark.parametrize("split_type", FRAMES)
def test_several_records_keep_their_frames_and_fill_the_payload(
    folder: Folder, split_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MultiRecord is the default strategy: as many whole records as fit."""
    framed = [FRAMES[split_type](b"x" * 300_000) for _ in range(8)]
    folder.write({"a": b"".join(framed)})
    model = Model()
    outcome = folder.run(model, split_type=split_type, max_payload_in_mb=1, assemble_with="Line")
    assert outcome.state == "Completed"
    assert outcome.records == 8
    bodies = [b"".join(framed[start : start + 3]) for start in (0, 3, 6)]
    assert model.bodies == bodies
    assert folder.outputs() == {"a.out": b"".join(answer_to(body) + b"\n" for body in bodies)}


@pytest.mark.parametrize("split_type", ["None", *FRAMES])
def test_gzip_is_taken_off_before_the_split(folder: Folder, split_type: str) -> None:
    """Objects of several gzip members too."""
    records = PAYLOADS if split_type != "None" else [b"".join(PAYLOADS)]
    frame = FRAMES.get(split_type, bytes)
    pieces = list(map(frame, records))
    folder.write({"a.gz": gzip.compress(b"".join(pieces[:20])) + gzip.compress(b"".join(pieces[20:]))})
    outcome = folder.run(
        Model(), split_type=split_type, compression_type="Gzip", batch_strategy="SingleRecord", assemble_with="Line"
    )
    assert outcome.state == "Completed"
    assert folder.outputs() == {"a.gz.out": b"".join(answer_to(item) + b"\n" for item in records)}


def test_never_more_requests_at_once_than_the_job_says(folder: Folder) -> None:
    """And as many as it says, where there is enough to ask."""
    folder.write({"a": b"".join(map(FRAMES["Line"], PAYLOADS))})
    model = Model(delay=0.002)
    folder.run(model, split_type="Line", batch_strategy="SingleRecord", max_concurrent_transforms=5)
    assert model.most_in_flight == 5


def test_headers_are_the_jobs(folder: Folder) -> None:
    """Content-Type and Accept as they are given; what is not given is not sent."""
    folder.write({"a": b"1"})
    model = Model()
    folder.run(model, content_type="application/x-image", accept="application/json")
    folder.run(model)
    assert model.headers == [{"Content-Type": "application/x-image", "Accept": "application/json"}, {}]


def test_execution_parameters_hold_where_the_job_says_nothing(folder: Folder) -> None:
    """The container asks for single records, three at once."""
    folder.write({"a": b"".join(map(FRAMES["Line"], PAYLOADS))})
    model = Model(delay=0.002)
    model.parameters = {"MaxConcurrentTransforms": 3, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 1}
    folder.run(model, split_type="Line")
    assert model.most_in_flight == 3
    assert len(model.bodies) == 50


# Failures


@pytest.mark.parametrize("fault", [REFUSAL, BREAKDOWN, GONE, LATE], ids=["400", "503", "gone", "late"])
@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.usefixtures("quick")
def test_a_request_is_asked_again_as_often_as_the_job_says(folder: Folder, fault: Any, retries: int) -> None:
    folder.write({"bad": b"bad", "hard": b"hard", "good": b"good"})
    faults = ModelFaults({b"bad": (retries + 1, fault), b"hard": (retries, fault)})
    outcome = folder.run(Model(faults), retries=retries, max_concurrent_transforms=3)
    assert outcome.state == "Failed"
    assert faults.seen[b"bad"] == retries + 1
    assert (outcome.objects, outcome.failed) == (2, 1)
    assert folder.outputs() == {"good.out": answer_to(b"good"), "hard.out": answer_to(b"hard")}
    (failure,) = outcome.failures
    assert failure.uri == str(folder.source / "bad")
    assert failure.record is None
    assert ("sent" in failure.reason) == (retries > 0)
    assert outcome.reason.startswith(f"1 of 3 objects failed; the first is {failure.uri}: {failure.reason}")


def test_the_models_own_sentence_is_the_reason(folder: Folder) -> None:
    """With its status."""
    folder.write({"a": b"bad"})
    outcome = folder.run(Model(ModelFaults({b"bad": (9, REFUSAL)})), retries=0)
    assert outcome.failures[0].reason == "the model answered 400: this is not an image"


@pytest.mark.usefixtures("quick")
def test_a_server_that_was_not_reached_costs_no_retry(folder: Folder) -> None:
    """Nothing was tried there; the asker brings the server back each time."""
    folder.write({"a": b"hard"})
    model = Model(ModelFaults({b"hard": (7, AWAY)}))
    assert folder.run(model, retries=0).state == "Completed"
    assert model.recovered == 7


@pytest.mark.usefixtures("quick")
def test_a_record_that_ends_the_server_takes_no_other_with_it(folder: Folder) -> None:
    """What was under way beside it is asked again, alone; only the one that did it fails."""
    folder.write({f"{number}": b"poison" if number == 3 else b"good %d" % number for number in range(12)})
    lock = threading.Lock()
    under_way: list[bytes] = []
    deaths: list[list[bytes]] = []

    def think(body: bytes) -> Reply | None:
        with lock:
            under_way.append(body)
        time.sleep(0.01)
        with lock:
            if b"poison" in under_way and body == b"poison":
                deaths.append(list(under_way))
            gone = bool(deaths) and body in deaths[-1] and (body == b"poison" or body in seen_by_death(deaths[-1]))
            under_way.remove(body)
        if gone:
            raise GONE
        return None

    reported: set[tuple[int, bytes]] = set()

    def seen_by_death(death: list[bytes]) -> list[bytes]:
        # Each neighbour of a death learns of it once.
        fresh = [body for body in death if (id(death), body) not in reported]
        reported.update((id(death), body) for body in fresh)
        return fresh

    outcome = folder.run(Model(think), retries=1, max_concurrent_transforms=6)
    assert outcome.failed == 1
    assert outcome.failures[0].uri.endswith("3")
    assert len(deaths) == 2
    assert deaths[1].count(b"poison") == 1
    assert len(folder.outputs()) == 11


def test_a_bad_record_costs_its_object_and_no_other(folder: Folder) -> None:
    good, bad = (
        b"".join(FRAMES["TFRecord"](b"bad" if number == wrong else payload) for number, payload in enumerate(PAYLOADS))
        for wrong in (-1, 17)
    )
    folder.write({"good": good, "bad": bad})
    outcome = folder.run(
        Model(ModelFaults({b"bad": (1, REFUSAL)})),
        split_type="TFRecord",
        batch_strategy="SingleRecord",
        retries=0,
        max_concurrent_transforms=4,
    )
    assert outcome.state == "Failed"
    assert [(item.uri, item.record) for item in outcome.failures] == [(str(folder.source / "bad"), 17)]
    assert list(folder.outputs()) == ["good.out"]


@pytest.mark.parametrize(
    ("split_type", "damage", "record", "sentence"),
    [
        ("TFRecord", lambda data: data[:-3], 49, "the stream ends in it"),
        ("TFRecord", lambda data: data[:200] + b"\xff" + data[201:], None, "masked CRC-32C"),
        ("RecordIO", lambda data: data[:-30], 49, "the stream ends in it"),
        ("TFRecord", lambda data: b"\xff\xd8" + data, 0, "holds no TFRecord"),
        ("TFRecord", lambda data: gzip.compress(data), 0, "set CompressionType to Gzip"),
    ],
    ids=["truncated", "crc", "recordio", "no-records", "gzip"],
)
def test_damaged_records_are_one_sentence_with_the_place(
    folder: Folder, split_type: str, damage: Any, record: int | None, sentence: str
) -> None:
    """The other objects are unharmed."""
    data = b"".join(map(FRAMES[split_type], PAYLOADS))
    folder.write({"bad": damage(data), "good": data})
    outcome = folder.run(Model(), split_type=split_type, batch_strategy="SingleRecord", max_concurrent_transforms=2)
    (failure,) = outcome.failures
    assert sentence in failure.reason
    assert record is None or failure.record == record
    assert f"record {failure.record} at byte" in failure.reason
    assert list(folder.outputs()) == ["good.out"]


@pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])
def test_an_object_or_a_record_above_the_payload_fails(folder: Folder, strategy: str) -> None:
    """Found before it is sent; the model is not asked for it."""
    folder.write({"large": b"x" * (2**20 + 1), "most": b"y" * 2**20})
    model = Model()
    outcome = folder.run(model, max_payload_in_mb=1)
    assert [len(body) for body in model.bodies] == [2**20]
    assert "more than the 1048576 bytes of MaxPayloadInMB" in outcome.failures[0].reason
    lines = Folder(_below(folder, strategy))
    lines.write({"lines": b"short\n" + b"x" * (2**20 + 1) + b"\nshort\n", "fine": b"short\n"})
    outcome = lines.run(model, split_type="Line", batch_strategy=strategy, max_payload_in_mb=1)
    (failure,) = outcome.failures
    assert failure.record == 1
    assert "raise MaxPayloadInMB" in failure.reason
    assert list(lines.outputs()) == ["fine.out"]


def _below(folder: Folder, name: str) -> Path:
    path = folder.path / name
    path.mkdir()
    return path


def test_an_object_that_failed_is_not_read_to_its_end(folder: Folder) -> None:
    """Nor is the model asked for the rest of it."""

    class Long(LocalStore):
        chunks = 0

        def open(self, uri: str, offset: int = 0) -> Any:
            yield b"bad\n"
            for self.chunks in range(3000):
                yield b"good\n"

    folder.write({"a": b""})
    source, model = Long(), Model(ModelFaults({b"bad": (1, REFUSAL)}), delay=0.001)
    job = folder.job(split_type="Line", batch_strategy="SingleRecord", retries=0)
    assert run(job, source=source, sink=LocalStore(), client=model).failed == 1
    assert source.chunks < 300
    assert len(model.bodies) < 300


def test_gzip_that_is_none_fails_its_object(folder: Folder) -> None:
    """With what to do."""
    folder.write({"a": b"plain", "b": gzip.compress(b"fine")})
    outcome = folder.run(Model(), compression_type="Gzip")
    assert "set CompressionType to None" in outcome.failures[0].reason
    assert list(folder.outputs()) == ["b.out"]


def test_an_empty_prefix_is_a_failed_job(folder: Folder) -> None:
    """There is nothing to complete."""
    outcome = folder.run(Model())
    assert outcome.state == "Failed"
    assert "no objects to transform" in outcome.reason


def test_a_missing_input_is_a_failed_job(folder: Folder) -> None:
    """One sentence with the path."""
    outcome = folder.run(Model(), uri=str(folder.path / "nowhere"))
    assert (outcome.state, outcome.reason) == ("Failed", f"{folder.path / 'nowhere'}: no such file or directory")


def test_a_server_that_does_not_come_back_ends_the_job(folder: Folder) -> None:
    """What is finished is kept, and nothing more is begun."""

    class Dead(Model):
        def recover(self, stop: threading.Event) -> None:
            raise LaunchError("tritonserver ended with exit status 1")

    folder.write({f"{number:02}": b"dead" if number == 5 else b"%d" % number for number in range(20)})
    outcome = folder.run(Dead(ModelFaults({b"dead": (1, GONE)})), work=True)
    assert (outcome.state, outcome.reason) == ("Failed", "tritonserver ended with exit status 1")
    done = folder.outputs()
    assert 0 < len(done) < 19
    assert "05.out" not in done
    assert folder.run(Model(), work=True).state == "Completed"
    assert len(folder.outputs()) == 20


class _Sink(LocalStore):
    """A place that takes that many outputs and no more."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__()
        self.most = most
        self.error = error

    def put(self, content: Path | bytes, uri: str) -> None:
        self.most -= 1
        if self.most < 0:
            raise self.error
        super().put(content, uri)


def test_a_full_disk_ends_the_job_which_goes_on_later(folder: Folder) -> None:
    """No other output would have a place either, so that the model is not asked in vain."""
    folder.write({f"{number:03}": b"%d" % number for number in range(200)})
    model = Model()
    full = _Sink(5, StoreError("out: the output cannot be written: No space left on device", permanent=True))
    outcome = run(folder.job(), source=LocalStore(), sink=full, client=model, work=folder.work)
    assert (outcome.state, outcome.objects) == ("Failed", 5)
    assert "No space left" in outcome.reason
    assert len(model.bodies) < 100
    assert folder.run(Model(), work=True).state == "Completed"
    assert len(folder.outputs()) == 200


def test_an_output_that_has_no_place_fails_its_object(folder: Folder) -> None:
    """Another one may have a place."""
    folder.write({"a": b"1", "b": b"2"})
    sink = _Sink(1, StoreError("b.out: the output cannot be written: Is a directory"))
    outcome = run(folder.job(), source=LocalStore(), sink=sink, client=Model())
    assert (outcome.objects, outcome.failed) == (1, 1)


def test_a_read_only_output_is_found_before_anything_is_asked(folder: Folder) -> None:
    """One sentence, no request."""
    folder.write({"a": b"1"})
    folder.target.write_bytes(b"a file in the place of the folder")
    model = Model()
    outcome = folder.run(model)
    assert outcome.state == "Failed"
    assert "cannot write" in outcome.reason
    assert model.bodies == []


def test_two_objects_of_one_key_are_not_mixed(folder: Folder) -> None:
    folder.write({"a/x": b"first", "b/x": b"second"})
    manifest = [{"prefix": f"{folder.source}/a/"}, "x", "x", {"prefix": f"{folder.source}/b/"}, "x"]
    (folder.path / "manifest.json").write_text(json.dumps(manifest))
    outcome = folder.run(Model(), data_type="ManifestFile", uri=str(folder.path / "manifest.json"))
    assert (outcome.objects, outcome.failed) == (1, 1)
    assert "its output would have the same name as that of" in outcome.failures[0].reason
    assert folder.outputs() == {"x.out": answer_to(b"first")}


def test_a_manifest_lists_the_objects(folder: Folder) -> None:
    """Those and no others; one that is not there fails, the others go on."""
    folder.write({"a": b"1", "b": b"2", "c": b"3"})
    (folder.path / "m.json").write_text(json.dumps([{"prefix": f"{folder.source}/"}, "c", "missing", "a"]))
    outcome = folder.run(Model(), data_type="ManifestFile", uri=str(folder.path / "m.json"))
    assert [item.reason for item in outcome.failures] == ["no such object"]
    assert sorted(folder.outputs()) == ["a.out", "c.out"]


def test_a_manifest_that_is_none_fails_the_job(folder: Folder) -> None:
    """The sentence names the manifest."""
    (folder.path / "m.json").write_text("not JSON")
    outcome = folder.run(Model(), data_type="ManifestFile", uri=str(folder.path / "m.json"))
    assert outcome.state == "Failed"
    assert f"{folder.path / 'm.json'}: line 1: the manifest must be a JSON array" in outcome.reason


def test_wrong_jobs_are_refused(folder: Folder) -> None:
    """Before anything is asked or written."""
    with pytest.raises(DefinitionError, match="cannot exceed 100 MB"):
        folder.run(Model(), max_payload_in_mb=100, max_concurrent_transforms=2)
    assert not folder.target.exists()


# Other rules


def test_payloads_of_any_size_go_in_chunks(folder: Folder) -> None:
    """MaxPayloadInMB 0: the object is a stream, read as it is sent, and read again for a retry."""
    content = bytes(range(256)) * 20_000
    folder.write({"a": content})
    model = Model(ModelFaults({content: (1, BREAKDOWN)}))
    outcome = folder.run(model, max_payload_in_mb=0)
    assert outcome.state == "Completed"
    assert model.bodies == [content, content]
    assert folder.outputs() == {"a.out": answer_to(content)}


def test_joins_keep_records_and_answers_together(folder: Folder) -> None:
    rows = [f"{number},{number * 2},{number * 3}" for number in range(30)]
    folder.write({"rows.csv": "\n".join(rows).encode() + b"\n"})

    def think(body: bytes) -> Reply:
        lines = [str(sum(map(int, line.split(",")))) for line in body.decode().splitlines()]
        return Reply(200, {}, "\n".join(lines).encode() + b"\n")

    expected = "".join(f"{number},{number * 5}\n" for number in range(30)).encode()
    for strategy in ("SingleRecord", "MultiRecord"):
        outcome = folder.run(
            Model(think),
            content_type="text/csv",
            split_type="Line",
            assemble_with="Line",
            batch_strategy=strategy,
            max_concurrent_transforms=4,
            data_processing=DataProcessing(input_filter="$[1:]", output_filter="$[0,-1]", join_source="Input"),
        )
        assert outcome.state == "Completed", outcome.reason
        assert folder.outputs() == {"rows.csv.out": expected}


def test_filters_work_on_payloads_of_any_size_too(folder: Folder) -> None:
    """What is filtered must be read first; it still goes in chunks."""
    folder.write({"a": b'{"x":1,"y":2}'})
    model = Model()
    processing = DataProcessing(input_filter="$.y")
    outcome = folder.run(model, content_type="application/json", max_payload_in_mb=0, data_processing=processing)
    assert outcome.state == "Completed", outcome.reason
    assert model.bodies == [b"2"]


def test_a_filter_that_finds_nothing_fails_the_object(folder: Folder) -> None:
    """With the number of the record."""
    folder.write({"a": b'{"x":1}\n{"y":1}\n'})
    outcome = folder.run(
        Model(),
        content_type="application/jsonlines",
        split_type="Line",
        batch_strategy="SingleRecord",
        data_processing=DataProcessing(input_filter="$.x"),
    )
    assert outcome.failures[0].record == 1
    assert "no member 'x'" in outcome.failures[0].reason


def test_instances_share_the_objects(folder: Folder) -> None:
    """Each object goes to one of them, and none is left out."""
    folder.write({f"{number}": b"%d" % number for number in range(7)})
    models = [Model() for _ in range(3)]
    for index, model in enumerate(models):
        assert folder.run(model, options={"share": (index, 3)}).state == "Completed"
    assert sorted(body for model in models for body in model.bodies) == [b"%d" % number for number in range(7)]
    assert [len(model.bodies) for model in models] == [3, 2, 2]
    assert len(folder.outputs()) == 7


@pytest.mark.slow
def test_progress_reports_how_far_it_is(folder: Folder) -> None:
    """Objects, records and bytes up to the totals, and a time that is left."""
    folder.write({f"{number:02}": b"x" * 100 for number in range(30)})
    reported: list[Progress] = []
    folder.run(Model(delay=0.02), options={"on_progress": reported.append})
    last = reported[-1]
    assert (last.objects, last.records, last.size, last.total_objects, last.total_size) == (30, 30, 3000, 30, 3000)
    assert last.seconds_left == 0
    assert any(0 < item.objects < 30 and item.seconds_left for item in reported)
    assert [item.size for item in reported] == sorted(item.size for item in reported)


# Stopped, and gone on with


def _stopping(after: int) -> tuple[threading.Event, Any]:
    """An event, and what sets it after that many requests."""
    stop = threading.Event()
    lock = threading.Lock()
    left = [after]

    def think(_: bytes) -> None:
        with lock:
            left[0] -= 1
            if not left[0]:
                stop.set()
        if left[0] <= 0:
            time.sleep(0.3)  # until the stop is seen

    return stop, think


@pytest.mark.slow
@pytest.mark.parametrize("split_type", ["TFRecord", "RecordIO", "Line"])
@pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])
@pytest.mark.parametrize("compression", ["None", "Gzip"])
def test_a_stopped_job_goes_on_inside_its_objects(
    folder: Folder, split_type: str, strategy: str, compression: str
) -> None:
    """Nothing is asked twice whose answer was in order, nothing is left out, the output is what it would have been."""
    payloads = [number.to_bytes(2, "big").hex().encode() * 9_000 for number in range(300)]
    data = b"".join(map(FRAMES[split_type], payloads))
    folder.write({"a": gzip.compress(data, 1) if compression == "Gzip" else data})
    fields = {
        "split_type": split_type,
        "batch_strategy": strategy,
        "compression_type": compression,
        "assemble_with": "Line",
        "max_concurrent_transforms": 2,
        "max_payload_in_mb": 1,
    }
    whole = Model()
    assert folder.run(whole, **fields).state == "Completed"
    expected = folder.outputs()
    (folder.target / "a.out").unlink()
    stop, think = _stopping(4 if strategy == "MultiRecord" else 100)
    first = Model(think, delay=0.0003)
    outcome = folder.run(first, work=True, options={"stop": stop}, **fields)
    assert (outcome.state, outcome.objects) == ("Stopped", 0)
    assert folder.outputs() == {}
    second = Model()
    outcome = folder.run(second, work=True, **fields)
    assert outcome.state == "Completed"
    assert folder.outputs() == expected
    assert 0 < len(second.bodies) < len(whole.bodies)
    # At most what was under way when it stopped is asked again.
    assert len(first.bodies) + len(second.bodies) <= len(whole.bodies) + 2


def test_records_keep_their_numbers_after_a_stop(folder: Folder) -> None:
    payloads = [b"%04d" % number * 9_000 for number in range(300)]
    folder.write({"a": b"".join(map(FRAMES["TFRecord"], payloads))[:-5]})
    fields = {"split_type": "TFRecord", "max_payload_in_mb": 1}
    whole = folder.run(Model(), **fields)
    assert whole.failures[0].record == 299
    stop, think = _stopping(4)
    assert folder.run(Model(think), work=True, options={"stop": stop}, **fields).state == "Stopped"
    rest = Model()
    assert folder.run(rest, work=True, **fields).failures == whole.failures
    assert len(rest.bodies) < 10


def test_finished_objects_are_not_asked_again(folder: Folder) -> None:
    """Unless they changed since, or failed."""
    folder.write({f"{number}": b"bad" if number == 3 else b"%d" % number for number in range(6)})
    first = folder.run(Model(ModelFaults({b"bad": (1, REFUSAL)})), work=True, retries=0)
    assert (first.state, first.objects, first.failed) == ("Failed", 5, 1)
    folder.write({"1": b"changed", "new": b"new"})
    model = Model()
    second = folder.run(model, work=True)
    assert sorted(model.bodies) == [b"bad", b"changed", b"new"]
    assert (second.state, second.objects, second.objects_before) == ("Completed", 7, 4)
    assert folder.outputs()["1.out"] == answer_to(b"changed")


def test_the_work_of_another_job_is_refused(folder: Folder) -> None:
    """Outputs of two jobs, or of two models, are not mixed; how many requests go at once may change."""
    folder.write({"a": b"1"})
    assert folder.run(Model(), work=True).state == "Completed"
    assert folder.run(Model(), work=True, max_concurrent_transforms=3, retries=1).state == "Completed"
    with pytest.raises(DefinitionError, match=r"the progress of another job \(expected TransformOutput"):
        folder.run(Model(), work=True, accept="text/csv")
    with pytest.raises(DefinitionError, match=r"expected model "):
        folder.run(Model(), work=True, options={"model_identity": "another"})
    with pytest.raises(DefinitionError, match="expected payload"):
        folder.run(Model(), work=True, max_payload_in_mb=1)


def test_two_runs_do_not_share_a_work_folder(folder: Folder) -> None:
    """The second is refused while the first is in progress."""
    folder.write({"a": b"1"})
    refused: list[str] = []

    def think(_: bytes) -> None:
        with pytest.raises(JournalError, match="another run of this job is in progress") as caught:
            folder.run(Model(), work=True)
        refused.append(str(caught.value))

    assert folder.run(Model(think), work=True).state == "Completed"
    assert len(refused) == 1


def test_a_stop_before_the_start_asks_nothing(folder: Folder) -> None:
    folder.write({"a": b"1"})
    stop = threading.Event()
    stop.set()
    model = Model(delay=0.01)
    outcome = folder.run(model, options={"stop": stop})
    assert outcome.state in ("Stopped", "Completed")
    assert len(model.bodies) == len(folder.outputs())


def test_a_stop_does_not_wait_for_retries(folder: Folder) -> None:
    folder.write({"a": b"bad"})
    stop, think = _stopping(1)

    def fail(body: bytes) -> Reply:
        think(body)
        return BREAKDOWN

    outcome = folder.run(Model(fail), work=True, options={"stop": stop})
    assert (outcome.state, outcome.failed) == ("Stopped", 0)
    assert folder.run(Model(), work=True).state == "Completed"


# Memory


@pytest.mark.slow
def test_no_more_is_read_than_the_window_holds(folder: Folder) -> None:
    """A model that answers nothing yet keeps the readers waiting; so does one slow record in front of fast ones."""
    lines = [b"%07d" % number for number in range(5000)]
    folder.write({"a": b"".join(map(FRAMES["Line"], lines))})
    gate = threading.Event()
    read: list[int] = []

    def think(body: bytes) -> None:
        read.append(int(body))
        if int(body) == 0:
            gate.wait(5)

    def release() -> None:
        time.sleep(0.3)
        held.append(len(read))
        gate.set()

    held: list[int] = []
    releaser = threading.Thread(target=release)
    releaser.start()
    outcome = folder.run(Model(think), split_type="Line", batch_strategy="SingleRecord", max_concurrent_transforms=4)
    releaser.join()
    assert outcome.state == "Completed"
    assert held[0] <= 8
    assert folder.outputs() == {"a.out": b"".join(map(answer_to, lines))}


class _Endless(LocalStore):
    """A place with that many objects that no one could hold them, and a count of how many were asked for."""

    listed = 0

    def list(self, prefix: str) -> Any:
        for number in range(1000):
            self.listed = number + 1
            yield StoredObject(f"{prefix}/{number:08}", 1, "e")

    def open(self, uri: str, offset: int = 0) -> Any:
        yield b"x"


@pytest.mark.slow
def test_objects_are_listed_as_they_are_needed(folder: Folder) -> None:
    """When the first answer comes, a few dozen were listed, not all."""
    source = _Endless()
    listed: list[int] = []
    model = Model(lambda body: listed.append(source.listed))
    outcome = run(folder.job(max_concurrent_transforms=4), source=source, sink=_Sink(10**6, OSError()), client=model)
    assert outcome.objects == 1000
    assert listed[0] < 100


def test_a_defect_of_a_place_is_not_hidden(folder: Folder) -> None:
    folder.write({f"{number}": b"1" for number in range(50)})
    with pytest.raises(ZeroDivisionError):
        run(folder.job(), source=LocalStore(), sink=_Sink(3, ZeroDivisionError()), client=Model())
    with pytest.raises(ZeroDivisionError):
        folder.run(Model(lambda body: 1 // 0))  # type: ignore[arg-type,return-value]


def test_failed_objects_give_their_space_back(folder: Folder) -> None:
    """Answers that wait behind a record that fails leave the window with it; else the job would stand still."""
    folder.write({f"{number:02}": b"bad\n" + b"good\n" * 6 for number in range(40)})

    def think(body: bytes) -> Reply | None:
        if body == b"bad":
            time.sleep(0.01)  # until the others of its object have their answers
            return REFUSAL
        return None

    outcome = folder.run(
        Model(think), split_type="Line", batch_strategy="SingleRecord", max_concurrent_transforms=8, retries=0
    )
    assert outcome.failed == 40
    assert folder.outputs() == {}
