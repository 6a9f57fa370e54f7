"""Tests of the rules about SageMaker; the verdicts on layouts are those of the recorded serve script."""

from __future__ import annotations

import pytest

from tests.support.rule_findings import Files, codes, list_rules, only
from tritonforge.validation.registry import load_rules
from tritonforge.validation.tree import Entry, link

#: The rules under test.
SAGEMAKER = "[EW]4[0-4]"
MODEL = 'backend: "python"\n'
STEP = 'ensemble_scheduling { step { model_name: "a" } step { model_name: "b" } }'
ENSEMBLE = f'platform: "ensemble"\n{STEP}'
ONE = {"a/config.pbtxt": MODEL, "a/1/model.py": "x"}
TWO = {**ONE, "b/config.pbtxt": MODEL, "b/1/model.py": "x"}
THREE = {**TWO, "e/config.pbtxt": ENSEMBLE, "e/1/": ""}
LARGE = 'backend: "python" max_batch_size: 8 input { name: "A" data_type: TYPE_FP32 dims: [3, 2048, 2048] }'

BAD: dict[str, tuple[Files, dict[str, object]]] = {
    "E401": ({"config.pbtxt": MODEL, "1/model.py": "x"}, {}),
    "E402": ({"README.md": "x"}, {}),
    "E403": (TWO, {}),
    "E404": (ONE, {"load_models": ("zz",)}),
    "E405": ({"my a/config.pbtxt": MODEL, "my a/1/model.py": "x"}, {}),
    "W401": (THREE, {}),
    "W402": ({**THREE, ".git/HEAD": "x"}, {"load_models": ("e",)}),
    "W403": ({**ONE, "c": link("a")}, {}),
    "W404": ({"a/config.pbtxt": LARGE, "a/1/model.py": "x"}, {}),
    "W405": ({**ONE, "a/1/weights": Entry("file", size=31 * 1024**3)}, {}),
    "W409": ({**THREE, "e/config.pbtxt": f"platform : 'ensemble'\n{STEP}"}, {"load_models": ("e",)}),
    "W410": ({**ONE, "a/config.pbtxt": f'# not platform: "ensemble"\n{MODEL}'}, {}),
    "W411": ({**THREE, "f/config.pbtxt": ENSEMBLE, "f/1/": ""}, {"load_models": ("e", "f")}),
    "W412": ({**ONE, "a/config.pbtxt": f"{MODEL}model_transaction_policy {{ decoupled: true }}"}, {}),
}
GOOD: dict[str, tuple[Files, dict[str, object]]] = {
    "E401": (ONE, {}),
    "E402": (ONE, {}),
    "E403": (TWO, {"load_models": ("b",)}),
    "E404": (ONE, {"load_models": ("a",)}),
    "E405": ({"my_a/config.pbtxt": MODEL, "my_a/1/model.py": "x"}, {}),
    "W401": (THREE, {"load_models": ("e",)}),
    "W402": (THREE, {"load_models": ("e",)}),
    "W403": ({**ONE, "a/link": link("1")}, {}),
    "W404": ({"a/config.pbtxt": LARGE.replace("FP32", "UINT8"), "a/1/model.py": "x"}, {}),
    "W405": ({**ONE, "a/1/weights": Entry("file", size=29 * 1024**3)}, {}),
    "W409": ({"e/config.pbtxt": f"platform : 'ensemble'\n{STEP}", "e/1/": ""}, {}),
    "W410": ({**ONE, "a/config.pbtxt": f"# not an ensemble\n{MODEL}"}, {}),
    "W411": (THREE, {"load_models": ("e",)}),
    "W412": ({**ONE, "a/config.pbtxt": f"{MODEL}model_transaction_policy {{ }}"}, {}),
}
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "E406": {f"V{index}": "" for index in range(101)},
    "E407": {"SAGEMAKER-X": "1"},
    "E408": {"X": "x" * 1025},
    "E409": {"SAGEMAKER_TRITON_INFERENCE_TYPE": "foo"},
    "W406": {"SAGEMAKER_MULTI_MODEL": "True"},
    "W407": {"SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING": "true"},
}


@pytest.mark.parametrize("code", BAD)
def test_the_bad_fixture_gives_exactly_the_rule(code: str) -> None:
    """Each rule's bad fixture gives its code and nothing else."""
    files, options = BAD[code]
    assert codes(SAGEMAKER, files, target="sagemaker", **options) == [code]


@pytest.mark.parametrize("code", GOOD)
def test_the_good_fixture_gives_nothing(code: str) -> None:
    """Each rule's good fixture is silent."""
    files, options = GOOD[code]
    assert codes(SAGEMAKER, files, target="sagemaker", **options) == []


def test_another_target_is_not_judged() -> None:
    """For Triton alone none of this matters."""
    for files, options in BAD.values():
        assert codes(SAGEMAKER, files, **options) == []


def test_every_rule_has_fixtures() -> None:
    """The rules of the catalogue are those tested here."""
    assert list_rules(SAGEMAKER) == {*BAD, *ENVIRONMENTS, "W408"}


