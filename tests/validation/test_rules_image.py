"""Tests of the rules about an image: its backends, fields, GPUs and its release."""

from __future__ import annotations

import pytest

from tests.support.rule_findings import Files, codes, find, list_rules, only
from tritonforge import triton
from tritonforge.errors import DefinitionError
from tritonforge.triton import changes

#: The rules under test.
IMAGE = "E60[1-5]|W60[12]"
GRAPHDEF = 'name: "m"\nplatform: "tensorflow_graphdef"\n'
GPU = 'backend: "python"\ninstance_group [{ kind: KIND_CPU }, { kind: KIND_GPU }, { name: "big" kind: KIND_GPU }]'
METRICS = 'backend: "python"\nmax_batch_size: 4\nmodel_metrics { metric_control { } }\n'

BAD: dict[str, tuple[Files, dict[str, str]]] = {
    "E601": ({"m/config.pbtxt": GRAPHDEF, "m/1/model.graphdef": ""}, {"image": "25.04"}),
    "E602": ({"m/config.pbtxt": 'backend: "vllm"', "m/1/": ""}, {"image": "24.09"}),
    "E603": ({"m/config.pbtxt": METRICS, "m/1/": ""}, {"image": "24.09"}),
    "E604": (
        {"m/config.pbtxt": 'backend: "python" instance_group { kind: KIND_GPU }', "m/1/": ""},
        {"image": "24.09-py3-cpu"},
    ),
    "W601": ({"m/config.pbtxt": 'backend: "python"', "m/1/": ""}, {"image": "24.10", "target": "sagemaker"}),
}
GOOD: dict[str, tuple[Files, dict[str, str]]] = {
    "E601": ({"m/config.pbtxt": GRAPHDEF, "m/1/model.graphdef": ""}, {"image": "24.09"}),
    "E602": ({"m/config.pbtxt": 'backend: "vllm"', "m/1/libtriton_vllm.so": b"x"}, {"image": "24.09"}),
    "E603": ({"m/config.pbtxt": METRICS, "m/1/": ""}, {"image": "24.11"}),
    "E604": ({"m/config.pbtxt": GPU, "m/1/": ""}, {"image": "24.09"}),
    "W601": ({"m/config.pbtxt": 'backend: "python"', "m/1/": ""}, {"image": "24.09", "target": "sagemaker"}),
}


@pytest.mark.parametrize("code", BAD)
def test_the_bad_fixture_gives_exactly_the_rule(code: str) -> None:
    """Each rule's bad fixture gives its code and nothing else."""
    files, options = BAD[code]
    assert codes(IMAGE, files, **options) == [code]


@pytest.mark.parametrize("code", GOOD)
def test_the_good_fixture_gives_nothing(code: str) -> None:
    """Each rule's good fixture is silent."""
    files, options = GOOD[code]
    assert codes(IMAGE, files, **options) == []


def test_without_an_image_the_local_server_is_judged() -> None:
    """What depends on an image is not reported without one; a field that the local server lacks is."""
    for code, (files, options) in BAD.items():
        assert codes(IMAGE, files, **{**options, "image": None}) == (["E603"] if code == "E603" else [])
    finding = only(IMAGE, BAD["E603"][0])
    assert "Triton 2.51.0 (24.10), the local server, does not know" in finding.help
    assert "--image" in finding.help


def test_every_rule_has_fixtures() -> None:
    """The rules of the catalogue are those tested here; two need an instance type."""
    assert list_rules(IMAGE) == {*BAD, "E605", "W602"}


def test_tensorflow_names_both_ways_out_at_the_platform() -> None:
    """The finding has Triton's sentence, the place of the platform, and both remedies."""
    finding = only(IMAGE, BAD["E601"][0], image="26.05")
    assert finding.message == (
        "unable to find backend library for backend 'tensorflow', try specifying runtime on the model configuration."
    )
    assert (finding.path, finding.line, finding.column, finding.field) == ("m/config.pbtxt", 2, 11, "platform")
    assert finding.refused_by == "triton"
    assert "tritonforge package REPO --image 26.05 --tensorflow onnx" in finding.help
    assert "tritonforge package REPO --image 26.05 --tensorflow python-backend" in finding.help
    assert "stage sagemaker-tensorflow" in finding.help


@pytest.mark.parametrize("name", ["26.05+tensorflow", "26.05-py3-cpu+tensorflow"])
def test_an_image_that_tensorflow_was_added_to_serves_it(name: str) -> None:
    """`E601` is of the release's own backends: an image that it was added to is judged as one that has it."""
    assert codes(IMAGE, BAD["E601"][0], image=name) == []
    assert codes(IMAGE, BAD["E601"][0], image=name.partition("+")[0]) == ["E601"]


@pytest.mark.parametrize("release", ["25.02", "25.03"])
def test_tensorflow_ends_between_25_02_and_25_03(release: str) -> None:
    """25.03 is the first release without the backend."""
    assert bool(codes(IMAGE, BAD["E601"][0], image=release)) is (release == "25.03")


