"""The rules: each has a catalogue entry, a bad repository that gives exactly it, and a good one that does not."""

import re
from pathlib import Path

import pytest

from tests.support.rule_repositories import (
    ACCEPTED,
    BROKEN,
    DIFFERENCES,
    ENVIRONMENT,
    FIXTURES,
    GROUP,
    INHERITED,
    IO,
    PYTHON,
    SHELL_MODEL,
    SOURCE,
    A,
    B,
    Fixture,
    build_unsized_ensemble,
    e,
    m,
    step,
    x,
)
from tritonforge.validation import registry
from tritonforge.validation.context import Options
from tritonforge.validation.findings import Finding, verdict
from tritonforge.validation.model_views import build_context
from tritonforge.validation.python_source import find_source_error
from tritonforge.validation.registry import Stage, load_rules
from tritonforge.validation.report import validate
from tritonforge.validation.tree import DIRECTORY, Entry, Tree, link

#: The rules that have fixtures here; the others have them in a test module of their own.
OWN = sorted(code for code in load_rules() if not re.match(r"[EW][4-8]|E13|W13[67]|W34[0-7]", code))

#: What a finding brings with it: the server's own summary of a text it refuses, the ensembles of a model that fails,
#: and advice that no neighbour of the bad repository can avoid.
BRINGS = {
    "E200": {"E201"},
    **{code: {"E200"} for code in ("E201", "E202", "E203", "E204", "E205", "E206", "E207")},
    "E117": {"W307"},
    "E212": {"W105"},
    "E250": {"W105"},
    "E264": {"W105"},
    "E265": {"W105"},
    "E322": {"E320"},
    "E323": {"E266"},
    "E335": {"W307"},
    "E338": {"W340"},
    "E339": {"W340"},
    "W107": {"E108"},
    "W109": {"E116"},
    "W303": {"W344"},
}

#: Codes that come with every rule's neighbourhood and are judged by other rooms.
OTHERS = re.compile(r"[EW][4568]")


def found(files: object, fixture: Fixture) -> list[Finding]:
    """The findings of the rooms under test."""
    assert isinstance(files, dict)
    return [finding for finding in validate(Tree.of(files), **fixture.options) if not OTHERS.match(finding.code)]


@pytest.mark.slow
@pytest.mark.parametrize("code", OWN)
def test_a_bad_repository_gives_exactly_the_rule(code: str) -> None:
    """The bad repository gives the rule's finding, at a place, and nothing else but what that brings with it."""
    fixture = FIXTURES[code]
    findings = found(fixture.bad, fixture)
    assert {finding.code for finding in findings} - BRINGS.get(code, set()) == {code}
    for finding in findings:
        rule = load_rules()[finding.code]
        assert (finding.severity, finding.refused_by) == (rule.severity, rule.refused_by)
        assert finding.message
        assert finding.path in ("", *Tree.of(fixture.bad).entries) or finding.code in ("E107", "E116")
        if finding.path.endswith(".pbtxt"):
            assert finding.line is not None
            assert finding.column is not None


@pytest.mark.parametrize("code", OWN)
def test_a_good_repository_does_not_give_the_rule(code: str) -> None:
    """The good repository gives no error at all."""
    fixture = FIXTURES[code]
    findings = found(fixture.good, fixture)
    assert code not in {finding.code for finding in findings}
    assert verdict(findings) == "loads"


def test_every_rule_is_whole_and_checked() -> None:
    """Every rule has all its texts and a check, and every code that a module of rules names is one."""
    rules = load_rules()
    folder = Path(str(registry.__file__)).parent / "rules"
    named = {code for path in folder.glob("*.py") for code in re.findall(r"\b[EW]\d{3}\b", path.read_text())}
    assert named == set(rules)
    for code, rule in rules.items():
        assert re.fullmatch(r"[EW][1-8]\d\d", code)
        assert rule.severity == ("error" if code[0] == "E" else "warning")
        assert rule.sentence
        assert rule.source
        assert rule.why
        assert rule.bad
        assert rule.checks


