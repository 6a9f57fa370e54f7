"""Bad data and bad stores: the job fails with the data's own sentence, whatever the program makes of it."""

import gzip
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.training_jobs import Memory, channel, run_job
from tritonforge.errors import DefinitionError
from tritonforge.training.job import InstanceGroup, Resources
from tritonforge.transform import StoreError

pytestmark = pytest.mark.process

#: A program that reads an epoch, and takes what breaks for a fault of its own.
READER = """
trap 'echo stopping; echo secondary > output/failure; exit 3' TERM
cat input/data/train_0 > model/0
sleep 20 & wait
"""

MANIFEST = b'{"source-ref":"s3://b/1.jpg","label":1}\n{"source-ref":"s3://b/2.jpg","label":2}\n'


def failure(folder: Path, place: Memory, *, script: str = READER, **members: Any) -> str:
    """The sentence of a job over an augmented manifest at s3://b/m."""
    members = {"names": ["source-ref", "label"], "record_wrapper_type": "RecordIO", **members}
    ran = run_job(folder, script, channel("s3://b/m", **members), store=place)
    assert ran.outcome.state == "Failed"
    assert ran.outcome.artifact is None
    # The file that a program's sentence would be in has the job's.
    assert (ran.model.parent / "output" / "failure").read_text() == ran.outcome.failure
    return ran.outcome.failure


def test_a_missing_picture_is_the_sentence_and_the_program_is_reported(tmp_path: Path) -> None:
    """Everything before it was given out; the program gets SIGTERM, and its own sentence is not the job's."""
    place = Memory({"s3://b/m": MANIFEST, "s3://b/1.jpg": b"one"})
    ran = run_job(
        tmp_path, READER, channel("s3://b/m", names=["source-ref", "label"], record_wrapper_type="RecordIO"),
        store=place,
    )  # fmt: skip
    assert ran.outcome.failure == "ClientError: channel train: s3://b/m: line 2: s3://b/2.jpg: no such object"
    assert (ran.outcome.state, ran.outcome.exit_code) == ("Failed", 3)
    assert ran.lines == ["stopping"]
    assert ran.records("0") == [b"one", b"1"]


def test_everything_before_a_fault_is_given_out(tmp_path: Path) -> None:
    """Small entries are written together; those before the one that is missing are written all the same."""
    for name in ("1", "2"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "m").write_text("".join(f'{{"source-ref":"{name}"}}\n' for name in "123"))
    ran = run_job(tmp_path, READER, channel(tmp_path / "m", names=["source-ref"]))
    assert ran.outcome.failure.endswith(f"line 3: {tmp_path}/3: no such object")
    assert (ran.model / "0").read_bytes() == b"12"


def test_a_program_that_ends_well_on_a_broken_channel_has_failed_all_the_same(tmp_path: Path) -> None:
    place = Memory({"s3://b/m": MANIFEST, "s3://b/1.jpg": b"one"})
    script = "trap 'exit 0' TERM; cat input/data/train_0 > model/0; exit 0"
    assert failure(tmp_path, place, script=script).endswith("line 2: s3://b/2.jpg: no such object")


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        (MANIFEST + b"{no json\n", "line 3: the line is not JSON"),
        (MANIFEST.replace(b'"label":2', b'"lable":2'), "line 2: label: the line does not have it; did you mean lable?"),
        (b"", "it is empty"),
        (b'[{"prefix":"s3://b/"},"1.jpg"]\n', "is this a classic manifest?"),
    ],
)
def test_a_manifest_that_is_wrong_is_reported_before_the_program_starts(
    tmp_path: Path, manifest: bytes, sentence: str
) -> None:
    """Every line is looked at first: the last one costs no hour of training."""
    place = Memory({"s3://b/m": manifest, "s3://b/1.jpg": b"1", "s3://b/2.jpg": b"2"})
    found = failure(tmp_path, place, script="echo started > output/failure")
    assert found.startswith("ClientError: channel train: s3://b/m: ")
    assert sentence in found


def test_a_missing_manifest_names_itself(tmp_path: Path) -> None:
    """The address of the manifest is in the sentence."""
    assert failure(tmp_path, Memory({})) == "ClientError: channel train: s3://b/m: no such object"


def test_damaged_gzip_names_its_object(tmp_path: Path) -> None:
    place = Memory({"s3://b/m/a": gzip.compress(b"content")[:-4]})
    found = failure(tmp_path, place, names=(), compression_type="Gzip")
    assert found.startswith("ClientError: channel train: s3://b/m/a: the gzip stream ends")


def test_a_read_that_is_cut_off_goes_on(tmp_path: Path) -> None:
    """An object whose connection breaks is read on from there, in both modes, and nothing is missing or double."""

    class Breaking(Memory):
        broken = 0

        def fault(self, uri: str, chunk: int) -> None:
            if chunk == 2 and self.broken < 2:
                self.broken += 1
                raise StoreError(f"{uri}: the connection was reset")

    content = bytes(range(256)) * 1024
    place = Breaking({"s3://b/in/a": content})
    ran = run_job(
        tmp_path,
        "cat input/data/train_0 > model/0; cp input/data/files/a model/1",
        channel("s3://b/in/"),
        channel("s3://b/in/", "files", mode="File"),
        store=place,
    )
    assert ran.outcome.state == "Completed"
    assert (ran.model / "0").read_bytes() == (ran.model / "1").read_bytes() == content
    assert place.broken == 2


