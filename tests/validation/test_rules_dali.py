"""Tests of `tritonforge.validation.rules.dali_files` and `dali_tensors`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rule_findings import Files, codes, find, list_rules, only, pipeline
from tritonforge.model_files.dali_pipeline import NUMBERS

#: The rules under test.
DALI = "[EW]5"
INPUT = '{ name: "IMAGE" data_type: TYPE_UINT8 dims: [-1] }'
OUTPUT = '{ name: "OUT" data_type: TYPE_FP32 dims: [224, 224, 3] }'
HEAD = 'backend: "dali"\nmax_batch_size: 8\n'
CONFIG = f"{HEAD}input {INPUT}\noutput {OUTPUT}\n"
DECLARED = (("images", "TYPE_FP32", 3),)


def model(config: str = CONFIG, data: bytes | None = None, *, name: str = "m") -> dict[str, Any]:
    """The files of one DALI model."""
    return {f"{name}/config.pbtxt": config, f"{name}/1/model.dali": pipeline() if data is None else data}


def foreign() -> bytes:
    """A pipeline whose output has one of DALI's types that Triton does not know."""
    number = NUMBERS["TYPE_FP32"]
    data = pipeline(outputs=(("images", "TYPE_FP32", 3),))
    assert data.count(bytes((0x28, number))) == 1
    return data.replace(bytes((0x28, number)), bytes((0x28, 20)))


SPLIT = 'parameters { key: "split_along_outer_axis" value { string_value: "other:images" } }\n'
CPU = "instance_group { kind: KIND_CPU }\n"
TRACES = ("_origin_stack_line", "_module")

BAD: dict[str, tuple[Files, dict[str, Any]]] = {
    "E501": (model(data=b"version https://git-lfs.github.com/spec/v1"), {}),
    "E502": ({"m/config.pbtxt": CONFIG, "m/1/dali.py": "@autoserialize"}, {"image": "24.09"}),
    "E503": (model(CONFIG, pipeline({})), {}),
    "E504": (
        model(data=pipeline({"IMAGE": (None, None), "MORE": (None, None)})),
        {"auto_complete": False},
    ),
    "E505": (model(CONFIG.replace("TYPE_UINT8", "TYPE_FP32")), {}),
    "E506": (model(CONFIG.replace("dims: [-1]", "dims: [-1, 1]")), {}),
    "E507": (model(f"{CONFIG}output {OUTPUT.replace('OUT', 'OUT2')}"), {}),
    "E508": (model(f"{HEAD}input {INPUT}"), {}),
    "E509": (model(f"{HEAD}input {INPUT}", pipeline(outputs=(("images", "TYPE_FP32", None),))), {}),
    "E510": (model(f"{CONFIG}{CPU}", pipeline(device="mixed")), {}),
    "E511": (model(name="my m"), {"image": "25.09"}),
    "E512": (model(data=foreign()), {}),
    "W501": ({"m/config.pbtxt": CONFIG, "m/1/dali.py": "@autoserialize"}, {}),
    "W502": (model(data=b""), {}),
    "W503": (model(data=pipeline(arguments=TRACES)), {"image": "24.09"}),
    "W504": (model(name="my m"), {}),
    "W505": (model(CONFIG.replace("max_batch_size: 8\n", "")), {}),
    "W506": (
        model(
            f"{CONFIG.replace('OUT', 'b')}output {OUTPUT.replace('OUT', 'c')}",
            pipeline(outputs=(("a", None, None), ("b", None, None))),
        ),
        {},
    ),
}
GOOD: dict[str, tuple[Files, dict[str, Any]]] = {
    "E501": (model(), {}),
    "E502": ({"m/config.pbtxt": CONFIG, "m/1/dali.py": "@autoserialize"}, {"image": "24.03"}),
    "E503": (model(data=pipeline({"IMAGE": (None, None)})), {}),
    "E504": (model(), {"auto_complete": False}),
    "E505": (model(data=pipeline({"IMAGE": (None, 1)})), {}),
    "E506": (model(data=pipeline({"IMAGE": ("TYPE_UINT8", None)})), {}),
    "E507": (model(f"{HEAD}input {INPUT}", pipeline(outputs=DECLARED)), {}),
    "E508": (model(f"{HEAD}", pipeline(outputs=DECLARED)), {}),
    "E509": (model(f"{HEAD}output {{ }}", pipeline(outputs=DECLARED)), {}),
    "E510": (model(f"{CONFIG}{CPU}", pipeline(device="cpu")), {}),
    "E511": (model(name="my m"), {"image": "25.04"}),
    "E512": (model(data=pipeline(outputs=DECLARED)), {}),
    "W501": (model(), {}),
    "W502": (model(), {}),
    "W503": (model(data=pipeline(arguments=TRACES)), {"image": "26.05"}),
    "W504": (model(name="m-1_2.x"), {}),
    "W505": (model(CONFIG.replace("max_batch_size: 8", "max_batch_size: 0"), pipeline({"IMAGE": (None, 0)})), {}),
    "W506": (
        model(
            f"{CONFIG.replace('OUT', 'a')}output {OUTPUT.replace('OUT', 'b')}",
            pipeline(outputs=(("a", None, None), ("b", None, None))),
        ),
        {},
    ),
}


