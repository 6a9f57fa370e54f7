"""What a program finds: its configuration, its environment, its command, and its channels as files."""

import json
from pathlib import Path

import pytest

from tests.support.training_jobs import Memory, channel, run_job
from tritonforge.training.algorithm.container import Container
from tritonforge.training.job import InstanceGroup, Resources, StoppingCondition

pytestmark = pytest.mark.process


def test_the_configuration_is_what_the_guide_says(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x")
    ran = run_job(
        tmp_path,
        "cp input/config/* model/; env > model/env",
        channel(tmp_path / "in", "training", mode="File", content_type="image/jpeg"),
        channel(tmp_path / "in", "pipe", record_wrapper_type="RecordIO"),
        job={
            "hyperparameters": {"epochs": "5", "flag": "True"},
            "environment": {"MINE": "1", "TRAINING_JOB_NAME": "not mine"},
            "stopping_condition": StoppingCondition(),
        },
        arn="arn:aws:sagemaker:us-east-1:123456789012:training-job/job",
    )
    documents = {path.name: json.loads(path.read_text()) for path in ran.model.glob("*.json")}
    assert documents["hyperparameters.json"] == {"epochs": "5", "flag": "True"}
    assert documents["inputdataconfig.json"] == {
        "training": {
            "ContentType": "image/jpeg",
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        },
        "pipe": {
            "TrainingInputMode": "Pipe",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "RecordIO",
        },
    }
    assert documents["resourceconfig.json"] == documents["resourceConfig.json"]
    assert documents["resourceconfig.json"] == {
        "current_host": "algo-1",
        "current_instance_type": "local",
        "current_group_name": "homogeneousCluster",
        "hosts": ["algo-1"],
        "instance_groups": [
            {"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": ["algo-1"]}
        ],
        "network_interface_name": "eth0",
    }
    variables = dict(line.split("=", 1) for line in (ran.model / "env").read_text().splitlines())
    assert variables["MINE"] == "1"
    assert variables["TRAINING_JOB_NAME"] == "job"
    assert variables["TRAINING_JOB_ARN"].endswith(":training-job/job")


def test_our_own_reader_takes_it(tmp_path: Path) -> None:
    """`training.algorithm` reads the folder as it was laid out."""
    group = InstanceGroup(instance_type="ml.g5.xlarge", instance_count=1, instance_group_name="gpus")
    ran = run_job(
        tmp_path, "true", job={"hyperparameters": {"a": "1"}, "resources": Resources(instance_groups=(group,))}
    )
    container = Container.here(ran.model.parent)
    assert container.hyperparameters == {"a": "1"}
    assert container.resources.hosts == ("algo-1",)
    assert container.resources.current_group_name == "gpus"
    assert container.resources.current_instance_type == "ml.g5.xlarge"
    assert container.channels == {}


def test_the_command_may_be_another(tmp_path: Path) -> None:
    """ContainerEntrypoint takes train's place; ContainerArguments come after either."""
    script = 'echo "$@"'
    for name, algorithm, expected in (
        ("a", {"container_arguments": ("one", "two words")}, ["one two words"]),
        ("b", {"container_entrypoint": ("sh", "-c", "echo own $0"), "container_arguments": ("x",)}, ["own x"]),
    ):
        (tmp_path / name).mkdir()
        assert run_job(tmp_path / name, script, algorithm=algorithm).lines == expected


def test_files_keep_the_structure_below_the_prefix(tmp_path: Path) -> None:
    """File mode: keys without the prefix, with their folders; one object is a file of its own name."""
    objects = {"in/1.jpg": b"1", "in/a/2.jpg": b"2", "in/a/": b"", "in2": b"no"}
    place = Memory({f"s3://b/{key}": content for key, content in objects.items()})
    place.objects["s3://b/m.manifest"] = b'[{"prefix":"s3://b/in/"},"a/2.jpg"]'
    ran = run_job(
        tmp_path,
        "cd input/data; find . -type f | sort > ../../model/list; cat all/a/2.jpg >> ../../model/list",
        channel("s3://b/in/", "all", mode="File"),
        channel("s3://b/in/1.jpg", "one", mode="File"),
        channel("s3://b/m.manifest", "some", mode="File", data_type="ManifestFile"),
        store=place,
    )
    assert (ran.model / "list").read_text().split() == [
        "./all/1.jpg",
        "./all/a/2.jpg",
        "./one/1.jpg",
        "./some/a/2.jpg",
        "2",
    ]


def test_fast_files_are_there_to_be_read_only(tmp_path: Path) -> None:
    """FastFile: a folder of this machine is shown, one of S3 copied first; neither can be written to."""
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "1").write_bytes(b"here")
    script = """
    for each in near far; do
        cat input/data/$each/a/1 >> model/read
        touch input/data/$each/a/1 2>/dev/null && echo written
        touch input/data/$each/new 2>/dev/null && echo made
    done
    true
    """
    near = channel(tmp_path / "in", "near", mode="FastFile")
    assert run_job(tmp_path, script.replace("near far", "near"), near).outcome.notes == ()
    (tmp_path / "second").mkdir()
    place = Memory({"s3://b/in/a/1": b"far"})
    ran = run_job(
        tmp_path / "second", script.replace("near far", "far"), channel("s3://b/in/", "far", mode="FastFile"),
        store=place,
    )  # fmt: skip
    assert ((ran.model / "read").read_bytes(), ran.lines) == (b"far", [])
    assert ran.outcome.notes == ("channel far: FastFile was copied before the program started",)
    assert (tmp_path / "in" / "a" / "1").read_bytes() == b"here"
    assert not (tmp_path / "in" / "new").exists()


def test_copies_are_the_programs_own(tmp_path: Path) -> None:
    """File mode: what a program does to its input does not reach where it came from."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1").write_bytes(b"as it was")
    one = channel(tmp_path / "in", mode="File")
    ran = run_job(tmp_path, "echo changed > input/data/train/1; cp input/data/train/1 model/", one)
    assert (ran.model / "1").read_bytes() == b"changed\n"
    assert (tmp_path / "in" / "1").read_bytes() == b"as it was"