@pytest.mark.slow
def test_a_check_reports_its_own_rules_only() -> None:
    """On every fixture, each finding of a check has the code of a rule that the check is registered for."""
    checks = {check.function: check for rule in load_rules().values() for check in rule.checks}
    for fixture in FIXTURES.values():
        context = build_context(Tree.of(fixture.bad), Options(**fixture.options))
        for function, check in checks.items():
            if check.stage in (Stage.REPOSITORY, Stage.LOADED):
                assert {finding.code for finding in function(context)} <= {rule.code for rule in check.rules}


def test_findings_are_sorted() -> None:
    """Findings are sorted by path and line."""
    files = {**m("max_batch_size: -1"), **x("b", config="max_batch_size: -1 dynamic_batching {}")}
    findings = validate(Tree.of(files))
    assert [(finding.path, finding.code) for finding in findings] == [
        ("b/config.pbtxt", "E213"),
        ("m/config.pbtxt", "E213"),
    ]


def test_a_finding_points_at_the_value() -> None:
    """Line, column and field are those of the value, or of the message it is missing in."""
    text_ = 'backend: "identity"\ninput [{\n  name: "A"\n  data_type: TYPE_FP32\n  dims: [ 4, 0 ]\n}]\n'
    (finding,) = validate(Tree.of({"m/config.pbtxt": text_, "m/1/": DIRECTORY}))
    assert (finding.code, finding.line, finding.column, finding.field) == ("E244", 5, 14, "input[0].dims[1]")
    (finding,) = validate(Tree.of({"m/config.pbtxt": text_.replace("[ 4, 0 ]", "[]"), "m/1/": DIRECTORY}))
    assert (finding.code, finding.line, finding.column, finding.field) == ("E242", 2, 8, "input[0]")


def test_consequences_are_in_the_servers_words() -> None:
    """An ensemble of a model that does not load says why, as the server does."""
    files = {**x(config="instance_group [{ kind: KIND_CPU gpus: [0] }]"), **e()}
    messages = [finding.message for finding in validate(Tree.of(files))]
    why = "instance group x_0 of model x has kind KIND_CPU but specifies one or more GPUs"
    assert messages == [
        (
            "ensemble 'e' depends on 'x' which has no loaded version. Model 'x' loading failed with error: "
            f"version 1 is at UNAVAILABLE state: Invalid argument: {why};"
        ),
        why,
    ]


def test_explicit_mode_judges_only_what_is_loaded() -> None:
    """A broken neighbour is harmless where models are loaded by name; what an ensemble needs is not."""
    broken = {"broken/config.pbtxt": "garbage {"}
    assert verdict(validate(Tree.of({**m(), **broken}))) == "refused"
    assert validate(Tree.of({**m(), **broken}), load_models=["m"]) == []
    missing = validate(Tree.of({**e(), **broken}), load_models=["e"])
    assert [finding.code for finding in missing if finding.severity == "error"] == ["E112", "E320"]


def test_auto_complete_is_known_by_backend() -> None:
    """What a backend fills in from its file gives no finding; what it does not, or cannot, gives one."""
    savedmodel = {"m/config.pbtxt": 'platform: "tensorflow_savedmodel" input [{ name: "A" }]'}
    with_file = {**savedmodel, "m/1/model.savedmodel/saved_model.pb": b""}
    assert [finding.code for finding in validate(Tree.of(with_file)) if finding.severity == "error"] == []
    assert "E241" in {finding.code for finding in validate(Tree.of(with_file), auto_complete=False)}
    assert "E241" in {finding.code for finding in validate(Tree.of({**savedmodel, "m/1/": DIRECTORY}))}
    graphdef = {"m/config.pbtxt": 'platform: "tensorflow_graphdef" input [{ name: "A" }]', "m/1/model.graphdef": b""}
    assert "E241" in {finding.code for finding in validate(Tree.of(graphdef))}
    python = {
        "m/config.pbtxt": 'backend: "python" input [{ name: "A" }]',
        "m/1/model.py": "class TritonPythonModel: ...",
    }
    assert "E241" in {finding.code for finding in validate(Tree.of(python))}
    completing = {**python, "m/1/model.py": "def auto_complete_config(c): ..."}
    assert "E241" not in {finding.code for finding in validate(Tree.of(completing))}


