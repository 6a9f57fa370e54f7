"""Plans of training jobs: what goes up, what is there already, and the request; nothing is called."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.training_requests import channel, job, manifest, pictures
from tritonforge.errors import DefinitionError, DeploymentError
from tritonforge.sagemaker.endpoints.resources import IncompleteUpload, ObservedBucket
from tritonforge.sagemaker.jobs.job_data import LocalChannel, read_local_channels
from tritonforge.sagemaker.jobs.training_plan import DATA, ObservedData, build_training_plan
from tritonforge.sagemaker.plans.executor import check_plan
from tritonforge.sagemaker.plans.plan import Plan
from tritonforge.training.job import TrainingJob

BUCKET = "sagemaker-us-east-1-123456789012"


def seen(objects: dict[str, int] | None = None, **changes: Any) -> ObservedData:
    """A bucket with these objects."""
    bucket = ObservedBucket(name=BUCKET, folder=DATA, objects=objects or {}, **changes)
    return ObservedData(region="us-east-1", account="123456789012", bucket=bucket)


def planned(one: TrainingJob, there: ObservedData | None = None) -> tuple[Plan, TrainingJob, dict[str, LocalChannel]]:
    """The plan of a job, and its data by channel."""
    with read_local_channels(one, bucket=BUCKET) as found:
        contents = {name: item.content for name, item in found.items()}
        made, placed = build_training_plan(one, contents, there or seen())
        check_plan(made)
        return made, placed, dict(found)


def there(found: dict[str, LocalChannel]) -> dict[str, int]:
    """All objects that these data come to."""
    return {key: size for value in found.values() for part in value.content.parts for key, size in part.files.items()}


def test_a_folder_goes_up_under_its_digest_and_then_never_again(tmp_path: Path) -> None:
    """The channel's address has the digest of all paths and contents; a second plan only creates its job."""
    folder = pictures(tmp_path / "data", "images/b.jpg", "images/a.jpg", "annotations.json")
    one = job("n", channel("training", folder))
    plan, placed, found = planned(one)
    assert [(step.action, step.operation) for step in plan.steps] == [
        ("upload", "PutObject"),
        ("create", "CreateTrainingJob"),
    ]
    upload, create = plan.steps
    prefix = upload.request["Key"]
    assert prefix.startswith(f"{DATA}channels/")
    assert upload.size == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    uri = create.request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    assert uri == f"s3://{BUCKET}/{prefix}"
    assert sorted(there(found)) == [f"{prefix}annotations.json", f"{prefix}images/a.jpg", f"{prefix}images/b.jpg"]
    assert list(create.request)[:2] == ["TrainingJobName", "RoleArn"]
    assert placed.to_request() == dict(create.request)
    again, _, _ = planned(one, seen(there(found)))
    assert [step.operation for step in again.steps] == ["CreateTrainingJob"]
    assert again.digests == plan.digests == {"training": prefix.split("/")[-2]}
    half, _, _ = planned(one, seen({f"{prefix}annotations.json": 24, f"{prefix}images/a.jpg": 1}))
    assert half.steps[0].why == "2 of its 3 files are not in S3"


@pytest.mark.parametrize(("name", "content"), [("images/c.jpg", b"x"), ("annotations.json", b"changed")])
def test_another_file_or_content_is_another_address(tmp_path: Path, name: str, content: bytes) -> None:
    """Nothing that an earlier job was trained on is written over."""
    folder = pictures(tmp_path / "data", "images/a.jpg", "annotations.json")
    one = job("n", channel("training", folder))
    before = planned(one)[0].digests
    (folder / name).write_bytes(content)
    assert planned(one)[0].digests != before


def test_one_file_is_a_channel_too(tmp_path: Path) -> None:
    """Its address is its own, so that nothing else is taken in."""
    path = pictures(tmp_path, "table.csv") / "table.csv"
    plan, placed, _ = planned(job("n", channel("training", path)))
    assert placed.channels is not None
    data = placed.channels[0].data
    assert data is not None
    assert data.uri == f"s3://{BUCKET}/{plan.steps[0].request['Key']}table.csv"


