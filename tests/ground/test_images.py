"""Tests of `tritonforge.triton`."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tritonforge import triton as images
from tritonforge.errors import DefinitionError
from tritonforge.triton import CATALOGUE, VARIANTS, Image, changes, find_image
from tritonforge.triton.schema import load_model_config_pb2

OREGON = "763104351884.dkr.ecr.us-west-2.amazonaws.com/sagemaker-tritonserver:24.09-py3"


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("24.09", "24.09-py3"),
        ("24.09-py3", "24.09-py3"),
        ("24.09-py3-cpu", "24.09-py3-cpu"),
        (OREGON, "24.09-py3"),
        (f"{OREGON}-cpu", "24.09-py3-cpu"),
        (f"{OREGON}@sha256:{'0' * 64}", "24.09-py3"),
        ("727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/sagemaker-tritonserver:24.09-py3", "24.09-py3"),
        ("nvcr.io/nvidia/tritonserver:24.10-py3", "24.10-py3"),
        ("localhost:5000/triton:23.08-py3", "23.08-py3"),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/our-triton:26.05-py3", "26.05-py3"),
        ("007439368137.dkr.ecr.us-east-2.amazonaws.com/sagemaker-tritonserver:23.02-py3", "23.02-py3"),
    ],
)
def test_a_release_a_tag_and_a_uri_name_an_image(name: str, tag: str) -> None:
    """Every way to write an image finds it, and its tag finds it again."""
    assert find_image(name).tag == tag
    assert find_image(tag) == find_image(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "no Triton image"),
        ("24.9", "no Triton image"),
        ("19.10", "26.05"),
        ("latest", "no Triton image"),
        ("24.09-py3-sdk", "client libraries and tools, but no server"),
        ("23.09-vllm-python-py3", "from 23.10 on"),
        ("25.03-tf2-python-py3", "up to 25.02"),
        ("24.09-vllm-python-py3-cpu", "no Triton image"),
        ("nvcr.io/nvidia/tritonserver:24.09-py3-min", "but no server"),
        ("24.09-cpu", "no Triton image"),
        ("nvcr.io/nvidia/tritonserver", "has no tag"),
        ("localhost:5000/triton", "has no tag"),
        (OREGON.replace("763104351884", "301217895009"), "in account 763104351884"),
        (OREGON.replace("24.09", "23.02"), "in account 301217895009"),
    ],
)
def test_an_unknown_image_is_a_definition_error(name: str, words: str) -> None:
    """What names no known image, or an account that never held it, is refused in a sentence that says what is right."""
    with pytest.raises(DefinitionError, match=words):
        find_image(name)


def test_the_facts_of_the_last_release_with_tensorflow_on_sagemaker() -> None:
    """24.09 is Triton 2.50.0 with DALI 1.39, ONNX Runtime 1.19.2, Python 3.10 and CUDA 12.4, and has TensorFlow."""
    assert find_image("24.09") == Image(
        release="24.09",
        triton="2.50.0",
        backends=CATALOGUE["25.04"].backends | {"tensorflow"},
        dali="1.39",
        onnxruntime="1.19.2",
        python="3.10",
        cuda="12.4",
        openvino="2024.0.0",
        treelite="4.3.0",
        tensorrt="10",
        min_compute_capability=6.0,
        sagemaker_regions="no-new-regions",
    )


def test_tensorflow_ends_with_25_02() -> None:
    """Exactly the releases before 25.03 have the TensorFlow backend; every one has DALI and ONNX Runtime."""
    with_tensorflow = [release for release, image in CATALOGUE.items() if "tensorflow" in image.backends]
    assert with_tensorflow[-1] == "25.02"
    assert with_tensorflow == [release for release in CATALOGUE if release < "25.03"]
    assert all({"dali", "onnxruntime", "python"} <= image.backends for image in CATALOGUE.values())


@pytest.mark.parametrize(
    ("name", "triton", "backends", "onnxruntime"),
    [
        ("22.06", "2.23.0", None, "1.11.1"),
        ("22.11", "2.28.0", None, "1.13.1"),
        ("23.04", "2.33.0", None, "1.14.1"),
        ("23.11", "2.40.0", None, "1.16.3"),
        ("26.08", "2.72.0", None, "1.28.0"),
        ("nvcr.io/nvidia/tritonserver:24.09-vllm-python-py3", "2.50.0", {"python", "vllm"}, None),
        ("26.07-trtllm-python-py3", "2.71.0", {"python", "tensorrtllm"}, None),
        ("21.08-pyt-python-py3", "2.13.0", {"python", "pytorch"}, None),
        ("25.02-tf2-python-py3", "2.55.0", {"python", "tensorflow"}, None),
    ],
)
def test_what_an_image_holds(name: str, triton: str, backends: set[str] | None, onnxruntime: str | None) -> None:
    """Releases that were unknown once, and NVIDIA's images with few backends; the text of each finds it again."""
    image = find_image(name)
    assert (image.triton, image.onnxruntime) == (triton, onnxruntime)
    assert backends is None or (image.backends == backends and not image.sagemaker)
    assert find_image(image.text) == image
    assert image.tag == name.rpartition(":")[2] or not image.variant


