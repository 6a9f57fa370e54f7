"""Tests of the rules about later releases, and of the rows of the table that older rules read.

The truth is the source of the release branches, named in `tritonforge.triton.changes`; no such server is here.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.rule_findings import Files, list_rules
from tests.support.rule_repositories import B, e, m, step, x
from tritonforge.triton import CATALOGUE, changes
from tritonforge.validation.findings import Finding, verdict
from tritonforge.validation.report import validate
from tritonforge.validation.tree import DIRECTORY, Tree, link

HUGE = "4294967296, 4294967296"
PYTHON = 'backend: "python"'
WARMUP = (
    'model_warmup [{ name: "w" batch_size: 1 inputs { key: "A" value { data_type: %s dims: [%s] zero_data: true } } }]'
)
STATE = (
    'sequence_batching { state [{ input_name: "s" output_name: "t" data_type: TYPE_FP32 dims: [-1, -1] initial_state '
    '[{ name: "z" data_type: TYPE_FP32 dims: [%s] zero_data: true }] }] }'
)
LIBRARY = 'parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "%s" } }'


def io(dims: str, reshape: str = "") -> str:
    """An input of these dims, and an output that fits nothing."""
    shape = f"reshape {{ shape: [{reshape}] }}" if reshape else ""
    return f'input [{{ name: "A" data_type: TYPE_FP32 dims: [{dims}] {shape} }}] {B}'


def named(name: str, config: str) -> Files:
    """One Python model of a name."""
    return {f"{name}/config.pbtxt": f"{PYTHON} {config}", f"{name}/1/model.py": ""}


LABEL = 'output [{ name: "B" data_type: TYPE_FP32 dims: [4] label_filename: "%s" }]'

#: A repository, its options, the first image that refuses it, the code and the sentence.
LATER: dict[str, tuple[Files, dict[str, Any], str, str, str]] = {
    "name of a model": (
        named("a&b", ""), {}, "25.08", "E606", "Invalid stub name: contains invalid characters",
    ),
    "name of a group": (
        named("m", 'instance_group [{ kind: KIND_CPU name: "g$(x)" }]'), {}, "25.08", "E606",
        "Invalid stub name: contains invalid characters",
    ),
    "label file above": (
        {**m(LABEL % "../l.txt", io=""), "l.txt": "a"}, {}, "26.02", "E607",
        "label file path '<repo>/m/../l.txt' for output 'B' in model 'm' is outside model directory",
    ),
    "label file over a link": (
        {**m(LABEL % "l.txt", io=""), "m/l.txt": link("../x/l.txt"), **x(), "x/l.txt": "a"}, {}, "26.02", "E607",
        "label file path '<repo>/m/l.txt' for output 'B' in model 'm' is outside model directory",
    ),
    "label file in a sibling": (
        {**m(LABEL % "../m2/l.txt", io=""), **x("m2"), "m2/l.txt": "a"}, {}, "26.06", "E607",
        "label file path '<repo>/m/../m2/l.txt' for output 'B' in model 'm' is outside model directory",
    ),
    "elements of an input": (
        m(io=io(HUGE)), {}, "26.03", "E608",
        "element count for tensor 'A' exceeds maximum size of 9223372036854775807",
    ),
    "elements of a reshape": (
        m(io=io("4", "4, 4611686018427387904, 4")), {}, "26.03", "E608",
        "element count for tensor 'A reshape' exceeds maximum size of 9223372036854775807",
    ),
    "bytes of a warmup input": (
        m(WARMUP % ("TYPE_FP32", "4611686018427387904"), io=io("-1")), {}, "26.03", "E611",
        "byte size for tensor 'A' exceeds maximum size of 9223372036854775807",
    ),
    "bytes of an initial state": (
        m(STATE % HUGE), {}, "26.03", "E611",
        "byte size for tensor 's' exceeds maximum size of 9223372036854775807",
    ),
    "batching library": (
        {**m(LIBRARY % "/opt/lib/batch.so")}, {}, "26.06", "E609",
        "Batching library path escapes model repository.",
    ),
}  # fmt: skip


def refusals(files: Files, **options: Any) -> list[Finding]:
    """What Triton refuses."""
    return [finding for finding in validate(Tree.of(files), gpus=0, **options) if finding.refused_by == "triton"]


@pytest.mark.parametrize("case", LATER)
def test_a_later_release_refuses_what_the_one_before_takes(case: str) -> None:
    """The first image of the table refuses in its server's words; the one before does not say so, nor the local one."""
    files, options, first, code, sentence = LATER[case]
    found = [finding for finding in refusals(files, image=first, **options) if finding.code == code]
    assert [finding.message for finding in found] == [sentence]
    assert verdict(validate(Tree.of(files), gpus=0, image=first, **options)) == "refused"
    before = max(release for release in CATALOGUE if release < first)
    for image in (before, None):
        assert code not in {finding.code for finding in refusals(files, image=image, **options)}