def test_a_configuration_that_was_not_read_is_reported() -> None:
    """A configuration that is too large to be judged gives one finding, and its size is never read."""
    (finding,) = validate(Tree.of({**m(), "m/config.pbtxt": Entry("file", 300_000_000)}))
    assert finding.code == "E127"
    assert "300000000" in finding.message
    assert verdict([finding]) == "not judged"


@pytest.mark.parametrize(
    "files",
    [
        {**m(), "m/config.pbtxt": Entry("other")},
        {**m(), "m/config.pbtxt": link("/dev/zero", leads_to="other")},
        {**m(), "m/config.pbtxt": link("../../config.pbtxt", leads_to="file")},
        {**m(), "m/config.pbtxt": link("/store/config.pbtxt", leads_to="file")},
        {"m": link("/store/m", leads_to="directory"), **e(step("m", {"A": "I"}, {"B": "O"}, "model_version: 3"))},
        m(io=A + B.replace("dims: [4]", 'dims: [4] label_filename: "l"'), l=Entry("file", 5 * 1024 * 1024)),
        m(io=A + B.replace("dims: [4]", 'dims: [4] label_filename: "l"'), l=Entry("other")),
    ],
)
def test_what_was_not_read_is_not_judged(files: dict[str, object]) -> None:
    """Devices, pipes, links out of the repository and large label files: neither loads nor refused."""
    findings = validate(Tree.of(files))  # type: ignore[arg-type]
    assert {finding.code for finding in findings} - {"W101"} == {"E127"}
    assert verdict(findings) == "not judged"
    refused = validate(Tree.of({**files, **x("z", config="max_batch_size: -1")}))  # type: ignore[arg-type]
    assert verdict(refused) == "refused"


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (m(f"{GROUP % 'g$(x)'}", **SHELL_MODEL), "the instance group 'g$(x)'"),
        (m('default_model_filename: "`x`.py"', head=PYTHON, **{"1/`x`.py": SOURCE}), "default_model_filename '`x`.py'"),
        (
            m(ENVIRONMENT % "$$TRITON_MODEL_DIRECTORY/e;x", **{"e;x/bin/activate": ""}, **SHELL_MODEL),
            "EXECUTION_ENV_PATH '/e;x'",
        ),
        (
            m(ENVIRONMENT % "$$TRITON_MODEL_DIRECTORY/e", e=link("f x"), **{"f x": ""}, **SHELL_MODEL),
            "leads to a path that 'm/f x'",
        ),
        ({"m\n1/config.pbtxt": f'backend: "python" {IO}', "m\n1/1/model.py": ""}, r"directory 'm\n1'"),
        ({"d\xe9/config.pbtxt": f'backend: "python" {IO}', "d\xe9/1/model.py": ""}, r"directory 'd\xe9'"),
    ],
    ids=["group", "file", "environment", "linked environment", "newline", "not ASCII"],
)
def test_strings_that_reach_a_shell_are_refused(files: dict[str, object], named: str) -> None:
    """Each with its own name, escaped; Triton itself may load the model."""
    findings = validate(Tree.of(files))
    (finding,) = [finding for finding in findings if finding.code == "E118"]
    assert named in finding.message
    assert finding.message.isprintable()
    assert finding.refused_by == "tritonforge"
    assert verdict(findings) == "loads"


@pytest.mark.parametrize("name", sorted(DIFFERENCES))
def test_differences_that_mutations_found_stay_fixed(name: str) -> None:
    """Each difference to the real server that mutations found: refused, in the server's words."""
    files, sentence = DIFFERENCES[name]
    findings = validate(Tree.of(files))
    assert verdict(findings) == "refused"
    assert not sentence or sentence in {finding.message.strip() for finding in findings}