def test_a_tensorflow_directory_without_a_configuration_is_judged_too() -> None:
    """Where there is no config.pbtxt the finding is the model directory's."""
    finding = only(IMAGE, {"m.tensorflow/1/": ""}, image="25.04")
    assert (finding.code, finding.path, finding.line) == ("E601", "m.tensorflow", None)


@pytest.mark.parametrize("place", ["m/libtriton_mine.so", "m/1/libtriton_mine.so"])
def test_a_backend_beside_the_model_is_found(place: str) -> None:
    """The server looks into the version and the model directory before its own."""
    files = {"m/config.pbtxt": 'backend: "mine"', "m/1/": "", place: b"x"}
    assert codes(IMAGE, files, image="24.09") == []


def test_an_ensemble_needs_no_backend() -> None:
    """Ensembles run in the server itself."""
    assert codes(IMAGE, {"e/config.pbtxt": 'platform: "ensemble"', "e/1/": ""}, image="26.05") == []


@pytest.mark.parametrize(
    ("text", "field", "first"),
    [
        ("model_metrics { }", "model_metrics", "24.11"),
        ('ensemble_scheduling { max_inflight_requests: 4 step { model_name: "a" } }', "", "25.11"),
        (
            'ensemble_scheduling { step { model_namespace: "a" } }',
            "ensemble_scheduling.step[0].model_namespace",
            "23.03",
        ),
        ("sequence_batching { iterative_sequence: true }", "sequence_batching.iterative_sequence", "23.11"),
        ("sequence_batching { oldest { preserve_ordering: true } }", "", "23.08"),
        ("input { data_type: TYPE_BF16 }", "input[0].data_type", "22.05"),
        ("batch_input [{ }, { kind: BATCH_ITEM_SHAPE }]", "batch_input[1].kind", "22.03"),
        ('runtime: "x.so"', "runtime", "24.01"),
        ("output { is_non_linear_format_io: true }", "output[0].is_non_linear_format_io", "24.08"),
    ],
)
def test_fields_are_refused_before_their_release_only(text: str, field: str, first: str) -> None:
    """A dated field or value is refused by the newest image before its release, and not by the first that has it."""
    known = list(triton.CATALOGUE)
    new = min(release for release in known if release >= first)
    old = max(release for release in known if release < first)
    files = {"m/config.pbtxt": f'backend: "python"\n{text}'}
    finding = only(IMAGE, files, image=old)
    assert finding.code == "E603"
    assert finding.message == "failed to read text proto from <repo>/m/config.pbtxt"
    assert finding.line == 2
    assert f"came with {first}" in finding.help
    assert finding.field == field or not field
    assert codes(IMAGE, files, image=new) == []


def test_an_enum_number_is_taken_by_every_server() -> None:
    """TYPE_BF16 by its number is not an unknown name, and a string of these letters is a string."""
    files = {"m/config.pbtxt": 'backend: "python" input { name: "TYPE_BF16" data_type: 14 }'}
    assert codes(IMAGE, files, image="21.08") == []


def test_fields_older_than_every_image_are_never_refused() -> None:
    """The oldest image has the fields of 21.06."""
    text = 'instance_group { host_policy: "x" passive: true secondary_devices { } }'
    assert codes(IMAGE, {"m/config.pbtxt": f'backend: "python" {text}'}, image="21.08") == []
    assert min(str(change.first) for change in changes.FIELDS.values()) == "21.06"


def test_each_gpu_group_is_named_as_the_server_names_it() -> None:
    """Groups without a name are called after the model and their index."""
    found = find(IMAGE, {"m/config.pbtxt": GPU, "m/1/": ""}, image="24.09-py3-cpu")
    assert [finding.message.partition(" has kind")[0] for finding in found] == [
        "instance group m_1 of model m",
        "instance group big of model m",
    ]


def test_a_known_number_of_gpus_is_judged_elsewhere() -> None:
    """Where the host's GPUs are counted, the model rules speak."""
    assert codes(IMAGE, BAD["E604"][0], image="24.09-py3-cpu", gpus=0) == []


@pytest.mark.parametrize(
    ("name", "instance_type", "expected"),
    [
        ("25.04", "ml.p3.2xlarge", ["E605"]),
        ("24.09", "ml.p3.2xlarge", []),
        ("25.04", "ml.g4dn.xlarge", []),
        ("24.09-py3-cpu", "ml.g5.xlarge", ["W602"]),
        ("24.09-py3-cpu", "ml.c5.xlarge", []),
        ("24.09", "ml.c5.xlarge", []),
    ],
)
def test_an_image_on_an_instance_type(name: str, instance_type: str, expected: list[str]) -> None:
    """GPUs that the image no longer supports, and GPUs that it does not use."""
    assert codes(IMAGE, {}, image=name, instance_type=instance_type) == expected


def test_what_is_no_instance_type_or_no_image_is_refused() -> None:
    """The edge of the API raises DefinitionError."""
    with pytest.raises(DefinitionError, match="not of the form"):
        codes(IMAGE, {}, image="24.09", instance_type="g5.xlarge")
    with pytest.raises(DefinitionError, match="no Triton image"):
        codes(IMAGE, {}, image="latest", instance_type="ml.g5.xlarge")