def test_an_ensemble_quotes_why_its_model_does_not_load() -> None:
    """What a later release refuses when a model is loaded fails the ensembles of the model too."""
    files = {**x(dims=f"[{HUGE}]"), **e(dims=f"[{HUGE}]")}
    messages = [finding.message for finding in refusals(files, image="26.03")]
    assert any(finding.startswith("ensemble 'e' depends on 'x' which has no loaded version.") for finding in messages)


def test_sizes_that_fit_are_no_finding() -> None:
    """The largest count passes, and a variable-size dimension ends the count."""
    for files in (m(io=io("9223372036854775807")), m(io=io(f"-1, {HUGE}")), m(WARMUP % ("TYPE_FP32", "4"))):
        assert refusals(files, image="26.03") == []


def test_a_dimension_that_is_no_size_is_refused_before_its_count() -> None:
    """Warmup inputs with a negative dimension have a sentence of their own from 26.03 on, strings another."""
    for data_type, sentence in (
        ("TYPE_FP32", "tensor 'A' contains an invalid dimension [-2]"),
        ("TYPE_STRING", "tensor 'A' contains an invalid dimension in shape [-2]"),
    ):
        files = m(WARMUP % (data_type, "-2"), io=io("-1").replace("TYPE_FP32", data_type, 1))
        assert sentence in {finding.message for finding in refusals(files, image="26.03")}


def test_a_warmup_input_without_a_type_has_no_size_from_26_03_on() -> None:
    """Its bytes are not known, which the server says as it says it of a variable-size dimension."""
    files = m(WARMUP % ("TYPE_INVALID", "4"))
    for image, expected in (("26.02", False), ("26.03", True)):
        assert ("E270" in {finding.code for finding in refusals(files, image=image)}) is expected


@pytest.mark.parametrize(
    ("path", "target", "outside"),
    [
        ("/anywhere/m/batch.so", "triton", False),
        ("/opt/ml/model/m/1/batch.so", "sagemaker", False),
        ("/anywhere/m/batch.so", "sagemaker", True),
        ("/anywhere/m/../batch.so", "triton", True),
        ("m/batch.so", "triton", True),
        ("", "triton", True),
    ],
)
def test_a_batching_library_may_lie_in_the_models_directory(path: str, target: str, outside: bool) -> None:
    """Where the repository lies is known on SageMaker only; elsewhere a directory of the name may be it."""
    found = [finding for finding in refusals(m(LIBRARY % path), image="26.06", target=target) if finding.code == "E609"]
    assert bool(found) is outside


PT2: Files = {"m/config.pbtxt": m()["m/config.pbtxt"].replace('backend: "identity"', ""), "m/1/model.pt2": ""}


@pytest.mark.parametrize(
    ("head", "file", "image", "expected"),
    [
        ('platform: "torch_aoti"', "model.pt2", "26.02", ["E210"]),
        ('platform: "torch_aoti"', "model.pt2", "26.03", []),
        ('platform: "torch_aoti" backend: "pytorch"', "model.pt2", "26.02", ["E212"]),
        ('platform: "torch_aoti" backend: "pytorch"', "model.pt2", "26.04", []),
        ("", "model.pt2", "26.02", ["E108"]),
        ("", "model.pt2", "26.03", []),
        ("", "model.pt", "24.10", []),
        ('platform: "libtorch"', "model.pt", "26.03", ["E210"]),
        ('platform: "libtorch"', "model.pt", "26.04", ["E212"]),
    ],
)
def test_the_platforms_of_the_pytorch_backend(head: str, file: str, image: str, expected: list[str]) -> None:
    """torch_aoti and model.pt2 came with 26.03, the words on libtorch with 26.04."""
    files = {**m(head=head), f"m/1/{file}": ""}
    found = refusals(files, image=image)
    assert [finding.code for finding in found] == expected
    if expected == ["E212"]:
        assert found[0].message.startswith("unexpected 'platform' and 'backend' pair, got:")


def test_the_file_of_torch_aoti_is_model_pt2_from_26_04_on() -> None:
    """26.03 makes model.pt the default file of every PyTorch model."""
    files = {**m(head='platform: "torch_aoti"'), "m/1/model.pt2": ""}
    warned = {
        image: {finding.code for finding in validate(Tree.of(files), image=image)} for image in ("26.03", "26.04")
    }
    assert ("W105" in warned["26.03"], "W105" in warned["26.04"]) == (True, False)