def test_a_manifest_goes_up_with_the_files_that_it_refers_to(tmp_path: Path) -> None:
    """References to files here become addresses of S3, from the manifest's folder on; all else stays as it was."""
    pictures(tmp_path / "data", "images/a.jpg", "images/b.jpg", "images/unused.jpg")
    lines = [
        {"source-ref": "images/a.jpg", "label": "0", "label-metadata": {"job-name": "j"}},
        {"source-ref": str(tmp_path / "data/images/b.jpg"), "label": {"x": [1, 2.5]}},
        {"source-ref": "s3://elsewhere/c.jpg", "label": "ü"},
    ]
    path = manifest(tmp_path / "data/train.manifest", *lines)
    one = job(
        "n",
        channel("train", path, "AugmentedManifestFile", InputMode="Pipe", AttributeNames=["source-ref", "label"]),
    )
    with read_local_channels(one, bucket=BUCKET) as found:
        (material,) = found.values()
        objects, last = material.content.parts
        assert sorted(key.rpartition("/")[2] for key in objects.files) == ["a.jpg", "b.jpg"]
        written = [json.loads(splitline) for splitline in material.files[material.content.key].read_text().splitlines()]
        assert list(last.files) == [material.content.key]
    for before, after in zip(lines[:2], written[:2], strict=True):
        assert after["source-ref"].startswith(f"s3://{BUCKET}/{DATA}objects/")
        assert {**after, "source-ref": ""} == {**before, "source-ref": ""}
    assert written[2] == lines[2]
    plan, _, _ = planned(one)
    assert [step.kind for step in plan.steps] == ["data of channel train", "manifest of channel train", "training job"]
    assert plan.steps[1].name == f"s3://{BUCKET}/{material.content.key}"
    labels = manifest(path, *[{**line, "label": "1"} for line in lines])
    assert labels == path
    relabelled, _, _ = planned(one, seen(there({"train": material})))
    assert [step.kind for step in relabelled.steps] == ["manifest of channel train", "training job"]


def test_a_manifest_of_s3_goes_up_byte_by_byte(tmp_path: Path) -> None:
    """Where nothing lies here, not a blank of it changes."""
    path = tmp_path / "a.manifest"
    path.write_text('{"source-ref":  "s3://b/1.jpg",\t"label": 1.0}\n')
    one = job("n", channel("t", path, "AugmentedManifestFile", InputMode="Pipe", AttributeNames=["source-ref"]))
    with read_local_channels(one, bucket=BUCKET) as found:
        assert found["t"].files[found["t"].content.key] == path


def test_a_classic_manifest_goes_up_with_its_files(tmp_path: Path) -> None:
    """A prefix here becomes one of S3; the keys stay."""
    folder = pictures(tmp_path / "data", "a/1.jpg", "b.jpg", "unlisted.jpg")
    path = tmp_path / "list.json"
    path.write_text(json.dumps([{"prefix": f"{folder}/"}, "a/1.jpg", "b.jpg", {"prefix": "s3://x/"}, "c"]))
    with read_local_channels(job("n", channel("t", path, "ManifestFile")), bucket=BUCKET) as found:
        material = found["t"]
        first, *keys = json.loads(material.files[material.content.key].read_text())
        assert keys == ["a/1.jpg", "b.jpg", {"prefix": "s3://x/"}, "c"]
        prefix = first["prefix"].removeprefix(f"s3://{BUCKET}/")
        assert sorted(material.content.parts[0].files) == [f"{prefix}a/1.jpg", f"{prefix}b.jpg"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "the manifest is empty"),
        ('["a.jpg"]', 'line 1: invalid element of the manifest .*got "a.jpg"'),
        ('[{"prefix": "FOLDER/"}, "gone.jpg"]', "line 1: no such file below the prefix: .*gone.jpg"),
        ('[{"prefix": "FOLDER/"},\n"../a.jpg"]', "line 2: no such file below the prefix"),
    ],
)
def test_a_classic_manifest_that_is_wrong(tmp_path: Path, text: str, sentence: str) -> None:
    """The same as of an augmented one."""
    pictures(tmp_path, "a.jpg", "in/b.jpg")
    path = tmp_path / "list.json"
    path.write_text(text.replace("FOLDER", str(tmp_path / "in")))
    with pytest.raises(DefinitionError, match=f"channel t: {path}: {sentence}"):
        planned(job("n", channel("t", path, "ManifestFile")))