def test_aws_has_no_address_of_an_image_with_few_backends() -> None:
    """SageMaker takes such an image from a registry of the user's own only."""
    assert all(images.list_regions(find_image(f"24.09-{variant}-py3")) == () for variant in VARIANTS)
    with pytest.raises(DefinitionError, match=r"AWS publishes no 24\.09-vllm-python-py3 for SageMaker"):
        images.build_image_uri(find_image("24.09-vllm-python-py3"), "us-east-1")


def test_releases_without_a_branch_are_provisional() -> None:
    """The newest releases are known by their notes only."""
    assert [release for release, image in CATALOGUE.items() if image.provisional] == ["26.09", "26.10", "26.11"]


def test_what_is_not_stated_is_none() -> None:
    """Figures that no source gives are left open."""
    assert (find_image("23.03").dali, find_image("23.02").cuda) == (None, None)
    assert (find_image("26.08").dali, find_image("26.09").onnxruntime) == (None, None)
    assert find_image("23.08").python is None


def test_the_catalogue_is_sorted_and_counts_up() -> None:
    """Releases and server versions rise together, and each key is its image's release."""
    assert list(CATALOGUE) == sorted(CATALOGUE)
    versions = [tuple(map(int, image.triton.split("."))) for image in CATALOGUE.values()]
    assert versions == sorted(set(versions))
    assert all(release == image.release and not image.cpu for release, image in CATALOGUE.items())


@pytest.mark.parametrize(
    ("release", "count"), [("23.12", 26), ("24.09", 26), ("25.04", 35), ("25.09", 34), ("26.05", 34), ("23.02", 22)]
)
def test_regions_are_as_many_as_aws_lists(release: str, count: int) -> None:
    """The regions of a release are those of the SDK's image table, in number."""
    assert len(images.list_regions(find_image(release))) == count


@pytest.mark.parametrize(
    ("name", "region", "expected"),
    [
        ("24.09", "us-west-2", OREGON),
        ("24.09-py3-cpu", "us-west-2", f"{OREGON}-cpu"),
        (
            "24.09",
            "cn-north-1",
            "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/sagemaker-tritonserver:24.09-py3",
        ),
        ("23.02", "us-east-2", "007439368137.dkr.ecr.us-east-2.amazonaws.com/sagemaker-tritonserver:23.02-py3"),
        (
            "26.05",
            "ap-southeast-6",
            "633930458069.dkr.ecr.ap-southeast-6.amazonaws.com/sagemaker-tritonserver:26.05-py3",
        ),
    ],
)
def test_the_uri_of_an_image(name: str, region: str, expected: str) -> None:
    """Account, domain and tag follow the region, the release and the variant; the URI finds the image again."""
    assert images.build_image_uri(find_image(name), region) == expected
    assert find_image(expected) == find_image(name)


def test_cpu_overrides_the_variant() -> None:
    """`cpu` asks for one variant whatever the image is."""
    assert images.build_image_uri(find_image("24.09"), "us-west-2", cpu=True) == f"{OREGON}-cpu"
    assert images.build_image_uri(find_image("24.09-py3-cpu"), "us-west-2", cpu=False) == OREGON


@pytest.mark.parametrize(
    ("name", "region", "words"),
    [
        ("24.10", "us-west-2", "nearest before it is 24.09, the newest 26.05"),
        ("24.09", "me-central-1", "not in 'me-central-1'"),
        ("25.09", "cn-north-1", "not in 'cn-north-1'"),
        ("26.05", "us-gov-west-1", "not in 'us-gov-west-1'"),
        ("23.02", "il-central-1", "not in 'il-central-1'"),
        ("26.05", "", "not in ''"),
    ],
)
def test_where_aws_has_no_image_there_is_no_uri(name: str, region: str, words: str) -> None:
    """A release or a region without the image is refused, and the sentence says where it is."""
    with pytest.raises(DefinitionError, match=words):
        images.build_image_uri(find_image(name), region)


@pytest.mark.parametrize(
    ("name", "instance_type", "expected"),
    [
        ("25.04", "ml.p3.2xlarge", True),
        ("25.04", "ml.p2.xlarge", True),
        ("25.04", "ml.g4dn.xlarge", False),
        ("25.04", "ml.c5.xlarge", False),
        ("24.09", "ml.p3.2xlarge", False),
        ("24.11", "ml.p3.2xlarge", True),
    ],
)
def test_old_gpus_end_with_turing(name: str, instance_type: str, expected: bool) -> None:
    """P2 and P3 are too old where 7.5 is asked for; where nothing is stated nothing is judged."""
    assert images.has_unsupported_gpu(find_image(name), instance_type) is expected