@pytest.mark.parametrize("code", BAD)
def test_the_bad_fixture_gives_exactly_the_rule(code: str) -> None:
    """Each rule's bad fixture gives its code and nothing else."""
    files, options = BAD[code]
    assert codes(DALI, files, **options) == [code]


@pytest.mark.parametrize("code", GOOD)
def test_the_good_fixture_gives_nothing(code: str) -> None:
    """Each rule's good fixture is silent."""
    files, options = GOOD[code]
    assert codes(DALI, files, **options) == []


def test_every_rule_has_fixtures() -> None:
    """The rules of the catalogue are those tested here."""
    assert list_rules(DALI) == set(BAD) == set(GOOD)


@pytest.mark.parametrize(
    ("code", "message", "line", "field"),
    [
        (
            "E501",
            (
                "Failed to load model file. The program looked in the following locations: <repo>/m/1/model.dali, "
                "<repo>/m/1/dali.py. Please make sure that the model exists in any of the locations and is properly "
                "serialized or can be properly serialized."
            ),
            None,
            "",
        ),
        (
            "E503",
            "Configuration file contains config for IMAGE but such input is not present in the pipeline.",
            3,
            "input[0].name",
        ),
        ("E504", 'Missing config for "MORE" input.', 3, "input[0]"),
        (
            "E505",
            (
                'Mismatch of data_type config for "IMAGE".\nData type defined in config: TYPE_FP32\n'
                "Data type defined in pipeline: TYPE_UINT8"
            ),
            3,
            "input[0].data_type",
        ),
        (
            "E506",
            (
                'Mismatch in number of dimensions for "IMAGE"\nNumber of dimensions defined in config: 2\n'
                "Number of dimensions defined in pipeline: 1"
            ),
            3,
            "input[0].dims[0]",
        ),
        (
            "E507",
            (
                "The number of outputs specified in the DALI pipeline and the configuration file do not match.\n"
                "Model config outputs: 2\nPipeline outputs: 1"
            ),
            5,
            "output[1]",
        ),
        ("E508", 'Missing data_type config for "images"', 1, "backend"),
        ("E509", 'Missing dims config for "images"', 1, "backend"),
        (
            "E511",
            (
                "File path '<repo>/my m/1/model.dali' contains an invalid character: ' '\n"
                "Allowed characters are: a-z, A-Z, 0-9, _, ., -, /"
            ),
            1,
            "",
        ),
    ],
)
def test_the_sentences_are_the_backends(code: str, message: str, line: int | None, field: str) -> None:
    """Sentence and place, as dali_backend writes them and as its own tests hold them."""
    files, options = BAD[code]
    finding = only(DALI, files, **options)
    assert finding.message == message
    assert (finding.line, finding.refused_by) == (line, "triton")
    assert finding.field in (field, "")