@pytest.mark.parametrize("name", sorted(ACCEPTED))
def test_what_the_server_takes_is_not_refused(name: str) -> None:
    """Each repository that was refused wrongly once."""
    assert verdict(validate(Tree.of(ACCEPTED[name]))) == "loads"


@pytest.mark.parametrize(
    ("output", "config"),
    [
        ("data_type: TYPE_FP32 dims: [-1, 4]", ""),
        ("data_type: TYPE_FP32 dims: [8, 4]", "max_batch_size: 0"),
        ("data_type: TYPE_FP32", ""),
        ("dims: [4]", ""),
    ],
)
def test_a_step_that_its_backend_completes_is_compared_in_what_it_declares(output: str, config: str) -> None:
    """Where a batch dimension, dims or a type may still come from the backend, nothing is refused."""
    files = build_unsized_ensemble("tensorflow", output, config=config)
    files |= x("y", config="max_batch_size: 4") | {"e/config.pbtxt": f"{files['e/config.pbtxt']} max_batch_size: 4"}
    files["x/config.pbtxt"] = files["x/config.pbtxt"].replace("dims: [4] }]", "}]", 1)
    assert [finding for finding in validate(Tree.of(files)) if finding.severity == "error"] == []


def test_a_negative_gpu_is_refused_whatever_gpus_there_are() -> None:
    """No host has GPU -1: KIND_GPU does not find it, and KIND_AUTO becomes KIND_CPU, which may not have gpus."""
    for kind, code in (("kind: KIND_GPU", "E262"), ("", "E260")):
        for gpus in (None, 0, 1):
            findings = validate(Tree.of(m(f"instance_group [{{ {kind} gpus: [-1] }}]")), gpus=gpus)
            assert code in {finding.code for finding in findings}


@pytest.mark.parametrize(
    ("model", "base", "completes"),
    [
        ("from base import Base\nclass TritonPythonModel(Base): ...", "class Base: auto_complete_config = print", True),
        ("from .base import Base as B\nclass TritonPythonModel(B): ...", "class Base: auto_complete_config = 1", True),
        ("import base\nclass TritonPythonModel(base.Base): ...", "from more import Base", True),
        ("from base import *", "class TritonPythonModel: auto_complete_config = print", True),
        ("from base import TritonPythonModel", "class TritonPythonModel: ...", False),
        ("from base import Base\nclass TritonPythonModel(Base): ...", "class Base: ...", False),
        ("from base import Base\nclass TritonPythonModel(Base): ...", "class Base(Base): ...", False),
        ("from lib import Base\nclass TritonPythonModel(Base): ...", "", True),
        ("class A: ...\nclass TritonPythonModel(A, object): ...", "", False),
        ("class TritonPythonModel(make()): ...", "", True),
        ("def execute(:", "", False),
    ],
)
def test_a_base_class_may_complete_the_configuration(model: str, base: str, completes: bool) -> None:
    """`auto_complete_config` is looked for in base classes; what cannot be seen may have it."""
    files = {"m/config.pbtxt": PYTHON, "m/1/model.py": model, "m/1/base.py": base}
    config = {"m/config.pbtxt": f'{PYTHON} input [{{ name: "A" }}]'}
    assert ("E241" not in {finding.code for finding in validate(Tree.of({**files, **config}))}) == completes
    assert {finding.code for finding in validate(Tree.of(INHERITED))} == set()


def test_python_is_judged_by_the_grammar_of_the_image() -> None:
    """The place is that of Python; what a newer Python may take is advice, what an older one does not take an error."""
    (finding,) = validate(Tree.of(m(head=PYTHON, **{"1/model.py": BROKEN})))
    assert (finding.code, finding.path, finding.line, finding.column) == ("E123", "m/1/model.py", 2, 33)
    newer = {**m(head=PYTHON), "m/1/model.py": SOURCE + "match 1:\n    case 1: pass\n"}
    assert validate(Tree.of(newer), image="24.09") == []
    assert find_source_error(b"match 1:\n    case 1: pass\n", version=(3, 9)) is not None
    environment = {**m(ENVIRONMENT % "$$TRITON_MODEL_DIRECTORY/env", head=PYTHON), "m/env/bin/activate": ""}
    assert [finding.code for finding in validate(Tree.of({**environment, "m/1/model.py": BROKEN}))] == ["W110"]