def test_gpu_families() -> None:
    assert images.find_gpu_family("ml.p6-b200.48xlarge") == "p6-b200"
    assert images.find_gpu_family("ml.inf2.xlarge") is None
    for text in ("g5.xlarge", "ml.g5", "ml..xlarge", ""):
        with pytest.raises(DefinitionError, match="is not of the form"):
            images.find_gpu_family(text)


def test_gpu_families_are_sagemakers() -> None:
    """Each GPU family exists in botocore's list of instance types."""
    from botocore.loaders import Loader

    shapes = Loader().load_service_model("sagemaker", "service-2")["shapes"]
    families = {
        images.parse_instance_family(instance_type) for instance_type in shapes["ProductionVariantInstanceType"]["enum"]
    }
    assert {"p2", "p3", "g4dn", "g5"} <= families
    assert {family for family in families if family[0] in "pg"} == {
        family for family in families if images.find_gpu_family(f"ml.{family}.xlarge")
    }


@pytest.mark.parametrize("path", changes.FIELDS)
def test_the_fields_exist(path: str) -> None:
    """Every dated field is a field of the schema."""
    descriptor = load_model_config_pb2().ModelConfig.DESCRIPTOR
    for name in path.split("."):
        descriptor = descriptor.fields_by_name[name].message_type or descriptor.fields_by_name[name]


def test_the_values_exist() -> None:
    """Every dated enum value is one of the schema, and every date a YY.MM."""
    schema = load_model_config_pb2()
    names = set(schema.DataType.keys()) | set(schema.BatchInput.Kind.keys())
    assert names >= set(changes.VALUES)
    for change in changes.list_changes():
        assert change.text
        assert change.source
        for release in (change.first, change.last):
            assert release is None or re.fullmatch(r"\d\d\.\d\d", release)
        assert change.first is not None or change.last is not None


def test_the_rows_of_the_table_name_rules() -> None:
    """Every code in the table of changes is a rule, and every constant of the module is in the table."""
    from tritonforge.validation.registry import load_rules

    assert {code for change in changes.list_changes() for code in change.rules} <= set(load_rules())
    constants = {value for value in vars(changes).values() if isinstance(value, changes.Change)}
    assert constants == set(changes.CHANGES)


@pytest.mark.slow
def test_no_module_compares_releases_beside_the_table() -> None:
    package = Path(images.__file__).parents[1]
    order = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)

    def compares(node: ast.AST) -> bool:
        operands = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        names = {getattr(operand, "id", getattr(operand, "attr", "")) for operand in operands}
        return "release" in names and isinstance(node, ast.Compare) and isinstance(node.ops[0], order)

    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any(compares(node) for node in ast.walk(ast.parse(path.read_text())))
    }
    assert found == {"triton/changes.py", "triton/registries.py", "repository/onnx_conversion.py"}


@pytest.mark.process
def test_the_module_is_light() -> None:
    """It does not load protobuf."""
    script = "import sys, tritonforge.triton; print('google' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("name", "added", "tag"),
    [
        ("26.05+tensorflow", {"tensorflow"}, "26.05-py3"),
        ("26.05-py3-cpu+tensorflow", {"tensorflow"}, "26.05-py3-cpu"),
        ("registry.example/ours:26.05-py3+tensorflow+vllm", {"tensorflow", "vllm"}, "26.05-py3"),
        ("24.09+tensorflow", set(), "24.09-py3"),
    ],
)
def test_a_plus_sign_adds_a_backend_to_a_release(name: str, added: set[str], tag: str) -> None:
    """An image of one's own is written as the release it is made from and what was added; nothing is added twice."""
    image, base = find_image(name), find_image(tag)
    assert (image.added, image.tag) == (added, tag)
    assert image.backends == base.backends | added
    assert find_image(image.text) == image
    assert (image == base) is (not added)


@pytest.mark.parametrize("name", ["26.05+", "26.05+Tensor Flow", "26.05++tensorflow", "26.05+../x"])
def test_what_is_added_must_be_the_name_of_a_backend(name: str) -> None:
    """Anything else behind a plus sign is refused with an example that is right."""
    with pytest.raises(DefinitionError, match=r"is not the name of a backend; write for example 26\.05\+tensorflow"):
        find_image(name)


def test_an_unknown_release_is_refused_with_added_backends_too() -> None:
    with pytest.raises(DefinitionError, match="no Triton image"):
        find_image("19.10+tensorflow")


def test_aws_has_no_address_of_an_image_with_added_backends() -> None:
    """The address of an image that only its maker can have is not made up."""
    with pytest.raises(DefinitionError, match="stage sagemaker-tensorflow"):
        images.build_image_uri(find_image("26.05+tensorflow"), "us-east-1")
    with pytest.raises(DefinitionError, match="name the image that you made"):
        images.build_image_uri(find_image("26.05+vllm"), "us-east-1")