def test_other_backends_are_not_judged() -> None:
    """A model.dali of another backend is not checked as a pipeline."""
    files = model(CONFIG.replace("dali", "python"), b"junk")
    assert codes(DALI, files) == []


def test_a_missing_file_is_the_layouts_business() -> None:
    """Without any file there is nothing to compare."""
    assert codes(DALI, {"m/config.pbtxt": CONFIG, "m/1/": ""}) == []


def test_a_directory_named_x_dali_needs_no_configuration() -> None:
    """Everything is completed from a pipeline that declares it; what it leaves open is a finding at the file."""
    assert codes(DALI, {"m.dali/1/model.dali": pipeline(outputs=DECLARED)}) == []
    finding = only(DALI, {"m.dali/1/model.dali": pipeline()})
    assert (finding.code, finding.path, finding.line) == ("E508", "m.dali/1/model.dali", None)


def test_every_loaded_version_is_judged() -> None:
    """A version that contradicts the configuration is found if the version policy loads it."""
    other = {"m/1/model.dali": pipeline({"IMAGE": ("TYPE_FP32", 1)}), "m/2/model.dali": pipeline()}
    assert codes(DALI, {**model(), **other}) == []
    assert codes(DALI, {**model(f"{CONFIG}version_policy {{ all {{ }} }}"), **other}) == ["E505"]


def test_default_model_filename_is_followed() -> None:
    """The file may have another name, with characters that the backend allows."""
    config = f'{CONFIG}default_model_filename: "p.bin"\n'
    assert codes(DALI, {"m/config.pbtxt": config, "m/1/p.bin": b"junk"}) == ["E501"]
    config = f'{CONFIG}default_model_filename: "sub/p.bin"\n'
    finding = only(DALI, {"m/config.pbtxt": config, "m/1/sub/p.bin": pipeline()}, image="26.05")
    assert finding.message == (
        "Model file name 'sub/p.bin' contains an invalid character: '/'\nAllowed characters are: a-z, A-Z, 0-9, _, ., -"
    )
    assert (finding.line, finding.field) == (5, "default_model_filename")


def test_two_dots_in_a_path_are_refused() -> None:
    """The backend looks for them anywhere in the path."""
    finding = only(DALI, model(name="a..b"), image="26.05")
    assert finding.message == "Invalid '..' sequence found in model path: '<repo>/a..b/1/model.dali'"


@pytest.mark.parametrize("text", ["from nvidia.dali.plugin.triton import autoserialize\n@autoserialize\n", "junk"])
def test_python_instead_of_a_pipeline(text: str) -> None:
    """model.dali itself may be the Python file; junk with a dali.py beside it falls back to that."""
    files = {**model(data=text.encode()), "m/1/dali.py": "@autoserialize"}
    assert codes(DALI, files) == ["W501"]
    assert codes(DALI, files, image="24.03") == []
    assert codes(DALI, files, image="24.04") == ["E502"]


def test_zero_means_one_more_dimension_for_inputs_and_outputs() -> None:
    """With max_batch_size: 0 dims begin with the batch; left out it does not."""
    data = pipeline({"IMAGE": ("TYPE_UINT8", 1)}, (("images", "TYPE_FP32", 3),))
    zero = CONFIG.replace("max_batch_size: 8", "max_batch_size: 0")
    assert codes(DALI, model(zero, data)) == ["E506", "E506"]
    corrected = zero.replace("dims: [-1]", "dims: [-1, -1]").replace("dims: [224", "dims: [-1, 224")
    assert codes(DALI, model(corrected, data)) == []
    assert codes(DALI, model(CONFIG.replace("max_batch_size: 8\n", ""), data)) == ["W505"]


def test_split_outputs_lose_a_dimension() -> None:
    """split_along_outer_axis drops the outer axis of the outputs it names."""
    config = CONFIG.replace("[224, 224, 3]", "[224, 224]")
    data = pipeline(outputs=DECLARED)
    assert codes(DALI, model(f"{config}{SPLIT}", data)) == []
    assert codes(DALI, model(config, data)) == ["E506"]