@pytest.mark.parametrize("mode", ["Pipe", "File"])
def test_an_object_that_stays_short_is_reported(tmp_path: Path, mode: str) -> None:
    """What was listed with more bytes than can be read is a fault, and no shorter object."""

    class Short(Memory):
        def open(self, uri: str, offset: int = 0, *, size: int = 1 << 16) -> Iterator[bytes]:
            yield from [self.objects[uri][offset:4]] if offset < 4 else []

    ran = run_job(tmp_path, READER, channel("s3://b/in/", mode=mode), store=Short({"s3://b/in/a": b"123456"}))
    assert ran.outcome.failure == "ClientError: channel train: s3://b/in/a: cut off after 4 of 6 bytes"


def test_a_reader_that_left_never_misses_what_is_not_there(tmp_path: Path) -> None:
    """A fault after the place where the program closed its pipe is none of its job."""
    pictures = {f"s3://b/{number}.jpg": bytes(200_000) for number in range(3)}
    lines = [f'{{"source-ref":"s3://b/{number}.jpg"}}\n'.encode() for number in range(4)]
    place = Memory({"s3://b/m": b"".join(lines), **pictures})
    script = "head -c 1000 input/data/train_0 > model/0; head -c 1000 input/data/train_1 > model/1"
    ran = run_job(tmp_path, script, channel("s3://b/m", names=["source-ref"]), store=place)
    assert ran.outcome.state == "Completed", ran.outcome.failure


def test_nothing_below_a_prefix_is_reported(tmp_path: Path) -> None:
    place = Memory({"s3://b/in/": b""})
    for mode in ("Pipe", "File"):
        (tmp_path / mode).mkdir()
        ran = run_job(tmp_path / mode, READER, channel("s3://b/in/", mode=mode), store=place)
        assert ran.outcome.failure == "ClientError: channel train: s3://b/in/: it is empty"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (["a", "a/b"], "another object lies at its path"),
        (["a/b", "a//b"], "another object lies at its path"),
        (["../../x"], "its key is not a valid path of a file"),
        (["x" * 300], "longer than a file's name may be"),
    ],
)
def test_keys_that_no_files_can_have_are_reported(tmp_path: Path, keys: list[str], sentence: str) -> None:
    """In File mode a key becomes a path below the channel's folder, and nowhere else."""
    place = Memory({f"s3://b/in/{key}": b"x" for key in keys})
    ran = run_job(tmp_path, READER, channel("s3://b/in/", mode="File"), store=place)
    assert sentence in ran.outcome.failure


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    place = Memory({"s3://b/in/a": bytes(2 << 20)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        ran = run_job(tmp_path, READER, channel("s3://b/in/", mode="File"), store=place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ran.outcome.failure.startswith("ClientError: the input cannot be kept on this machine: ")
    assert "File too large" in ran.outcome.failure


def test_a_store_that_takes_no_output_is_reported_at_once(tmp_path: Path) -> None:
    """Hours of training are not lost to a bucket that was never there."""

    class Closed(Memory):
        def check(self, uri: str) -> None:
            raise StoreError(f"{uri}: no such bucket", permanent=True)

    ran = run_job(tmp_path, READER, store=Closed({}))
    assert ran.outcome.failure == f"ClientError: {tmp_path}/out: no such bucket"


def test_a_model_that_cannot_be_uploaded_is_a_failure(tmp_path: Path) -> None:
    """A program that did its part does not make a job complete."""

    class Lost(Memory):
        def put(self, content: Path | bytes, uri: str) -> None:
            raise StoreError(f"{uri}: the output cannot be written: denied")

    ran = run_job(tmp_path, "echo x > model/x", store=Lost({}))
    assert "the model cannot be uploaded" in ran.outcome.failure


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        ({"channels": (channel("in", mode="File", compression_type="Gzip"),)}, "Gzip is for Pipe mode only"),
        ({"channels": (channel("m", names=["a"], compression_type="Gzip"),)}, "is not documented"),
        ({"channels": (channel("in", "a"), channel("in", "a_0", mode="File"))}, "where epoch 0 of a is"),
        ({"resources": Resources(instance_type="ml.m5.large", instance_count=2)}, "requests 2 instances"),
        (
            {
                "resources": Resources(
                    instance_groups=(
                        InstanceGroup(instance_type="ml.m5.large", instance_count=1, instance_group_name="a"),
                        InstanceGroup(instance_type="ml.m5.large", instance_count=1, instance_group_name="b"),
                    )
                )
            },
            "requests 2 instances",
        ),
    ],
)
def test_what_is_wrong_or_cannot_be_done_here_is_refused(tmp_path: Path, job: dict[str, Any], sentence: str) -> None:
    """Before anything is laid out."""
    with pytest.raises(DefinitionError, match=sentence):
        run_job(tmp_path, READER, job=job)
    assert not list((tmp_path / "work").iterdir())


def test_a_folder_without_a_program_is_refused(tmp_path: Path) -> None:
    from tests.support import training_jobs as jobs

    made = jobs.program(tmp_path, "true")
    (made / "train").chmod(0o644)
    with pytest.raises(DefinitionError, match="no executable named train"):
        jobs.run_training_job(
            jobs.TrainingJob(
                algorithm=jobs.AlgorithmSpecification(training_input_mode="File", training_image="i"),
                output=jobs.Output(uri="o"),
            ),
            program=made,
            store=Memory({}),
            work=tmp_path,
            pack=jobs.pack,
        )
