"""The container: where everything is, and one clear sentence for each file that is missing or broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.program_folders import laid_out
from tritonforge.training.algorithm import Container, InputError, Resources

CONFIG = ("hyperparameters.json", "inputdataconfig.json", "resourceconfig.json")


def asked(container: Container, name: str) -> object:
    """What a container reads from one of its files."""
    return {CONFIG[0]: lambda: container.hyperparameters, CONFIG[1]: lambda: container.channels}.get(
        name, lambda: container.resources
    )()


def test_its_folders_are_sagemakers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below /opt/ml, below SAGEMAKER_BASE_DIR where it is set, or below what the program says."""
    monkeypatch.delenv("SAGEMAKER_BASE_DIR", raising=False)
    monkeypatch.setenv("TRAINING_JOB_NAME", "job-1")
    container = Container.here()
    assert str(container.model_dir) == "/opt/ml/model"
    assert str(container.output_data_dir) == "/opt/ml/output/data"
    assert str(container.checkpoint_dir) == "/opt/ml/checkpoints"
    assert str(container.failure_file) == "/opt/ml/output/failure"
    assert str(container.config_dir) == "/opt/ml/input/config"
    assert str(container.data_dir) == "/opt/ml/input/data"
    assert container.job_name == "job-1"
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    assert Container.here().model_dir == tmp_path / "model"
    assert Container.here(tmp_path / "x").model_dir == tmp_path / "x" / "model"


def test_what_the_job_says_is_read(tmp_path: Path) -> None:
    """Hyperparameters as strings, channels with their modes, the machines sorted."""
    base = laid_out(
        tmp_path,
        hyperparameters={"epochs": "5"},
        channels={
            "training": {
                "ContentType": "application/x-recordio",
                "TrainingInputMode": "Pipe",
                "RecordWrapperType": "RecordIO",
                "S3DistributionType": "ShardedByS3Key",
            },
            "model": {"TrainingInputMode": "File"},
        },
        resources={
            "current_host": "algo-2",
            "current_instance_type": "ml.m5.xlarge",
            "current_group_name": "homogeneousCluster",
            "hosts": ["algo-2", "algo-1"],
            "instance_groups": [{"instance_group_name": "homogeneousCluster", "hosts": ["algo-1", "algo-2"]}],
            "network_interface_name": "eth0",
        },
    )
    container = Container.here(base)
    assert container.hyperparameters == {"epochs": "5"}
    training, model = container.channels.values()
    assert (training.name, training.mode, training.content_type) == ("training", "Pipe", "application/x-recordio")
    assert (training.record_wrapper, training.distribution) == ("RecordIO", "ShardedByS3Key")
    assert (model.mode, model.content_type, model.record_wrapper) == ("File", "", "None")
    assert model.folder == base / "input" / "data" / "model"
    assert container.resources == Resources(
        current_host="algo-2",
        hosts=("algo-1", "algo-2"),
        current_instance_type="ml.m5.xlarge",
        current_group_name="homogeneousCluster",
        network_interface_name="eth0",
        instance_groups=({"instance_group_name": "homogeneousCluster", "hosts": ["algo-1", "algo-2"]},),
    )


def test_seed_1s_spelling_of_the_machines_file_is_read(tmp_path: Path) -> None:
    """AWS Marketplace's guide calls it resourceConfig.json."""
    laid_out(tmp_path)
    config = tmp_path / "input" / "config"
    (config / "resourceconfig.json").rename(config / "resourceConfig.json")
    assert Container.here(tmp_path).resources.hosts == ("algo-1",)


@pytest.mark.parametrize("name", CONFIG)
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "is missing; SageMaker writes it, and outside it set SAGEMAKER_BASE_DIR to a folder that has it"),
        (b"{", "is not JSON: Expecting property name"),
        (b"\xff{}", "is not JSON: 'utf-8' codec can't decode byte 0xff"),
        (b"[1]", "holds [1]; write an object"),
        (b"[" * 100_000, "is not JSON: it is nested too deep"),
    ],
)
def test_files_that_are_missing_or_broken_are_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    """The file is named, and what is wrong with it."""
    path = laid_out(tmp_path) / "input" / "config" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        asked(Container.here(tmp_path), name)
    assert str(caught.value).startswith(f"{path} {sentence}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "document", "sentence"),
    [
        (CONFIG[0], {"epochs": 5}, "epochs is 5; SageMaker gives every value as a string, so put it in quotes"),
        (CONFIG[1], {"a": "File"}, 'channel a is "File"; write an object'),
        (CONFIG[1], {"a": {"TrainingInputMode": "file"}}, 'of channel a is "file"; write File or FastFile or Pipe'),
        (CONFIG[1], {"a": {"RecordWrapperType": "Rio"}}, 'RecordWrapperType of channel a is "Rio"; write None or'),
        (CONFIG[1], {"a": {"ContentType": 5}}, "ContentType of channel a is 5; write a string"),
        (CONFIG[2], {"hosts": []}, "hosts is []; write the names of the machines"),
        (CONFIG[2], {"hosts": ["a"], "current_host": "b"}, 'current_host is "b", which is not one of a'),
    ],
)
def test_wrong_values_in_files_are_one_sentence(tmp_path: Path, name: str, document: object, sentence: str) -> None:
    """The file, the place in it, what is there, and what to write."""
    path = laid_out(tmp_path) / "input" / "config" / name
    path.write_text(json.dumps(document))
    with pytest.raises(InputError) as caught:
        asked(Container.here(tmp_path), name)
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    """A program that trains on one machine needs no file about machines."""
    path = laid_out(tmp_path) / "input" / "config" / "resourceconfig.json"
    path.unlink()
    assert Container.here(tmp_path).hyperparameters == {}