@pytest.mark.parametrize(
    ("image", "expected"),
    [("26.07", ["E106"]), ("26.08", ["E105", "W103"]), (None, ["E106"])],
)
def test_a_version_that_overflows_is_ignored_from_26_08_on(image: str | None, expected: list[str]) -> None:
    """The exception of stoll is caught there as that of a name that is not a number."""
    files = {"m/config.pbtxt": m()["m/config.pbtxt"], "m/99999999999999999999/": DIRECTORY}
    found = {finding.code for finding in validate(Tree.of(files), image=image)}
    assert found >= set(expected)
    assert ("E106" in found) is ("E106" in expected)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("23.09", "unable to find 'libtriton_b.so' for model 'm', searched: <repo>/m/1, <repo>/m, <backends>/b"),
        ("23.10", "unable to find 'b/model.py' for model 'm', in <backends>/b"),
        ("23.12", "unable to find 'libtriton_b.so' or 'b/model.py' for model 'm', in <backends>/b"),
        (
            "24.01",
            "unable to find backend library for backend 'b', try specifying runtime on the model configuration.",
        ),
    ],
)
def test_the_words_on_a_missing_backend_are_the_releases(image: str, sentence: str) -> None:
    """The sentence changed with the backends that are written in Python, and with the field runtime."""
    found = [
        finding.message for finding in refusals(m(head='backend: "b"'), image=image) if finding.code in ("E113", "E602")
    ]
    assert set(found) == {sentence}


def test_a_flag_that_the_image_does_not_know() -> None:
    """--model-config-name came with 24.05."""
    for image, expected in (("24.04", ["E612"]), ("24.05", []), (None, [])):
        assert [finding.code for finding in refusals(m(), image=image, model_config_name="fast")] == expected


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [("a..b", "26.02", []), ("a..b", "26.03", ["W346"]), ("a..b", "26.04", []), (" ", "26.04", ["W346"])],
)
def test_names_that_the_load_api_refuses(name: str, image: str, expected: list[str]) -> None:
    """Such a model loads at the start, so it is advice."""
    files = {path.replace("x/", f"{name}/"): text for path, text in x().items()}
    assert [finding.code for finding in validate(Tree.of(files), image=image) if finding.code == "W346"] == expected


@pytest.mark.parametrize(
    ("image", "data_type", "backend", "expected"),
    [
        (None, "TYPE_STRING", "python", ["W137"]),
        ("24.12", "TYPE_STRING", "onnxruntime", ["W137"]),
        ("25.01", "TYPE_STRING", "onnxruntime", []),
        ("24.12", "TYPE_UINT64", "onnxruntime", []),
        ("24.12", "TYPE_STRING", "identity", []),
    ],
)
def test_texts_as_correlation_ids(image: str | None, data_type: str, backend: str, expected: list[str]) -> None:
    """The model loads, and answers no request, until 25.01 (run with 2.51)."""
    control = f"control {{ kind: CONTROL_SEQUENCE_CORRID data_type: {data_type} }}"
    config = f'sequence_batching {{ control_input {{ name: "C" {control} }} }}'
    files = m(config, head=f'backend: "{backend}"')
    assert [finding.code for finding in validate(Tree.of(files), image=image) if finding.code == "W137"] == expected


def test_a_provisional_release_says_so() -> None:
    """The finding names the release whose verdict it is."""
    (finding,) = [finding for finding in validate(Tree.of(m()), image="26.09") if finding.code == "W347"]
    assert "2.73.0 (26.09) is provisional" in finding.message
    assert "that of 26.08" in finding.message
    assert "W347" not in {finding.code for finding in validate(Tree.of(m()), image="26.08")}


def test_the_least_capability_is_the_releases() -> None:
    """The sentence on a GPU that is not there names it."""
    files = m("instance_group [{ kind: KIND_GPU gpus: [3] }]")
    for image, capability in (("24.10", "6.000000"), ("24.11", "7.500000")):
        found = [finding.message for finding in validate(Tree.of(files), image=image, gpus=1) if finding.code == "E262"]
        assert capability in found[0]


def test_images_of_few_backends_are_judged_by_them() -> None:
    """The image for vLLM serves vLLM and Python, and no ONNX."""
    for head, expected in ((PYTHON, []), ('backend: "vllm"', []), ('backend: "onnxruntime"', ["E602"])):
        found = refusals({**m(head=head), "m/1/model.py": ""}, image="24.09-vllm-python-py3")
        assert [finding.code for finding in found] == expected