def test_without_completion_the_number_of_outputs_must_be_equal() -> None:
    """Fewer outputs than the pipeline has are completed, or refused."""
    data = pipeline(outputs=(*DECLARED, ("labels", "TYPE_INT32", 1)))
    assert codes(DALI, model(CONFIG, data)) == []
    assert codes(DALI, model(CONFIG, data), auto_complete=False) == ["E507"]


def test_a_written_tensor_without_dims_is_cores_sentence() -> None:
    """What neither side says and core asks for."""
    finding = only(DALI, model(CONFIG.replace("dims: [224, 224, 3]", "")))
    assert (finding.code, finding.message) == ("E509", "model output 'OUT' must specify 'dims' for m")


def test_swapped_outputs_are_detected_by_their_types() -> None:
    """The help says that outputs go by position."""
    config = f'{HEAD}input {INPUT}\noutput {{ name: "L" data_type: TYPE_INT32 dims: [1] }}\noutput {OUTPUT}'
    data = pipeline(outputs=(("images", "TYPE_FP32", 3), ("labels", "TYPE_INT32", 1)))
    found = find(DALI, model(config, data))
    assert [finding.code for finding in found] == ["E505", "E506", "E505", "E506"]
    assert all("matched by position" in finding.help for finding in found)


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        (CONFIG, {}, []),
        (f"{CONFIG}instance_group {{ kind: KIND_GPU }}", {}, []),
        (f"{CONFIG}{CPU}", {}, ["E510"]),
        (CONFIG, {"gpus": 0}, ["E510"]),
        (CONFIG, {"gpus": 1}, []),
        (CONFIG, {"image": "26.05-py3-cpu"}, ["E510"]),
        (CONFIG, {"image": "26.05"}, []),
    ],
)
def test_a_gpu_pipeline_needs_a_gpu(config: str, options: dict[str, Any], expected: list[str]) -> None:
    """A `mixed` decoder is refused by CPU groups, CPU images and hosts without a GPU."""
    assert codes(DALI, model(config, pipeline(device="mixed")), **options) == expected


def test_traces_of_newer_versions_are_named() -> None:
    """The finding says which arguments, and which DALI the image has."""
    finding = only(DALI, model(data=pipeline(arguments=TRACES)), image="24.09")
    assert "_module, _origin_stack_line" in finding.message
    assert "DALI 1.39" in finding.message
    assert codes(DALI, model(data=pipeline(arguments=TRACES)), image="23.03") == []


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6), st.integers(0, 400))
def test_damaged_files_give_findings_never_an_exception(changes: list[tuple[int, int]], cut: int) -> None:
    """Any bytes at all: a list of findings."""
    data = bytearray(pipeline({"IMAGE": ("TYPE_UINT8", 1)}, DECLARED, device="mixed", arguments=TRACES))
    for at, value in changes:
        data[at % len(data)] = value
    for image in (None, "24.09", "26.05-py3-cpu"):
        found = codes(DALI, model(data=bytes(data[: max(len(data) - cut, 0)])), image=image)
        assert set(found) <= set(BAD)


@pytest.mark.framework
def test_a_file_that_dali_wrote_is_compared_with_its_configuration() -> None:
    """A file of DALI's own fits its configuration, and differs from another."""
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    written = Pipeline(batch_size=8, num_threads=1, device_id=None, output_dtype=[types.FLOAT], output_ndim=[3])
    with written:
        encoded = fn.external_source(name="IMAGE", device="cpu", dtype=types.UINT8, ndim=1)
        images = fn.decoders.image(encoded, device="cpu")
        written.set_outputs(fn.cast(images, dtype=types.FLOAT))
    data = bytes(written.serialize())
    assert codes(DALI, model(data=data)) == []
    assert codes(DALI, model(data=data), image="24.09") == ["W503"]
    changed = CONFIG.replace("IMAGE", "JPEG").replace("TYPE_FP32 dims: [224, 224, 3]", "TYPE_FP16 dims: [3]")
    assert codes(DALI, model(changed, data)) == ["E503", "E505", "E506"]
    assert sorted(codes(DALI, model(changed, data), auto_complete=False)) == ["E503", "E504", "E505", "E506"]
