"""The layout and the environment of TensorFlow Serving packages, as SageMaker's container reads them."""

from __future__ import annotations

import pytest

from tritonforge.errors import DefinitionError
from tritonforge.triton.registries import build_tfs_image_uri, is_tfs_image_name
from tritonforge.triton.tfs_container import Batching, find_problems, read_settings
from tritonforge.triton.tfs_layout import ServedModel, find_models, is_package, is_tfs_image


def test_models_are_numbered_folders_with_a_saved_model() -> None:
    paths = [
        "resnet/1/saved_model.pb",
        "resnet/1/variables/variables.index",
        "resnet/0020/saved_model.pb",
        "resnet/020/saved_model.pb",
        "resnet/7/",
        "resnet/v2/saved_model.pb",
        "deep/down/here/3/saved_model.pb",
        "plain/saved_model.pb",
        "code/inference.py",
    ]
    assert find_models(paths) == (
        ServedModel("here", "deep/down/here", {3: "deep/down/here/3"}),
        ServedModel(
            "resnet",
            "resnet",
            {1: "resnet/1", 7: "resnet/7", 20: "resnet/020"},
            repeated=("resnet/0020",),
            unloadable=("resnet/7",),
        ),
    )


def test_versions_at_the_top_are_of_the_model_named_model() -> None:
    """As AWS's own example packs it: the folder there is /opt/ml/model."""
    assert find_models(["1538687370/saved_model.pb", "code/inference.py"]) == (
        ServedModel("model", "", {1538687370: "1538687370"}),
    )


def test_a_folder_without_models_has_none() -> None:
    """Nothing numbered, nothing found."""
    assert find_models(["resnet/saved_model.pb", "1/model.savedmodel/saved_model.pb", "2/"]) == ()


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/1/saved_model.pb"], True),
        (["1/saved_model.pb"], True),
        (["saved_model.pb", "variables/variables.index"], True),
        (["code/inference.py"], True),
        (["a/1/model.savedmodel/saved_model.pb"], False),
        (["a/config.pbtxt", "a/1/saved_model.pb"], False),
        (["config.pbtxt", "1/saved_model.pb"], False),
        (["a/1/assets/config.pbtxt", "a/1/saved_model.pb"], True),
        (["a/saved_model.pb"], False),
        (["a/1/model.onnx", "a/code/inference.py"], False),
        ([], False),
    ],
)
def test_packages_are_distinguished_from_tritons_repositories(paths: list[str], expected: bool) -> None:
    """A configuration of Triton's decides; else numbered SavedModels, or handlers."""
    assert is_package(paths) is expected
    assert is_package(reversed(paths)) is expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("763104351884.dkr.ecr.us-west-2.amazonaws.com/tensorflow-inference:2.20-cpu-py312", True),
        ("520713654638.dkr.ecr.us-west-2.amazonaws.com/sagemaker-tensorflow-serving:1.12-gpu", True),
        ("public.ecr.aws/deep-learning-containers/tensorflow-inference@sha256:00", True),
        ("763104351884.dkr.ecr.us-east-1.amazonaws.com/tensorflow-inference-arm64:2.19-cpu", True),
        ("763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-tensorflow-inference:2.11-cpu", False),
        ("301217895009.dkr.ecr.us-west-2.amazonaws.com/sagemaker-tritonserver:24.09-py3", False),
        ("", False),
    ],
)
def test_images_are_known_by_the_name_of_their_repository(image: str, expected: bool) -> None:
    """The containers' two names, with their kinds, from any registry."""
    assert is_tfs_image(image) is expected


def test_settings_have_the_containers_defaults() -> None:
    """What an empty environment means."""
    found = read_settings({}, cpus=4)
    assert (found.batching, found.default_model, found.wait_time, found.workers) == (None, None, 60, 1)
    assert (found.instance_count, found.inter_op_parallelism, found.intra_op_parallelism) == (1, 0, 0)
    assert read_settings({"SAGEMAKER_TFS_DEFAULT_MODEL_NAME": "None"}, cpus=4).default_model is None
    on = {"SAGEMAKER_TFS_ENABLE_BATCHING": "True"}
    assert read_settings(on, cpus=4).batching == Batching(
        max_batch_size=8, batch_timeout_micros=1000, num_batch_threads=4, max_enqueued_batches=4
    )
    queue = read_settings({**on, "SAGEMAKER_BATCH": "true"}, cpus=4).batching
    assert queue is not None
    assert queue.max_enqueued_batches == 100_000_000


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SAGEMAKER_TFS_ENABLE_BATCHING", "1", "must be 'true' or 'false'"),
        ("SAGEMAKER_MULTI_MODEL", "", "must be 'true' or 'false'"),
        ("SAGEMAKER_TFS_MAX_BATCH_SIZE", "0", "it must be an integer of at least 1"),
        ("SAGEMAKER_TFS_MAX_BATCH_SIZE", "many", "it must be an integer of at least 1"),
        ("SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS", "-1", "it must be an integer of at least 0"),
        ("SAGEMAKER_GUNICORN_WORKERS", "2.5", "it must be an integer of at least 1"),
    ],
)
def test_values_that_end_the_container_are_named(name: str, value: str, sentence: str) -> None:
    """A sentence for the variable, and for it alone."""
    found = find_problems({name: value, "OTHER": "x", "SAGEMAKER_TFS_INSTANCE_COUNT": " 2 "})
    assert list(found) == [name]
    assert sentence in found[name]


@pytest.mark.parametrize(
    ("image", "cpu", "tag"),
    [
        ("tensorflow-inference:2.19", True, "2.19-cpu"),
        ("tensorflow-inference:2.19.0", False, "2.19.0-gpu"),
        ("tensorflow-inference:2.20", True, "2.20.0-cpu-py312"),
        ("tensorflow-inference:2.20.0", False, "2.20.0-gpu-py312"),
        ("tensorflow-inference:2.14-cpu", False, "2.14-cpu"),
    ],
)
def test_an_image_is_where_aws_keeps_it(image: str, cpu: bool, tag: str) -> None:
    """Of a version alone the tag is made; a tag stays."""
    assert is_tfs_image_name(image)
    assert build_tfs_image_uri(image, "eu-south-1", cpu=cpu) == (
        f"692866216735.dkr.ecr.eu-south-1.amazonaws.com/tensorflow-inference:{tag}"
    )


def test_an_address_stays_as_it_is() -> None:
    """Also one of an account of one's own; other images are none of these."""
    address = "123456789012.dkr.ecr.us-west-2.amazonaws.com/tensorflow-inference:mine"
    assert is_tfs_image_name(address)
    assert build_tfs_image_uri(address, "eu-south-1", cpu=True) == address
    assert not any(map(is_tfs_image_name, (None, "24.09", "tensorflow-inference", "sagemaker-tritonserver:24.09-py3")))


def test_a_region_without_images_is_reported() -> None:
    """With those that have some."""
    with pytest.raises(DefinitionError, match=r"no deep learning containers in 'moon-1', but in af-south-1, "):
        build_tfs_image_uri("tensorflow-inference:2.19", "moon-1", cpu=True)