def test_hostile_python_is_read_in_bounded_time() -> None:
    """Deep nesting, null bytes and unknown encodings are errors; a huge file is not judged."""
    for content in (
        "(" * 100_000,
        "-" * 100_000 + "1",
        "x\0",
        "# coding: nonsense\nx = 1",
        "x = " + "a." * 50_000 + "b",
    ):
        codes = {finding.code for finding in validate(Tree.of(m(head=PYTHON, **{"1/model.py": content})))}
        assert codes <= {"E123"}
    huge = m(head=PYTHON, **{"1/model.py": Entry("file", 5 * 1024 * 1024)})
    assert [finding.code for finding in validate(Tree.of(huge))] == ["E127"]


@pytest.mark.parametrize(
    ("head", "name", "entry", "code"),
    [
        ('platform: "tensorflow_savedmodel"', "model.savedmodel", "x", "E125"),
        ('platform: "tensorflow_savedmodel"', "model.savedmodel", DIRECTORY, "W105"),
        ('platform: "tensorflow_graphdef"', "model.graphdef", DIRECTORY, "E125"),
        ('platform: "pytorch_libtorch"', "model.pt", DIRECTORY, "E125"),
        ('backend: "openvino"', "model.xml", DIRECTORY, "E125"),
        ('platform: "onnxruntime_onnx"', "model.onnx", DIRECTORY, "W105"),
        ('platform: "onnxruntime_onnx"', "model.onnx", Entry("other"), "E125"),
        ('platform: "onnxruntime_onnx"', "model.onnx", link("/nowhere"), "W105"),
        ('platform: "onnxruntime_onnx"', "model.onnx", link("/gone", leads_to="missing"), "W105"),
        ('platform: "onnxruntime_onnx"', "model.onnx", link("/store/x", leads_to="file"), "W101"),
        (PYTHON, "model.py", link("gone.py"), "E122"),
    ],
)
def test_a_models_file_is_of_the_kind_that_its_backend_opens(head: str, name: str, entry: object, code: str) -> None:
    """Directories, devices and broken links in the place of a model's file."""
    assert [finding.code for finding in validate(Tree.of(m(head=head, **{f"1/{name}": entry})))] == [code]


@pytest.mark.parametrize(
    ("path", "options", "codes"),
    [
        ("$$TRITON_MODEL_DIRECTORY/../../env.tar.gz", {}, ["W295"]),
        ("$$TRITON_MODEL_DIRECTORY/../../env.tar.gz", {"target": "sagemaker"}, ["E295"]),
        ("/opt/ml/model/m/env.tar.gz", {"target": "sagemaker"}, ["E295"]),
        ("/opt/ml/model/m/1/model.py", {"target": "sagemaker"}, []),
        ("/models/m/1/model.py", {}, ["W295"]),
        ("/here/env.tar.gz", {}, []),
        ("/here/env.tar.gz", {"image": "24.09"}, ["W295"]),
        ("env.tar.gz", {}, ["E295"]),
        ("", {}, []),
    ],
)
def test_an_environment_is_looked_for_where_the_server_does(
    path: str, options: dict[str, str], codes: list[str]
) -> None:
    """In the model's directory, on this machine, or in SageMaker's folder; elsewhere nothing is certain."""
    files = Tree.of(m(ENVIRONMENT % path, head=PYTHON, **{"1/model.py": SOURCE}))
    tree = Tree(files.entries, external={"/here/env.tar.gz": "file"})
    findings = validate(tree, **options)  # type: ignore[arg-type]
    assert [finding.code for finding in findings if finding.code[1:] == "295"] == codes