def test_errors_are_sagemakers_and_never_tritons() -> None:
    """The verdict is Triton's alone: no rule of SageMaker changes it."""
    assert {
        (rule.severity, rule.refused_by) for code, rule in load_rules().items() if code in list_rules(SAGEMAKER)
    } == {
        ("error", "sagemaker"),
        ("warning", None),
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ["E402"]),
        (ONE, []),
        ({**ONE, "notes.txt": "x"}, []),
        (TWO, ["E403"]),
        ({**ONE, "code/inference.py": "x"}, ["E403"]),
        ({**ONE, "config.pbtxt": "x"}, ["E401"]),
        ({**ONE, ".git/HEAD": "x"}, ["E403"]),
        ({**ONE, "m2": link("a")}, ["W403"]),
        ({"m2": link("/opt/a", leads_to="directory")}, ["E402", "W403"]),
    ],
)
def test_the_cases_of_the_recorded_script(files: Files, expected: list[str]) -> None:
    """The script's own verdicts: it ends where an E is, and starts where no E is."""
    assert codes(SAGEMAKER, files, target="sagemaker") == expected


def test_extra_directories_beside_one_model_are_to_be_left_out() -> None:
    """The script's sentence, with both remedies."""
    finding = only(SAGEMAKER, {**ONE, "code/inference.py": "x"}, target="sagemaker")
    assert finding.message.startswith("More than 1 model directory found in model repository.")
    assert finding.message.endswith("Directories found in model repository: a code")
    assert finding.help == "leave code out of the archive, or set SAGEMAKER_TRITON_DEFAULT_MODEL_NAME=a"


def test_the_ensemble_that_no_other_model_uses_is_the_default() -> None:
    """Where one model is on top, only the variable is missing, and its value is known."""
    finding = only(SAGEMAKER, THREE, target="sagemaker")
    assert (finding.code, finding.refused_by) == ("W401", None)
    assert finding.help == "set SAGEMAKER_TRITON_DEFAULT_MODEL_NAME=e"


def test_a_nested_ensemble_is_not_the_default() -> None:
    """The outer ensemble is on top of the inner one."""
    outer = 'platform: "ensemble" ensemble_scheduling { step { model_name: "e" } }'
    found = codes(SAGEMAKER, {**THREE, "o/config.pbtxt": outer, "o/1/": ""}, target="sagemaker")
    assert found == ["W401", "W411"]


def test_the_default_must_exist_and_hidden_models_do_not_count() -> None:
    """E404 says what there is."""
    finding = only(SAGEMAKER, TWO, target="sagemaker", load_models=("zz",))
    assert finding.message == "Directory with provided SAGEMAKER_TRITON_DEFAULT_MODEL_NAME zz does not exist"
    assert finding.help == "the archive has: a, b"


@pytest.mark.parametrize("name", ["a b", "a*", "a?", "[a]"])
def test_names_that_the_shell_takes_apart(name: str) -> None:
    """Blanks and patterns in the default model's name are refused, in another model's not."""
    files = {f"{name}/config.pbtxt": MODEL, f"{name}/1/model.py": "x"}
    assert codes(SAGEMAKER, files, target="sagemaker") == ["E405"]
    assert codes(SAGEMAKER, {**ONE, **files}, target="sagemaker", load_models=("a",)) == []


@pytest.mark.parametrize("code", ENVIRONMENTS)
def test_a_bad_environment_gives_exactly_the_rule(code: str) -> None:
    """Each environment rule has an environment that gives its code and nothing else."""
    assert codes(SAGEMAKER, ONE, environment=ENVIRONMENTS[code]) == [code]


def test_a_good_environment_gives_nothing() -> None:
    """At every limit, with every value spelled as serve requires it."""
    environment = {
        **{f"V{index}": "" for index in range(95)},
        "K" * 1024: "x" * 1024,
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING": "false",
        "SAGEMAKER_TRITON_INFERENCE_TYPE": "generate_stream",
        "_": "",
    }
    assert len(environment) == 100
    assert codes(SAGEMAKER, ONE, environment=environment, image="25.04") == []


def test_the_whole_environment_has_32_kb() -> None:
    """Names and values count together."""
    full = {f"V{index:02}": "x" * 1021 for index in range(32)}
    assert sum(len(key) + len(value) for key, value in full.items()) == 32 * 1024
    assert codes(SAGEMAKER, ONE, environment=full) == []
    assert codes(SAGEMAKER, ONE, environment={**full, "W": ""}) == ["E406"]


@pytest.mark.parametrize(
    ("key", "value", "release", "expected"),
    [
        ("SAGEMAKER_TRITON_INFERENCE_TYPE", "generate", "24.09", ["W408"]),
        ("SAGEMAKER_TRITON_INFERENCE_TYPE", "foo", "24.09", ["W408"]),
        ("SAGEMAKER_TRITON_INFERENCE_TYPE", "generate", "25.04", []),
        ("SAGEMAKER_TRITON_ADDITIONAL_ARGS", "--x", "23.06", ["W408"]),
        ("SAGEMAKER_TRITON_ADDITIONAL_ARGS", "--x", "23.07", []),
        ("SAGEMAKER_TRITON_LOG_INFO", "1", "21.08", []),
    ],
)
def test_variables_that_the_image_does_not_read(key: str, value: str, release: str, expected: list[str]) -> None:
    """An older script ignores a variable, whatever its value."""
    assert codes(SAGEMAKER, ONE, environment={key: value}, image=release) == expected