def test_two_channels_of_the_same_data_are_sent_once(tmp_path: Path) -> None:
    """They have one address."""
    folder = pictures(tmp_path, "a")
    plan, placed, _ = planned(job("n", channel("training", folder), channel("validation", folder)))
    assert [step.operation for step in plan.steps] == ["PutObject", "CreateTrainingJob"]
    assert placed.channels is not None
    assert len({item.data and item.data.uri for item in placed.channels}) == 1


def test_the_default_bucket_is_created_and_halves_of_these_data_are_removed(tmp_path: Path) -> None:
    folder = pictures(tmp_path, "a")
    one = job("n", channel("training", folder))
    _, _, found = planned(one)
    (key,) = there(found)
    halves = [IncompleteUpload(bucket=BUCKET, key=item, upload_id=item) for item in (key, f"{DATA}channels/other")]
    plan, _, _ = planned(one, seen(incomplete_uploads=halves))
    assert next((step.operation, step.name) for step in plan.steps) == ("AbortMultipartUpload", f"s3://{BUCKET}/{key}")
    assert len(plan.steps) == 3
    bare, _, _ = planned(one, seen(exists=False))
    assert [step.operation for step in bare.steps] == ["CreateBucket", "PutObject", "CreateTrainingJob"]
    with pytest.raises(DeploymentError, match="does not exist"):
        planned(one, replace(seen(exists=False), is_default=False))


def test_a_job_without_an_output_has_one_in_our_bucket() -> None:
    """Its model lies below a folder of the job's own name, as SageMaker does it."""
    one = job("n", OutputDataConfig={"S3OutputPath": ""})
    plan, placed, _ = planned(one)
    assert plan.steps[-1].request["OutputDataConfig"]["S3OutputPath"] == f"s3://{BUCKET}/tritonforge-training/models/"
    assert placed.artifact_uri == f"s3://{BUCKET}/tritonforge-training/models/n/output/model.tar.gz"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "the manifest is empty"),
        (['{"source-ref": "a.jpg"'], "line 1: the line is not JSON"),
        (
            ['{"source-ref": "a.jpg", "label": 0}', '{"source-ref": "gone.jpg", "label": 0}'],
            r"line 2: source-ref: no such file",
        ),
        (['{"source-ref": "a.jpg", "labels": 0}'], "line 1: label: the line does not have it; did you mean labels"),
    ],
)
def test_a_manifest_that_is_wrong_is_reported_before_anything_is_paid_for(
    tmp_path: Path, lines: list[str], sentence: str
) -> None:
    """Channel, file, line, attribute, and what is wrong."""
    pictures(tmp_path, "a.jpg")
    path = tmp_path / "train.manifest"
    path.write_text("\n".join(lines))
    names = ["source-ref", "label"]
    one = job("n", channel("train", path, "AugmentedManifestFile", InputMode="Pipe", AttributeNames=names))
    with pytest.raises(DefinitionError, match=f"channel train: {path}: {sentence}"):
        planned(one)


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    """A folder that is missing or empty, a path for the output, a key that S3 does not take."""
    with pytest.raises(DefinitionError, match="no such file or directory"):
        planned(job("n", channel("training", tmp_path / "absent")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DefinitionError, match="the directory is empty"):
        planned(job("n", channel("training", tmp_path / "empty")))
    with pytest.raises(DefinitionError, match=r"output out/: SageMaker writes to S3"):
        planned(job("n", OutputDataConfig={"S3OutputPath": "out/"}))
    with pytest.raises(DefinitionError, match="checkpoints /tmp/x: SageMaker"):
        planned(job("n", CheckpointConfig={"S3Uri": "/tmp/x"}))
    deep = tmp_path / "deep"
    pictures(deep, "/".join(["x" * 200] * 5) + "/y")
    with pytest.raises(DefinitionError, match="S3 does not accept this name"):
        planned(job("n", channel("training", deep)))