def test_an_unknown_backend_is_reported_once_with_an_image() -> None:
    """A name that no published backend has is the layout's finding, which lists what the image has."""
    (finding,) = refusals(m(head='backend: "nosuch"'), image="24.09")
    assert finding.code == "E113"
    assert "the image has: dali, fil, " in finding.help


def test_what_kills_older_servers_fails_a_model_of_26_08_only() -> None:
    """From 26.08 on exceptions are caught while a model is loaded, so that the others are served."""
    profile = m('instance_group [{ profile: ["99999999999"] }]', head='platform: "tensorrt_plan"')
    for files, code in ((profile, "E265"), (m('metric_tags { key: "a-b" value: "c" }'), "E294")):
        for image, dies in (("26.07", True), ("26.08", False)):
            (finding,) = [finding for finding in refusals(files, image=image) if finding.code == code]
            assert ("process dies" in finding.help) is dies


def test_an_output_that_is_declared_twice_cannot_be_asked_for_twice() -> None:
    """From 26.05 on the server refuses a request that names an output twice."""
    files = m(io=io("4") + "\n" + B)
    for image, is_refused in (("26.04", False), ("26.05", True)):
        (finding,) = [finding for finding in validate(Tree.of(files), image=image) if finding.code == "W307"]
        assert ("a request that names both is refused" in finding.help) is is_refused


def test_an_image_of_few_backends_names_the_one_with_all() -> None:
    """Where the release's own image has the backend, that is the way out; AWS publishes neither."""
    tree = Tree.of(m(head='platform: "tensorflow_graphdef"'))
    (finding,) = [finding for finding in validate(tree, image="24.09-vllm-python-py3") if finding.refused_by]
    assert (finding.code, finding.help.partition("; ")[2]) == ("E602", "take 24.09-py3, which has it")
    found = [finding.message for finding in validate(tree, image="24.09-vllm-python-py3", target="sagemaker")]
    assert "AWS publishes no SageMaker image 24.09-vllm-python-py3" in found


@pytest.mark.parametrize(("image", "expected"), [("25.11", ["W603"]), ("26.03", ["W603"]), ("26.04", [])])
def test_a_limit_of_requests_in_flight_is_shared_from_26_04_on(image: str, expected: list[str]) -> None:
    """Before, each request to the ensemble has the limit for itself."""
    files = {**x(), **e()}
    files["e/config.pbtxt"] = str(files["e/config.pbtxt"]).replace(
        "ensemble_scheduling {", "ensemble_scheduling { max_inflight_requests: 4"
    )
    findings = [finding for finding in validate(Tree.of(files), image=image) if finding.code == "W603"]
    assert [finding.code for finding in findings] == expected
    assert [finding.field for finding in findings] == ["ensemble_scheduling.max_inflight_requests"] * len(expected)


@pytest.mark.parametrize(
    ("image", "dims", "expected"),
    [
        ("26.01", "1000001", []),
        ("26.02", "1000001", ["W604"]),
        ("26.02", "1000000", []),
        ("26.02", "-1, 1000001", []),
        ("26.02", "1000, 1001", ["W604"]),
    ],
)
def test_labels_of_more_than_a_million_classes_are_of_no_use(image: str, dims: str, expected: list[str]) -> None:
    """Servers from 26.02 on refuse such a classification; one item of a batch counts, and only fixed sizes."""
    output = f'output [{{ name: "B" data_type: TYPE_FP32 dims: [{dims}] label_filename: "l" }}]'
    files = m("max_batch_size: 8", io=output, l="a")
    assert [finding.code for finding in validate(Tree.of(files), image=image) if finding.code == "W604"] == expected


def test_every_rule_of_a_release_is_tested() -> None:
    tested = {case[3] for case in LATER.values()} | {"E612", "W137", "W346", "W347", "W603", "W604"}
    assert list_rules("E60[6-9]|E61|W137|W34[67]|W60[34]") == tested


def test_a_step_is_judged_by_its_release_too() -> None:
    """A nested ensemble with a label file outside is refused as a model is."""
    files = {**x(), **e(step("x", {"A": "I"}, {"B": "O"})), "l.txt": "a"}
    files["e/config.pbtxt"] = str(files["e/config.pbtxt"]).replace(
        'output [{ name: "O" ', 'output [{ name: "O" label_filename: "../l.txt" '
    )
    assert {finding.code for finding in refusals(files, image="26.02")} == {"E607"}
    assert refusals(files) == []
    assert changes.LABEL_FILE_INSIDE.first == "26.02"
